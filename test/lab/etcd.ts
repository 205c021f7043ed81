// A private, real etcd for one test: a child process on a unix socket, its data in memory (tmpfs). Owns that process and its
// directory, nothing else. The child dies with the process that started it, even if that is killed.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

export interface TestEtcd {
  /** "unix:/…", to be given to the controller's --etcd. The same over restarts. */
  readonly endpoint: string;
  /** Ends the process and removes its data. Idempotent. */
  stop(): Promise<void>;
  /** kill -9; the data stays. Resolves when the process is gone. */
  kill(): Promise<void>;
  /** SIGSTOP: connections stay open and nobody answers. */
  pause(): void;
  resume(): void;
  /** Starts it again on the same data and socket, killing it first if it runs. Resolves when it serves. */
  restart(): Promise<void>;
  /** As if it had been set up anew under the same names: restarts without its data. */
  wipe(): Promise<void>;
}

const START_TIMEOUT_MS = 20_000;

/** Resolves when etcd serves requests. Throws with etcd's last words if it doesn't start. */
export async function startEtcd(): Promise<TestEtcd> {
  const directory = await mkdtemp('/dev/shm/weft-etcd-');
  let child: ChildProcess | null = await launch(directory);

  const kill = async (): Promise<void> => {
    const dying = child;
    child = null;
    if (dying === null || dying.exitCode !== null || dying.signalCode !== null) return;
    dying.kill('SIGKILL');
    await once(dying, 'exit');
  };
  return {
    // etcd demands host:port even of a unix URL and names the socket's file by it.
    endpoint: `unix:${join(directory, 'client:0')}`,
    kill,
    pause: () => void child?.kill('SIGSTOP'),
    resume: () => void child?.kill('SIGCONT'),
    restart: async () => {
      await kill();
      child = await launch(directory);
    },
    wipe: async () => {
      await kill();
      await rm(join(directory, 'data'), { recursive: true });
      child = await launch(directory);
    },
    stop: async () => {
      await kill();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

async function launch(directory: string): Promise<ChildProcess> {
  const peer = 'unix://peer:0';
  const client = 'unix://client:0';
  const etcd = [
    'etcd',
    '--name',
    'test',
    '--data-dir',
    'data',
    '--logger',
    'zap',
    '--heartbeat-interval',
    '50',
    '--election-timeout',
    '250',
  ];
  const urls = ['--listen-client-urls', client, '--advertise-client-urls', client, '--listen-peer-urls', peer];
  const cluster = ['--initial-advertise-peer-urls', peer, '--initial-cluster', `test=${peer}`];
  // A killed etcd leaves its sockets behind and then finds their addresses in use.
  for (const socket of ['peer:0', 'client:0']) await rm(join(directory, socket), { force: true });
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...etcd, ...urls, ...cluster], {
    cwd: directory,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const lines = createInterface({ input: child.stderr });
  const last: string[] = [];
  await new Promise<void>((resolve, reject) => {
    const fail = (why: string): void => {
      child.kill('SIGKILL');
      reject(new Error(`etcd ${why}. Is etcd-server installed (apt-get install etcd-server)? Its last words:\n${last.join('\n')}`));
    };
    const timer = setTimeout(() => fail(`did not serve within ${START_TIMEOUT_MS} ms`), START_TIMEOUT_MS);
    child.once('error', (error) => fail(`can't be started: ${error.message}`));
    child.once('exit', (code, signal) => fail(`ended with ${code ?? signal}`));
    // Read to the end of its life: a full pipe would stop it.
    lines.on('line', (line) => {
      last.push(line);
      if (last.length > 10) last.shift();
      if (!line.includes('serving client traffic')) return;
      clearTimeout(timer);
      child.removeAllListeners();
      resolve();
    });
  });
  return child;
}
