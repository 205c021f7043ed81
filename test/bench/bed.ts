// Where a benchmark runs: a folder of its own, the C tools built into it, ports, the processes; all gone at the end. And the way it
// measures: contenders in turn, round after round, so that what the machine does meanwhile falls on all. Knows no proxy by name.
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Pinned } from './process.js';

/** The proxy that is measured has one core; load and backends have the other. */
export const PROXY_CORE = 0;
export const LOAD_CORE = 1;
/** Both: what open-loop.c watches for stops of the machine. */
export const CORES = 2;

export interface BenchOptions {
  /** Ends within 50 s. */
  readonly quick: boolean;
  /** Name of the one case to run; null: all (with `quick`: the first). */
  readonly only: string | null;
  /** Leaves ours out, where that makes sense (http2, tls): compares the peers, to try the harness. */
  readonly peersOnly: boolean;
  readonly onProgress: (text: string) => void;
}

export interface Contender {
  readonly name: string;
  readonly port: number;
  /** Port of the first backend behind it. */
  readonly firstBackend: number;
  /** Of the process that does the work. */
  readonly pid: number;
}

/** The folder with package.json above dist/test/bench or test/bench. */
export const ROOT = projectRoot();
/** dist/, wherever it is: this file runs from dist/test/bench. */
export const WEFT = fileURLToPath(new URL('../../cli/main.js', import.meta.url));

export class Bed {
  private readonly running: Pinned[] = [];
  private constructor(readonly folder: string) {}

  static async use<T>(work: (bed: Bed) => Promise<T>): Promise<T> {
    const folder = mkdtempSync(join(tmpdir(), 'weft-bench-'));
    // nginx's worker is another user.
    chmodSync(folder, 0o755);
    const bed = new Bed(folder);
    const interrupted = (): void => {
      void bed.stop().then(() => process.exit(130));
    };
    process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
    try {
      return await work(bed);
    } catch (error) {
      throw new Error([error instanceof Error ? error.message : String(error), ...bed.said()].join('\n'), { cause: error });
    } finally {
      await bed.stop();
      process.off('SIGINT', interrupted).off('SIGTERM', interrupted);
    }
  }

  /** A program of test/bench/<name>.c, built once for all beds; its path. */
  tool(name: string, libraries: readonly string[] = []): string {
    tools ??= makeTools();
    const path = join(tools, name);
    const linked = libraries.map((library) => `-l${library}`);
    if (!existsSync(path)) execFileSync('cc', ['-O2', '-o', path, join(ROOT, 'test', 'bench', `${name}.c`), ...linked]);
    return path;
  }

  /** A folder that other users may write. */
  subfolder(name: string): string {
    const path = join(this.folder, name);
    mkdirSync(path, { recursive: true });
    chmodSync(path, 0o777);
    return path;
  }

  /** `core` null: whichever the kernel chooses. */
  start(core: number | null, command: readonly string[]): Pinned {
    const process = new Pinned(core, command);
    this.running.push(process);
    return process;
  }

  private said(): string[] {
    return this.running.filter(({ output }) => output !== '').map(({ command, output }) => `${command.join(' ')} said:\n${output}`);
  }

  private async stop(): Promise<void> {
    await Promise.all(this.running.splice(0).map((process) => process.stop()));
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Values of `measure` by contender, one a round. `measure` is called once more for each before, and that is thrown away. */
export async function interleaved<C extends { readonly name: string }>(
  contenders: readonly C[],
  rounds: number,
  measure: (contender: C, isWarmUp: boolean) => Promise<number>,
  onProgress: (text: string) => void,
): Promise<ReadonlyMap<string, readonly number[]>> {
  const values = new Map(contenders.map(({ name }) => [name, [] as number[]]));
  for (const contender of contenders) await measure(contender, true);
  for (let round = 0; round < rounds; round++) {
    for (const index of contenders.keys()) {
      const contender = contenders[(index + round) % contenders.length]!;
      const value = await measure(contender, false);
      values.get(contender.name)!.push(value);
      onProgress(`round ${round + 1}: ${contender.name} ${value.toFixed(2)}`);
    }
  }
  return values;
}

/** `quick` without a name: the first. Throws on a name that there is not. */
export function chosen<C extends { readonly name: string }>(cases: readonly C[], { quick, only }: BenchOptions): readonly C[] {
  if (only === null) return quick ? cases.slice(0, 1) : cases;
  const found = cases.filter(({ name }) => name === only);
  if (found.length === 0) throw new Error(`no case ${only}; there are: ${cases.map(({ name }) => name).join(', ')}`);
  return found;
}

/** Where tool() builds; null: not yet. */
let tools: string | null = null;

function makeTools(): string {
  const folder = mkdtempSync(join(tmpdir(), 'weft-bench-tools-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function projectRoot(): string {
  let folder = process.env.WEFT_ROOT ?? dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) {
    if (folder === dirname(folder)) throw new Error('no package.json above the benchmarks; say where the checkout is with WEFT_ROOT');
    folder = dirname(folder);
  }
  return folder;
}
