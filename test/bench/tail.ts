// Benchmark tail: latency at fixed request rates, measured from when each request was due (open-loop.c), while an agent sends our proxy a
// new revision every second: the weights of all routes, and a service of 1,000 endpoints that all change. nginx is left in peace. Ratio:
// of the p99, nginx's over ours.
import { AgentFeed } from './agent-feed.js';
import { Bed, type BenchOptions, CORES, type Contender, chosen, interleaved, WEFT } from './bed.js';
import { startHttp1 } from './http1-bed.js';
import { HOST, manifests, nginx, ROUTES } from './http1-proxies.js';
import { endpointSlice, service } from './manifests.js';
import { type OpenLoadResult, openLoad } from './open-loop.js';
import { type Case, compare, median } from './report.js';

const CASES = [
  { name: 'p99-20000rps-updates', rate: 20_000, connections: 64, updates: true },
  { name: 'p99-20000rps', rate: 20_000, connections: 64, updates: false },
  { name: 'p99-5000rps-updates', rate: 5_000, connections: 64, updates: true },
  { name: 'p99-5000rps', rate: 5_000, connections: 64, updates: false },
] as const;
const CHANGING_ENDPOINTS = 1_000;
/** Endpoints in one EndpointSlice, as Kubernetes makes them. */
const SLICE = 100;
const UPDATE_MS = 1_000;
/** A proxy that has been running for a while is measured, not V8 compiling what it had never run. */
const WARM_UP_UPDATE_MS = 20;
const GENERATIONS = 8;

export async function tail(options: BenchOptions): Promise<Case[]> {
  const results: Case[] = [];
  for (const one of chosen(CASES, options)) results.push(...(await runCase(one, options)));
  return results;
}

async function runCase(one: (typeof CASES)[number], options: BenchOptions): Promise<Case[]> {
  return Bed.use(async (bed) => {
    const feed = await AgentFeed.start(bed.subfolder('agent'), changingConfiguration, GENERATIONS);
    try {
      return await measureCase(bed, feed, one, options);
    } finally {
      feed.stop();
    }
  });
}

async function measureCase(
  bed: Bed,
  feed: AgentFeed,
  { name, rate, connections, updates }: (typeof CASES)[number],
  { quick, onProgress }: BenchOptions,
): Promise<Case[]> {
  const { contenders } = await startHttp1(bed, 100, { setups: [feed.proxy(WEFT), nginx] });
  const seen = new Map<string, OpenLoadResult[]>(contenders.map((contender) => [contender.name, []]));
  const measure = async (contender: Contender, isWarmUp: boolean): Promise<number> => {
    if (updates && contender.name === 'weft') feed.startUpdates(isWarmUp ? WARM_UP_UPDATE_MS : UPDATE_MS);
    try {
      const latencies = await load(bed, contender, rate, connections, isWarmUp ? 1 : quick ? 3 : 8);
      if (!isWarmUp) seen.get(contender.name)!.push(latencies);
      return latencies.p99;
    } finally {
      feed.stopUpdates();
    }
  };
  const values = await interleaved(contenders, quick ? 4 : 7, measure, (text) => onProgress(`${name} ${text} µs`));
  for (const [contender, all] of seen) {
    const unanswered = all.reduce((sum, latencies) => sum + latencies.unanswered, 0);
    if (unanswered > 0)
      onProgress(`${name} ${contender}: ${unanswered} requests were not answered: the machine does not keep up with this rate`);
    const of = (key: 'p50' | 'p99' | 'p999'): string => median(all.map((latencies) => latencies[key])).toFixed(0);
    onProgress(`${name} ${contender}: p50 ${of('p50')} µs, p99 ${of('p99')} µs, p99.9 ${of('p999')} µs (medians of the rounds)`);
  }
  return [compare(name, 'nginx', values.get('weft')!, values.get('nginx')!)];
}

async function load(bed: Bed, { name, port }: Contender, rate: number, connections: number, seconds: number): Promise<OpenLoadResult> {
  const latencies = await openLoad(bed, { port, host: HOST, rate, connections, seconds, routes: ROUTES, cores: CORES });
  if (latencies.errors > 0) throw new Error(`${name}: ${latencies.errors} of ${latencies.count} requests failed`);
  return latencies;
}

/** All weights of the benchmark's routes change, and a service of 1,000 endpoints. */
export function changingConfiguration(port: number, firstBackend: number, generation: number): object[] {
  return [...manifests(port, firstBackend, 1 + (generation % 7)), ...changingService(generation)];
}

/** Nobody calls it: its endpoints (in TEST-NET-2 and the like) are not there. */
function changingService(generation: number): object[] {
  const slices = Array.from({ length: CHANGING_ENDPOINTS / SLICE }, (_, slice) => {
    const addresses = Array.from({ length: SLICE }, (_, i) => `198.18.${generation * 16 + slice}.${i + 1}`);
    return endpointSlice(`changing-${slice}`, 'changing', { name: 'http', port: 8080 }, addresses);
  });
  return [service('changing'), ...slices];
}
