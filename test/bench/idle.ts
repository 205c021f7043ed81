// Benchmark idle: bytes of a proxy's own memory for each of 10,000 idle keep-alive connections, after one request on each. They come in
// parts, of which the median is told: what start-up gives back late, or a table that doubles takes at once, falls into one of them. Others
// are held before, which take what memory start-up has left free. V8's heaps are left out: TypeScript keeps nothing of a connection.
import { Bed, type BenchOptions, type Contender, chosen, LOAD_CORE } from './bed.js';
import { startHttp1 } from './http1-bed.js';
import { HOST, ROUTES } from './http1-proxies.js';
import { openLoad } from './open-loop.js';
import { memoryBesideV8Bytes } from './process.js';
import { type Case, compare } from './report.js';

const CONNECTIONS = 10_000;
const PARTS = 5;
const HELD_BEFORE = 5_000;
const CASES = [{ name: `idle-${CONNECTIONS}` }];

export async function idle(options: BenchOptions): Promise<Case[]> {
  chosen(CASES, options);
  const values = new Map<string, number[]>();
  // Memory that was freed is not given back: every round has new processes.
  for (let round = 0; round < (options.quick ? 1 : 3); round++) {
    await Bed.use(async (bed) => {
      const { contenders } = await startHttp1(bed, 100);
      for (const contender of contenders) {
        await warm(bed, contender);
        await hold(bed, contender, HELD_BEFORE);
        for (let part = 0; part < PARTS; part++) {
          const bytes = await held(bed, contender, CONNECTIONS / PARTS);
          values.set(contender.name, [...(values.get(contender.name) ?? []), bytes]);
          options.onProgress(`round ${round + 1}, part ${part + 1}: ${contender.name} ${bytes.toFixed(0)} bytes`);
        }
      }
    });
  }
  return ['nginx', 'haproxy'].map((peer) => compare(CASES[0]!.name, peer, values.get('weft')!, values.get(peer)!));
}

async function warm(bed: Bed, { port }: Contender): Promise<void> {
  await openLoad(bed, { port, host: HOST, rate: 1_000, connections: 16, seconds: 1, routes: ROUTES });
}

/** Bytes that each of so many takes. */
async function held(bed: Bed, contender: Contender, connections: number): Promise<number> {
  const before = memoryBesideV8Bytes(contender.pid);
  await hold(bed, contender, connections);
  return (memoryBesideV8Bytes(contender.pid) - before) / connections;
}

/** Until the bed is left. */
async function hold(bed: Bed, { port }: Contender, connections: number): Promise<void> {
  await bed.start(LOAD_CORE, [bed.tool('hold'), String(port), HOST, String(connections)]).says('ready');
}
