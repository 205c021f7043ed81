// The instances that registered themselves at this agent: who they are, how long they live without a heartbeat. Owns them, and their copy on
// disk, by which a restarted agent has them again. Does not know how the controller hears of them.
import { readFileSync } from 'node:fs';
import type { Logger } from 'pino';
import type { InstanceState } from '../../api/gen/mesh/v1/discovery.js';
import { EndpointHealth } from '../../api/gen/mesh/v1/model.js';
import { RegisteredInstance } from '../../api/gen/mesh/v1/registry.js';
import { instanceFault, MAX_INSTANCES } from '../../api/instances.js';
import { replaceFile } from '../state-file.js';

export type InstanceResult = { readonly kind: 'done' } | { readonly kind: 'invalid' | 'not-found' | 'full'; readonly message: string };

export interface InstancesOptions {
  /** Where the copy is. */
  readonly file: string;
  /** What is to be told of the node has changed. */
  onChange(): void;
  readonly log: Logger;
}

const MIN_TTL_MS = 1_000;
const MAX_TTL_MS = 86_400_000;
const DONE: InstanceResult = { kind: 'done' };

interface Entry {
  readonly state: InstanceState;
  readonly ttlMs: number;
  /** By somebody else than itself: its heartbeats don't end that. */
  readonly isDrained: boolean;
  /** On the monotonic clock; infinite without a TTL. */
  readonly endsAtMs: number;
  timer: NodeJS.Timeout | null;
}

export class Instances {
  readonly #options: InstancesOptions;
  /** By service and id. */
  readonly #entries = new Map<string, Entry>();

  constructor(options: InstancesOptions) {
    this.#options = options;
    for (const { instance, ttlMs, drained } of readCopy(options)) {
      // Time that it was not here counts for nothing: nobody could send a heartbeat.
      if (instance !== undefined && instanceFault(instance) === null) this.#keep(instance, ttlMs, drained);
    }
  }

  /** As the registry takes them, by service and id. */
  states(): InstanceState[] {
    return [...this.#entries]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, { state, isDrained }]) => (isDrained ? { ...state, health: EndpointHealth.DRAINING } : state));
  }

  list(): RegisteredInstance[] {
    const now = performance.now();
    return [...this.#entries]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, { state, ttlMs, isDrained, endsAtMs }]) => ({
        instance: state,
        ttlMs,
        leftMs: ttlMs === 0 ? 0 : Math.max(0, Math.round(endsAtMs - now)),
        drained: isDrained,
      }));
  }

  register(state: InstanceState, ttlMs: number): InstanceResult {
    const fault = instanceFault(state) ?? ttlFault(ttlMs);
    if (fault !== null) return { kind: 'invalid', message: fault };
    const before = this.#entries.get(keyOf(state));
    if (before === undefined && this.#entries.size >= MAX_INSTANCES) {
      return { kind: 'full', message: `this node has ${MAX_INSTANCES} instances already: deregister some` };
    }
    this.#keep(state, ttlMs, before?.isDrained ?? false);
    const isNew = before === undefined || before.ttlMs !== ttlMs || JSON.stringify(before.state) !== JSON.stringify(state);
    if (isNew) this.#changed();
    return DONE;
  }

  deregister(ref: { service: string; id: string }): InstanceResult {
    const entry = this.#entries.get(keyOf(ref));
    if (entry === undefined) return notFound(ref);
    this.#drop(keyOf(ref), entry);
    this.#changed();
    return DONE;
  }

  drain(ref: { service: string; id: string; end: boolean }): InstanceResult {
    const entry = this.#entries.get(keyOf(ref));
    if (entry === undefined) return notFound(ref);
    if (entry.isDrained === !ref.end) return DONE;
    // Its time runs on: who drains it is not who keeps it.
    this.#keep(entry.state, entry.ttlMs, !ref.end, entry.endsAtMs);
    this.#changed();
    return DONE;
  }

  close(): void {
    for (const { timer } of this.#entries.values()) if (timer !== null) clearTimeout(timer);
    this.#entries.clear();
  }

  #keep(
    state: InstanceState,
    ttlMs: number,
    isDrained: boolean,
    endsAtMs = ttlMs === 0 ? Number.POSITIVE_INFINITY : performance.now() + ttlMs,
  ): void {
    const key = keyOf(state);
    const before = this.#entries.get(key);
    if (before !== undefined) this.#drop(key, before);
    const entry: Entry = { state, ttlMs, isDrained, endsAtMs, timer: null };
    if (ttlMs > 0) entry.timer = setTimeout(() => this.#expire(key, entry), Math.max(0, endsAtMs - performance.now()));
    this.#entries.set(key, entry);
  }

  #drop(key: string, { timer }: Entry): void {
    if (timer !== null) clearTimeout(timer);
    this.#entries.delete(key);
  }

  #expire(key: string, entry: Entry): void {
    const { service, id } = entry.state;
    this.#drop(key, entry);
    this.#options.log.warn({ service, id, ttlMs: entry.ttlMs }, 'an instance is gone: it sent no heartbeat within its TTL');
    this.#changed();
  }

  #changed(): void {
    this.#write();
    this.#options.onChange();
  }

  #write(): void {
    const { file, log } = this.#options;
    try {
      replaceFile(file, JSON.stringify(this.list()));
    } catch (error) {
      log.error({ err: error }, `${file} can't be written: a restarted agent would not know the instances that registered since`);
    }
  }
}

function keyOf({ service, id }: { service: string; id: string }): string {
  return `${service}/${id}`;
}

function notFound({ service, id }: { service: string; id: string }): InstanceResult {
  return { kind: 'not-found', message: `no instance "${id}" of ${service || 'a service without a name'} is registered at this agent` };
}

function ttlFault(ttlMs: number): string | null {
  return ttlMs === 0 || (ttlMs >= MIN_TTL_MS && ttlMs <= MAX_TTL_MS) ? null : `TTL of ${ttlMs} ms: expected 1 s to 24 h, or 0 for none`;
}

function readCopy({ file, log }: InstancesOptions): RegisteredInstance[] {
  try {
    const parsed: unknown = JSON.parse(readFileSync(file, 'utf8'));
    return (Array.isArray(parsed) ? parsed : []).map((item) => RegisteredInstance.fromPartial(item)).slice(0, MAX_INSTANCES);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      log.error({ err: error }, `${file} can't be read: instances have to register again`);
    return [];
  }
}
