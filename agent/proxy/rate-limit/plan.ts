// What the model says of rate limits → limiters and sets of them for the workers, and the memory that they count in. On the main thread. Memory
// stays with a limit over generations, as long as that is the same limit.
import { createHash, randomInt } from 'node:crypto';
import { type RateLimit, RateLimit_Algorithm, type RateLimitKey } from '../../../api/gen/mesh/v1/model.js';
import { Interner } from '../tables/interner.js';
import { Subject } from '../tables/layout.js';
import type { HashKey } from './key-hash.js';
import { Limiter, type LimiterShape, LimitWord, TokenBucket } from './limiter.js';
import { AskedMemory, callsOf, keyOfSet } from './service-plan.js';
import type { AskedLimitSpec, CallSpec, KeyPart, LimiterSpec, LimitsSpec } from './spec.js';

/** More are not held, and that is told. */
const MAX_LIMITERS = 1_024;
/** Of one request. */
export const MAX_LIMITS_TOGETHER = 64;
const SWEEP_MS = 2_000;

/** Of one limit. */
export interface HeldLimit {
  readonly limit: RateLimit;
  readonly spec: Pick<LimiterSpec, 'shape' | 'memory' | 'name'>;
  readonly limiter: Limiter;
  /** Of a limit that nodes share: what this one has of it before it is told. */
  readonly firstShare: number;
  /** What this node has of it now. */
  share: number;
  admitted: number;
  refused: number;
}

/** Since this limit has been held. */
export interface RateLimitReport {
  readonly policy: string;
  readonly name: string;
  readonly target: string;
  readonly admitted: number;
  readonly refused: number;
  /** Null: it is this node's alone. */
  readonly share: number | null;
  /** Requests that a service was asked about and gave no answer, and those of them that passed; null: it is counted here. */
  readonly unanswered: { readonly failed: number; readonly letPass: number } | null;
}

/** Where the key parts that are texts come from: subjects of patterns. */
export interface KeySubjects {
  valueOf(kind: 'header' | 'query' | 'clientAddress', name: string): number;
}

/** One generation's, as it grows. */
export class LimitPlan {
  readonly warnings = new Set<string>();
  private readonly limiters: LimiterSpec[] = [];
  private readonly indexes = new Map<string, number>();
  private readonly sets = new Interner<{ readonly limiters: readonly number[]; readonly calls: readonly CallSpec[]; readonly key: string }>(
    ({ key }) => key,
  );
  private readonly services = new Map<string, number>();
  private readonly known = new WeakMap<readonly RateLimit[], number>();

  /** `clusterOf`: row of the cluster by which a service is spoken to as gRPC; -1: there is none. */
  constructor(
    private readonly memory: LimitMemory,
    private readonly subjects: KeySubjects,
    private readonly clusterOf: (service: string, port: number) => number,
  ) {}

  /** Index of the set of all of them; -1: there are none. */
  setOf(limits: readonly RateLimit[]): number {
    if (limits.length === 0) return -1;
    const known = this.known.get(limits) ?? this.makeSet(limits);
    this.known.set(limits, known);
    return known;
  }

  private makeSet(limits: readonly RateLimit[]): number {
    const held = limits.slice(0, MAX_LIMITS_TOGETHER);
    const limiters = held.flatMap((limit) => (limit.service === undefined ? (this.limiterOf(limit) ?? []) : []));
    const asked = held.filter(({ service }) => service !== undefined);
    for (const { service } of asked)
      this.services.set(`${service!.service}:${service!.port}`, this.clusterOf(service!.service, service!.port));
    const calls = callsOf(asked, (limit) => this.askedOf(limit));
    return limiters.length + calls.length === 0 ? -1 : this.sets.add({ limiters, calls, key: keyOfSet(held) });
  }

  /** `clients`: by Descriptor.SourceId. */
  specFor(clients: readonly { readonly namespace: string; readonly serviceAccount: string }[]): LimitsSpec {
    const sets = this.sets.items;
    const tellsClients = sets.some(({ calls }) =>
      calls.some(({ limits }) => limits.some(({ entries }) => entries.some(({ part }) => isOfSource(part)))),
    );
    return {
      hashKey: this.memory.hashKey,
      limiters: this.limiters,
      sets,
      services: this.services,
      clients: tellsClients ? clients.map(({ namespace, serviceAccount }) => [namespace, `${namespace}/${serviceAccount}`]) : [],
    };
  }

  /** Whether a client's namespace or identity is asked for. */
  get looksAtSources(): boolean {
    return this.limiters.some(({ keys }) => keys.some(isOfSource));
  }

  private askedOf(limit: RateLimit): AskedLimitSpec {
    const entries = limit.keys.map((key) => ({ key: key.descriptorKey, part: this.partOf(key) }));
    return { name: limit.name, isTold: !limit.untold, entries, words: this.memory.asked.hold(limit) };
  }

