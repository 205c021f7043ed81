// The fallback's hold on a host: rules of address translation inside every captured pod's own network namespace, made by nft or iptables.
// What it makes stays when the agent ends and is known again by a fingerprint in it. Opens namespaces for the proxy, and carries no bytes.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { writeBeat } from '../link/pod-beat.js';
import {
  type CaptureAddon,
  type CaptureHandle,
  type CaptureSpec,
  type CommandResult,
  HOST_MARK,
  type NamespaceCommand,
} from '../native/capture.js';
import type { MessageSocketAddon } from '../native/message-socket.js';
import type { CaptureLog } from './capture.js';
import { inodeOrNull } from './inode.js';
import { nftBeat, nftRelease, recentBeat, recentRelease } from './nat-beat.js';
import {
  HELD,
  iptablesJumps,
  iptablesRemoval,
  iptablesRules,
  isWhole,
  type NatListeners,
  NFT_REMOVAL,
  nftTable,
  RECENT,
} from './nat-rules.js';
import { PodServer, type ServedPod } from './pod-server.js';

export type NatMode = 'nftables' | 'iptables';

const LISTENERS: NatListeners = { outboundPort: 15001, inboundPort: 15006, mark: HOST_MARK };
/** Where container runtimes mount the namespaces of pods that have no process of their own (any more). */
const NAMESPACE_FOLDERS = ['/run/netns', '/run/docker/netns'];
/** Counters are read by a process for each pod, so one after the other, in the background. */
const COUNTERS_INTERVAL_MS = 10_000;
const SELF_TEST_ALIVE_MS = 10_000;
const CAPTURE_ALL: CaptureSpec = {
  key: 0,
  inode: 0,
  networkNamespace: null,
  cgroup: null,
  ports: [],
  gatewayMac: [],
  outbound: true,
  inbound: true,
  failClosed: false,
  dns: false,
  holdMs: 0,
  addresses: [],
  excludeOutboundPorts: [],
  excludeInboundPorts: [],
  excludeOutboundCidrs: [],
  includeOutboundCidrs: [],
  excludeInboundCidrs: [],
  includeInboundCidrs: [],
};

export interface NatOptions {
  readonly mode: NatMode;
  readonly reason: string;
  readonly heartbeatTimeoutMs: number;
  /** Of the unix socket where proxies are told of the pods. */
  readonly socket: string;
  readonly log: CaptureLog;
}

type Addon = CaptureAddon & MessageSocketAddon;
interface AttachedPod {
  readonly path: string;
  counters: readonly number[];
}

/** Throws with what the command said. */
function inNamespace(addon: CaptureAddon, path: string, command: NamespaceCommand, input = ''): string {
  return outputOf(addon.runInNamespace(path, command, input), command, path);
}

async function listed(addon: CaptureAddon, path: string, command: NamespaceCommand): Promise<string> {
  return outputOf(await addon.runInNamespaceAside(path, command), command, path);
}

function outputOf({ status, output, errors }: CommandResult, command: NamespaceCommand, path: string): string {
  if (status === 0) return output;
  throw new Error(`${command} in ${path}: ${errors.trim() || (status === 127 ? 'not installed on this host' : `it ended with ${status}`)}`);
}

/** How each of the two does it, in the namespace at a path. */
interface Tool {
  /** Text of what is to be installed. */
  rules(spec: CaptureSpec, aliveMs: number, comment: string): string;
  /** Throws what is missing. */
  install(addon: Addon, path: string, spec: CaptureSpec, aliveMs: number, comment: string): void;
  remove(addon: Addon, path: string): void;
  /** The comment of what is installed; null: nothing. */
  installed(addon: Addon, path: string): string | null;
  /** Of a fail-closed pod: what releases its first connections, where they wait. */
  beats(addon: Addon, path: string, aliveMs: number, isFailClosed: boolean): ServedPod['beats'];
  /** Of connections, in the order of the reasons. Rejects when the namespace is going. */
  counters(addon: Addon, path: string, reasons: readonly string[]): Promise<readonly number[]>;
}

const COMMENT = /weft [0-9a-f]{8} [0-9a-f]{16}/;

