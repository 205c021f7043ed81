// A filter's process: started, given its module, watched, ended. Everything that one run of a filter has; starting it again is the owner's.
// A process and no worker thread: one allocation beyond a thread's heap limit ends the whole program around it.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import type { Duplex, Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { EXPORTS_NAME } from './bundle.js';
import { FrameReader, frame, MAX_ANSWERS_BYTES } from './frames.js';
import { PRELUDE } from './isolate-prelude.js';

const LOAD_TIMEOUT_MS = 10_000;
const BEAT_MS = 1_000;
/** Without a beat for so long it computes for nobody, or does not run. */
const BEAT_TIMEOUT_MS = 10_000;
/** nobody, nogroup: what it becomes where the proxy may say so. */
const NOBODY = 65_534;
/** Of util-linux. Without it who spins outlives a proxy that is killed. */
const SETPRIV = '/usr/bin/setpriv';
/** Bits 6 and 7 (capabilities(7)). */
const CAP_SETGID_SETUID = 0xc0n;
/** Of what it says when it dies. */
const MAX_WORDS = 4_096;

export interface FilterProgram {
  readonly code: string;
  readonly memoryMib: number;
}

export interface FilterProcess {
  readonly pid: number;
  /** One for each of `channels` that were asked for. */
  readonly heapBytes: () => number;
  /** In words. Resolves once. */
  readonly ended: Promise<string>;
  readonly kill: (why: string) => void;
}

export type Started = { readonly ok: true; readonly process: FilterProcess } | { readonly ok: false; readonly error: string };

/** `channels`: descriptors for calls, one a caller; they are the caller's to close when it is started. "pipe": see pipeOf(). */
export async function startFilter(
  { code, memoryMib }: FilterProgram,
  channels: readonly (number | 'pipe')[],
  onPipe: (stream: Duplex) => void = () => undefined,
): Promise<Started> {
  const child = launch(memoryMib, channels);
  const owner = child.stdio[3] as Duplex;
  let words = '';
  (child.stderr as Readable).setEncoding('utf8').on('data', (piece: string) => {
    words = (words + piece).slice(-MAX_WORDS);
  });
  let why = '';
  let heapBytes = 0;
  const kill = (reason: string): void => {
    why ||= reason;
    child.kill('SIGKILL');
  };
  const ended = new Promise<string>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('exit', (status, signal) => resolve(why || wordsOfEnd(words, status, signal)));
  });
  owner.on('error', () => undefined);
  let quietSince = performance.now();
  const loaded = new Promise<string | null>((resolve) => {
    const hear = (message: unknown): void => {
      quietSince = performance.now();
      const said = (message ?? {}) as { ready?: unknown; error?: unknown; heapBytes?: unknown };
      if (typeof said.heapBytes === 'number') heapBytes = said.heapBytes;
      if (said.ready === true) resolve(null);
      if (typeof said.error === 'string') resolve(said.error.slice(0, MAX_WORDS));
    };
    const reader = new FrameReader(MAX_ANSWERS_BYTES, hear);
    owner.on('data', (piece: Buffer) => {
      try {
        reader.add(piece);
      } catch {
        kill('it broke the protocol');
      }
    });
    void ended.then(resolve);
    setTimeout(() => resolve(`it did not load within ${LOAD_TIMEOUT_MS} ms`), LOAD_TIMEOUT_MS).unref();
  });
  owner.write(frame({ prelude: PRELUDE, code, exportsName: EXPORTS_NAME, channels: channels.length }));
  const error = await loaded;
  if (error !== null) {
    kill(error);
    return { ok: false, error };
  }
  channels.forEach((channel, index) => {
    if (channel === 'pipe') onPipe(child.stdio[4 + index] as Duplex);
  });
  const beat = setInterval(() => {
    if (performance.now() - quietSince > BEAT_TIMEOUT_MS) kill(`it has not given way for ${BEAT_TIMEOUT_MS / 1000} s`);
    else if (!owner.destroyed) owner.write(frame('beat'));
  }, BEAT_MS);
  beat.unref();
  void ended.then(() => clearInterval(beat));
  return { ok: true, process: { pid: child.pid ?? 0, heapBytes: () => heapBytes, ended, kill } };
}

function launch(memoryMib: number, channels: readonly (number | 'pipe')[]): ChildProcess {
  const args = [...flags(memoryMib), '--input-type=module', '-e', program()];
  // One that spins hears of no closed stream: the kernel ends it with this thread's process (PR_SET_PDEATHSIG). A change of user would undo that.
  const isThere = existsSync(SETPRIV);
  return spawn(isThere ? SETPRIV : process.execPath, isThere ? ['--pdeathsig', 'KILL', process.execPath, ...args] : args, {
    cwd: '/',
    env: {},
    stdio: ['ignore', 'ignore', 'pipe', 'pipe', ...channels],
    ...(mayChangeUser() ? { uid: NOBODY, gid: NOBODY } : {}),
  });
}

/** CAP_SETUID and CAP_SETGID, which root in a container often lacks. */
function mayChangeUser(): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return (BigInt(`0x${effective}`) & CAP_SETGID_SETUID) === CAP_SETGID_SETUID;
}

/** What a context could still reach if it got out of itself: no files, no processes, no code from text. */
function flags(memoryMib: number): string[] {
  const permission = process.allowedNodeEnvironmentFlags.has('--permission') ? '--permission' : '--experimental-permission';
  return [
    `--max-old-space-size=${memoryMib}`,
    '--max-semi-space-size=2',
    '--disallow-code-generation-from-strings',
    '--no-addons',
    '--no-warnings',
    permission,
  ];
}

let source: string | null = null;

function program(): string {
  source ??= readFileSync(fileURLToPath(new URL('./isolate.js', import.meta.url)), 'utf8');
  return source;
}

function wordsOfEnd(words: string, status: number | null, signal: string | null): string {
  if (/heap out of memory|Allocation failed|invalid table size|out of memory/i.test(words)) return 'it used more memory than it may';
  const last = words
    .trim()
    .split('\n')
    .find((line) => /Error|FATAL/.test(line));
  return `it ended with ${signal ?? `status ${status}`}${last === undefined ? '' : `: ${last.slice(0, 300)}`}`;
}