  private limiterOf(limit: RateLimit): number | null {
    const identity = identityOf(limit);
    const known = this.indexes.get(identity);
    if (known !== undefined) return known;
    if (this.limiters.length === MAX_LIMITERS) {
      this.warnings.add(`rate limits beyond ${MAX_LIMITERS} are not held, such as ${limit.name} of ${limit.policy} for ${limit.target}`);
      return null;
    }
    const keys = limit.keys.map((key) => this.partOf(key));
    const index = this.limiters.push({ ...this.memory.hold(limit).spec, keys, isTold: !limit.untold }) - 1;
    this.indexes.set(identity, index);
    return index;
  }

  private partOf({ key }: RateLimitKey): KeyPart {
    switch (key?.$case) {
      case 'sourceNamespace':
      case 'sourceIdentity':
        return { of: key.$case };
      case 'clientAddress':
        return { of: 'address', subject: this.subjects.valueOf('clientAddress', '') };
      case 'header':
        return { of: 'text', subject: this.subjects.valueOf('header', key.value) };
      case 'path':
        return { of: 'text', subject: Subject.Path };
      case 'method':
        return { of: 'text', subject: Subject.Method };
      default:
        return { of: 'constant', value: key?.value ?? '' };
    }
  }
}

function isOfSource({ of }: KeyPart): boolean {
  return of === 'sourceNamespace' || of === 'sourceIdentity';
}

/** All that makes it that limit: what differs begins with nothing counted. */
export function identityOf({ policy, name, target, requests, perMs, algorithm, burst, meshWide, keys }: RateLimit): string {
  return JSON.stringify([policy, name, target, requests, perMs, algorithm, burst, meshWide, keys]);
}

export class LimitMemory {
  /** Drawn, unless nodes must count the same key as one. */
  hashKey: HashKey = [randomInt(2 ** 32) | 0, randomInt(2 ** 32) | 0];
  /** Of limits that services count. */
  readonly asked = new AskedMemory();
  private held = new Map<string, HeldLimit>();
  private next = new Map<string, HeldLimit>();
  private timer: NodeJS.Timeout | null = null;

  /** The limits are others from here on. */
  onSettled: () => void = () => {};

  /** `nowUs`: the engines' clock. `firstShare`: of limits that nodes share, what this one has before it is told. */
  constructor(
    private readonly nowUs: () => number,
    private readonly firstShare: number,
  ) {}

  /** All nodes over one store tell keys apart by the same words. */
  useStore(clusterId: string): void {
    const digest = createHash('sha256').update(clusterId).digest();
    this.hashKey = [digest.readInt32LE(0), digest.readInt32LE(4)];
  }

  hold(limit: RateLimit): HeldLimit {
    const identity = identityOf(limit);
    const known = this.next.get(identity) ?? this.held.get(identity) ?? this.begin(limit);
    this.next.set(identity, known);
    return known;
  }

  /** A generation is whole: what it doesn't hold is forgotten. */
  settle(): void {
    this.held = this.next;
    this.next = new Map();
    this.asked.settle();
    if (this.held.size + this.asked.size > 0) {
      this.timer ??= setInterval(() => this.sweep(), SWEEP_MS).unref();
    } else if (this.timer !== null) {
      clearInterval(this.timer);
      this.timer = null;
    }
    this.onSettled();
  }

  get limits(): readonly HeldLimit[] {
    return [...this.held.values()];
  }

  report(): RateLimitReport[] {
    const counted = this.limits.map((held) => {
      collect(held);
      const { policy, name, target, meshWide } = held.limit;
      const { admitted, refused, share } = held;
      return { policy, name, target, admitted, refused, share: meshWide ? share : null, unanswered: null };
    });
    return [...counted, ...this.asked.report()];
  }

  private begin(limit: RateLimit): HeldLimit {
    const held = newLimit(limit, limit.meshWide ? this.firstShare : 1);
    if (held.limiter instanceof TokenBucket) held.limiter.setShare(held.firstShare, this.nowUs());
    return held;
  }

  private sweep(): void {
    this.asked.collect();
    for (const held of this.held.values()) {
      held.limiter.sweep(this.nowUs());
      collect(held);
    }
  }
}

/** Takes what workers have counted out of their words, which are small. */
export function collect(held: HeldLimit): void {
  held.admitted += Atomics.exchange(held.limiter.words, LimitWord.Admitted, 0) >>> 0;
  held.refused += Atomics.exchange(held.limiter.words, LimitWord.Refused, 0) >>> 0;
}

function newLimit(limit: RateLimit, firstShare: number): HeldLimit {
  const { requests, perMs, burst, keys, name } = limit;
  const isWindow = limit.algorithm === RateLimit_Algorithm.SLIDING_WINDOW;
  const shape: LimiterShape = {
    algorithm: isWindow ? 'sliding-window' : 'token-bucket',
    requests,
    perMs,
    burst: burst === 0 ? requests : burst,
    isKeyed: keys.length > 0,
    isShared: limit.meshWide,
  };
  const memory = Limiter.allocate(shape);
  const limiter = Limiter.of(shape, memory);
  return { limit, spec: { shape, memory, name }, limiter, firstShare, share: firstShare, admitted: 0, refused: 0 };
}
