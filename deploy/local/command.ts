// `weft up`: one machine as a cluster, until Ctrl-C; with --once until the verdict. The only place here that prints and handles signals.
import { cpSync } from 'node:fs';
import { Command, InvalidArgumentError } from 'commander';
import { Failure } from '../../cli/failure.js';
import { type Palette, palette } from '../../cli/terminal.js';
import { Cluster } from './cluster.js';
import { CommandFailed } from './command-line.js';
import { findOwner, removeInstance } from './instance.js';
import { LabError } from './lab.js';
import { isInstanceName, layout } from './layout.js';
import { leftoversOf } from './leftovers.js';
import { LiveView, whatToTry } from './live.js';
import { formatCheck, JUDGED_PODS, runOnce } from './once.js';
import type { LabProcess } from './process.js';
import { SHOP_PODS } from './shop/plan.js';
import { TrafficReader } from './traffic.js';

interface UpFlags {
  readonly once?: boolean;
  readonly requests: number;
  readonly rate: number;
  readonly workers: number;
  readonly instance: string;
  readonly clean?: boolean;
  readonly logs?: string;
}

const POD_NAMES = SHOP_PODS.map((pod) => pod.name);
const REDRAW_MS = 1_000;
const PLAIN_LINES_MS = 5_000;
const RESTART_MS = 1_000;

export function upCommand(): Command {
  const command = new Command('up')
    .description(
      'Run a whole mesh on this machine: etcd, a controller, two hosts as network namespaces with an agent and a proxy each, and a sample shop\n' +
        'whose traffic it shows. Ctrl-C removes everything again. Needs root.',
    )
    .option('--once', 'send a fixed load, judge it, remove everything, exit 0 or 1')
    .option('--requests <number>', 'with --once: requests that the pod web sends', wholeNumber(1, 1_000_000), 2_000)
    .option('--rate <per second>', 'without --once: requests per second that the pod web sends', wholeNumber(1, 10_000), 40)
    .option('--workers <number>', 'worker threads of each proxy', wholeNumber(1, 64), 1)
    .option('--instance <name>', 'name of this one, to run several side by side', instanceName, 'weft')
    .option('--logs <folder>', 'keep a copy of the logs of all processes there')
    .option('--clean', 'remove what a killed instance left, and exit')
    .addHelpText(
      'after',
      '\nExamples:\n  weft up                       # until Ctrl-C\n  weft up --once                # the whole mesh proven in a few seconds\n  weft up --instance second     # beside the first one\n  weft up --clean               # after a kill -9',
    )
    .action((flags: UpFlags) => (flags.clean === true ? clean(flags) : up(flags)));
  return command;
}

function instanceName(text: string): string {
  if (!isInstanceName(text)) throw new InvalidArgumentError('Expected a letter, then up to 19 of a-z, 0-9 and "-".');
  return text;
}

async function clean({ instance }: UpFlags): Promise<void> {
  const names = layout(instance);
  const owner = findOwner(names);
  if (owner.kind === 'running')
    throw new Failure(`instance ${instance} is running as process ${owner.pid}: stop it with kill ${owner.pid}`);
  if (owner.kind === 'foreign') throw new Failure(`${owner.path} is not a lab's: nothing was removed`);
  const removed = await removeInstance(names, POD_NAMES);
  print(removed.length === 0 ? `instance ${instance}: nothing to remove` : removed.map((each) => `removed ${each}`).join('\n'));
}

async function up(flags: UpFlags): Promise<void> {
  const colours = palette(process.stdout);
  const stop = stopSignal();
  const began = performance.now();
  let cluster: Cluster | null = null;
  let good = true;
  try {
    cluster = await Cluster.create({ instance: flags.instance, workersPerProxy: flags.workers }, (step, seconds) =>
      print(`${colours.good('✓')} ${step} ${colours.faint(`${seconds.toFixed(1)} s`)}`),
    );
    await Promise.race([stop.requested, cluster.start()]);
    if (!stop.isRequested()) good = await (flags.once === true ? once(cluster, flags, stop, colours) : live(cluster, flags, stop, colours));
  } catch (error) {
    throw explained(error);
  } finally {
    if (cluster !== null) good = (await takeDown(cluster, flags, colours)) && good;
  }
  if (flags.once !== true) return;
  const passed = good && !stop.isRequested();
  print(
    `${passed ? colours.good('All was well') : colours.bad(stop.isRequested() ? 'Interrupted' : 'Not all was well')} (${((performance.now() - began) / 1000).toFixed(1)} s)`,
  );
  if (!passed) process.exitCode = 1;
}

function explained(error: unknown): unknown {
  return error instanceof LabError || error instanceof CommandFailed ? new Failure(error.message) : error;
}

/** True when the load passed every check. */
async function once(cluster: Cluster, flags: UpFlags, stop: StopSignal, colours: Palette): Promise<boolean> {
  const died: string[] = [];
  cluster.lab.onUnexpectedExit = (exited) => died.push(describeExit(exited));
  const checks = await Promise.race([stop.requested, runOnce(cluster, flags.requests)]);
  if (checks === undefined) return false;
  if (died.length > 0) checks.push({ ok: false, title: 'Nothing crashed', detail: died });
  print(`\n${checks.map((check) => formatCheck(check, colours)).join('\n')}`);
  return checks.every((check) => check.ok);
}

