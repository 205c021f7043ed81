// A private, real ZooKeeper for one test: a child process whose data is in memory (tmpfs), and a client that registers things in it.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { promisify } from 'node:util';
import zookeeper, { type Client } from 'node-zookeeper-client';
import { freePort } from './ports.js';

/** Debian's package zookeeper. */
const JAR = '/usr/share/java/zookeeper.jar';
const TICK_MS = 2_000;
/** A machine that is busy is no reason to lose what is registered; a client that closes takes it along at once. */
const SESSION_MS = 30_000;
const START_TIMEOUT_MS = 20_000;

export class ZooKeeper {
  readonly servers: string;
  private child: ChildProcess | null = null;

  private constructor(
    private readonly port: number,
    private readonly directory: string,
  ) {
    this.servers = `127.0.0.1:${port}`;
  }

  /** Resolves when it serves. */
  static async start(): Promise<ZooKeeper> {
    if (!existsSync(JAR)) throw new Error(`${JAR} is missing: apt-get install zookeeper`);
    const server = new ZooKeeper(await freePort(), await mkdtemp('/dev/shm/weft-zookeeper-'));
    await server.restart();
    return server;
  }

  /** On the same data and port; killed first if it runs. */
  async restart(): Promise<void> {
    await this.kill();
    const java = ['java', '-Xmx64m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-Dzookeeper.admin.enableServer=false', '-cp', JAR];
    const main = ['org.apache.zookeeper.server.ZooKeeperServerMain', String(this.port), this.directory, String(TICK_MS)];
    // Dies with this process, even if that is killed.
    this.child = spawn('setpriv', ['--pdeathsig', 'KILL', ...java, ...main], { stdio: 'ignore' });
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (!(await this.serves())) {
      if (this.child.exitCode !== null || performance.now() > deadline) throw new Error('ZooKeeper does not start');
      await promisify(setTimeout)(50);
    }
  }

  /** kill -9; the data stays. */
  async kill(): Promise<void> {
    const { child } = this;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  }

  async stop(): Promise<void> {
    await this.kill();
    await rm(this.directory, { recursive: true, force: true });
  }

  /** Its port is open before it serves: a client that comes too early waits for long before it tries again. */
  private serves(): Promise<boolean> {
    return new Promise((resolve) => {
      let said = '';
      const socket = connect(this.port, '127.0.0.1', () => socket.write('srvr'));
      socket.setTimeout(1_000, () => socket.destroy());
      socket.on('data', (chunk: Buffer) => {
        said += chunk.toString();
      });
      socket.on('error', () => {});
      socket.on('close', () => resolve(said.startsWith('Zookeeper version')));
    });
  }
}

/** Who registers instances, on a session of its own: what is ephemeral goes when it closes. */
export class ZooKeeperClient {
  private readonly client: Client;

  constructor(servers: string) {
    this.client = zookeeper.createClient(servers, { sessionTimeout: SESSION_MS, spinDelay: 50, retries: 5 });
    this.client.connect();
  }

  async register(path: string, data: object | string): Promise<void> {
    await promisify(this.client.mkdirp.bind(this.client))(path.slice(0, path.lastIndexOf('/')));
    await promisify(this.client.create.bind(this.client))(path, bytes(data), zookeeper.CreateMode.EPHEMERAL);
  }

  async change(path: string, data: object | string): Promise<void> {
    await promisify(this.client.setData.bind(this.client))(path, bytes(data));
  }

  async remove(path: string): Promise<void> {
    await promisify(this.client.remove.bind(this.client))(path);
  }

  close(): void {
    this.client.close();
  }
}

function bytes(data: object | string): Buffer {
  return Buffer.from(typeof data === 'string' ? data : JSON.stringify(data));
}
