// The active checks of this node: of the endpoints that the model has it check, each at its interval, some at a time. Owns timers and verdicts;
// tells of verdicts that changed. Goes on without a controller; does not know what becomes of the verdicts.
import { type Endpoint, type HealthCheck, HealthCheck_Type, type Service } from '../../api/gen/mesh/v1/model.js';
import { hostPort } from '../../api/host-port.js';
import { checkFault } from '../../api/instances.js';
import { type ProbeResult, type ProbeTarget, probe } from './probe.js';
import { type Verdict, VerdictState } from './verdict.js';

export interface CheckedEndpoint {
  /** Resource name: "<namespace>/<service>/<id>". */
  readonly name: string;
  readonly endpoint: Endpoint;
  readonly check: HealthCheck;
}

/** An endpoint's check as it stands. */
export interface CheckStanding {
  readonly name: string;
  /** "http 10.0.0.1:8080/healthz" */
  readonly title: string;
  readonly verdict: Verdict;
  /** Of the last check that failed; empty: the last one did not. */
  readonly detail: string;
  /** Since the verdict is what it is. */
  readonly sinceMs: number;
  readonly lastMs: number;
}

export interface HealthCheckOptions {
  onChange(name: string, verdict: Verdict, detail: string): void;
  readonly probe?: (check: HealthCheck, target: ProbeTarget, signal: AbortSignal) => Promise<ProbeResult>;
  readonly random?: () => number;
}

/** Of one node. Those beyond are not checked, and counted. */
export const MAX_CHECKS = 5_000;
/** At a time; the others wait. */
const MAX_PROBES = 64;
/** New endpoints are first asked within so long, however long their interval. */
const FIRST_WITHIN_MS = 1_000;
const JITTER = 0.1;

interface Target {
  readonly name: string;
  /** Replaced by an equal one when its service is told anew. */
  check: HealthCheck;
  readonly at: ProbeTarget;
  readonly state: VerdictState;
  readonly over: AbortController;
  timer: NodeJS.Timeout | null;
  /** Why it is failing, as of when it began to. */
  reason: string;
  /** Of the last check; empty: it was well. */
  detail: string;
  sinceMs: number;
  lastMs: number;
}

export class HealthChecks {
  readonly #options: HealthCheckOptions;
  readonly #targets = new Map<string, Target>();
  readonly #waiting: Target[] = [];
  #running = 0;
  #dropped = 0;
  #isFirst = true;
  readonly #results = new Map<string, number>();

  constructor(options: HealthCheckOptions) {
    this.#options = options;
  }

  /** By type and result, since the start: "http success". */
  get results(): ReadonlyMap<string, number> {
    return this.#results;
  }

  /** Endpoints that are not checked, for they are too many. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Null: this node checks no such endpoint. */
  verdictOf(name: string): { readonly verdict: Verdict; readonly reason: string } | null {
    const target = this.#targets.get(name);
    return target === undefined ? null : { verdict: target.state.verdict, reason: target.reason };
  }

