// Benchmark idle: bytes of a proxy's own memory for each of 10,000 idle keep-alive connections, after one request on each. The memory
// before is that after a thousand requests on 16 connections, so that neither start-up nor first use is counted.
import { setTimeout as sleep } from 'node:timers/promises';
import { Bed, type BenchOptions, type Contender, chosen, LOAD_CORE } from './bed.js';
import { startHttp1 } from './http1-bed.js';
import { HOST, ROUTES } from './http1-proxies.js';
import { ownMemoryBytes, Pinned } from './process.js';
import { type Case, compare } from './report.js';

const CONNECTIONS = 10_000;
/** Memory has come to rest when it did not change by more than this for so long; V8 gives back what start-up took after some seconds. */
const STEADY_BYTES = 64 * 1024;
const STEADY_MS = 4_000;
const SETTLE_TIMEOUT_MS = 20_000;
const CASES = [{ name: `idle-${CONNECTIONS}` }];

export async function idle(options: BenchOptions): Promise<Case[]> {
  chosen(CASES, options);
  const values = new Map<string, number[]>();
  // Memory that was freed is not given back: every round has new processes.
  for (let round = 0; round < (options.quick ? 1 : 5); round++) {
    await Bed.use(async (bed) => {
      const { contenders } = await startHttp1(bed, 100);
      for (const contender of contenders) await warm(bed, contender);
      const bytes = await Promise.all(contenders.map((contender) => hold(bed, contender)));
      for (const [index, { name }] of contenders.entries()) {
        values.set(name, [...(values.get(name) ?? []), bytes[index]!]);
        options.onProgress(`round ${round + 1}: ${name} ${bytes[index]!.toFixed(0)} bytes`);
      }
    });
  }
  return ['nginx', 'haproxy'].map((peer) => compare(CASES[0]!.name, peer, values.get('weft')!, values.get(peer)!));
}

async function warm(bed: Bed, { port }: Contender): Promise<void> {
  await new Pinned(LOAD_CORE, [bed.tool('open-loop'), String(port), HOST, '1000', '16', '1', String(ROUTES)]).result();
}

/** Bytes a connection. */
async function hold(bed: Bed, { port, pid }: Contender): Promise<number> {
  const before = await steadyMemory(pid);
  const client = bed.start(LOAD_CORE, [bed.tool('hold'), String(port), HOST, String(CONNECTIONS)]);
  await client.says('ready');
  const bytes = ((await steadyMemory(pid)) - before) / CONNECTIONS;
  await client.stop();
  return bytes;
}

async function steadyMemory(pid: number): Promise<number> {
  const deadline = performance.now() + SETTLE_TIMEOUT_MS;
  let bytes = ownMemoryBytes(pid);
  let since = performance.now();
  while (performance.now() < Math.min(deadline, since + STEADY_MS)) {
    await sleep(100);
    const now = ownMemoryBytes(pid);
    if (Math.abs(now - bytes) <= STEADY_BYTES) continue;
    bytes = now;
    since = performance.now();
  }
  return bytes;
}
