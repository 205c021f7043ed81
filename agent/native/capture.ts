// The boundary between TypeScript and the BPF loader: every function of the redirection that crosses.
// native/src/napi/capture_binding.cc defines the same functions in the same order. Plain data only; absent is null, never an optional
// property. Validation and defaults stay on this side; map layouts stay on the other.
// Functions are synchronous but one, and throw an Error with `code` (ENOENT, EEXIST, EPERM, …). None enters another network namespace: what is
// done there weft-netns does (native/src/netns).

/** Where a host's redirection lives: what finds it again after a restart. */
export interface CaptureLocation {
  /** On a bpffs, no dots in its name; holds maps/ and links/. */
  readonly bpfDir: string;
  /** Path of the mesh network namespace. */
  readonly meshNetns: string;
  /** Path of the host's network namespace; null: the calling thread's. */
  readonly hostNetns: string | null;
}

/** Default of CaptureOpenOptions.hostMark. */
export const HOST_MARK = 0x80000;

export interface CaptureOpenOptions extends CaptureLocation {
  /** auto: tcx where the kernel has it, else clsact. A mode named must work. */
  readonly mode: 'auto' | 'ebpf-tcx' | 'ebpf-clsact';
  /** A worker that has not beaten for longer gets no connections; 0: beats are not looked at. */
  readonly heartbeatTimeoutMs: number;
  /** Mark bit of packets that the proxy injects and of its sockets in the host's namespace; there only. */
  readonly hostMark: number;
}

export interface CaptureSpec {
  /** What it is called in the maps: the ifindex of the host side of its veth, or CgroupInspection.key. */
  readonly key: number;
  /** Of its namespace or cgroup. */
  readonly inode: number;
  /** Path of its network namespace; null for a process of the host. */
  readonly networkNamespace: string | null;
  /** Path of a host process' cgroup; null: the workload has a network namespace of its own. */
  readonly cgroup: string | null;
  /** Where a host process is called: captured inbound. Others are captured on every port. */
  readonly ports: readonly number[];
  readonly gatewayMac: readonly number[];
  readonly outbound: boolean;
  readonly inbound: boolean;
  readonly failClosed: boolean;
  /** Queries to port 53 over UDP go to the proxy. */
  readonly dns: boolean;
  /** For how long the first packets of a fail-closed workload that was not attached before are dropped, to be sent again by their senders; 0: no longer. */
  readonly holdMs: number;
  /** IPv4 or IPv6 text. Packets from any other address are not the workload's. */
  readonly addresses: readonly string[];
  readonly excludeOutboundPorts: readonly number[];
  readonly excludeInboundPorts: readonly number[];
  readonly excludeOutboundCidrs: readonly string[];
  readonly includeOutboundCidrs: readonly string[];
  readonly excludeInboundCidrs: readonly string[];
  readonly includeInboundCidrs: readonly string[];
}

export interface NamespaceLink {
  /** Inside the namespace. */
  readonly name: string;
  /** Of global scope, without prefix. */
  readonly addresses: readonly string[];
  /** Of its other end, if it is a veth whose other end is in the host's namespace; else 0, and the next two are empty. */
  readonly hostIfindex: number;
  readonly hostName: string;
  /** Its host side's, or that of the bridge it is on. */
  readonly gatewayMac: readonly number[];
}

export interface NamespaceInspection {
  /** Another namespace under the same path has another inode. */
  readonly inode: number;
  /** Those with an address, and veths that lead to the host. */
  readonly links: readonly NamespaceLink[];
}

export interface CgroupInspection {
  /** The cgroup's id: another cgroup under the same path has another. */
  readonly inode: number;
  readonly key: number;
  /** With which the host's own processes reach the world. */
  readonly addresses: readonly string[];
}

/** A BPF program, ours or another's, on a hook that redirection uses. */
export interface HookProgram {
  /** "tcx-ingress", "clsact-egress", "cgroup-connect4", … */
  readonly hook: string;
  /** An interface's name, or a cgroup's path. */
  readonly place: string;
  /** 15 bytes at most; empty: unnamed. */
  readonly program: string;
}