const nftables: Tool = {
  rules: (spec, _aliveMs, comment) => nftTable(spec, LISTENERS, { aliveMs: 0, heldMs: 0 }, comment),
  install: (addon, path, spec, aliveMs, comment) => {
    // What is alive stays so while it is replaced; what is new waits for the first beat.
    const isNew = nftables.installed(addon, path) === null;
    const lives = isNew ? { aliveMs: 0, heldMs: spec.holdMs } : { aliveMs, heldMs: 0 };
    inNamespace(addon, path, 'nft -f -', nftTable(spec, LISTENERS, lives, comment));
  },
  remove: (addon, path) => inNamespace(addon, path, 'nft -f -', NFT_REMOVAL),
  installed: (addon, path) => {
    try {
      return COMMENT.exec(inNamespace(addon, path, 'nft list table inet weft'))?.[0] ?? 'weft';
    } catch (error) {
      if (/No such file or directory/.test((error as Error).message)) return null;
      throw error;
    }
  },
  beats: (addon, path, aliveMs, isFailClosed) => [
    { descriptor: addon.openInNamespace(path, 'netfilter'), ...(isFailClosed ? nftRelease() : nftBeat(aliveMs)) },
  ],
  counters: async (addon, path, reasons) => countersByReason(await listed(addon, path, 'nft -j list counters table inet weft'), reasons),
};

const iptables: Tool = {
  rules: (spec, aliveMs, comment) => FAMILIES.map(([family]) => iptablesRules(spec, LISTENERS, family, aliveMs, comment)).join(''),
  install: (addon, path, spec, aliveMs, comment) => {
    for (const [family, prefix] of FAMILIES) {
      const restore = (text: string) => inNamespace(addon, path, `${prefix}-restore --noflush`, text);
      const jumps = iptablesJumps(inNamespace(addon, path, `${prefix}-save -c`));
      restore(iptablesRules(spec, LISTENERS, family, aliveMs, comment));
      if (jumps === '') continue;
      if (spec.failClosed && spec.holdMs > 0) holdFirst(addon, path, family);
      restore(jumps);
    }
  },
  remove: (addon, path) => {
    // IPv4 last: by its comment it is known whose they are.
    for (const [, prefix] of [...FAMILIES].reverse()) {
      const removal = iptablesRemoval(inNamespace(addon, path, `${prefix}-save -c`));
      if (removal !== '') inNamespace(addon, path, `${prefix}-restore --noflush`, removal);
    }
  },
  installed: (addon, path) => {
    // To ask the older iptables for a table is to make it.
    if (isLegacy() && !inNamespace(addon, path, 'cat /proc/net/ip_tables_names').includes('nat')) return null;
    const saved = inNamespace(addon, path, 'iptables-save -c');
    if (!saved.includes(':WEFT-')) return null;
    const comment = COMMENT.exec(saved)?.[0] ?? 'weft';
    const saved6 = inNamespace(addon, path, 'ip6tables-save -c');
    return isWhole(saved) && isWhole(saved6) && saved6.includes(comment) ? comment : `${comment} in part`;
  },
  beats: (addon, path, _aliveMs, isFailClosed) =>
    FAMILIES.map(([family]) => ({
      descriptor: addon.openInNamespace(path, `xt_recent/${(isFailClosed ? HELD : RECENT)[family].name}`),
      ...(isFailClosed ? recentRelease(family) : recentBeat(family)),
    })),
  counters: async (addon, path, reasons) => {
    const saved = FAMILIES.map(([, prefix]) => listed(addon, path, `${prefix}-save -c`));
    return savedCountersByReason((await Promise.all(saved)).join(''), reasons);
  },
};

/** The first connections of a fail-closed pod, before anything leads them to where nobody listens yet. */
function holdFirst(addon: CaptureAddon, path: string, family: 4 | 6): void {
  const descriptor = addon.openInNamespace(path, `xt_recent/${HELD[family].name}`);
  writeBeat(descriptor, true, recentBeat(family).renew);
  closeSync(descriptor);
}

const FAMILIES = [
  [4, 'iptables'],
  [6, 'ip6tables'],
] as const;
let legacy: boolean | null = null;
function isLegacy(): boolean {
  legacy ??= !execFileSync('iptables', ['--version'], { encoding: 'utf8' }).includes('nf_tables');
  return legacy;
}

const TOOLS: Record<NatMode, Tool> = { nftables, iptables };