  /** By name. */
  failing(): { endpoint: string; detail: string }[] {
    return [...this.#targets.values()]
      .filter(({ state }) => state.verdict === 'failing')
      .map(({ name, reason }) => ({ endpoint: name, detail: reason }))
      .sort((a, b) => (a.endpoint < b.endpoint ? -1 : 1));
  }

  standings(): CheckStanding[] {
    const now = performance.now();
    return [...this.#targets.values()].map(({ name, check, at, state, detail, sinceMs, lastMs }) => ({
      name,
      title: titleOf(check, at),
      verdict: state.verdict,
      detail,
      sinceMs: now - sinceMs,
      lastMs,
    }));
  }

  /** All that is to be checked from now on. What stays the same goes on undisturbed. */
  reconcile(endpoints: readonly CheckedEndpoint[]): void {
    const wanted = new Map<string, CheckedEndpoint>();
    for (const each of endpoints) if (portOf(each) !== 0) wanted.set(each.name, each);
    const kept = [...wanted.values()].slice(0, MAX_CHECKS);
    this.#dropped = wanted.size - kept.length;
    const named = new Set(kept.map(({ name }) => name));
    for (const target of [...this.#targets.values()]) if (!named.has(target.name)) this.#end(target);
    for (const each of kept) this.#put(each);
    if (kept.length > 0) this.#isFirst = false;
  }

  close(): void {
    for (const target of [...this.#targets.values()]) this.#end(target);
  }

  #put(each: CheckedEndpoint): void {
    const at = { address: each.endpoint.address, port: portOf(each) };
    const before = this.#targets.get(each.name);
    if (before !== undefined && isSame(before, at, each.check)) return;
    if (before !== undefined) this.#end(before);
    const { verdict, reason } = this.#start(each, before);
    const target: Target = {
      name: each.name,
      check: each.check,
      at,
      state: new VerdictState(verdict),
      over: new AbortController(),
      timer: null,
      reason,
      detail: reason,
      sinceMs: performance.now(),
      lastMs: 0,
    };
    this.#targets.set(each.name, target);
    this.#schedule(target, this.#random() * Math.min(FIRST_WITHIN_MS, target.check.intervalMs));
  }

  /** A check that was changed, or that an earlier run of this agent knew, goes on from what was known. */
  #start({ endpoint: { check } }: CheckedEndpoint, before: Target | undefined): { verdict: Verdict; reason: string } {
    if (before !== undefined) return { verdict: before.state.verdict, reason: before.reason };
    if (check?.failing === true) return { verdict: 'failing', reason: check.detail };
    return { verdict: this.#isFirst ? 'passing' : 'unknown', reason: '' };
  }

  #end(target: Target): void {
    this.#targets.delete(target.name);
    if (target.timer !== null) clearTimeout(target.timer);
    target.over.abort();
  }

  #schedule(target: Target, delayMs: number): void {
    target.timer = setTimeout(() => this.#due(target), delayMs);
  }

  #due(target: Target): void {
    target.timer = null;
    this.#waiting.push(target);
    this.#next();
  }

  #next(): void {
    while (this.#running < MAX_PROBES) {
      const target = this.#waiting.shift();
      if (target === undefined) return;
      if (!target.over.signal.aborted) void this.#run(target);
    }
  }

  async #run(target: Target): Promise<void> {
    this.#running++;
    const startedMs = performance.now();
    const result = await (this.#options.probe ?? probe)(target.check, target.at, target.over.signal);
    this.#running--;
    this.#next();
    if (target.over.signal.aborted) return;
    target.lastMs = performance.now() - startedMs;
    this.#count(target.check, result);
    target.detail = result.isWell ? '' : result.detail;
    if (target.state.add(result.isWell, target.check)) {
      target.reason = target.detail;
      target.sinceMs = performance.now();
      this.#options.onChange(target.name, target.state.verdict, target.reason);
    }
    this.#schedule(target, target.check.intervalMs * (1 + JITTER * (2 * this.#random() - 1)));
  }

  #count({ type }: HealthCheck, { isWell }: ProbeResult): void {
    const key = `${typeName(type)} ${isWell ? 'success' : 'failure'}`;
    this.#results.set(key, (this.#results.get(key) ?? 0) + 1);
  }

  #random(): number {
    return (this.#options.random ?? Math.random)();
  }
}

/** Those of a model that `node` is to check; none by a check that this software doesn't know, or that would be too much for it. */
export function endpointsToCheck(
  node: string,
  services: ReadonlyMap<string, Service>,
  endpoints: ReadonlyMap<string, ReadonlyMap<string, Endpoint>>,
): CheckedEndpoint[] {
  const found: CheckedEndpoint[] = [];
  for (const [service, ofService] of endpoints) {
    const byService = services.get(service)?.healthCheck;
    for (const [name, endpoint] of ofService) {
      const check = endpoint.check?.node === node ? (endpoint.check.own ?? byService) : undefined;
      if (check !== undefined && checkFault(check) === null) found.push({ name, endpoint, check });
    }
  }
  return found;
}

/** All endpoints are looked at whenever one has changed: mostly their check is the very object it was. */
function isSame(target: Target, at: ProbeTarget, check: HealthCheck): boolean {
  if (target.at.address !== at.address || target.at.port !== at.port) return false;
  if (target.check === check) return true;
  if (JSON.stringify(target.check) !== JSON.stringify(check)) return false;
  target.check = check;
  return true;
}

/** 0: it has none, so there is nothing that could be asked. */
function portOf({ endpoint, check }: CheckedEndpoint): number {
  return check.port || (endpoint.ports[0]?.port ?? 0);
}

function typeName(type: HealthCheck_Type): string {
  return type === HealthCheck_Type.HTTP ? 'http' : type === HealthCheck_Type.GRPC ? 'grpc' : 'tcp';
}

function titleOf(check: HealthCheck, at: ProbeTarget): string {
  const what = check.type === HealthCheck_Type.HTTP ? check.path : check.grpcService === '' ? '' : `/${check.grpcService}`;
  return `${typeName(check.type)}${check.tls ? ' over TLS' : ''} ${hostPort(at.address, at.port)}${what}`;
}
