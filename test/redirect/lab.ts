// The network namespaces, cgroups and processes of one lab on this machine. Owns everything it makes and removes it; asserts nothing, and
// leaves to topology.ts how the namespaces are connected. Needs root: throws where it cannot work.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cgroupRoot } from '../../agent/capture/cgroups.js';
import { loadAddon, netnsProgram } from '../../agent/native/addon.js';
import { eventually } from '../lab/eventually.js';
import { type Addresses, buildTopology, connectPod, HAIRPIN, routeToRemote, type Shape, type Site } from './topology.js';

export * from './topology.js';

const ROOT = process.cwd();
const CGROUPS = cgroupRoot() ?? '/sys/fs/cgroup/unified';
/** What became of one connection, seen by its client. */
export interface Attempt {
  readonly began: number;
  readonly connectMs: number;
  readonly totalMs: number;
  readonly local: string;
  readonly peer: string;
  readonly error: string | null;
  /** Addresses as the server sees them. */
  readonly server: { readonly peer: string; readonly local: string } | null;
}
/** One connection through the proxy. */
export interface Pass {
  readonly direction: 'outbound' | 'inbound';
  readonly source: string;
  readonly destination: string;
  /** SO_MARK of the accepted socket. */
  readonly mark: number;
  readonly worker: number;
}

/** What bpftool says of a map, of what is used here. */
interface MapShown {
  readonly type: string;
  readonly flags: number;
  readonly bytes_key: number;
  readonly bytes_value: number;
  readonly max_entries: number;
}

/** A client that connects again and again. */
export interface Prober {
  /** Those that have ended. */
  attempts(): Attempt[];
  /** Resolves with all. The one under way is given up, and not among them. */
  stop(): Promise<Attempt[]>;
}

export interface LabStream {
  /** Its client's own end. */
  readonly local: string;
  /** Text, at most 4 KiB, there and back. */
  echo(text: string): Promise<string>;
  end(): Promise<void>;
}

/** Where a client runs and what it does before connect(): "bind=ADDRESS", "device=NAME", "mptcp", "reuse=PORT" (the server closes first). */
export interface ClientOptions {
  readonly cgroup?: string | null;
  readonly option?: string;
  readonly timeoutMs?: number;
}

/** The command, in that cgroup. */
function within(cgroup: string | null, command: readonly string[]): readonly string[] {
  return cgroup === null ? command : ['sh', '-c', 'echo $$ > "$0/cgroup.procs" && exec "$@"', cgroup, ...command];
}

function run(command: string, args: readonly string[], input = ''): string {
  try {
    return execFileSync(command, args, { encoding: 'utf8', input, stdio: ['pipe', 'pipe', 'pipe'] });
  } catch (error) {
    const { stderr = '' } = error as { stderr?: string };
    throw new Error(`${command} ${args.join(' ')}: ${stderr || String(error)} (the redirection tests need root, iproute2, nftables, gcc)`);
  }
}

/** Of the processes that weft-netns left for commands with that text in them. */
export function namespaceServers(text: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
        return words.startsWith(netnsProgram()) && words.includes(text);
      } catch {
        return false;
      }
    });
}

function lines<T>(text: string): T[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as T);
}

export class Lab implements Site {
  readonly folder = mkdtempSync(join(tmpdir(), 'weft-redirect-'));
  readonly bpfDir: string;
  readonly meshNetns: string;
  private readonly peer = join(this.folder, 'peer');
  private readonly children = new Set<ChildProcess>();
  private readonly names: string[] = [];
  private readonly cgroups = new Set<string>();
  private probers = 0;

  constructor(
    private readonly prefix: string,
    readonly shape: Shape = 'routed',
  ) {
    this.bpfDir = `/sys/fs/bpf/${prefix}`;
    this.meshNetns = this.path('mesh');
    run('gcc', ['-O1', '-Wall', `-I${ROOT}/bpf`, '-o', this.peer, `${ROOT}/test/redirect/peer.c`, '-lbpf', '-lpthread']);
  }

  path(namespace: string): string {
    return `/run/netns/${this.prefix}-${namespace}`;
  }

