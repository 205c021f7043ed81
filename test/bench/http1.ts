// Benchmark http1: CPU per request of our proxy against nginx and HAProxy doing the same work (see http1-proxies.ts), by size of the
// responses and number of connections; `bare` without the rate limit; `floor` against a relay that looks at nothing.
import { Bed, type BenchOptions, type Contender, chosen, interleaved, WEFT } from './bed.js';
import { roundsOf, startHttp1, underLoad } from './http1-bed.js';
import { blindRelay, haproxy, limitedHaproxy, limitedNginx, nginx, type ProxySetup, weft } from './http1-proxies.js';
import { type Case, compare } from './report.js';

interface Http1Case {
  readonly name: string;
  readonly bodyBytes: number;
  readonly connections: number;
  /** LIMITED unless told. */
  readonly setups?: (bed: Bed) => readonly ProxySetup[];
}
const LIMITED: readonly ProxySetup[] = [weft(WEFT, true), limitedNginx, limitedHaproxy];
const BARE: readonly ProxySetup[] = [weft(WEFT), nginx, haproxy];
const CASES: readonly Http1Case[] = [
  { name: '100B-64c', bodyBytes: 100, connections: 64 },
  { name: '100B-512c', bodyBytes: 100, connections: 512 },
  { name: '1KiB-64c', bodyBytes: 1024, connections: 64 },
  { name: '1KiB-512c', bodyBytes: 1024, connections: 512 },
  { name: '64KiB-64c', bodyBytes: 65_536, connections: 64 },
  { name: '64KiB-512c', bodyBytes: 65_536, connections: 512 },
  { name: '100B-64c-bare', bodyBytes: 100, connections: 64, setups: () => BARE },
  { name: '100B-64c-floor', bodyBytes: 100, connections: 64, setups: (bed) => [weft(WEFT, true), blindRelay(bed.tool('blind-relay'))] },
];

export async function http1(options: BenchOptions): Promise<Case[]> {
  const results: Case[] = [];
  for (const one of chosen(CASES, options)) results.push(...(await Bed.use((bed) => runCase(bed, one, options))));
  return results;
}

async function runCase(
  bed: Bed,
  { name, bodyBytes, connections, setups = () => LIMITED }: Http1Case,
  { quick, onProgress }: BenchOptions,
): Promise<Case[]> {
  const { contenders, load } = await startHttp1(bed, bodyBytes, { setups: setups(bed) });
  const measure = async (contender: Contender, isWarmUp: boolean): Promise<number> =>
    (await underLoad(load, contender, connections, isWarmUp)).cpuUs;
  const values = await interleaved(contenders, roundsOf(quick), measure, (text) => onProgress(`${name} ${text} µs`));
  return contenders.slice(1).map((peer) => compare(name, peer.name, values.get('weft')!, values.get(peer.name)!));
}
