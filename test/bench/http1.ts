// Benchmark http1: CPU per request of our proxy against nginx and HAProxy doing the same work (see http1-proxies.ts), by size of the
// responses and number of connections.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Bed, type BenchOptions, type Contender, chosen, interleaved, LOAD_CORE } from './bed.js';
import { startHttp1 } from './http1-bed.js';
import { HOST, ROUTES } from './http1-proxies.js';
import { cpuTimeUs, Pinned } from './process.js';
import { type Case, compare } from './report.js';

const CASES = [
  { name: '100B-64c', bodyBytes: 100, connections: 64 },
  { name: '100B-512c', bodyBytes: 100, connections: 512 },
  { name: '1KiB-64c', bodyBytes: 1024, connections: 64 },
  { name: '1KiB-512c', bodyBytes: 1024, connections: 512 },
  { name: '64KiB-64c', bodyBytes: 65_536, connections: 64 },
  { name: '64KiB-512c', bodyBytes: 65_536, connections: 512 },
] as const;

export async function http1(options: BenchOptions): Promise<Case[]> {
  const results: Case[] = [];
  for (const one of chosen(CASES, options)) results.push(...(await Bed.use((bed) => runCase(bed, one, options))));
  return results;
}

async function runCase(
  bed: Bed,
  { name, bodyBytes, connections }: (typeof CASES)[number],
  { quick, onProgress }: BenchOptions,
): Promise<Case[]> {
  const contenders = await startHttp1(bed, bodyBytes);
  const script = join(bed.folder, 'load.lua');
  writeFileSync(script, loadScript());
  const measure = (contender: Contender, isWarmUp: boolean): Promise<number> => load(contender, script, connections, isWarmUp ? 1 : 2);
  const values = await interleaved(contenders, quick ? 5 : 9, measure, (text) => onProgress(`${name} ${text} µs`));
  return contenders.slice(1).map((peer) => compare(name, peer.name, values.get('weft')!, values.get(peer.name)!));
}

/** CPU µs per request. */
async function load({ name, port, pid }: Contender, script: string, connections: number, seconds: number): Promise<number> {
  const before = cpuTimeUs(pid);
  const options = ['-t1', `-c${connections}`, `-d${seconds}s`, '-s', script, '-H', `Host: ${HOST}`];
  const output = await new Pinned(LOAD_CORE, ['wrk', ...options, `http://127.0.0.1:${port}/`]).result();
  const requests = Number(/(\d+) requests in/.exec(output)?.[1]);
  const failed = /Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)/.exec(output);
  if (!(requests > 0) || failed !== null) throw new Error(`${name} did not answer every request:\n${output}`);
  return (cpuTimeUs(pid) - before) / requests;
}

/** Every route in turn, made beforehand: the load generator must not be the bottleneck. */
function loadScript(): string {
  return `local all, at = {}, 0
function init(args)
  for i = 0, ${ROUTES - 1} do all[i] = wrk.format("GET", "/svc" .. i .. "/item") end
end
function request()
  at = (at + 1) % ${ROUTES}
  return all[at]
end
`;
}
