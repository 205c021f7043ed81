// Joins the parts that bring a cluster into the store: one replica is elected, follows the cluster, and writes what it sees under its fence. Others
// make no connection to the API server. Holds no behaviour of its own beyond that.
import type { Logger } from 'pino';
import type { Clock } from '../../clock.js';
import type { SourceMetrics } from '../../metrics.js';
import { Election, type Term } from '../../store/election.js';
import type { EtcdClient } from '../../store/etcd-client.js';
import type { Keyspace } from '../../store/keys.js';
import type { Leases } from '../../store/lease.js';
import type { StoreView } from '../../store/view.js';
import { Ingester } from '../ingester.js';
import { ApiClient } from './api-client.js';
import type { ClusterAccess } from './cluster-access.js';
import { type KubernetesObserver, KubernetesSource, type SourceTimes } from './kubernetes-source.js';

export const SOURCE = 'kubernetes';

export interface IngestionParts {
  readonly access: ClusterAccess;
  readonly client: EtcdClient;
  readonly leases: Leases;
  readonly view: StoreView;
  readonly keys: Keyspace;
  readonly clock: Clock;
  readonly ttlMs: number;
  readonly metrics: SourceMetrics;
  readonly log: Logger;
  readonly times?: Partial<SourceTimes>;
}

/** The returned function ends it; the term, if there is one, is given up. */
export function startIngestion(parts: IngestionParts): () => Promise<void> {
  const { client, leases, view, keys, clock, ttlMs, metrics, log, access } = parts;
  const election = new Election({
    name: SOURCE,
    client,
    leases,
    view,
    keys,
    clock,
    ttlMs,
    random: Math.random,
    observe: {
      elected: () => {
        metrics.leads.set({ source: SOURCE }, 1);
        log.info({ server: access.server }, 'this replica reads the Kubernetes cluster');
      },
      over: (reason) => {
        metrics.leads.set({ source: SOURCE }, 0);
        metrics.up.reset();
        if (reason === null) log.info('this replica no longer reads the Kubernetes cluster');
        else log.warn({ reason }, 'this replica no longer reads the Kubernetes cluster; one will be elected again');
      },
    },
  });
  election.start((term) => lead(parts, term));
  return () => election.stop();
}

/** Resolves when the term is over. */
async function lead(parts: IngestionParts, term: Term): Promise<void> {
  const { access, client, keys, clock, metrics, log } = parts;
  const ingester = await Ingester.open(
    {
      source: SOURCE,
      client,
      keys,
      clock,
      observe: {
        written: (objects) => metrics.written.inc({ source: SOURCE }, objects),
        failing: (message) => {
          if (message === null) log.info('what is read from Kubernetes is written again');
          else log.error({ message }, 'what is read from Kubernetes can’t be written; trying again');
        },
        refused: (ref, message) => log.warn({ ...ref, message }, 'an object of Kubernetes is left out'),
      },
    },
    term,
  );
  const api = new ApiClient(access);
  const over = new AbortController();
  const end = (): void => over.abort();
  term.signal.addEventListener('abort', end);
  if (term.signal.aborted) end();
  const source = new KubernetesSource({
    client: api,
    ingest: ingester,
    clock,
    random: Math.random,
    observe: observer(metrics, log),
    ...(parts.times === undefined ? {} : { times: parts.times }),
  });
  try {
    const [deposed] = await Promise.all([ingester.run().finally(end), source.run(over.signal)]);
    if (deposed !== null) throw new Error(deposed);
  } finally {
    term.signal.removeEventListener('abort', end);
    api.close();
  }
}

function observer(metrics: SourceMetrics, log: Logger): KubernetesObserver {
  let isFailing = false;
  return {
    state: (path, state) => {
      metrics.up.set({ source: SOURCE, path }, state.kind === 'up' ? 1 : 0);
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
