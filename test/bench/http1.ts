// Benchmark http1: CPU per request of our proxy against nginx and HAProxy doing the same work, 100-byte responses, 64 connections.
// The proxy has core 0, load and backends core 1; the runs are interleaved, and each ratio is of one round, so that what the machine
// does meanwhile falls on all. See http1-proxies.ts for the work.
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BACKENDS, HOST, haproxy, nginx, type ProxySetup, ROUTES, weft } from './http1-proxies.js';
import { cpuTimeUs, freePorts, Pinned } from './process.js';

const PROXY_CORE = 0;
const LOAD_CORE = 1;
const CONNECTIONS = 64;

export interface Http1Options {
  /** Ends within 50 s. */
  readonly quick: boolean;
  readonly onProgress: (text: string) => void;
}

export interface Case {
  readonly name: string;
  readonly peer: string;
  /** The peer's CPU per request over ours: median of the rounds. */
  readonly ratio: number;
  /** Medians, µs. */
  readonly oursUs: number;
  readonly peerUs: number;
}

interface Contender {
  readonly setup: ProxySetup;
  readonly port: number;
  readonly process: Pinned;
  readonly cpuUs: number[];
}

export async function http1({ quick, onProgress }: Http1Options): Promise<Case[]> {
  const folder = mkdtempSync(join(tmpdir(), 'weft-bench-'));
  // nginx's worker is another user.
  chmodSync(folder, 0o755);
  const running: Pinned[] = [];
  try {
    const root = projectRoot();
    const firstPort = await freePorts(BACKENDS + 3);
    const backend = join(folder, 'backend');
    execFileSync('cc', ['-O2', '-o', backend, join(root, 'test', 'bench', 'backend.c')]);
    const backends = new Pinned(LOAD_CORE, [backend, String(firstPort), String(BACKENDS)]);
    running.push(backends);
    await backends.listensOn(firstPort + BACKENDS - 1);
    const contenders: Contender[] = [];
    for (const [index, setup] of [weft(join(root, 'dist', 'cli', 'main.js')), nginx, haproxy].entries()) {
      const own = join(folder, setup.name);
      mkdirSync(own, { mode: 0o777 });
      const port = firstPort + BACKENDS + index;
      const process = new Pinned(PROXY_CORE, setup.command(own, port, firstPort));
      running.push(process);
      await process.listensOn(port);
      contenders.push({ setup, port, process, cpuUs: [] });
    }
    const script = join(folder, 'load.lua');
    writeFileSync(script, loadScript());
    const seconds = quick ? 2 : 4;
    for (const contender of contenders) await run(contender, script, 1);
    for (let round = 0; round < (quick ? 5 : 15); round++) {
      for (const index of contenders.keys()) {
        const contender = contenders[(index + round) % contenders.length]!;
        const us = await run(contender, script, seconds);
        contender.cpuUs.push(us);
        onProgress(`round ${round + 1}: ${contender.setup.name} ${us.toFixed(2)} µs`);
      }
    }
    const [ours, ...peers] = contenders as [Contender, ...Contender[]];
    return peers.map((peer) => ({
      name: '100 B, 64 connections, 50 routes, 8 endpoints',
      peer: peer.setup.name,
      ratio: round2(median(peer.cpuUs.map((us, i) => us / ours.cpuUs[i]!))),
      oursUs: round2(median(ours.cpuUs)),
      peerUs: round2(median(peer.cpuUs)),
    }));
  } finally {
    await Promise.all(running.map((process) => process.stop()));
    rmSync(folder, { recursive: true, force: true });
  }
}

/** CPU µs per request. */
async function run({ setup, port, process }: Contender, script: string, seconds: number): Promise<number> {
  const pid = setup.worker(process.pid);
  const before = cpuTimeUs(pid);
  const wrk = new Pinned(LOAD_CORE, [
    'wrk',
    '-t1',
    `-c${CONNECTIONS}`,
    `-d${seconds}s`,
    '-s',
    script,
    '-H',
    `Host: ${HOST}`,
    `http://127.0.0.1:${port}/`,
  ]);
  const output = await wrk.result();
  const requests = Number(/(\d+) requests in/.exec(output)?.[1]);
  const failed = /Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)/.exec(output);
  if (!(requests > 0) || failed !== null) throw new Error(`${setup.name} did not answer every request:\n${output}`);
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

/** The folder with package.json above dist/test/bench or test/bench. */
function projectRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return folder;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function round2(value: number): number {
  return Math.round(value * 100) / 100;
}
