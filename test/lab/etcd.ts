// Private, real etcds for one test: child processes whose data is in memory (tmpfs). Owns those processes and their directories, nothing
// else. A child dies with the process that started it, even if that is killed.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { Etcd3, type IAlarmRequest } from 'etcd3';
import { freePort } from './ports.js';

const run = promisify(execFile);

export interface EtcdMember {
  /** To be given to the controller's --etcd. The same over restarts. */
  readonly endpoint: string;
  /** Of the running process. */
  readonly pid: number;
  /** kill -9; the data stays. Resolves when the process is gone. */
  kill(): Promise<void>;
  /** SIGSTOP: connections stay open and nobody answers. */
  pause(): void;
  resume(): void;
  /** Starts it again on the same data and socket, killing it first if it runs. Resolves when it serves. */
  restart(): Promise<void>;
}

export interface TestEtcd extends EtcdMember {
  /** Ends the process and removes its data. Idempotent. */
  stop(): Promise<void>;
  /** As if it had been set up anew under the same names: restarts without its data. */
  wipe(): Promise<void>;
  /** NOSPACE on or off: it answers, and takes no writes. */
  alarm(action: 'Activate' | 'Deactivate'): Promise<void>;
}

export interface TestCluster {
  readonly members: readonly EtcdMember[];
  /** The index of the member that leads; asks until there is one. */
  leader(): Promise<number>;
  stop(): Promise<void>;
}

/** Files in PEM: clients must bring a certificate of the authority's. */
export interface EtcdServerTls {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

const START_TIMEOUT_MS = 20_000;

/** Resolves when etcd serves requests. Throws with etcd's last words if it doesn't start. With `tls` it serves TCP, else a unix socket. `flags`: more of etcd's own. */
export async function startEtcd(tls: EtcdServerTls | null = null, flags: readonly string[] = []): Promise<TestEtcd> {
  const directory = await mkdtemp('/dev/shm/weft-etcd-');
  const member = new Member(directory, 'm0', 'm0=unix://m0-peer:0', tls === null ? null : { ...tls, port: await freePort() }, flags);
  await member.restart();
  return {
    endpoint: member.endpoint,
    get pid() {
      return member.pid;
    },
    kill: () => member.kill(),
    pause: () => member.pause(),
    resume: () => member.resume(),
    restart: () => member.restart(),
    wipe: async () => {
      await member.kill();
      await rm(join(directory, 'm0-data'), { recursive: true });
      await member.restart();
    },
    alarm: async (action) => {
      const client = new Etcd3({ hosts: member.endpoint });
      // The loader takes enums by name, etcd3's types say numbers.
      const request = { action, memberID: 0, alarm: 'Nospace' };
      await client.maintenance.alarm(request as unknown as IAlarmRequest).finally(() => client.close());
    },
    stop: async () => {
      await member.kill();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** A cluster whose members speak over unix sockets. Resolves when it has a leader. */
export async function startEtcdCluster(size = 3): Promise<TestCluster> {
  // One directory for all: each finds the others' sockets in its own.
  const directory = await mkdtemp('/dev/shm/weft-etcd-');
  const names = Array.from({ length: size }, (_, index) => `m${index}`);
  const cluster = names.map((name) => `${name}=unix://${name}-peer:0`).join(',');
  const members = names.map((name) => new Member(directory, name, cluster, null));
  await Promise.all(members.map((member) => member.restart()));
  return {
    members,
    leader: async () => {
      for (const deadline = performance.now() + START_TIMEOUT_MS; performance.now() < deadline; ) {
        for (const [index, member] of members.entries()) if (await member.leads()) return index;
      }
      throw new Error(`no leader within ${START_TIMEOUT_MS} ms`);
    },
    stop: async () => {
      await Promise.all(members.map((member) => member.kill()));
      await rm(directory, { recursive: true, force: true });
    },
  };
}

class Member implements EtcdMember {
  readonly endpoint: string;
  readonly #directory: string;
  readonly #args: readonly string[];
  #child: ChildProcess | null = null;

  constructor(
    directory: string,
    readonly name: string,
    cluster: string,
    tls: (EtcdServerTls & { readonly port: number }) | null,
    flags: readonly string[] = [],
  ) {
    this.#directory = directory;
    // etcd demands host:port even of a unix URL and names the socket's file by it.
    const [client, peer] = [tls === null ? `unix://${name}-client:0` : `https://127.0.0.1:${tls.port}`, `unix://${name}-peer:0`];
    this.endpoint = tls === null ? `unix:${join(directory, `${name}-client:0`)}` : client;
    this.#args = [
      ...['--name', name, '--data-dir', `${name}-data`, '--logger', 'zap', '--heartbeat-interval', '50', '--election-timeout', '250'],
      ...['--listen-client-urls', client, '--advertise-client-urls', client, '--listen-peer-urls', peer],
      ...['--initial-advertise-peer-urls', peer, '--initial-cluster', cluster],
      ...(tls === null ? [] : ['--cert-file', tls.cert, '--key-file', tls.key, '--client-cert-auth', '--trusted-ca-file', tls.ca]),
      ...flags,
    ];
  }

  get pid(): number {
    if (this.#child?.pid === undefined) throw new Error(`${this.name} does not run`);
    return this.#child.pid;
  }

  async kill(): Promise<void> {
    const dying = this.#child;
    this.#child = null;
    if (dying === null || dying.exitCode !== null || dying.signalCode !== null) return;
    dying.kill('SIGKILL');
    await once(dying, 'exit');
  }

  pause(): void {
    this.#child?.kill('SIGSTOP');
    // On a busy machine its threads are told late, and until then they answer.
    while (this.#child !== null && !isStopped(this.pid));
  }

  resume(): void {
    this.#child?.kill('SIGCONT');
  }

  async restart(): Promise<void> {
    await this.kill();
    // A killed etcd leaves its sockets behind and then finds their addresses in use.
    for (const socket of ['peer:0', 'client:0']) await rm(join(this.#directory, `${this.name}-${socket}`), { force: true });
    this.#child = await launch(this.#directory, this.#args);
  }

  async leads(): Promise<boolean> {
    if (this.#child === null) return false;
    const args = ['--endpoints', this.endpoint.replace('unix:', 'unix://'), '--command-timeout', '1s', 'endpoint', 'status', '-w', 'json'];
    const { stdout } = await run('etcdctl', args, { env: { ...process.env, ETCDCTL_API: '3' } }).catch((error: NodeJS.ErrnoException) => {
      // Not installed, not a member that is silent.
      if (error.code === 'ENOENT') throw error;
      return { stdout: '[]' };
    });
    const [status] = JSON.parse(stdout) as { Status: { header: { member_id: number }; leader: number } }[];
    return status !== undefined && status.Status.leader === status.Status.header.member_id;
  }
}

/** Each of its threads. */
function isStopped(pid: number): boolean {
  const states = readdirSync(`/proc/${pid}/task`).map((thread) => readFileSync(`/proc/${pid}/task/${thread}/stat`, 'latin1'));
  return states.every((stat) => stat.slice(stat.lastIndexOf(')')).startsWith(') T'));
}

async function launch(directory: string, args: readonly string[]): Promise<ChildProcess> {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', 'etcd', ...args], {
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
