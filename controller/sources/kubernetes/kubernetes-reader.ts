// The Kubernetes cluster as a source: makes the parts that follow it, and says in log and metrics how that goes.
import type { Logger } from 'pino';
import type { Clock } from '../../clock.js';
import type { LatestModel } from '../../compile/latest-model.js';
import type { SourceMetrics } from '../../metrics.js';
import type { SourceReader } from '../source-ingestion.js';
import { ApiClient } from './api-client.js';
import type { ClusterAccess } from './cluster-access.js';
import { type KubernetesObserver, KubernetesSource, type SourceTimes } from './kubernetes-source.js';
import { StatusWriter } from './status-writer.js';

const SOURCE = 'kubernetes';

export interface KubernetesReaderParts {
  readonly access: ClusterAccess;
  readonly latest: LatestModel;
  readonly clock: Clock;
  readonly metrics: SourceMetrics;
  readonly log: Logger;
  readonly times?: Partial<SourceTimes>;
}

export function kubernetesReader({ access, latest, clock, metrics, log, times }: KubernetesReaderParts): SourceReader {
  return {
    source: SOURCE,
    title: 'the Kubernetes cluster',
    server: access.server,
    follow: async (ingest, signal) => {
      const client = new ApiClient(access);
      const observe = { ...observer(metrics, log), gatewayChanged: () => status.changed() };
      const source = new KubernetesSource({
        client,
        ingest,
        clock,
        random: Math.random,
        observe,
        ...(times === undefined ? {} : { times }),
      });
      const status = new StatusWriter({
        client,
        source,
        latest,
        clock,
        wallClock: Date.now,
        observe: {
          written: (kind) => metrics.statuses.inc({ source: SOURCE, kind }),
          failing: (kind, message) => log.warn({ kind, message }, 'the status of objects can’t be written; trying again'),
        },
      });
      const unwatch = latest.watch(() => status.changed());
      try {
        await Promise.all([source.run(signal), status.run(signal)]);
      } finally {
        unwatch();
        client.close();
      }
    },
  };
}

function observer(metrics: SourceMetrics, log: Logger): Omit<KubernetesObserver, 'gatewayChanged'> {
  let isFailing = false;
  return {
    state: (path, state) => {
      metrics.answers(SOURCE, path, state.kind === 'up');
      if (state.kind === 'up') log.info({ path }, 'Kubernetes answers');
      else log.warn({ path, reason: state.reason }, `Kubernetes does not answer as expected${advice(state.status)}; trying again`);
    },
    discoveryFailing: (message) => {
      if (isFailing === (message !== null)) return;
      isFailing = message !== null;
      if (message === null) log.info('the Kubernetes API server answers');
      else
        log.error(
          { reason: message },
          'the Kubernetes API server can’t be asked what it has: nodes go on with what they have; trying again',
        );
    },
    followed: (paths) => log.info({ paths }, 'these are read from Kubernetes'),
    tooManyReferences: (count, limit) =>
      log.error({ count, limit }, 'Gateways and policies name more Secrets and ConfigMaps than are read: some are missing'),
    listed: (path) => metrics.lists.inc({ source: SOURCE, path }),
    event: (path) => metrics.events.inc({ source: SOURCE, path }),
  };
}

function advice(status: number): string {
  if (status === 401) return ': its token or certificate is refused';
  if (status === 403) return ': check that the ClusterRole of deploy/kubernetes is bound to the controller’s service account';
  return '';
}
