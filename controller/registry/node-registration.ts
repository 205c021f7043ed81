// One Register stream: what a node says runs on it, on the node's lease in etcd. Owns that node's keys while its stream is the newest one
// of the node, at any replica: every write is fenced by the session in <prefix>/nodes/<node>.
import { randomUUID } from 'node:crypto';
import type { RegisterRequest } from '../../api/gen/mesh/v1/discovery.js';
import type { EtcdClient } from '../store/etcd-client.js';
import { type Keyspace, leaseIdOfNode } from '../store/keys.js';
import type { Leases } from '../store/lease.js';
import { readNode } from '../store/records.js';
import { type CommitResult, commit, type Write } from '../store/transaction.js';
import type { StoreView } from '../store/view.js';

export type RegistrationResult =
  /** The state stands in etcd and the lease lives for the TTL from now. */
  | { readonly kind: 'kept' }
  /** Another stream registered the node since. */
  | { readonly kind: 'superseded' }
  /** To be tried again with the node's next message. */
  | { readonly kind: 'failed'; readonly message: string };

const WRITES_PER_TRANSACTION = 100;

interface Claim {
  /** Revision of the node's key as this session wrote it. */
  readonly nodeRevision: number;
  readonly nodeValue: string;
  /** By key: the value in etcd. */
  readonly written: Map<string, string>;
}

export class NodeRegistration {
  readonly node: string;
  readonly #client: EtcdClient;
  readonly #leases: Leases;
  readonly #keys: Keyspace;
  readonly #view: StoreView;
  readonly #ttlMs: number;
  readonly #leaseId: string;
  readonly #session = randomUUID();
  /** null: unknown what stands in etcd, so it is read before it is changed. */
  #claim: Claim | null = null;
  #wasClaimed = false;

  constructor(parts: { node: string; client: EtcdClient; leases: Leases; keys: Keyspace; view: StoreView; ttlMs: number }) {
    this.node = parts.node;
    this.#client = parts.client;
    this.#leases = parts.leases;
    this.#keys = parts.keys;
    this.#view = parts.view;
    this.#ttlMs = parts.ttlMs;
    this.#leaseId = leaseIdOfNode(parts.keys.root, parts.node);
  }

