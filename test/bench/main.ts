// `npm run bench -- NAME [--quick] [--case CASE] [--json] [--peers-only]`: runs a benchmark against its peers and prints the ratios.
import { availableParallelism, loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import type { BenchOptions } from './bed.js';
import { control } from './control.js';
import { fair } from './fair.js';
import { http1 } from './http1.js';
import { http2 } from './http2.js';
import { idle } from './idle.js';
import { policy } from './policy.js';
import { redirect } from './redirect.js';
import { type Case, type Figure, printFigures, printTable } from './report.js';
import { revision } from './revision.js';
import { tail } from './tail.js';
import { tcp } from './tcp.js';
import { tls } from './tls.js';

interface FiguresBench {
  readonly figures: (options: BenchOptions) => Promise<Figure[]>;
  readonly title: string;
}

interface PeersBench {
  readonly run: (options: BenchOptions) => Promise<Case[]>;
  readonly title: string;
  /** Of oursUs and peerUs. */
  readonly unit: string;
}

const CPU = 'CPU per request; ratio: the peer’s over ours (above 1: we need less)';
const BENCHES: Readonly<Record<string, PeersBench | FiguresBench>> = {
  control: { figures: control, title: 'The control plane: 1,000 simulated agents, 10,000 endpoints, one controller' },
  revision: { figures: revision, title: 'What a revision costs the proxy' },
  http1: { run: http1, title: CPU, unit: 'µs' },
  http2: { run: http2, title: CPU, unit: 'µs' },
  tls: { run: tls, title: CPU, unit: 'µs' },
  policy: { run: policy, title: `${CPU}; bare: ours with one route and no policy`, unit: 'µs' },
  tcp: { run: tcp, title: 'CPU per MiB, and per connection; ratio: the peer’s over ours (above 1: we need less)', unit: 'µs' },
  tail: { run: tail, title: 'Latency, p99; ratio: the peer’s over ours (above 1: ours is lower)', unit: 'µs' },
  fair: {
    run: fair,
    title: 'A tenant’s p99 alone (ours) and while another floods (peer), through the proxy named; ratio: flooded over alone (1 is perfect)',
    unit: 'µs',
  },
  redirect: {
    run: redirect,
    title: 'Time of a round trip, of a MiB and of a connection, captured (ours) and by the path named; ratio: the peer’s over ours',
    unit: 'µs',
  },
  idle: { run: idle, title: 'Own memory per idle connection; ratio: the peer’s over ours (above 1: we need less)', unit: 'bytes' },
};

const USAGE = `usage: npm run bench -- ${Object.keys(BENCHES).join('|')} [--quick] [--case CASE] [--json] [--peers-only]
       (peers only: http2, tls; what each measures: docs/benchmarks.md)`;

/** Throws an Error in words for an unknown flag. */
function parse() {
  return parseArgs({
    allowPositionals: true,
    options: {
      quick: { type: 'boolean' },
      json: { type: 'boolean' },
      case: { type: 'string' },
      'peers-only': { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
}

async function measured(bench: PeersBench | FiguresBench, options: BenchOptions) {
  if ('figures' in bench) {
    const cases = await bench.figures(options);
    return { cases, print: () => printFigures(bench.title, cases) };
  }
  const cases = await bench.run(options);
  return { cases, print: () => printTable(bench.title, bench.unit, cases) };
}

async function main(): Promise<number> {
  let flags: ReturnType<typeof parse>;
  try {
    flags = parse();
  } catch (error) {
    console.error(`${(error as Error).message.split('. ')[0]}\n${USAGE}`);
    return 2;
  }
  const { values, positionals } = flags;
  if (values.help === true) {
    console.log(USAGE);
    return 0;
  }
  const name = positionals[0] ?? '';
  const bench = BENCHES[name];
  if (bench === undefined || positionals.length !== 1) {
    console.error(USAGE);
    return 2;
  }
  const began = loadavg()[0] ?? 0;
  const options: BenchOptions = {
    quick: values.quick === true,
    only: values.case ?? null,
    peersOnly: values['peers-only'] === true,
    onProgress: (text) => console.error(text),
  };
  const { cases, print } = await measured(bench, options);
  // Ours are about two; what is more is somebody else's work on the same cores.
  console.error(
    `machine: ${availableParallelism()} cores, load average ${began.toFixed(1)} before, ${(loadavg()[0] ?? 0).toFixed(1)} after`,
  );
  if (values.json === true) console.log(JSON.stringify({ bench: name, cases }));
  else print();
  return 0;
}

process.exitCode = await main().catch((error: Error) => {
  console.error(error.message);
  return 1;
});
