// The DNS as a source: makes the part that asks it, and says in log and metrics how that goes.
import type { Logger } from 'pino';
import type { Clock } from '../../clock.js';
import type { LatestModel } from '../../compile/latest-model.js';
import type { SourceMetrics } from '../../metrics.js';
import type { StoreView } from '../../store/view.js';
import type { SourceReader } from '../source-ingestion.js';
import { DnsSource, MAX_NAMES } from './dns-source.js';
import { dnsLookup } from './lookup.js';

const SOURCE = 'dns';
const NONE: ReadonlySet<string> = new Set();

export interface DnsReaderParts {
  readonly servers: readonly string[];
  readonly view: StoreView;
  readonly latest: LatestModel;
  readonly clock: Clock;
  readonly metrics: SourceMetrics;
  readonly log: Logger;
}

export function dnsReader({ servers, view, latest, clock, metrics, log }: DnsReaderParts): SourceReader {
  const server = servers.length === 0 ? 'the servers of this host' : servers.join(', ');
  return {
    source: SOURCE,
    title: 'the DNS',
    server,
    follow: (ingest, signal) =>
      new DnsSource({
        lookup: dnsLookup(servers, signal),
        names: () => latest.model?.names ?? NONE,
        onNames: (watcher) => latest.watch(watcher),
        known: (name) => view.resolved.get(name),
        ingest,
        clock,
        random: Math.random,
        observe: {
          failing: (name, reason) => {
            if (reason === null) log.info({ name }, 'a name of a ServiceEntry is resolved again');
            else log.warn({ name, reason, server }, 'a name of a ServiceEntry can’t be resolved: what it was last stays; trying again');
          },
          asked: () => metrics.events.inc({ source: SOURCE, path: 'names' }),
          tooMany: (names) =>
            log.error({ names, limit: MAX_NAMES }, 'ServiceEntries go by more names than are resolved: some have no endpoints'),
        },
      }).run(signal),
  };
}