  nameOf(namespace: string): string {
    return `${this.prefix}-${namespace}`;
  }

  ip(namespace: string, batch: string): void {
    run('ip', ['-n', `${this.prefix}-${namespace}`, '-batch', '-'], batch);
  }

  /** A cgroup (version 2) of that name; removed by down(). */
  addCgroup(name: string): string {
    const path = join(CGROUPS, `${this.prefix}-${name}`);
    mkdirSync(path, { recursive: true });
    this.cgroups.add(path);
    return path;
  }

  removeCgroup(path: string): void {
    rmdirSync(path);
    this.cgroups.delete(path);
  }

  in(namespace: string, command: string, args: readonly string[], input = ''): string {
    return run('nsenter', [`--net=${this.path(namespace)}`, command, ...args], input);
  }

  addNamespace(name: string): void {
    run('ip', ['netns', 'add', `${this.prefix}-${name}`]);
    this.names.push(name);
    // Or the first second of every link is spent on duplicate address detection.
    this.in(name, 'sysctl', ['-qw', 'net.ipv6.conf.default.accept_dad=0', 'net.ipv6.conf.all.accept_dad=0']);
    this.ip(name, 'link set lo up');
  }

  removeNamespace(name: string): void {
    run('ip', ['netns', 'del', `${this.prefix}-${name}`]);
  }

  /** A pod as the CNI of this lab's shape makes it, in a namespace that is there. */
  connectPod(name: string, addresses: Addresses): void {
    connectPod(this, this.shape, name, addresses);
  }

  up(): void {
    buildTopology(this, this.shape);
  }

  /** Options of the host's routes to the remote node. By route: a veth with a small MTU would also drop what it receives, without a word. */
  narrowUplink(options: string): void {
    routeToRemote(this, options);
  }

  /** Starts it and waits until it says "ready". Standard output goes to the file. */
  private async start(namespace: string, args: readonly string[], output: string, cgroup: string | null = null): Promise<ChildProcess> {
    const [command, ...words] = within(cgroup, [this.peer, ...args]);
    const child = spawn('nsenter', [`--net=${this.path(namespace)}`, command!, ...words], {
      stdio: ['ignore', openSync(output, 'a'), 'pipe'],
    });
    this.children.add(child);
    await new Promise<void>((resolve, reject) => {
      let said = '';
      child.stderr?.on('data', (chunk: Buffer) => {
        said += chunk.toString();
        if (said.includes('ready\n')) resolve();
      });
      child.once('exit', (code) => reject(new Error(`peer ${args.join(' ')} ended with ${code}: ${said}`)));
    });
    child.once('exit', () => this.children.delete(child));
    return child;
  }

  /** A connection that stays open until down(), or until what it returns is called. */
  async hold(namespace: string, address: string, port: number, cgroup: string | null = null): Promise<() => Promise<void>> {
    const script = `exec 3<>/dev/tcp/${address}/${port} && read -r -u 3 && echo ready && exec sleep 60`;
    const [command, ...words] = within(cgroup, ['bash', '-c', script]);
    const child = spawn('nsenter', [`--net=${this.path(namespace)}`, command!, ...words], { stdio: ['ignore', 'pipe', 'ignore'] });
    this.children.add(child);
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    await Promise.race([once(child.stdout, 'data'), ended]);
    return () => {
      this.children.delete(child);
      child.kill('SIGKILL');
      return ended;
    };
  }