  /** Brings etcd to the node's state. One call at a time. Throws StoreError when etcd is away. */
  async bring(state: RegisterRequest): Promise<RegistrationResult> {
    if (this.#isOvertaken()) return { kind: 'superseded' };
    // Should this fail, what stands in etcd is known all the same: to claim it anew would cost a thousand nodes ten times a keepalive when etcd is slow.
    const isHeld = this.#claim !== null && (await this.#leases.keepAlive(this.#leaseId));
    try {
      if (!isHeld || this.#claim?.nodeValue !== this.#nodeValue(state)) {
        this.#claim = null;
        const failed = await this.#take(state);
        if (failed !== null) return failed;
      }
      return await this.#writeState(state);
    } catch (error) {
      this.#claim = null;
      throw error;
    }
  }

  /**
   * Another session has the node's key, and took out what it doesn't run itself. Both keep the same lease, so one that has nothing new to write would never
   * hear of it, and what runs there would stay away when the other one has gone.
   */
  #isOvertaken(): boolean {
    if (this.#claim === null || this.#view.revision < this.#claim.nodeRevision) return false;
    const owner = this.#view.nodes.get(this.node);
    return owner !== undefined && owner.session !== this.#session;
  }

  #nodeValue({ zone, region, version, statusAddress, health }: RegisterRequest): string {
    return JSON.stringify({ zone, region, version, statusAddress, checks: health !== undefined, session: this.#session });
  }

  /** Takes the node for this session, or renews it. null: done. */
  async #take(state: RegisterRequest): Promise<RegistrationResult | null> {
    await this.#leases.acquire(this.#leaseId, this.#ttlMs);
    const key = this.#keys.node(this.node);
    const value = this.#nodeValue(state);
    // A session that owned the node may not take it back from a newer one; only its own lost lease lets it write anew.
    if (this.#wasClaimed) {
      const found = (await this.#client.range({ key: Buffer.from(key) })).kvs[0];
      if (found !== undefined && readNode(found.value)?.session !== this.#session) return { kind: 'superseded' };
    }
    const result = await commit(this.#client, {
      expect: new Map(),
      writes: [{ key, value, lease: this.#leaseId }],
      reads: [
        this.#keys.runningOf(this.node),
        this.#keys.instancesOf(this.node),
        this.#keys.failingOf(this.node),
        this.#keys.loadOf(this.node),
      ],
    });
    if (result.kind !== 'committed') return this.#failed(result);
    this.#wasClaimed = true;
    if (result.found === null) return { kind: 'failed', message: 'etcd’s answer was lost' };
    // What stands there with another lease is written again.
    const written = result.found.flat().map(({ key: at, value: text, lease }): [string, string] => {
      return [at, lease === this.#leaseId ? text.toString() : ''];
    });
    this.#claim = { nodeRevision: result.revision, nodeValue: value, written: new Map(written) };
    return null;
  }

  /** By key: what is to stand there. */
  #wanted({ workloads, instances, health, idlePercent }: RegisterRequest): Map<string, string> {
    const wanted = new Map<string, string>();
    for (const workload of workloads) wanted.set(this.#keys.running(this.node, workload.name), JSON.stringify(workload));
    for (const instance of instances) {
      const { service, id } = instance;
      wanted.set(this.#keys.instance(this.node, service, id), JSON.stringify(instance));
    }
    for (const { endpoint, detail } of health?.failing ?? [])
      wanted.set(this.#keys.failing(this.node, endpoint), JSON.stringify({ detail }));
    if (idlePercent !== undefined) wanted.set(this.#keys.cpu(this.node), JSON.stringify({ idlePercent }));
    return wanted;
  }

  async #writeState(state: RegisterRequest): Promise<RegistrationResult> {
    const claim = this.#claim;
    if (claim === null) return { kind: 'failed', message: 'the node is not claimed' };
    const wanted = this.#wanted(state);
    const kept = state.health?.pending === true ? this.#keys.failingOf(this.node) : null;
    const writes: (Write & { readonly value: string | null })[] = [];
    for (const [key, value] of wanted) if (claim.written.get(key) !== value) writes.push({ key, value, lease: this.#leaseId });
    for (const key of claim.written.keys()) {
      const isKept = kept !== null && key.startsWith(kept) && claim.written.get(key) !== '';
      if (!wanted.has(key) && !isKept) writes.push({ key, value: null, lease: null });
    }
    const expect = new Map([[this.#keys.node(this.node), claim.nodeRevision]]);
    for (let from = 0; from < writes.length; from += WRITES_PER_TRANSACTION) {
      const part = writes.slice(from, from + WRITES_PER_TRANSACTION);
      const result = await commit(this.#client, { expect, writes: part });
      if (result.kind !== 'committed') return this.#failed(result);
      for (const { key, value } of part) {
        if (value === null) claim.written.delete(key);
        else claim.written.set(key, value);
      }
    }
    return { kind: 'kept' };
  }

  #failed(result: Exclude<CommitResult, { kind: 'committed' }>): RegistrationResult {
    this.#claim = null;
    switch (result.kind) {
      case 'conflict': {
        const owner = result.current.get(this.#keys.node(this.node));
        const isTaken = owner != null && readNode(owner.value)?.session !== this.#session;
        return isTaken
          ? { kind: 'superseded' }
          : { kind: 'failed', message: `the lease of node ${this.node} ran out while it was written` };
      }
      case 'lease-lost':
        return { kind: 'failed', message: `the lease of node ${this.node} ran out while it was written` };
      case 'too-large':
      case 'unavailable':
        return { kind: 'failed', message: result.message };
    }
  }
}
