// Processes of a benchmark: started on a core of their own, measured by their CPU time, always stopped. Knows no proxy by name.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const READY_TIMEOUT_MS = 15_000;

/** What stands before a command that runs whenever it is ready, whoever else wants the core: what measures must not be what is measured. */
export const FIRST: readonly string[] = mayRunFirst() ? ['chrt', '--fifo', '10'] : [];

function mayRunFirst(): boolean {
  try {
    execFileSync('chrt', ['--fifo', '10', 'true'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** `command` pinned to `core`; null: to none. Its output is kept for the error text, should it end early. */
export class Pinned {
  /** What it has said, the end of it. */
  output = '';
  private readonly child: ChildProcess;

  constructor(
    core: number | null,
    readonly command: readonly string[],
  ) {
    const pinned = core === null ? command : ['taskset', '-c', String(core), ...command];
    // It ends with the benchmark, also with one that was killed.
    this.child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...pinned], { stdio: ['pipe', 'pipe', 'pipe'] });
    const keep = (chunk: Buffer): void => {
      this.output = (this.output + chunk.toString()).slice(-20_000);
    };
    this.child.stdout?.on('data', keep);
    this.child.stderr?.on('data', keep);
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** Resolves with the output when it has ended; throws on a failure. */
  async result(): Promise<string> {
    if (this.child.exitCode === null) await once(this.child, 'close');
    if (this.child.exitCode !== 0) throw new Error(`${this.command.join(' ')}: exit ${this.child.exitCode}\n${this.output}`);
    return this.output;
  }

  /** Resolves when the port accepts. */
  async listensOn(port: number, address = '127.0.0.1'): Promise<void> {
    const deadline = performance.now() + READY_TIMEOUT_MS;
    while (!(await accepts(port, address))) {
      if (this.child.exitCode !== null || performance.now() > deadline)
        throw new Error(`${this.command.join(' ')} doesn't listen on ${port}:\n${this.output}`);
      await sleep(50);
    }
  }

  /** Resolves when the output has the text. */
  async says(text: string): Promise<void> {
    const deadline = performance.now() + READY_TIMEOUT_MS;
    while (!this.output.includes(text)) {
      if (this.child.exitCode !== null || performance.now() > deadline)
        throw new Error(`${this.command.join(' ')} doesn't say "${text}":\n${this.output}`);
      await sleep(20);
    }
  }

  /** Writes a line to its input; resolves with the line that it says next. Throws if it ends instead. */
  ask(line: string): Promise<string> {
    const { stdin, stdout } = this.child;
    return new Promise((resolve, reject) => {
      let said = '';
      const hear = (chunk: Buffer): void => {
        said += chunk.toString();
        if (said.includes('\n')) settle(() => resolve(said.slice(0, said.indexOf('\n'))));
      };
      const end = (): void => settle(() => reject(new Error(`${this.command.join(' ')} ended:\n${this.output}`)));
      const settle = (done: () => void): void => {
        stdout?.off('data', hear);
        this.child.off('close', end);
        done();
      };
      stdout?.on('data', hear);
      this.child.on('close', end);
      stdin?.write(`${line}\n`);
    });
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, 'exit');
    this.child.kill('SIGTERM');
    const killer = setTimeout(() => this.child.kill('SIGKILL'), 3_000);
    await ended;
    clearTimeout(killer);
  }
}

/** Time on a CPU of a process, all its threads that live, µs. */
export function cpuTimeUs(pid: number): number {
  return [...schedules(pid).values()].reduce((sum, { ranUs }) => sum + ranUs, 0);
}

/** The thread of `pid` that works most during `work`. */
export async function busiestThread(pid: number, work: () => Promise<unknown>): Promise<string> {
  const before = schedules(pid);
  await work();
  const gained = [...schedules(pid)].map(([id, { ranUs }]) => ({ id, ranUs: ranUs - (before.get(id)?.ranUs ?? 0) }));
  return gained.reduce((most, one) => (one.ranUs > most.ranUs ? one : most)).id;
}

/** For how much of the time of `work` that thread was ready and others had its core, 0 to 1. */
export async function heldUpDuring(pid: number, thread: string, work: () => Promise<unknown>): Promise<number> {
  const waitedUs = (): number => schedules(pid).get(thread)?.waitedUs ?? 0;
  const [before, began] = [waitedUs(), performance.now()];
  await work();
  return (waitedUs() - before) / ((performance.now() - began) * 1000);
}

/**
 * That thread of `pid` runs whenever it is ready, as what FIRST stands before, and the others have another core. One that takes all of its core
 * would be stopped for 50 ms a second, for the kernel's own threads there: it goes before them, and waits for some 2 ms at a time.
 */
export function putFirst(pid: number, thread: string, { coreOfOthers, takesAll }: { coreOfOthers: number; takesAll: boolean }): void {
  if (FIRST.length === 0) return;
  if (takesAll) execFileSync('renice', ['-n', '-20', '-p', thread], { stdio: 'ignore' });
  else execFileSync('chrt', ['--fifo', '--pid', '5', thread]);
  for (const other of schedules(pid).keys())
    if (other !== thread) execFileSync('taskset', ['--cpu-list', '--pid', String(coreOfOthers), other], { stdio: 'ignore' });
}

/** By thread, from schedstat: exact, where /proc/PID/stat counts ticks of 10 ms. */
function schedules(pid: number): Map<string, { ranUs: number; waitedUs: number }> {
  const read = (task: string): { ranUs: number; waitedUs: number } => {
    const [ran, waited] = readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'latin1').split(' ');
    return { ranUs: Number(ran) / 1000, waitedUs: Number(waited) / 1000 };
  };
  return new Map(readdirSync(`/proc/${pid}/task`).map((task) => [task, read(task)]));
}

/** Memory of a process's own (anonymous pages), bytes: what its files map is shared and left out. */
export function ownMemoryBytes(pid: number): number {
  return Number(/^RssAnon:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) * 1024;
}

/** Where V8 asks for its heaps, at random (`GetRandomMmapAddr`); the kernel, left to itself, gives addresses far above. */
const V8_HEAPS_BELOW = 0x4000_0000_0000;

/** The same without V8's heaps, which take and give back MiBs when V8 likes. Of a process without V8 it is all. */
export function memoryBesideV8Bytes(pid: number): number {
  let kib = 0;
  let isV8 = false;
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'latin1').split('\n')) {
    // start-end access offset device inode, and a name if it has one.
    const mapping = /^([0-9a-f]+)-[0-9a-f]+ \S+ \S+ \S+ \d+\s*(.*)$/.exec(line);
    if (mapping !== null) isV8 = mapping[2] === '' && Number.parseInt(mapping[1]!, 16) < V8_HEAPS_BELOW;
    const anonymous = /^Anonymous:\s+(\d+) kB$/.exec(line);
    if (anonymous !== null && !isV8) kib += Number(anonymous[1]);
  }
  return kib * 1024;
}

export function childrenOf(pid: number): number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, 'latin1')
      .split(' ')
      .filter((text) => text.trim() !== '')
      .map(Number),
  );
}

function accepts(port: number, address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, address);
    socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}

/** The first of `count` ports in a row that were free a moment ago. */
export async function consecutivePorts(count: number): Promise<number> {
  for (let tries = 0; tries < 50; tries++) {
    const first = 12_000 + Math.floor(Math.random() * 18_000);
    const free = await Promise.all(Array.from({ length: count }, (_, i) => isFree(first + i)));
    if (free.every(Boolean)) return first;
  }
  throw new Error(`no ${count} free ports in a row between 12000 and 30000`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.on('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
