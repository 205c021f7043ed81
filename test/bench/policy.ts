// Benchmark policy: CPU per request of our proxy with everything on that a route and a service may ask for (policy-proxies.ts), against
// itself with one route and none of it, and against HAProxy configured alike. Every request must be in the access log.
import { readFileSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Bed, type BenchOptions, type Contender, chosen, interleaved } from './bed.js';
import { folderOf, roundsOf, startHttp1, underLoad } from './http1-bed.js';
import { ACCESS_LOG, bare, haproxyPolicy, MATCHED_HEADERS, weftPolicy } from './policy-proxies.js';
import { type Case, compare } from './report.js';

const CASES = [
  { name: 'policy-100B-64c', bodyBytes: 100, connections: 64 },
  { name: 'policy-100B-512c', bodyBytes: 100, connections: 512 },
] as const;
/** For the last lines to reach the file. */
const LOG_TIMEOUT_MS = 5_000;

export async function policy(options: BenchOptions): Promise<Case[]> {
  const results: Case[] = [];
  for (const one of chosen(CASES, options)) results.push(...(await Bed.use((bed) => runCase(bed, one, options))));
  return results;
}

async function runCase(
  bed: Bed,
  { name, bodyBytes, connections }: (typeof CASES)[number],
  { quick, onProgress }: BenchOptions,
): Promise<Case[]> {
  const { contenders, load } = await startHttp1(bed, bodyBytes, { setups: [weftPolicy, bare, haproxyPolicy], headers: MATCHED_HEADERS });
  const measure = async (contender: Contender, isWarmUp: boolean): Promise<number> => {
    const { requests, cpuUs } = await underLoad(load, contender, connections, isWarmUp);
    if (contender.name !== bare.name) await logged(contender.name, join(folderOf(bed, contender, bodyBytes), ACCESS_LOG), requests);
    return cpuUs;
  };
  const values = await interleaved(contenders, roundsOf(quick), measure, (text) => onProgress(`${name} ${text} µs`));
  return contenders.slice(1).map((peer) => compare(name, peer.name, values.get(weftPolicy.name)!, values.get(peer.name)!));
}

/** Throws unless the log has a line for each request, and empties it: who leaves lines out has less to do. */
async function logged(name: string, file: string, requests: number): Promise<void> {
  const deadline = performance.now() + LOG_TIMEOUT_MS;
  let lines = linesIn(file);
  for (; lines < requests && performance.now() < deadline; lines = linesIn(file)) await sleep(50);
  if (lines < requests) throw new Error(`${name} logged ${lines} of ${requests} requests`);
  truncateSync(file);
}

function linesIn(file: string): number {
  const bytes = readFileSync(file);
  let lines = 0;
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) lines++;
  return lines;
}
