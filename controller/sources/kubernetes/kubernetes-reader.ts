// The Kubernetes cluster as a source: makes the parts that follow it, and says in log and metrics how that goes.
import type { Logger } from 'pino';
import type { Clock } from '../../clock.js';
import type { SourceMetrics } from '../../metrics.js';
import type { SourceReader } from '../source-ingestion.js';
import { ApiClient } from './api-client.js';
import type { ClusterAccess } from './cluster-access.js';
import { type KubernetesObserver, KubernetesSource, type SourceTimes } from './kubernetes-source.js';

const SOURCE = 'kubernetes';

export interface KubernetesReaderParts {
  readonly access: ClusterAccess;
  readonly clock: Clock;
  readonly metrics: SourceMetrics;
  readonly log: Logger;
  readonly times?: Partial<SourceTimes>;
}

export function kubernetesReader({ access, clock, metrics, log, times }: KubernetesReaderParts): SourceReader {
  return {
    source: SOURCE,
    title: 'the Kubernetes cluster',
    server: access.server,
    follow: async (ingest, signal) => {
      const client = new ApiClient(access);
      const observe = observer(metrics, log);
      try {
        await new KubernetesSource({ client, ingest, clock, random: Math.random, observe, ...(times === undefined ? {} : { times }) }).run(
          signal,
        );
      } finally {
        client.close();
      }
    },
  };
}

function observer(metrics: SourceMetrics, log: Logger): KubernetesObserver {
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
