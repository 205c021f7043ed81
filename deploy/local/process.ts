// One process of the lab, in its network namespace, dying with the lab however that ends. Restarting is the caller's decision.
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { inNamespace } from './command-line.js';

/** In the environment of every process of an instance, so that leftovers are found by what they are, not by what they are called. */
export const INSTANCE_VARIABLE = 'WEFT_LAB';

export interface ProcessSpec {
  readonly name: string;
  readonly instance: string;
  readonly namespace: string;
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly logFile: string;
  /** Seen by this process alone as /etc/hosts; null: the system's. */
  readonly hostsFile: string | null;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export class LabProcess {
  readonly exited: Promise<Exit>;
  #exit: Exit | null = null;

  private constructor(
    readonly spec: ProcessSpec,
    readonly pid: number,
    child: ChildProcess,
  ) {
    this.exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.#exit = { code, signal };
        resolve(this.#exit);
      });
    });
  }

  /** Throws when the first program can't be run; what a later one of the chain says is in the log file. */
  static async start(spec: ProcessSpec): Promise<LabProcess> {
    const log = openSync(spec.logFile, 'a');
    try {
      const [file, ...args] = chain(spec);
      const child = spawn(file as string, args, {
        // A session of its own: Ctrl-C reaches the lab alone, which then stops everything in order.
        detached: true,
        stdio: ['ignore', log, log],
        env: { ...process.env, ...spec.environment, [INSTANCE_VARIABLE]: spec.instance },
      });
      await new Promise<void>((resolve, reject) => {
        child.once('spawn', resolve);
        child.once('error', reject);
      });
      return new LabProcess(spec, child.pid as number, child);
    } finally {
      closeSync(log);
    }
  }

  /** Null while it runs. */
  get exit(): Exit | null {
    return this.#exit;
  }

  signal(signal: NodeJS.Signals): void {
    if (this.#exit === null) process.kill(this.pid, signal);
  }

  /** Asks with SIGTERM, insists with SIGKILL after `graceMs`. True when asking sufficed. */
  async stop(graceMs: number): Promise<boolean> {
    this.signal('SIGTERM');
    const timer = setTimeout(() => this.signal('SIGKILL'), graceMs);
    const { signal } = await this.exited;
    clearTimeout(timer);
    return signal !== 'SIGKILL';
  }

  /** Its last words, for error messages. */
  lastLines(count = 12): string {
    return readFileSync(this.spec.logFile, 'utf8').trimEnd().split('\n').slice(-count).join('\n');
  }
}

/** Every link of the chain execs the next one, so the pid is the program's. */
function chain(spec: ProcessSpec): string[] {
  const command =
    spec.hostsFile === null
      ? spec.command
      : [
          'unshare',
          '--mount',
          '--propagation',
          'private',
          '--',
          'sh',
          '-c',
          'mount --bind "$0" /etc/hosts && exec "$@"',
          spec.hostsFile,
          ...spec.command,
        ];
  return ['setpriv', '--pdeathsig', 'KILL', '--', 'nsenter', ...inNamespace(spec.namespace, command)];
}
