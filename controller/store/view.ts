// The store as the controller's parts read it: typed, in memory, as of one revision. Owns the reflector and who is told of changes. Writes
// nothing; goes on answering from memory while etcd is away.
import type { FailingCheck, LiveNode, RegisteredInstance, RegistryReports, ResolvedName } from '../../api/compile/index.js';
import type { ObjectRef } from '../../api/gen/mesh/v1/admin.js';
import type { WorkloadState } from '../../api/gen/mesh/v1/discovery.js';
import type { Clock } from '../clock.js';
import {
  type AuditRecord,
  type AuthorityRecord,
  type JoinTokenRecord,
  type OperatorRecord,
  type RevocationRecord,
  readAudit,
  readAuthority,
  readJoinToken,
  readOperator,
  readRevocation,
} from './access-records.js';
import type { EtcdClient } from './etcd-client.js';
import { type Keyspace, SOURCES, type Source } from './keys.js';
import {
  type AckRecord,
  type HistoryRecord,
  type NodeRecord,
  type ObjectRecord,
  readAck,
  readFailing,
  readHistory,
  readInstance,
  readLoad,
  readNode,
  readObject,
  readResolved,
  readRunning,
} from './records.js';
import { type ChangeBatch, type EntryChange, Reflector, type StoreState } from './reflector.js';

export interface StoredObject {
  readonly ref: ObjectRef;
  readonly record: ObjectRecord;
  readonly modRevision: number;
  /** Empty: it was applied. */
  readonly source: Source | '';
}

export interface StoredHistory {
  readonly record: HistoryRecord;
  readonly revision: number;
  readonly bytes: number;
}

export interface RunningWorkload {
  readonly node: string;
  readonly state: WorkloadState;
  readonly modRevision: number;
}

/** What a batch touched. */
export interface ViewChange {
  readonly revision: number;
  /** Objects, or what nodes and sources report, changed or might have. */
  readonly model: boolean;
  /** Among it something that an operator did, who may wait until the nodes have the revision, whatever it changes for them. */
  readonly applied: boolean;
  /** Those that registered, went or acked. */
  readonly nodes: ReadonlySet<string>;
  readonly relisted: boolean;
  readonly restarted: boolean;
}

export interface ViewLog {
  state(state: StoreState): void;
  unreadable(key: string): void;
}

type Watcher = (change: ViewChange) => void;

export class StoreView {
  /** By etcd key. */
  readonly objects = new Map<string, StoredObject>();
  /** By name: what the DNS said, of names that ServiceEntries go by. */
  readonly resolved = new Map<string, ResolvedName>();
  /** Elections that have a leader now. */
  readonly leaders = new Set<string>();
  /** By etcd key. */
  readonly running = new Map<string, RunningWorkload>();
  /** What nodes report, in the form that the compiler takes: maps that are replaced when something in them changes. */
  readonly #instances = new Map<string, ReadonlyMap<string, RegisteredInstance>>();
  readonly #failing = new Map<string, ReadonlyMap<string, readonly FailingCheck[]>>();
  #liveNodes: ReadonlyMap<string, LiveNode> = new Map();
  #drained: ReadonlySet<string> = new Set();
  readonly #idlePercent = new Map<string, number>();
  /** By node name: those whose lease lives. */
  readonly nodes = new Map<string, NodeRecord>();
  /** By node name. */
  readonly acks = new Map<string, AckRecord>();
  /** By etcd key, and so by time. */
  readonly history = new Map<string, StoredHistory>();
  /** Null: there is none, or it can't be read. */
  authority: AuthorityRecord | null = null;
  /** Of its key; 0: there is none. */
  authorityRevision = 0;
  /** By id. */
  readonly joinTokens = new Map<string, JoinTokenRecord>();
  /** By name. */
  readonly operators = new Map<string, OperatorRecord>();
  /** By node. */
  readonly revocations = new Map<string, RevocationRecord>();
  /** By etcd key, and so by time. */
  readonly audit = new Map<string, AuditRecord>();
  /** As `audit`. */
  readonly refusals = new Map<string, AuditRecord>();
  /** The newest revision that touched the model's input, the same at every replica; after a list it may be older than what was deleted since. */
  modelRevision = 0;
  /** Of those the newest one that an operator made. */
  appliedRevision = 0;
  /** A backup is being restored: the maps hold no whole state, so none may be told. */
  isRestoring = false;
  #incarnation = '';
  #isListed = false;
  readonly #reflector: Reflector;
  readonly #keys: Keyspace;
  readonly #log: ViewLog;
  readonly #watchers = new Set<Watcher>();

