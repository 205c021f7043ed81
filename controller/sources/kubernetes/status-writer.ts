// Writes what Weft says of objects of the Gateway API into their status: after every compilation and every change of theirs, where it differs. Runs at
// the leader alone. A write names the version it was judged by, so that it never replaces what another controller has said meanwhile.
import { type Problem, statusOf } from '../../../api/compile/index.js';
import { DEFAULT_NAMESPACE, type Kind, objectKey } from '../../../api/resources/index.js';
import type { Clock } from '../../clock.js';
import type { LatestModel } from '../../compile/latest-model.js';
import type { CompiledModel } from '../../compile/model-compiler.js';
import { pause } from '../../store/election.js';
import { canonicalJson } from '../../store/records.js';
import type { ApiClient } from './api-client.js';
import type { KubernetesSource } from './kubernetes-source.js';
import type { KubernetesObject } from './object.js';

export interface StatusObserver {
  written(kind: string): void;
  /** Once for each kind, until it succeeds. */
  failing(kind: string, message: string): void;
}

export interface StatusWriterParts {
  readonly client: ApiClient;
  readonly source: KubernetesSource;
  readonly latest: LatestModel;
  readonly clock: Clock;
  /** Milliseconds since the epoch. */
  readonly wallClock: () => number;
  readonly observe: StatusObserver;
}

/** Those that have one that Weft writes. */
export const STATUS_KINDS: readonly Kind[] = [
  'GatewayClass',
  'Gateway',
  'ListenerSet',
  'HTTPRoute',
  'GRPCRoute',
  'TLSRoute',
  'TCPRoute',
  'UDPRoute',
  'BackendTLSPolicy',
  'XBackendTrafficPolicy',
];
/** Changes come in swarms: one of a Gateway is one of its routes. */
const GATHER_MS = 100;
const RETRY_MS = 5_000;
/** Some 20 µs each; streams and heartbeats go between. */
const JUDGED_PER_TURN = 200;
const DEADLINE_MS = 10_000;
const MAX_ANSWER_BYTES = 16 * 1_048_576;
const NOT_FOUND = 404;
const CONFLICT = 409;

export class StatusWriter {
  readonly #parts: StatusWriterParts;
  readonly #failing = new Set<string>();
  #isDue = true;
  #wake: () => void = () => {};

  constructor(parts: StatusWriterParts) {
    this.#parts = parts;
  }

  /** Something that a status depends on may have changed. */
  changed(): void {
    this.#isDue = true;
    this.#wake();
  }

  /** Until the signal. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    const wake = (): void => this.#wake();
    signal.addEventListener('abort', wake);
    while (!signal.aborted) {
      if (!this.#isDue) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
        continue;
      }
      await pause(clock, GATHER_MS, signal);
      this.#isDue = false;
      const isDone = await this.#writeAll(signal);
      if (isDone || signal.aborted) continue;
      await pause(clock, RETRY_MS, signal);
      this.#isDue = true;
    }
    signal.removeEventListener('abort', wake);
  }

  /** False: something is to be tried again. */
  async #writeAll(signal: AbortSignal): Promise<boolean> {
    const { model } = this.#parts.latest;
    if (model === null) return true;
    const problems = new Map<string, Problem[]>();
    for (const problem of model.problems) {
      const key = objectKey(problem.kind, problem.namespace, problem.name);
      problems.set(key, [...(problems.get(key) ?? []), problem]);
    }
    let isDone = true;
    let judged = 0;
    for (const kind of STATUS_KINDS) {
      for (const object of [...this.#parts.source.objectsOf(kind).values()]) {
        if (signal.aborted) return true;
        if (++judged % JUDGED_PER_TURN === 0) await new Promise((resolve) => setImmediate(resolve));
        isDone = (await this.#writeOne(kind, object, problems, model, signal)) && isDone;
      }
    }
    return isDone;
  }

  async #writeOne(
    kind: Kind,
    object: KubernetesObject,
    problems: ReadonlyMap<string, readonly Problem[]>,
    { attachments, nodeAddresses, generations }: CompiledModel,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { source, wallClock, client, observe } = this.#parts;
    const { name, generation, resourceVersion } = object.metadata;
    const namespace = object.metadata.namespace || DEFAULT_NAMESPACE;
    // The compilation of this generation comes, and calls again. Objects that are none of Weft's are never compiled.
    const key = objectKey(kind, namespace, name);
    if (generations.get(key) !== generation) return true;
    if (kind === 'ListenerSet' && !source.isOurListenerSet(`${namespace}/${name}`)) return true;
    const status = statusOf(
      {
        kind,
        object,
        problems: problems.get(key) ?? [],
        isOurGateway: (gateway, kindOfParent) =>
          kindOfParent === 'Gateway' ? source.isOurGateway(gateway) : source.isOurListenerSet(gateway),
        attachments,
        nodeAddresses,
      },
      new Date(wallClock()).toISOString().replace(/\.\d+Z$/, 'Z'),
    );
    const path = this.#pathOf(kind, object);
    if (status === null || path === null || isPartOf(status, object.body.status)) return true;
    const patch = { contentType: 'application/merge-patch+json', body: { metadata: { resourceVersion }, status } } as const;
    const answer = await client.patch(path, patch, { deadlineMs: DEADLINE_MS, maxBytes: MAX_ANSWER_BYTES, signal });
    if (answer.kind === 'ok') {
      this.#failing.delete(kind);
      observe.written(kind);
      return true;
    }
    // Changed or gone meanwhile: the watch tells, and calls again.
    if (answer.status === CONFLICT || answer.status === NOT_FOUND || signal.aborted) return true;
    if (!this.#failing.has(kind)) observe.failing(kind, answer.message);
    this.#failing.add(kind);
    return false;
  }

  #pathOf(kind: Kind, { metadata: { namespace, name } }: KubernetesObject): string | null {
    const served = this.#parts.source.servedOf(kind);
    if (served === null) return null;
    const { type, version } = served;
    const within = namespace === '' ? '' : `/namespaces/${encodeURIComponent(namespace)}`;
    return `/apis/${type.group}/${version}${within}/${type.plural}/${encodeURIComponent(name)}/status`;
  }
}

/** Whether a merge would change nothing. */
function isPartOf(status: Readonly<Record<string, unknown>>, before: unknown): boolean {
  const known = (typeof before === 'object' && before !== null ? before : {}) as Record<string, unknown>;
  return Object.entries(status).every(([field, value]) => canonicalJson(known[field]) === canonicalJson(value));
}