export class NatCapture implements CaptureHandle {
  readonly mode: NatMode;
  readonly reason: string;
  readonly replacedMaps = [];
  private readonly tool: Tool;
  private readonly owner: string;
  private readonly pods = new Map<number, AttachedPod>();
  /** What an earlier agent captured and this one has not been told of (yet): namespaces by inode. */
  private readonly adopted: Map<number, string>;
  private readonly server: PodServer;
  private readonly reasons: readonly string[];
  private readonly timer: NodeJS.Timeout;
  private isCounting = false;

  constructor(
    private readonly options: NatOptions,
    private readonly addon: Addon,
  ) {
    this.mode = options.mode;
    this.reason = options.reason;
    this.tool = TOOLS[options.mode];
    this.reasons = addon.captureNames().reasons;
    this.owner = ownerOf(options.socket);
    this.adopted = ownedNamespaces(addon, this.tool, this.owner);
    const { outboundPort, inboundPort, mark } = LISTENERS;
    const hello = { outboundPort, inboundPort, mark, aliveMs: options.heartbeatTimeoutMs };
    this.server = PodServer.start(options.socket, addon, hello, options.log);
    this.completeServer();
    this.timer = setInterval(() => void this.count(), COUNTERS_INTERVAL_MS);
    this.timer.unref();
  }

  /** Once nothing is left of an earlier agent that this one has not been told of. */
  private completeServer(): void {
    if (this.adopted.size === 0) this.server.complete();
  }

  attach(spec: CaptureSpec): void {
    if (spec.networkNamespace === null)
      throw new Error(`${this.mode} captures pods only: a process of the host needs eBPF, which does not work here: ${this.reason}`);
    const { key, networkNamespace: path, failClosed, holdMs } = spec;
    const aliveMs = this.options.heartbeatTimeoutMs;
    const comment = `${this.owner} ${hash(this.tool.rules(spec, aliveMs, ''), 16)}`;
    if (this.tool.installed(this.addon, path) !== comment) this.tool.install(this.addon, path, spec, aliveMs, comment);
    this.adopted.delete(key);
    this.pods.set(key, { path, counters: this.pods.get(key)?.counters ?? [] });
    // Held until the proxy, which then has its configuration, listens there: its first beat says so.
    const beats = failClosed && holdMs > 0 ? [] : this.tool.beats(this.addon, path, aliveMs, failClosed);
    this.server.add({ key, name: path, netns: this.openNamespace(path, beats), beats });
    // As by the programs of eBPF: with its configuration known and no proxy there, it is refused rather than held.
    if (failClosed && !this.server.hasProxies) for (const { descriptor, isFile, renew } of beats) writeBeat(descriptor, isFile, renew);
    this.completeServer();
  }

  detach(key: number): void {
    const path = this.pods.get(key)?.path ?? this.adopted.get(key);
    // First: what is still redirected is still served. A namespace that is gone took its rules with it; another may stand under its path.
    if (path !== undefined && inodeOrNull(path, this.addon) === key) this.tool.remove(this.addon, path);
    this.pods.delete(key);
    this.adopted.delete(key);
    this.server.remove(key);
    this.completeServer();
  }

  exempt(cgroups: readonly number[]): void {
    if (cgroups.length === 0) return;
    const { log } = this.options;
    log.warn({ mode: this.mode }, `${this.mode} can't tell who on the host connects: --probes-from has no effect, probes pass the proxy`);
  }

  /** Where it can't be opened (the pod went at this moment) what was opened in it is of no use either. */
  private openNamespace(path: string, beats: readonly { readonly descriptor: number }[]): number {
    try {
      return this.addon.openInNamespace(path, 'netns');
    } catch (error) {
      for (const { descriptor } of beats) this.addon.closeDescriptor(descriptor);
      throw error;
    }
  }

  attached(): number[] {
    return [...this.pods.keys(), ...this.adopted.keys()];
  }

  counters(): number[] {
    return [];
  }

  workloadCounters(key: number): number[] {
    return [...(this.pods.get(key)?.counters ?? [])];
  }

  close(): void {
    clearInterval(this.timer);
    this.server.stop();
  }

  private async count(): Promise<void> {
    if (this.isCounting) return;
    this.isCounting = true;
    for (const pod of this.pods.values()) pod.counters = (await this.countersOf(pod.path)) ?? pod.counters;
    this.isCounting = false;
  }

  private async countersOf(path: string): Promise<readonly number[] | null> {
    try {
      return await this.tool.counters(this.addon, path, this.reasons);
    } catch {
      // The pod is going; what was counted last stands until it has gone.
      return null;
    }
  }
}