  /** A connection that echoes what is given to it, until it is ended. */
  async stream(namespace: string, address: string, port: number): Promise<LabStream> {
    const command = [`--net=${this.path(namespace)}`, this.peer, 'stream', address, String(port)];
    const child = spawn('nsenter', command, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.children.add(child);
    const said = async () => String((await Promise.race([once(child.stdout, 'data'), once(child, 'exit').then(() => ['ended'])]))[0]);
    const local = (await said()).trim();
    return {
      local,
      echo: (text) => {
        child.stdin.write(text);
        return said();
      },
      end: async () => {
        this.children.delete(child);
        child.stdin.end();
        await once(child, 'exit');
      },
    };
  }

  async serve(namespace: string, port: number, cgroup: string | null = null): Promise<void> {
    await this.start(namespace, ['serve', String(port)], '/dev/null', cgroup);
  }

  async proxy(workers = 2): Promise<LabProxy> {
    const output = join(this.folder, 'proxy.jsonl');
    return new LabProxy(await this.start('mesh', ['proxy', this.bpfDir, String(workers), HAIRPIN.v4, HAIRPIN.v6], output), output);
  }

  /** As none should be: one that never beats, or whose sockets are filed under the other IP version. */
  async oddProxy(fault: 'silent' | 'misfiled'): Promise<LabProxy> {
    return new LabProxy(await this.start('mesh', ['odd-proxy', this.bpfDir, fault], '/dev/null'), '/dev/null');
  }

  /** One ICMP packet out of the namespace. */
  ping(namespace: string, address: string): void {
    this.in(namespace, this.peer, ['ping', address]);
  }

  /** One packet, its IP header included. */
  sendRaw(namespace: string, address: string, packet: Buffer): void {
    this.in(namespace, this.peer, ['raw', address, packet.toString('hex')]);
  }

  /** The fallback's: inside the pod's own namespace, with its own record of passes. */
  async natProxy(namespace: string, ports: { outboundPort: number; inboundPort: number; mark: number }): Promise<LabProxy> {
    const output = join(this.folder, `nat-proxy-${namespace}.jsonl`);
    const words = [ports.outboundPort, ports.inboundPort, ports.mark].map(String);
    return new LabProxy(await this.start(namespace, ['nat-proxy', ...words], output), output);
  }

  /** Sends `bytes` after the server's greeting and wants them back. */
  connect(
    namespace: string,
    address: string,
    port: number,
    bytes = 4,
    { cgroup = null, option = '', timeoutMs = 2000 }: ClientOptions = {},
  ): Attempt {
    const [command, ...words] = within(cgroup, [this.peer, 'connect', address, String(port), String(timeoutMs), String(bytes), option]);
    const [attempt] = lines<Attempt>(this.in(namespace, command!, words));
    if (attempt === undefined) throw new Error('the client said nothing');
    return attempt;
  }

  /** One datagram and its answer. */
  ask(namespace: string, address: string, port: number, socket: 'connected' | 'unconnected'): Attempt {
    const [attempt] = lines<Attempt>(this.in(namespace, this.peer, ['udp', address, String(port), socket]));
    if (attempt === undefined) throw new Error('the client said nothing');
    return attempt;
  }

  /** Connects every `intervalMs` for that long. `during` runs once it has begun; its result is the time, in the attempts' clock. */
  async probe(
    namespace: string,
    address: string,
    durationMs: number,
    intervalMs: number,
    during: () => void,
  ): Promise<{ at: number; attempts: Attempt[] }> {
    const output = join(this.folder, `probe-${this.probers++}.jsonl`);
    const child = await this.start(namespace, ['probe', address, '8080', String(durationMs), String(intervalMs)], output);
    const begun = performance.now();
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    await new Promise((resolve) => setTimeout(resolve, durationMs / 5));
    const at = performance.now() - begun;
    during();
    await ended;
    return { at, attempts: lines<Attempt>(readFileSync(output, 'utf8')) };
  }

  /** Connects every `intervalMs`, from when it resolves until it is stopped. */
  async prober(namespace: string, address: string, port: number, intervalMs: number, cgroup: string | null = null): Promise<Prober> {
    const output = join(this.folder, `probe-${this.probers++}.jsonl`);
    const forever = String(1_000_000_000);
    const child = await this.start(namespace, ['probe', address, String(port), forever, String(intervalMs)], output, cgroup);
    const attempts = () => {
      const text = readFileSync(output, 'utf8');
      // The last line may be half written.
      return lines<Attempt>(text.slice(0, text.lastIndexOf('\n') + 1));
    };
    return {
      attempts,
      stop: async () => {
        const ended = once(child, 'exit');
        child.kill('SIGTERM');
        await ended;
        return attempts();
      },
    };
  }

  /** What an operator would see on the host: all that an uninstall must leave as it was. */
  snapshot(): Record<string, string> {
    const seen: Record<string, string> = {};
    const ask = (name: string, command: string, ...args: string[]) => {
      seen[name] = this.in('host', command, args);
    };
    ask('links', 'ip', '-d', 'link', 'show');
    ask('addresses', 'ip', '-j', 'addr', 'show');
    ask('routes', 'ip', '-4', 'route', 'show', 'table', 'all');
    ask('routes6', 'ip', '-6', 'route', 'show', 'table', 'all');
    ask('rules', 'ip', 'rule', 'show');
    ask('rules6', 'ip', '-6', 'rule', 'show');
    ask('qdiscs', 'tc', 'qdisc', 'show');
    seen.programs = this.hookPrograms().join('\n');
    ask('firewall', 'nft', 'list', 'ruleset');
    for (const command of ['iptables', 'ip6tables']) {
      // With the time and the packets counted they would never be equal.
      seen[command] = this.in('host', `${command}-save`, []).replace(/^#.*$|\[\d+:\d+\]/gm, '');
    }
    // The number of connections tracked now is no setting.
    const sysctls = this.in('host', 'sysctl', ['-a', '-e', '--pattern', '^net[.]']).split('\n');
    seen.sysctls = sysctls.filter((line) => !line.includes('nf_conntrack_count')).join('\n');
    const own = (text: string) => text.split('\n').filter((line) => line.includes(this.prefix));
    seen.pins = own(run('find', ['/sys/fs/bpf'])).join('\n');
    seen.namespaces = readdirSync('/run/netns')
      .filter((name) => name.startsWith(this.prefix))
      .join('\n');
    seen.mounts = own(readFileSync('/proc/self/mountinfo', 'utf8').replace(/^\d+ \d+ /gm, '')).join('\n');
    const cgroups = own(run('find', [CGROUPS, '-type', 'd']));
    seen.cgroups = cgroups.map((path) => `${path}: ${this.cgroupPrograms(path).join(' ')}`).join('\n');
    return seen;
  }

  /** Ids of programs, maps and links that the pins hold. */
  kernelObjects(): { kind: 'map' | 'link' | 'prog'; id: number }[] {
    const pins = run('find', [this.bpfDir, '-type', 'f']).trim().split('\n');
    return pins.flatMap((pin) => {
      const kind = pin.includes('/maps/') ? 'map' : 'link';
      const { id, prog_id: program } = JSON.parse(run('bpftool', ['-j', kind, 'show', 'pinned', pin])) as { id: number; prog_id?: number };
      const own = [{ kind, id }] as { kind: 'map' | 'link' | 'prog'; id: number }[];
      return program === undefined ? own : [...own, { kind: 'prog', id: program }];
    });
  }

  kernelHas({ kind, id }: { kind: string; id: number }): boolean {
    try {
      run('bpftool', [kind, 'show', 'id', String(id)]);
      return true;
    } catch {
      return false;
    }
  }

  links(): string[] {
    return run('ls', [`${this.bpfDir}/links`])
      .trim()
      .split('\n')
      .sort();
  }

  /** BPF programs on the host's interfaces. */
  hookPrograms(): string[] {
    return loadAddon()
      .listHookPrograms(this.path('host'), null)
      .map(({ hook, place, program }) => `${place} ${hook} ${program}`)
      .sort();
  }

  /** BPF programs attached to the cgroup itself. */
  cgroupPrograms(path: string): string[] {
    const shown = JSON.parse(run('bpftool', ['-j', 'cgroup', 'show', path]).trim() || '[]') as { name: string }[];
    return shown.map(({ name }) => name);
  }

  mapEntries(name: string): number {
    return (JSON.parse(run('bpftool', ['-j', 'map', 'dump', 'pinned', `${this.bpfDir}/maps/${name}`])) as unknown[]).length;
  }

  /**
   * As an agent of another version left it: the pin is that of a map of another layout, with the beginning of every entry where the keys are of one size. What is
   * attached keeps the map that it was loaded with.
   */
  pinFormer(name: string, layout: { readonly keyBytes?: number; readonly valueBytes?: number; readonly entries?: number }): void {
    const pin = `${this.bpfDir}/maps/${name}`;
    const shown = JSON.parse(run('bpftool', ['-j', 'map', 'show', 'pinned', pin])) as MapShown;
    const { keyBytes = shown.bytes_key, valueBytes = shown.bytes_value, entries = shown.max_entries } = layout;
    const all = JSON.parse(run('bpftool', ['-j', 'map', 'dump', 'pinned', pin])) as { key: string[]; value?: string[] }[];
    rmSync(pin);
    const sizes = ['key', String(keyBytes), 'value', String(valueBytes), 'entries', String(entries)];
    run('bpftool', ['map', 'create', pin, 'type', shown.type, ...sizes, 'name', name, 'flags', String(shown.flags)]);
    if (keyBytes !== shown.bytes_key || shown.type === 'sockmap') return;
    for (const { key, value } of all) {
      // One value for each CPU: the counters, which begin anew.
      if (value === undefined) continue;
      run('bpftool', ['map', 'update', 'pinned', pin, 'key', ...key, 'value', ...value.slice(0, valueBytes)]);
    }
  }

  /** Puts another load of host_connect into the place of the captured one, for which `host_cookies` takes no entry. Returns what removes it. */
  fillHostCookies(cgroup: string): () => void {
    const [place, full] = [`${this.bpfDir}/full-programs`, `${this.bpfDir}/full-map`];
    // In the real one, LRU, the kernel makes room: it says no only where it can't get the lock.
    run('bpftool', ['map', 'create', full, 'type', 'hash', 'key', '8', 'value', '40', 'entries', '1', 'name', 'host_cookies']);
    run('bpftool', ['map', 'update', 'pinned', full, 'key', ...Array(8).fill('0'), 'value', ...Array(40).fill('0')]);
    const maps = readdirSync(`${this.bpfDir}/maps`).flatMap((name) => {
      return ['map', 'name', name, 'pinned', name === 'host_cookies' ? full : `${this.bpfDir}/maps/${name}`];
    });
    mkdirSync(place);
    run('bpftool', ['prog', 'loadall', `${ROOT}/native/build/bpf/host_connect.o`, place, ...maps]);
    const attachments = ['4', '6'].map((family) => [cgroup, `connect${family}`, 'pinned', `${place}/host_connect${family}`]);
    for (const pin of this.links().filter((name) => name.startsWith('host_connect'))) {
      run('bpftool', ['link', 'detach', 'pinned', `${this.bpfDir}/links/${pin}`]);
      rmSync(`${this.bpfDir}/links/${pin}`);
    }
    for (const attachment of attachments) run('bpftool', ['cgroup', 'attach', ...attachment, 'multi']);
    return () => {
      for (const attachment of attachments) run('bpftool', ['cgroup', 'detach', ...attachment]);
      for (const path of [...readdirSync(place).map((name) => `${place}/${name}`), full]) rmSync(path);
      rmdirSync(place);
    };
  }

  async down(): Promise<void> {
    for (const child of this.children) child.kill('SIGKILL');
    await Promise.all([...this.children].map((child) => new Promise((resolve) => child.once('exit', resolve))));
    // Those within others came later.
    for (const path of [...this.cgroups].reverse()) this.removeCgroup(path);
    for (const name of this.names) {
      if (statSync(this.path(name), { throwIfNoEntry: false }) !== undefined) this.removeNamespace(name);
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Resolves when so many attempts more have ended. */
export async function more(prober: Prober, count: number): Promise<void> {
  const goal = prober.attempts().length + count;
  await eventually(
    async () => prober.attempts().length,
    (ended) => ended >= goal,
  );
}

export class LabProxy {
  constructor(
    private readonly child: ChildProcess,
    private readonly output: string,
  ) {}

  /** All so far, of every proxy of this lab. It writes a line before it dials, so what a client has been answered is there. */
  passes(): Pass[] {
    return lines<Pass>(readFileSync(this.output, 'utf8'));
  }

  signal(name: 'SIGSTOP' | 'SIGCONT' | 'SIGKILL'): void {
    this.child.kill(name);
  }

  async kill(): Promise<void> {
    const ended = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGKILL');
    await ended;
  }
}
