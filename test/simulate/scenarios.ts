// What is simulated: each scenario with and without the policy, as lines to plot and as the figures that are held.
import { LoadBalancing_Algorithm } from '../../api/gen/mesh/v1/model.js';
import { type MeshOptions, type Outcome, type ServerModel, SimulatedMesh } from './mesh.js';

export interface Line {
  readonly name: string;
  /** One a step. */
  readonly values: readonly number[];
}

export interface Result {
  readonly title: string;
  readonly unit: string;
  readonly stepMs: number;
  readonly lines: readonly Line[];
  /** What is held, by name. */
  readonly figures: Readonly<Record<string, number>>;
}

/** `scale`: of the time that is simulated; 1: as in the pictures. */
export type Scenario = (scale: number) => Result;

const OUTLIERS = {
  consecutive5xx: 5,
  intervalMs: 10_000,
  baseEjectionMs: 5_000,
  maxEjectionMs: 300_000,
  maxEjectionPercent: 50,
  trialRequests: 3,
};
const ADAPTIVE = {
  ...{ minConcurrency: 3, maxConcurrency: 1_000, updateIntervalMs: 100, minRttIntervalMs: 30_000, minRttRequests: 50 },
  ...{ bufferPercent: 25, percentile: 50 },
};

const never = (): boolean => false;
/** Times as of real servers: a long tail, half of it below the median. */
const lognormal = (median: number, random: () => number): number => {
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  return median * Math.exp(0.3 * normal);
};

interface Load extends Omit<MeshOptions, 'seed'> {
  readonly perSecond: number;
  readonly forMs: number;
  /** The class of a request, by chance. */
  readonly criticality?: (random: () => number) => string;
}

interface Sample extends Outcome {
  readonly atMs: number;
  readonly criticality: string;
}

/** An open load: requests come when they come, whatever becomes of those before. */
function run({ perSecond, forMs, criticality, ...options }: Load): { samples: Sample[]; mesh: SimulatedMesh } {
  const mesh = new SimulatedMesh({ ...options, seed: 7 });
  const samples: Sample[] = [];
  const { events, random } = mesh;
  const next = (): void => {
    if (events.nowMs >= forMs) return;
    const atMs = events.nowMs;
    const value = criticality?.(random) ?? '';
    mesh.request((outcome) => samples.push({ ...outcome, atMs, criticality: value }), value);
    events.in((-Math.log(1 - random()) * 1_000) / perSecond, next);
  };
  next();
  events.runUntil(forMs);
  return { samples, mesh };
}

function percentile(samples: readonly Sample[], part: number): number {
  const sorted = samples.map(({ latencyMs }) => latencyMs).sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
}

/** Of each step of time. */
function bySteps(samples: readonly Sample[], forMs: number, stepMs: number, of: (samples: readonly Sample[]) => number): number[] {
  const steps = Array.from({ length: Math.ceil(forMs / stepMs) }, (): Sample[] => []);
  for (const sample of samples) steps[Math.floor(sample.atMs / stepMs)]?.push(sample);
  return steps.map(of);
}

const round = (value: number): number => Math.round(value * 1_000) / 1_000;

/** One of three endpoints becomes twenty times as slow as the others. */
export const ewma: Scenario = (scale) => {
  const forMs = 60_000 * scale;
  const slowFromMs = forMs / 6;
  const healthy: ServerModel = { concurrency: 64, serviceMs: (_, random) => lognormal(10, random), fails: never };
  const slow: ServerModel = { ...healthy, serviceMs: (now, random) => lognormal(now < slowFromMs ? 10 : 200, random) };
  const under = (algorithm: LoadBalancing_Algorithm, servers: readonly ServerModel[]) =>
    run({ policy: { loadBalancing: { algorithm } }, servers, retries: 0, perSecond: 300, forMs }).samples;
  const { PEAK_EWMA, ROUND_ROBIN } = LoadBalancing_Algorithm;
  const before = under(ROUND_ROBIN, [healthy, healthy, slow]);
  const after = under(PEAK_EWMA, [healthy, healthy, slow]);
  const all = under(PEAK_EWMA, [healthy, healthy, healthy]);
  const stepMs = forMs / 60;
  const p99 = (samples: readonly Sample[]): number[] => bySteps(samples, forMs, stepMs, (step) => percentile(step, 0.99));
  const later = (samples: readonly Sample[]): Sample[] => samples.filter(({ atMs }) => atMs >= slowFromMs);
  return {
    title: 'One of three endpoints at 20 times the latency: p99',
    unit: 'ms',
    stepMs,
    lines: [
      { name: 'round robin', values: p99(before) },
      { name: 'peak EWMA', values: p99(after) },
      { name: 'all endpoints healthy', values: p99(all) },
    ],
    figures: {
      'p99 round robin, ms': round(percentile(later(before), 0.99)),
      'p99 peak EWMA, ms': round(percentile(later(after), 0.99)),
      'p99 all healthy, ms': round(percentile(later(all), 0.99)),
      'p99 peak EWMA / healthy': round(percentile(later(after), 0.99) / percentile(later(all), 0.99)),
    },
  };
};

