// Benchmark revision: what a revision costs our proxy when nothing else is to do: CPU time of its main thread, of its worker and of V8's threads, and
// what the main thread allocates (by --trace-gc). Each revision is sent when the one before is in force. No peer does the like.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AgentFeed, type Manifests } from './agent-feed.js';
import { Bed, type BenchOptions, chosen, WEFT } from './bed.js';
import { manifests } from './http1-proxies.js';
import { endpointSlice, service } from './manifests.js';
import { consecutivePorts } from './process.js';
import { type Figure, rounded } from './report.js';
import { changingConfiguration } from './tail.js';

interface Revisions {
  readonly name: string;
  readonly configuration: Manifests;
  readonly generations: number;
  /** Aims for one revision: µs of the main thread, of the worker's; KiB. */
  readonly aims: { readonly main: number; readonly worker: number; readonly allocated: number };
}

const OTHER_SERVICES = 1_000;
const ENDPOINTS_EACH = 10;
const CASES: readonly Revisions[] = [
  { name: 'tail', configuration: changingConfiguration, generations: 8, aims: { main: 5_000, worker: 500, allocated: 3_000 } },
  { name: 'one-of-10000', configuration: oneOfMany, generations: 2, aims: { main: 3_000, worker: 500, allocated: 1_000 } },
];
const WARM_UP = 100;

/** What threads of a process ran, µs. */
interface Ran {
  readonly main: number;
  readonly workers: number;
  readonly others: number;
}

export async function revision(options: BenchOptions): Promise<Figure[]> {
  const figures: Figure[] = [];
  const cases = options.only === null ? CASES : chosen(CASES, options);
  for (const one of cases) figures.push(...(await Bed.use((bed) => measure(bed, one, options))));
  return figures;
}

async function measure(
  bed: Bed,
  { name, configuration, generations, aims }: Revisions,
  { quick, onProgress }: BenchOptions,
): Promise<Figure[]> {
  const feed = await AgentFeed.start(bed.subfolder('agent'), configuration, generations);
  try {
    const trace = join(bed.folder, 'trace');
    const command = feed.proxy(WEFT, ['--trace-gc']).command(bed.subfolder('weft'), await consecutivePorts(1), 1);
    const proxy = bed.start(null, ['sh', '-c', 'exec "$@" > "$0"', trace, ...command]);
    await feed.connected();
    for (let i = 0; i < WARM_UP; i++) await feed.apply();
    const count = quick ? 200 : 1_000;
    const [began, from] = [ran(proxy.pid), readFileSync(trace, 'latin1').length];
    for (let i = 0; i < count; i++) await feed.apply();
    const ended = ran(proxy.pid);
    const collections = mainCollections(readFileSync(trace, 'latin1').slice(from));
    onProgress(`${name}: ${collections.count} collections of the main thread in ${count} revisions, ${collections.pausedMs.toFixed(0)} ms`);
    const each = (part: keyof Ran): number => rounded((ended[part] - began[part]) / count);
    return [
      { name: `${name} main`, value: each('main'), unit: 'µs', target: aims.main },
      { name: `${name} worker`, value: each('workers'), unit: 'µs', target: aims.worker },
      { name: `${name} other threads`, value: each('others'), unit: 'µs', target: aims.main },
      { name: `${name} allocated`, value: rounded(collections.allocatedKib / count), unit: 'KiB', target: aims.allocated },
    ];
  } finally {
    feed.stop();
  }
}

/** Beside a gateway's routes 1,000 services of 10 endpoints, one of which changes. */
function oneOfMany(port: number, firstBackend: number, generation: number): object[] {
  const others = Array.from({ length: OTHER_SERVICES }, (_, of) => {
    const last = of === 0 ? generation : 0;
    const addresses = Array.from({ length: ENDPOINTS_EACH }, (_, i) => `198.${18 + (of >> 8)}.${of & 255}.${i === 0 ? 100 + last : i}`);
    return [service(`other-${of}`), endpointSlice(`other-${of}`, `other-${of}`, { name: 'http', port: 8080 }, addresses)];
  });
  return [...manifests(port, firstBackend), ...others.flat()];
}

/** Workers are the threads that give way to nobody (agent/proxy/thread-priority.ts). */
function ran(pid: number): Ran {
  const sums = { main: 0, workers: 0, others: 0 };
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const folder = `/proc/${pid}/task/${thread}`;
    const us = Number(readFileSync(`${folder}/schedstat`, 'latin1').split(' ')[0]) / 1_000;
    // Behind the name in parentheses: fields from the third on, nice is the 19th.
    const nice = readFileSync(`${folder}/stat`, 'latin1').split(') ')[1]?.split(' ')[16];
    sums[thread === String(pid) ? 'main' : nice === '0' ? 'workers' : 'others'] += us;
  }
  return sums;
}

/** Of the isolate that is named first, in lines like "[12:0x5c1] 8034 ms: Scavenge 24.5 (27.1) -> 22.1 (28.1) MB, 1.2 / 0.0 ms …". */
function mainCollections(trace: string): { readonly count: number; readonly allocatedKib: number; readonly pausedMs: number } {
  const lines = [...trace.matchAll(/^\[\d+:(0x[0-9a-f]+)\].* ([\d.]+) \([\d.]+\) -> ([\d.]+) \([\d.]+\) MB, ([\d.]+) /gm)];
  const own = lines.filter(([, isolate]) => isolate === lines[0]?.[1]);
  const allocated = own.slice(1).reduce((sum, [, , before], i) => sum + Number(before) - Number(own[i]![3]), 0);
  return {
    count: own.length,
    allocatedKib: allocated * 1_024,
    pausedMs: own.reduce((sum, [, , , , ms]) => sum + Number(ms), 0),
  };
}