async function live(cluster: Cluster, flags: UpFlags, stop: StopSignal, colours: Palette): Promise<boolean> {
  const screen = new Screen(process.stdout);
  const view = new LiveView(new TrafficReader(JUDGED_PODS), colours);
  const notes: string[] = [];
  cluster.lab.onUnexpectedExit = (exited) => {
    notes.push(colours.warn(`${new Date().toTimeString().slice(0, 8)} ${describeExit(exited)}; starting it again`));
    if (notes.length > 5) notes.shift();
    setTimeout(() => {
      if (!stop.isRequested()) void cluster.lab.restart(exited.spec.name);
    }, RESTART_MS).unref();
  };
  const tips = whatToTry(flags.instance, cluster.lab.controllerAddress, colours);
  await cluster.shop.startLoad('web', { requests: null, concurrency: 8, rate: flags.rate });
  if (!screen.isTerminal) print(tips);
  for (;;) {
    await stop.orAfter(screen.isTerminal ? REDRAW_MS : PLAIN_LINES_MS);
    if (stop.isRequested()) return true;
    const text = await cluster.statuses().then(
      (statuses) => view.draw(statuses, performance.now(), screen.columns),
      (error: Error) => colours.bad(`! ${error.message}`),
    );
    const footer = colours.faint('Ctrl-C stops and removes everything. More to try: docs/getting-started.md');
    screen.show([text, ...(notes.length > 0 ? [notes.join('\n')] : [])], tips, footer);
  }
}

/** True when nothing is left. */
async function takeDown(cluster: Cluster, { logs }: UpFlags, colours: Palette): Promise<boolean> {
  const began = performance.now();
  const complaints = await cluster.lab.stop();
  if (logs !== undefined) cpSync(cluster.lab.layout.logDir, logs, { recursive: true });
  await cluster.lab.close();
  const left = leftoversOf(cluster.lab.layout, POD_NAMES);
  const check = { ok: left.length === 0, title: left.length === 0 ? 'Nothing is left' : 'Left behind', detail: [...left, ...complaints] };
  print(`${formatCheck(check, colours)} ${colours.faint(`${((performance.now() - began) / 1000).toFixed(1)} s`)}`);
  return check.ok;
}

function describeExit({ spec, exit }: LabProcess): string {
  return `${spec.name} ended (${exit?.signal ?? `exit code ${exit?.code}`})`;
}

/** Redraws in place on a terminal; appends elsewhere. */
class Screen {
  readonly isTerminal: boolean;
  #drawn = 0;
  #size = '';

  constructor(readonly stream: NodeJS.WriteStream) {
    this.isTerminal = stream.isTTY === true;
  }

  get columns(): number {
    return this.isTerminal ? this.stream.columns : Number.POSITIVE_INFINITY;
  }

  /** `tips` only where the terminal has room for all of them; it and `footer` on terminals only. */
  show(blocks: readonly string[], tips: string, footer: string): void {
    if (!this.isTerminal) return void this.stream.write(`\n${blocks.join('\n\n')}\n`);
    const room = Math.max(4, this.stream.rows - 1);
    const all = [...blocks, tips, footer].join('\n\n').split('\n');
    const lines = this.#height(all) <= room ? all : this.#cut(blocks.join('\n\n').split('\n'), room - 2).concat('', footer);
    this.stream.write(`${this.#back()}${lines.join('\n')}\n`);
    this.#drawn = this.#height(lines);
  }

  /** To where the last drawing began. A resized terminal has wrapped it anew, so nobody knows where that is. */
  #back(): string {
    const size = `${this.stream.columns}x${this.stream.rows}`;
    const resized = this.#size !== '' && this.#size !== size;
    this.#size = size;
    if (resized) return '\u001b[2J\u001b[H';
    return this.#drawn > 0 ? `\u001b[${this.#drawn}A\r\u001b[J` : '\n';
  }

  #cut(lines: readonly string[], room: number): string[] {
    let end = lines.length;
    while (end > 1 && this.#height(lines.slice(0, end)) > room) end--;
    return lines.slice(0, end);
  }

  #height(lines: readonly string[]): number {
    return lines.reduce((sum, line) => sum + Math.max(1, Math.ceil(visibleWidth(line) / this.stream.columns)), 0);
  }
}

function visibleWidth(line: string): number {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the colours that terminal.ts writes
  return line.replace(/\u001b\[\d+m/g, '').length;
}

interface StopSignal {
  readonly requested: Promise<undefined>;
  isRequested(): boolean;
  orAfter(ms: number): Promise<void>;
}

/** From the first SIGINT, SIGTERM (which the loss of standard output is told as) or SIGHUP on; later ones change nothing, or the taking down would be cut short. */
function stopSignal(): StopSignal {
  let requested = false;
  let resolve: (nothing: undefined) => void = () => undefined;
  const promise = new Promise<undefined>((settle) => {
    resolve = settle;
  });
  const request = () => {
    if (requested) return;
    requested = true;
    resolve(undefined);
    print('\nStopping …');
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, request);
  return {
    requested: promise,
    isRequested: () => requested,
    orAfter: async (ms) => {
      let timer: NodeJS.Timeout | undefined;
      await Promise.race([promise, new Promise((after) => (timer = setTimeout(after, ms)))]);
      clearTimeout(timer);
    },
  };
}

function wholeNumber(min: number, max: number): (value: string) => number {
  return (value) => {
    const number = /^\d+$/.test(value) ? Number(value) : Number.NaN;
    if (!(number >= min && number <= max)) throw new InvalidArgumentError(`Expected a whole number from ${min} to ${max}.`);
    return number;
  };
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