/** One of three endpoints fails for a while; nothing is retried. */
export const outlier: Scenario = (scale) => {
  const forMs = 60_000 * scale;
  const [from, to] = [forMs / 6, (forMs * 2) / 3];
  const server: ServerModel = { concurrency: 16, serviceMs: (_, random) => lognormal(10, random), fails: never };
  const failing: ServerModel = { ...server, fails: (now) => now >= from && now < to };
  const servers = [server, server, failing];
  const under = (policy: Load['policy']) => run({ policy, servers, retries: 0, perSecond: 300, forMs }).samples;
  const before = under(undefined);
  const after = under({ outlierDetection: { ...OUTLIERS, baseEjectionMs: 5_000 * scale } });
  const stepMs = forMs / 60;
  const failed = (samples: readonly Sample[]): number =>
    samples.length === 0 ? 0 : (samples.filter(({ status }) => status !== 200).length / samples.length) * 100;
  const sick = (samples: readonly Sample[]): Sample[] => samples.filter(({ atMs }) => atMs >= from && atMs < to);
  const end = after.filter(({ atMs }) => atMs >= forMs * 0.95);
  return {
    title: 'One of three endpoints fails for half of the time: requests that fail',
    unit: '%',
    stepMs,
    lines: [
      { name: 'without', values: bySteps(before, forMs, stepMs, failed) },
      { name: 'outlier detection', values: bySteps(after, forMs, stepMs, failed) },
    ],
    figures: {
      'failed without, %': round(failed(sick(before))),
      'failed with outlier detection, %': round(failed(sick(after))),
      'share of the endpoint that came back, %': round((end.filter(({ endpoint }) => endpoint === 2).length / end.length) * 100),
    },
  };
};

/** Half of the endpoints fail every request. */
export const retryBudget: Scenario = (scale) => {
  const forMs = 30_000 * scale;
  const from = forMs / 5;
  const server: ServerModel = { concurrency: 64, serviceMs: (_, random) => lognormal(10, random), fails: never };
  const failing: ServerModel = { ...server, fails: (now) => now >= from };
  const servers = [server, failing, server, failing];
  const percent = 20;
  const leastPerSecond = 10;
  const under = (policy: Load['policy']) => run({ policy, servers, retries: 3, perSecond: 1_000, forMs });
  // A policy without a limit: the same way through the gate.
  const before = under({ circuitBreaker: { maxRequests: 1_000_000 } });
  const intervalMs = 2_000;
  const least = (leastPerSecond * intervalMs) / 1_000;
  const after = under({ retryBudget: { ofInterval: { percent, least, intervalMs } } });
  const active = under({ retryBudget: { ofActive: { percent, least: 3 } } });
  const stepMs = forMs / 60;
  const retries = (samples: readonly Sample[]): number =>
    samples.length === 0 ? 0 : (samples.reduce((sum, { attempts }) => sum + Math.max(0, attempts - 1), 0) / samples.length) * 100;
  const later = ({ samples }: { samples: readonly Sample[] }): Sample[] => samples.filter(({ atMs }) => atMs >= from + intervalMs);
  return {
    title: 'Half of the endpoints fail: retries, of the requests',
    unit: '%',
    stepMs,
    lines: [
      { name: 'three retries each', values: bySteps(before.samples, forMs, stepMs, retries) },
      { name: 'budget of 20 % and 10/s', values: bySteps(after.samples, forMs, stepMs, retries) },
    ],
    figures: {
      'retries without, % of requests': round(retries(later(before))),
      'retries with a budget, % of requests': round(retries(later(after))),
      'the budget, % of requests': percent + (leastPerSecond / 1_000) * 100,
      'retries with a budget of requests in flight, % of requests': round(retries(later(active))),
    },
  };
};

