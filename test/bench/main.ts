// `npm run bench -- NAME [--quick] [--json]`: runs a benchmark against its peers and prints the ratios.
import { parseArgs } from 'node:util';
import { type Case, http1 } from './http1.js';

const BENCHES: Readonly<Record<string, typeof http1>> = { http1 };

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({ allowPositionals: true, options: { quick: { type: 'boolean' }, json: { type: 'boolean' } } });
  const name = positionals[0] ?? '';
  const bench = BENCHES[name];
  if (bench === undefined || positionals.length !== 1) {
    console.error(`usage: npm run bench -- ${Object.keys(BENCHES).join('|')} [--quick] [--json]`);
    return 2;
  }
  const cases = await bench({ quick: values.quick === true, onProgress: (text) => console.error(text) });
  if (values.json === true) console.log(JSON.stringify({ bench: name, cases }));
  else printTable(cases);
  return 0;
}

function printTable(cases: readonly Case[]): void {
  console.log('CPU per request; ratio: the peer’s over ours (above 1: we need less)');
  console.table(cases.map(({ name, peer, ratio, oursUs, peerUs }) => ({ case: name, peer, 'ours µs': oursUs, 'peer µs': peerUs, ratio })));
}

process.exitCode = await main().catch((error: Error) => {
  console.error(error.message);
  return 1;
});
