// ZooKeeper as a source: makes the part that follows it, and says in log and metrics how that goes.
import type { Logger } from 'pino';
import type { Clock } from '../../clock.js';
import type { SourceMetrics } from '../../metrics.js';
import type { SourceReader } from '../source-ingestion.js';
import type { ZooKeeperAccess } from './session.js';
import { ZooKeeperSource, type ZooKeeperTimes } from './zookeeper-source.js';

const SOURCE = 'zookeeper';

export interface ZooKeeperReaderParts {
  readonly access: ZooKeeperAccess;
  readonly namespace: string;
  readonly clock: Clock;
  readonly metrics: SourceMetrics;
  readonly log: Logger;
  readonly times?: Partial<ZooKeeperTimes>;
}

export function zookeeperReader({ access, namespace, clock, metrics, log, times = {} }: ZooKeeperReaderParts): SourceReader {
  const { path, servers } = access;
  return {
    source: SOURCE,
    title: 'ZooKeeper',
    server: servers,
    follow: (ingest, signal) => {
      const observe = {
        failing: (message: string | null) => {
          metrics.answers(SOURCE, path, message === null);
          if (message === null) log.info({ path, servers }, 'ZooKeeper answers');
          else log.warn({ path, servers, reason: message }, 'ZooKeeper can’t be read: what was read last stays; trying again');
        },
        answered: () => metrics.events.inc({ source: SOURCE, path }),
        refused: (service: string, messages: readonly string[]) =>
          log.warn({ service, messages }, 'of a service of ZooKeeper some is left out'),
      };
      return new ZooKeeperSource({ access, namespace, ingest, clock, observe, times }).run(signal);
    },
  };
}