const CAPACITY = 800;
const DEADLINE_MS = 250;

function overloaded(policy: Load['policy'], forMs: number, criticality?: Load['criticality']): { samples: Sample[]; from: number } {
  const from = forMs / 4;
  const server: ServerModel = { concurrency: 8, serviceMs: (_, random) => lognormal(9.55, random), fails: never };
  const mesh = new SimulatedMesh({ policy, servers: [server], retries: 0, seed: 11 });
  const samples: Sample[] = [];
  const { events, random } = mesh;
  const next = (): void => {
    const atMs = events.nowMs;
    if (atMs >= forMs) return;
    const value = criticality?.(random) ?? '';
    mesh.request((outcome) => samples.push({ ...outcome, atMs, criticality: value }), value);
    events.in((-Math.log(1 - random()) * 1_000) / (atMs < from ? CAPACITY / 2 : CAPACITY * 10), next);
  };
  next();
  events.runUntil(forMs);
  return { samples, from };
}

/** Answered well, and in time to be of use. */
const isGood = ({ status, latencyMs }: Sample): boolean => status === 200 && latencyMs <= DEADLINE_MS;

/** Ten times what the service can do. */
export const adaptiveConcurrency: Scenario = (scale) => {
  const forMs = 40_000 * scale;
  const before = overloaded(undefined, forMs);
  const after = overloaded({ admission: { adaptive: ADAPTIVE } }, forMs);
  const stepMs = forMs / 60;
  const goodput = (samples: readonly Sample[]): number => (samples.filter(isGood).length / stepMs) * 1_000;
  const overall = ({ samples, from }: typeof before): number => {
    const late = from + 2_000;
    return (samples.filter((sample) => sample.atMs >= late && isGood(sample)).length / (forMs - late)) * 1_000;
  };
  return {
    title: 'Ten times the load that the service bears: answers within 250 ms',
    unit: '1/s',
    stepMs,
    lines: [
      { name: 'without', values: bySteps(before.samples, forMs, stepMs, goodput) },
      { name: 'adaptive concurrency', values: bySteps(after.samples, forMs, stepMs, goodput) },
    ],
    figures: {
      'capacity, 1/s': CAPACITY,
      'goodput without, 1/s': round(overall(before)),
      'goodput with adaptive concurrency, 1/s': round(overall(after)),
      'goodput / capacity': round(overall(after) / CAPACITY),
    },
  };
};

/** The same load, a twentieth of it critical, half of it sheddable. */
export const criticality: Scenario = (scale) => {
  const forMs = 40_000 * scale;
  const values = ['critical', 'normal', 'sheddable'];
  const classOf = (random: () => number): string => {
    const drawn = random();
    return drawn < 0.05 ? values[0]! : drawn < 0.5 ? values[1]! : values[2]!;
  };
  const { samples, from } = overloaded(
    { admission: { adaptive: ADAPTIVE, criticality: { header: 'x-criticality', values, defaultClass: 1 } } },
    forMs,
    classOf,
  );
  const stepMs = forMs / 60;
  const ofClass = (value: string): Sample[] => samples.filter((sample) => sample.criticality === value);
  const share = (some: readonly Sample[]): number => (some.length === 0 ? 100 : (some.filter(isGood).length / some.length) * 100);
  const late = from + 2_000;
  const overall = (value: string): number => round(share(ofClass(value).filter(({ atMs }) => atMs >= late)));
  const good = samples.filter((sample) => sample.atMs >= late && isGood(sample)).length;
  return {
    title: 'The same by criticality: requests that are answered within 250 ms',
    unit: '%',
    stepMs,
    lines: values.map((value) => ({ name: value, values: bySteps(ofClass(value), forMs, stepMs, share) })),
    figures: {
      'critical answered, %': overall(values[0]!),
      'normal answered, %': overall(values[1]!),
      'sheddable answered, %': overall(values[2]!),
      'goodput / capacity': round(((good / (forMs - late)) * 1_000) / CAPACITY),
    },
  };
};

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  ewma,
  outlier,
  'retry-budget': retryBudget,
  'adaptive-concurrency': adaptiveConcurrency,
  criticality,
};
