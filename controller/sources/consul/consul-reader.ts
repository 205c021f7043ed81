// Consul as a source: makes the parts that follow it, and says in log and metrics how that goes.
import type { Logger } from 'pino';
import type { Clock } from '../../clock.js';
import type { SourceMetrics } from '../../metrics.js';
import type { SourceReader } from '../source-ingestion.js';
import { type ConsulAccess, ConsulClient } from './consul-client.js';
import { type ConsulObserver, ConsulSource, type ConsulTimes } from './consul-source.js';

const SOURCE = 'consul';

export interface ConsulReaderParts {
  readonly access: ConsulAccess;
  readonly namespace: string;
  readonly clock: Clock;
  readonly metrics: SourceMetrics;
  readonly log: Logger;
  readonly times?: Partial<ConsulTimes>;
}

export function consulReader({ access, namespace, clock, metrics, log, times = {} }: ConsulReaderParts): SourceReader {
  return {
    source: SOURCE,
    title: 'Consul',
    server: access.server,
    follow: async (ingest, signal) => {
      const client = new ConsulClient(access);
      try {
        await new ConsulSource({ client, namespace, ingest, clock, random: Math.random, observe: observer(metrics, log), times }).run(
          signal,
        );
      } finally {
        client.close();
      }
    },
  };
}

function observer(metrics: SourceMetrics, log: Logger): ConsulObserver {
  const failing = new Map<string, boolean>();
  return {
    failing: (path, message) => {
      metrics.answers(SOURCE, path, message === null);
      const was = failing.get(path);
      failing.set(path, message !== null);
      if (was === (message !== null) || (was === undefined && message === null)) return;
      if (message === null) log.info({ path }, 'Consul answers');
      else
        log.warn({ path, reason: message }, `Consul does not answer as expected${advice(message)}: what it said last stays; trying again`);
    },
    forgotten: (path) => {
      failing.delete(path);
      metrics.forget(SOURCE, path);
    },
    answered: (path) => metrics.events.inc({ source: SOURCE, path: path.startsWith('/v1/health/') ? '/v1/health/service' : path }),
    refused: (service, messages) => log.warn({ service, messages }, 'of a service of Consul some is left out'),
    tooManyServices: (count, limit) => log.error({ count, limit }, 'Consul has more services than are followed: some are missing'),
  };
}

function advice(message: string): string {
  if (message.startsWith('403')) return ' (its token needs service:read and node:read)';
  if (message.startsWith('429')) return ' (raise http_max_conns_per_client there)';
  return '';
}