/** Closing leaves everything attached and pinned; only uninstallCapture() removes. */
export interface CaptureHandle {
  readonly mode: 'ebpf-tcx' | 'ebpf-clsact' | 'nftables' | 'iptables';
  /** Why this mode. */
  readonly reason: string;
  /** Pinned maps that had the layout of another version: replaced, with what entries still have a place. */
  readonly replacedMaps: readonly string[];
  /** Idempotent: replaces what the workload had. EADDRINUSE: an address or a host process' port is another captured workload's. EINVAL: a bad CIDR or address. */
  attach(workload: CaptureSpec): void;
  /** Idempotent; the interface may be gone. */
  detach(key: number): void;
  /** cgroup v2 ids (inode numbers), at most two: connections of their processes into workloads stay direct. An adopted redirection keeps its own until then. */
  exempt(cgroups: readonly number[]): void;
  /** Keys of all workloads attached, those of an earlier process included. */
  attached(): number[];
  /** By program, then by reason; see captureNames(). */
  counters(): number[];
  /** By reason. Zeroes for an unknown one. */
  workloadCounters(key: number): number[];
  close(): void;
}

/** All that is run in other network namespaces; rules are read from standard input. native/src/netns/protocol.h has the same list. */
export type NamespaceCommand =
  | 'nft -f -'
  | 'nft list table inet weft'
  | 'nft -j list counters table inet weft'
  | 'iptables-restore --noflush'
  | 'ip6tables-restore --noflush'
  | 'iptables-save -c'
  | 'ip6tables-save -c'
  | 'cat /proc/net/ip_tables_names';

export interface CommandResult {
  /** As a shell has it. */
  readonly status: number;
  readonly output: string;
  readonly errors: string;
}

export interface CaptureAddon {
  captureNames(): { readonly programs: readonly string[]; readonly reasons: readonly string[] };
  /** ENOENT: no namespace there (yet). */
  inspectNamespace(path: string, hostNetns: string | null): NamespaceInspection;
  /** ENOENT: no cgroup there. EINVAL: not of version 2. */
  inspectCgroup(path: string, hostNetns: string | null): CgroupInspection;
  /** Of all the host's interfaces, and of `cgroup`; null: of none. EPERM: the caller may not ask. */
  listHookPrograms(hostNetns: string | null, cgroup: string | null): HookProgram[];
  /** Throws in words why redirection does not work on this kernel in that mode, tried out in scratch namespaces. Some 100 ms. */
  testCapture(mode: 'ebpf-tcx' | 'ebpf-clsact', bpfDir: string): void;
  /** A pod and its host, connected, to try rules in: descriptors of their namespaces, the caller's to close, which ends both. */
  openScratchPod(): { readonly host: number; readonly pod: number };
  /** Throws in words why the rules in the scratch pod don't redirect a connection each way to these ports. Below 5 ms; at most 4 s. */
  testTranslation(
    scratch: { readonly host: number; readonly pod: number },
    ports: { readonly outboundPort: number; readonly inboundPort: number },
  ): void;
  /** Makes or adopts mesh namespace, links, maps and programs. */
  openCapture(options: CaptureOpenOptions): CaptureHandle;
  /**
   * Opens what the namespace at `path` has: "netns", itself; "netfilter", a netlink socket; "xt_recent/weft4" and its like (nat-rules.ts), files below
   * /proc/net, to be written.
   * The descriptor is the caller's.
   */
  openInNamespace(path: string, what: string): number;
  /** Another namespace under the same path has another; null: there is none. EACCES, EPERM: it may not be looked at. */
  namespaceInode(path: string): number | null;
  /**
   * The descriptor of a channel to weft-netns, the caller's. Whoever has none is given a weft-netns of its own at the first need, for which it must have
   * CAP_SYS_ADMIN and CAP_SETPCAP.
   */
  useNetns(channel: number): void;
  /** At most 10 s. */
  runInNamespace(path: string, command: NamespaceCommand, input: string): CommandResult;
  /** The same while the thread goes on; without input. */
  runInNamespaceAside(path: string, command: NamespaceCommand): Promise<CommandResult>;
  /** Removes all of it; missing parts are well. */
  uninstallCapture(location: CaptureLocation): void;
}