/** `listed`: nft's JSON. The counters are called by direction and reason. */
export function countersByReason(listed: string, reasons: readonly string[]): number[] {
  const { nftables: items } = JSON.parse(listed) as { nftables: { counter?: { name: string; packets: number } }[] };
  return byReason(
    items.flatMap(({ counter }) => (counter === undefined ? [] : [counter])),
    reasons,
  );
}

/** `saved`: text of iptables-save -c, of both families. The rules have comments by direction and reason. */
export function savedCountersByReason(saved: string, reasons: readonly string[]): number[] {
  const rules = saved.matchAll(/^\[(\d+):\d+\] -A WEFT-.* --comment "?((?:out|in)bound_\w+)"?/gm);
  return byReason(
    [...rules].map(([, packets, name = '']) => ({ name, packets: Number(packets) })),
    reasons,
  );
}

function byReason(counters: readonly { readonly name: string; readonly packets: number }[], reasons: readonly string[]): number[] {
  const values = new Map<string, number>();
  for (const { name, packets } of counters) {
    const [, direction = '', what = ''] = /^(outbound|inbound)_(.*)$/.exec(name) ?? [];
    const reason = what === 'captured' ? `captured_${direction}` : what;
    values.set(reason, (values.get(reason) ?? 0) + packets);
  }
  return reasons.map((reason) => values.get(reason) ?? 0);
}

function hash(text: string, digits: number): string {
  return createHash('sha256').update(text).digest('hex').slice(0, digits);
}

/** Several agents may share a kernel, each for a host that is a namespace: each knows its own pods by where it serves its proxies. */
function ownerOf(socket: string): string {
  return `weft ${hash(socket, 8)}`;
}

function entries(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

/** Every network namespace of this host but our own, by inode: those with a name, and those of a process. */
function namespaces(addon: Addon): Map<number, string> {
  const found = new Map<number, string>();
  const processes = entries('/proc').filter((name) => /^\d+$/.test(name));
  const paths = [
    ...NAMESPACE_FOLDERS.flatMap((folder) => entries(folder).map((name) => join(folder, name))),
    ...processes.map((pid) => `/proc/${pid}/ns/net`),
  ];
  const own = inodeOrNull('/proc/self/ns/net', addon);
  for (const path of paths) {
    const inode = inodeOrNull(path, addon);
    if (inode !== null && inode !== own && !found.has(inode)) found.set(inode, path);
  }
  return found;
}

function ownedNamespaces(addon: Addon, tool: Tool, owner: string): Map<number, string> {
  return new Map([...namespaces(addon)].filter(([, path]) => hasRules(addon, tool, path, owner)));
}

function hasRules(addon: Addon, tool: Tool, path: string, owner: string): boolean {
  try {
    return tool.installed(addon, path)?.startsWith(owner) === true;
  } catch {
    // No namespace (a file in the folder), gone meanwhile, or without the tool.
    return false;
  }
}

function isInstalled(command: string): boolean {
  return (process.env.PATH ?? '').split(':').some((folder) => folder !== '' && existsSync(join(folder, command)));
}

/** Throws in words why redirection by this tool does not work on this host, tried out in a scratch pod. Some 60 ms. */
export function testNat(mode: NatMode, addon: Addon): void {
  const scratch = addon.openScratchPod();
  const descriptors = [scratch.host, scratch.pod];
  try {
    const path = `/proc/self/fd/${scratch.pod}`;
    const tool = TOOLS[mode];
    tool.install(addon, path, { ...CAPTURE_ALL, networkNamespace: path }, SELF_TEST_ALIVE_MS, 'weft self-test');
    for (const { descriptor, isFile, renew } of tool.beats(addon, path, SELF_TEST_ALIVE_MS, false)) {
      descriptors.push(descriptor);
      writeBeat(descriptor, isFile, renew);
    }
    addon.testTranslation(scratch, LISTENERS);
  } finally {
    for (const descriptor of descriptors) closeSync(descriptor);
  }
}

/** Removes what the agent that serves its proxies at `socket`, and those before it, made with these tools in any namespace. */
export function removeNatRules(addon: Addon, socket: string, modes: readonly NatMode[]): void {
  for (const mode of modes) {
    if (!isInstalled(mode === 'nftables' ? 'nft' : 'iptables-save')) continue;
    for (const path of ownedNamespaces(addon, TOOLS[mode], ownerOf(socket)).values()) TOOLS[mode].remove(addon, path);
  }
}
