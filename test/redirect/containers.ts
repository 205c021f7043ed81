// Containers of a pod's manifest, as a runtime makes them as far as Weft can tell: mounts with their propagation, capabilities, a read-only root and
// /proc/sys. Owns the mount namespaces of one node and its containers. There is no image: their root is this machine's.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';

export interface ContainerSpec {
  readonly name: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly env?: readonly {
    readonly name: string;
    readonly value?: string;
    readonly valueFrom?: { readonly fieldRef: { readonly fieldPath: string } };
  }[];
  readonly readinessProbe?: { readonly exec?: { readonly command: readonly string[] } };
  readonly securityContext?: {
    readonly privileged?: boolean;
    readonly readOnlyRootFilesystem?: boolean;
    readonly capabilities?: { readonly add?: readonly string[] };
  };
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string; readonly mountPropagation?: string }[];
}

export interface PodSpec {
  readonly initContainers?: readonly ContainerSpec[];
  readonly containers: readonly ContainerSpec[];
  readonly volumes?: readonly { readonly name: string; readonly hostPath?: { readonly path: string; readonly type?: string } }[];
}

/** The pod of the DaemonSet in that file of deploy/kubernetes. */
export function podOf(file: string): PodSpec {
  const documents = parseAllDocuments(readFileSync(join('deploy/kubernetes', file), 'utf8')).map(
    (document) => document.toJS() as { kind: string; spec: { template: { spec: PodSpec } } },
  );
  return documents.find(({ kind }) => kind === 'DaemonSet')!.spec.template.spec;
}

export class Container {
  output = '';
  readonly exit: Promise<number | null>;

  constructor(
    readonly spec: ContainerSpec,
    private readonly child: ChildProcess,
  ) {
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        this.output += chunk.toString();
      });
    }
    this.exit = once(child, 'exit').then(([code]) => code as number | null);
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** In its mounts. */
  run(command: readonly string[]): boolean {
    try {
      execFileSync('nsenter', [`--mount=/proc/${this.child.pid}/ns/mnt`, ...command], { stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  }

  get isReady(): boolean {
    return this.run(this.spec.readinessProbe?.exec?.command ?? ['true']);
  }

  stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    this.child.kill(signal);
    return this.exit;
  }
}

export class Node {
  private readonly holder: ChildProcess;
  private readonly root: string;
  private readonly bin: string;
  private readonly containers = new Set<Container>();

  private constructor(
    folder: string,
    /** Path of the network namespace that is the host's. */
    private readonly netns: string,
    /** What `valueFrom` and the environment of the test say, by field path and by name. */
    private readonly values: Readonly<Record<string, string>>,
    main: string,
  ) {
    this.root = join(folder, 'node');
    this.bin = join(folder, 'bin');
    mkdirSync(this.root, { recursive: true });
    mkdirSync(this.bin, { recursive: true });
    writeFileSync(join(this.bin, 'weft'), `#!/bin/sh\nexec ${process.execPath} ${main} "$@"\n`);
    chmodSync(join(this.bin, 'weft'), 0o755);
    const script = `mount -t tmpfs node "$0" && mount --make-shared "$0" && cd "$0"
      mkdir -p run/weft run/netns var/lib/weft sys/fs/bpf sys/fs/cgroup && touch run/xtables.lock
      mount -t bpf bpf sys/fs/bpf && mount --rbind /sys/fs/cgroup sys/fs/cgroup && mount --make-rslave sys/fs/cgroup
      echo there; exec sleep 100000`;
    this.holder = spawn('unshare', ['--mount', '--propagation', 'private', 'bash', '-ec', script, this.root], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
  }

  static async start(folder: string, netns: string, values: Readonly<Record<string, string>>, main: string): Promise<Node> {
    const node = new Node(folder, netns, values, main);
    await once(node.holder.stdout!, 'data');
    return node;
  }

  /** Where a path of the node is for this process. */
  path(path: string): string {
    return `/proc/${this.holder.pid}/root${this.root}${path}`;
  }

  start(pod: PodSpec, spec: ContainerSpec): Container {
    const environment = (spec.env ?? []).map(({ name, value, valueFrom }) => {
      const own = this.values[name] ?? this.values[valueFrom?.fieldRef.fieldPath ?? ''] ?? value ?? '';
      return `${name}=${own.replace(/\$\((\w+)\)/g, (_, other: string) => this.values[other] ?? '')}`;
    });
    const command = [...(spec.command ?? ['weft']), ...(spec.args ?? [])];
    const script = `${this.mounts(pod, spec)}\nexec ${spec.securityContext?.privileged === true ? '' : confinement(spec)} env PATH="$0:$PATH" "$@"`;
    const words = [
      `--mount=/proc/${this.holder.pid}/ns/mnt`,
      'unshare',
      '--mount',
      '--propagation',
      'unchanged',
      'bash',
      '-ec',
      script,
      this.bin,
    ];
    const child = spawn('nsenter', [`--net=${this.netns}`, 'nsenter', ...words, ...environment, ...command], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const container = new Container(spec, child);
    this.containers.add(container);
    void container.exit.then(() => this.containers.delete(container));
    return container;
  }

  async stop(): Promise<void> {
    for (const container of [...this.containers]) await container.stop('SIGKILL');
    const gone = once(this.holder, 'exit');
    this.holder.kill('SIGKILL');
    await gone;
  }

  private mounts({ volumes = [] }: PodSpec, { volumeMounts = [], securityContext = {} }: ContainerSpec): string {
    const lines = ['mount -t tmpfs run /run'];
    for (const { name, mountPath, mountPropagation = 'None' } of volumeMounts) {
      const host = volumes.find((volume) => volume.name === name)?.hostPath;
      if (host === undefined) {
        lines.push(`mkdir -p ${mountPath}`, `mount -t tmpfs ${name} ${mountPath}`);
        continue;
      }
      const isFile = host.type?.startsWith('File') === true;
      lines.push(isFile ? `touch ${mountPath}` : `mkdir -p ${mountPath}`, `mount --rbind ${this.root}${host.path} ${mountPath}`);
      if (mountPropagation === 'None') lines.push(`mount --make-rprivate ${mountPath}`);
      if (mountPropagation === 'HostToContainer') lines.push(`mount --make-rslave ${mountPath}`);
    }
    // What of the node is not mounted is not to be seen.
    lines.push(`mount --make-rprivate ${this.root}`, `umount --lazy ${this.root}`);
    if (securityContext.privileged !== true) lines.push('mount --bind /proc/sys /proc/sys', 'mount -o remount,bind,ro /proc/sys');
    if (securityContext.readOnlyRootFilesystem === true) lines.push('mount -o remount,bind,ro /', 'mount -o remount,bind,ro /run');
    return lines.join('\n');
  }
}

function confinement({ securityContext = {} }: ContainerSpec): string {
  const added = (securityContext.capabilities?.add ?? []).map((name) => `,+${name.toLowerCase()}`);
  return `setpriv --inh-caps=-all --bounding-set=-all${added.join('')}`;
}
