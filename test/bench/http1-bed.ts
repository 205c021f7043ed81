// What the HTTP/1 benchmarks share: backends, the proxies before them (those of http1-proxies.ts unless told), each on ports of its own,
// and the load that CPU per request is measured under.
import { type Bed, type Contender, LOAD_CORE, PROXY_CORE, WEFT } from './bed.js';
import { BACKENDS, HOST, haproxy, nginx, type ProxySetup, ROUTES, weft } from './http1-proxies.js';
import { consecutivePorts, cpuTimeUs, type Pinned } from './process.js';

/** Not FIRST: what never sleeps would keep the kernel's own threads from its core. */
const BEFORE_OTHERS = ['nice', '-n', '-20'];

export interface Http1Bed {
  /** Names: weft, nginx, haproxy. Each proxy's folder: folderOf(). */
  readonly contenders: Contender[];
  /** closed-loop.c: the backends, and a load when it is asked for one. */
  readonly load: Pinned;
}

export interface Http1Setup {
  readonly setups?: readonly ProxySetup[];
  /** Of each request, beside Host. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** Backends answer with `bodyBytes`. */
export async function startHttp1(
  bed: Bed,
  bodyBytes: number,
  { setups = [weft(WEFT), nginx, haproxy], headers = {} }: Http1Setup = {},
): Promise<Http1Bed> {
  const firstPort = await consecutivePorts(BACKENDS + setups.length);
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  const numbers = [firstPort, BACKENDS, bodyBytes].map(String);
  const load = bed.start(LOAD_CORE, [
    ...BEFORE_OTHERS,
    bed.tool('closed-loop', ['ssl', 'crypto']),
    ...numbers,
    HOST,
    String(ROUTES),
    ...lines,
  ]);
  await load.says('ready');
  const contenders: Contender[] = [];
  for (const [index, setup] of setups.entries()) {
    const port = firstPort + BACKENDS + index;
    const process = bed.start(PROXY_CORE, setup.command(folderOf(bed, setup, bodyBytes), port, firstPort));
    await process.listensOn(port);
    contenders.push({ name: setup.name, port, firstBackend: firstPort, pid: setup.worker(process.pid) });
  }
  return { contenders, load };
}

export function folderOf(bed: Bed, { name }: { readonly name: string }, bodyBytes: number): string {
  return bed.subfolder(`${name}-${bodyBytes}`);
}

export interface Measured {
  readonly requests: number;
  /** CPU µs per request. */
  readonly cpuUs: number;
  /** How much of the time it was at work, 0 to 1: near 1 it was what was waited for. */
  readonly busy: number;
}

/** What closed-loop.c calls them. */
export type LoadKind = 'plain' | 'kept' | 'resumed' | 'full';

/** Short, so that what is compared was measured within two seconds: a core of a virtual machine is faster and slower by the second. */
const SECONDS = 0.5;
const WARM_UP_SECONDS = 1;
export const roundsOf = (quick: boolean): number => (quick ? 20 : 36);

/** One request at a time on each of `connections`, every route in turn. Throws if one was not answered. */
export async function underLoad(
  load: Pinned,
  { name, port, pid }: Contender,
  connections: number,
  isWarmUp: boolean,
  kind: LoadKind = 'plain',
): Promise<Measured> {
  const seconds = isWarmUp ? WARM_UP_SECONDS : SECONDS;
  const before = cpuTimeUs(pid);
  const began = performance.now();
  const { requests, failed, why } = JSON.parse(await load.ask(`${port} ${connections} ${seconds * 1000} ${kind}`)) as {
    requests: number;
    failed: number;
    why: string;
  };
  if (!(requests > 0) || failed > 0) throw new Error(`${name} did not answer every request: ${requests} answered, ${failed} not (${why})`);
  const cpuUs = cpuTimeUs(pid) - before;
  return { requests, cpuUs: cpuUs / requests, busy: cpuUs / 1000 / (performance.now() - began) };
}
