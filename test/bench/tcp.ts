// Benchmark tcp: CPU of an opaque relay, per MiB carried over a few long connections, and per connection of 100 bytes. Every byte is counted
// at the client.
import { Bed, type BenchOptions, type Contender, chosen, interleaved, LOAD_CORE, PROXY_CORE } from './bed.js';
import { consecutivePorts, cpuTimeUs, Pinned } from './process.js';
import { type Case, compare } from './report.js';
import { haproxyTcp, nginxTcp, SERVICE_ADDRESS, weftTcp } from './tcp-proxies.js';

const MIB = 1 << 20;
const CASES = [
  { name: 'MiB-8c', connections: 8, bytes: 16 * MIB, perMib: true },
  { name: 'connection-64c', connections: 64, bytes: 100, perMib: false },
] as const;

export async function tcp(options: BenchOptions): Promise<Case[]> {
  // Both cases fit into the time of --quick.
  const cases = options.only === null ? CASES : chosen(CASES, options);
  if (nginxTcp === null) options.onProgress('nginx is left out: it has no stream module (Debian: apt-get install libnginx-mod-stream)');
  const setups = [weftTcp, ...(nginxTcp === null ? [] : [nginxTcp]), haproxyTcp];
  return Bed.use(async (bed) => {
    const [backendPort, ...ports] = await consecutive(1 + setups.length);
    const backend = bed.start(LOAD_CORE, [bed.tool('tcp-peer'), 'serve', String(backendPort)]);
    await backend.listensOn(backendPort!);
    const contenders: Contender[] = [];
    for (const [index, setup] of setups.entries()) {
      const process = bed.start(PROXY_CORE, setup.command(bed.subfolder(setup.name), ports[index]!, backendPort!));
      await process.listensOn(ports[index]!, SERVICE_ADDRESS);
      contenders.push({ name: setup.name, port: ports[index]!, firstBackend: backendPort!, pid: setup.worker(process.pid) });
    }
    const results: Case[] = [];
    for (const one of cases) {
      const measure = (contender: Contender, isWarmUp: boolean): Promise<number> =>
        load(bed, contender, one, isWarmUp ? 0.5 : options.quick ? 1 : 2);
      const values = await interleaved(contenders, options.quick ? 4 : 9, measure, (text) => options.onProgress(`${one.name} ${text} µs`));
      results.push(...setups.slice(1).map((peer) => compare(one.name, peer.name, values.get('weft')!, values.get(peer.name)!)));
    }
    return results;
  });
}

/** CPU µs per MiB, or per connection. */
async function load(bed: Bed, { port, pid }: Contender, one: (typeof CASES)[number], seconds: number): Promise<number> {
  const before = cpuTimeUs(pid);
  const command = [
    bed.tool('tcp-peer'),
    'load',
    String(port),
    String(one.connections),
    String(one.bytes),
    String(seconds),
    SERVICE_ADDRESS,
  ];
  const { connections, bytes } = JSON.parse(await new Pinned(LOAD_CORE, command).result()) as { connections: number; bytes: number };
  return (cpuTimeUs(pid) - before) / (one.perMib ? bytes / MIB : connections);
}

async function consecutive(count: number): Promise<number[]> {
  const first = await consecutivePorts(count);
  return Array.from({ length: count }, (_, i) => first + i);
}