  constructor(client: EtcdClient, keys: Keyspace, clock: Clock, log: ViewLog) {
    this.#keys = keys;
    this.#log = log;
    this.#reflector = new Reflector(client, keys.root, clock, {
      onBatch: (batch) => this.#apply(batch),
      onState: (state) => log.state(state),
    });
  }

  /** The objects that hold: an applied one goes before the one of the same name that a source has. */
  *holding(): Generator<StoredObject> {
    for (const object of this.objects.values()) if (object.source === '' || !this.isShadowed(object)) yield object;
  }

  /** Of an object that nobody applied; null: it was, or there is none. */
  sourceOf(ref: ObjectRef): Source | null {
    if (this.objects.has(this.#keys.object(ref))) return null;
    return SOURCES.find((source) => this.objects.has(this.#keys.sourced(source, ref))) ?? null;
  }

  /** Whether another one stands in its place: an applied one, or that of a source that goes before. */
  isShadowed({ source, ref }: StoredObject): boolean {
    return source !== '' && this.sourceOf(ref) !== source;
  }

  get reports(): RegistryReports {
    return {
      nodes: this.#liveNodes,
      instances: this.#instances,
      failing: this.#failing,
      drained: this.#drained,
      idlePercent: this.#idlePercent,
    };
  }

  get revision(): number {
    return this.#reflector.revision;
  }

  /** The same for every replica over one store, another for every other store; empty until known. */
  get clusterId(): string {
    return this.#incarnation === '' ? '' : `${this.#reflector.clusterId}-${this.#incarnation}`;
  }

  get state(): StoreState {
    return this.#reflector.state;
  }

  start(): void {
    this.#reflector.start();
  }

  stop(): void {
    this.#reflector.stop();
  }

  /** Called after each batch, when the maps already hold it. The returned function ends it. */
  watch(watcher: Watcher): () => void {
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }

  /** True when `revision` is in the view, false at the timeout. */
  async reached(revision: number, clock: Clock, timeoutMs: number): Promise<boolean> {
    if (this.revision >= revision) return true;
    return new Promise((resolve) => {
      const finish = (isReached: boolean): void => {
        cancel();
        unwatch();
        resolve(isReached);
      };
      const cancel = clock.after(timeoutMs, () => finish(false));
      const unwatch = this.watch((change) => {
        if (change.revision >= revision) finish(true);
      });
    });
  }

  #apply(batch: ChangeBatch): void {
    const { revision, relisted, restarted } = batch;
    // The first list may be empty, and is a model all the same.
    let [model, applied] = [restarted || !this.#isListed, false];
    if (restarted) this.modelRevision = this.appliedRevision = 0;
    this.#isListed = true;
    const nodes = new Set<string>();
    for (const change of batch.changes) {
      const touched = this.#applyOne(change, nodes);
      if (touched === null) continue;
      model = true;
      this.modelRevision = Math.max(this.modelRevision, change.revision);
      if (touched !== 'applied') continue;
      applied = true;
      this.appliedRevision = Math.max(this.appliedRevision, change.revision);
    }
    for (const watcher of [...this.#watchers]) watcher({ revision, model, applied, nodes, relisted, restarted });
  }

  /** What of the model's input it is; null: nothing. */
  #applyOne({ key, entry }: EntryChange, nodes: Set<string>): 'applied' | 'reported' | null {
    if (key === this.#keys.incarnation) this.#incarnation = entry?.value.toString() ?? '';
    if (key === this.#keys.authority) {
      this.authority = this.#read(key, entry?.value, readAuthority);
      this.authorityRevision = entry?.modRevision ?? 0;
    }
    if (key === this.#keys.restoring) {
      this.isRestoring = entry !== null;
      return 'applied';
    }
    const parsed = this.#keys.parse(key);
    switch (parsed.kind) {
      case 'object': {
        if (parsed.source === 'dns') {
          setOrDelete(this.resolved, parsed.ref.name, this.#read(key, entry?.value, readResolved));
          return 'reported';
        }
        const record = this.#read(key, entry?.value, readObject);
        if (record === null || entry === null) this.objects.delete(key);
        else this.objects.set(key, { ref: parsed.ref, record, modRevision: entry.modRevision, source: parsed.source });
        return parsed.source === '' ? 'applied' : 'reported';
      }
      case 'running': {
        const state = this.#read(key, entry?.value, readRunning);
        if (state === null || entry === null) this.running.delete(key);
        else this.running.set(key, { node: parsed.node, state, modRevision: entry.modRevision });
        return 'reported';
      }
      case 'history': {
        const record = this.#read(key, entry?.value, readHistory);
        if (record === null || entry === null) this.history.delete(key);
        else this.history.set(key, { record, revision: entry.modRevision, bytes: entry.value.length });
        return null;
      }
      case 'leader':
        if (entry === null) this.leaders.delete(parsed.election);
        else this.leaders.add(parsed.election);
        return null;
      case 'instance': {
        const state = this.#read(key, entry?.value, readInstance);
        const instance = state === null ? null : { node: parsed.node, state };
        replaceIn(this.#instances, parsed.service, `${parsed.node}/${parsed.id}`, instance);
        return 'reported';
      }
      case 'failing': {
        const detail = this.#read(key, entry?.value, readFailing);
        const others = (this.#failing.get(parsed.service)?.get(parsed.id) ?? []).filter(({ node }) => node !== parsed.node);
        const all = detail === null ? others : [...others, { node: parsed.node, detail }];
        replaceIn(this.#failing, parsed.service, parsed.id, all.length === 0 ? null : all);
        return 'reported';
      }
      case 'node':
        nodes.add(parsed.node);
        setOrDelete(this.nodes, parsed.node, this.#read(key, entry?.value, readNode));
        return this.#placeNode(parsed.node) ? 'reported' : null;
      case 'load':
        setOrDelete(this.#idlePercent, parsed.node, this.#read(key, entry?.value, readLoad));
        return 'reported';
      case 'ack':
        nodes.add(parsed.node);
        setOrDelete(this.acks, parsed.node, this.#read(key, entry?.value, readAck));
        return null;
      case 'join-token':
        setOrDelete(this.joinTokens, parsed.id, this.#read(key, entry?.value, readJoinToken));
        return null;
      case 'operator':
        setOrDelete(this.operators, parsed.name, this.#read(key, entry?.value, readOperator));
        return null;
      case 'revoked':
        setOrDelete(this.revocations, parsed.node, this.#read(key, entry?.value, readRevocation));
        return null;
      case 'drained': {
        const drained = new Set(this.#drained);
        if (entry === null) drained.delete(parsed.node);
        else drained.add(parsed.node);
        this.#drained = drained;
        return 'applied';
      }
      case 'audit':
      case 'refusals':
        setOrDelete(this[parsed.kind], key, this.#read(key, entry?.value, readAudit));
        return null;
      case 'other':
        return null;
    }
  }

  /** True: it came, went or moved. */
  #placeNode(name: string): boolean {
    const before = this.#liveNodes.get(name);
    const now = this.nodes.get(name);
    if (before?.zone === now?.zone && before?.region === now?.region && before?.checks === now?.checks) return false;
    const nodes = new Map(this.#liveNodes);
    setOrDelete(nodes, name, now === undefined ? null : { zone: now.zone, region: now.region, checks: now.checks });
    this.#liveNodes = nodes;
    return true;
  }

  #read<Record>(key: string, value: Buffer | undefined, reader: (value: Buffer) => Record | null): Record | null {
    if (value === undefined) return null;
    const record = reader(value);
    if (record === null) this.#log.unreadable(key);
    return record;
  }
}

function setOrDelete<Value>(map: Map<string, Value>, key: string, value: Value | null): void {
  if (value === null) map.delete(key);
  else map.set(key, value);
}

/** The inner map is another one afterwards; one that would be empty is gone. */
function replaceIn<Value>(map: Map<string, ReadonlyMap<string, Value>>, name: string, key: string, value: Value | null): void {
  const inner = new Map(map.get(name));
  setOrDelete(inner, key, value);
  setOrDelete(map, name, inner.size === 0 ? null : inner);
}
