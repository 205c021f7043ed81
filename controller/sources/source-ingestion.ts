// Joins what brings a source into the store: one replica is elected, follows the source, and writes what it sees under its fence. The others make no
// connection to it. Holds no behaviour of its own beyond that, and knows no source.
import type { Logger } from 'pino';
import type { Clock } from '../clock.js';
import type { SourceMetrics } from '../metrics.js';
import { Election, type Term } from '../store/election.js';
import type { EtcdClient } from '../store/etcd-client.js';
import type { Keyspace, Source } from '../store/keys.js';
import type { Leases } from '../store/lease.js';
import type { StoreView } from '../store/view.js';
import { type Ingest, Ingester } from './ingester.js';

/** What all sources need of the controller. */
export interface IngestionContext {
  readonly client: EtcdClient;
  readonly leases: Leases;
  readonly view: StoreView;
  readonly keys: Keyspace;
  readonly clock: Clock;
  /** For so long nobody reads the source after the replica that did was killed. */
  readonly ttlMs: number;
  readonly metrics: SourceMetrics;
  readonly log: Logger;
}

export interface SourceReader {
  readonly source: Source;
  /** In logs: "the Kubernetes cluster". */
  readonly title: string;
  /** Where it is, for logs. */
  readonly server: string;
  /** Tells `ingest` what the source has, until the signal. Called anew for every term; never throws for what the source does. */
  follow(ingest: Ingest, signal: AbortSignal): Promise<void>;
}

/** The returned function ends it; the term, if there is one, is given up. */
export function startIngestion(context: IngestionContext, reader: SourceReader): () => Promise<void> {
  const { metrics, log } = context;
  const { source, title, server } = reader;
  const election = new Election({
    ...context,
    name: source,
    random: Math.random,
    observe: {
      elected: () => {
        metrics.leads.set({ source }, 1);
        log.info({ server }, `this replica reads ${title}`);
      },
      over: (reason) => {
        metrics.leads.set({ source }, 0);
        metrics.forgetAll(source);
        if (reason === null) log.info(`this replica no longer reads ${title}`);
        else log.warn({ reason }, `this replica no longer reads ${title}; one will be elected again`);
      },
    },
  });
  election.start((term) => lead(context, reader, term));
  return () => election.stop();
}

/** Resolves when the term is over. */
async function lead({ client, keys, clock, metrics, log }: IngestionContext, reader: SourceReader, term: Term): Promise<void> {
  const { source, title } = reader;
  const ingester = await Ingester.open(
    {
      source,
      client,
      keys,
      clock,
      observe: {
        written: (objects) => metrics.written.inc({ source }, objects),
        failing: (message) => {
          if (message === null) log.info(`what is read from ${title} is written again`);
          else log.error({ message }, `what is read from ${title} can’t be written; trying again`);
        },
        refused: (ref, message) => log.warn({ ...ref, message }, `an object of ${title} is left out`),
      },
    },
    term,
  );
  const over = new AbortController();
  const end = (): void => over.abort();
  term.signal.addEventListener('abort', end);
  if (term.signal.aborted) end();
  try {
    const [deposed] = await Promise.all([ingester.run().finally(end), reader.follow(ingester, over.signal)]);
    if (deposed !== null) throw new Error(deposed);
  } finally {
    term.signal.removeEventListener('abort', end);
  }
}
