// The boundary between TypeScript and the BPF loader: every function of the redirection that crosses.
// native/src/napi/capture_binding.cc defines the same functions in the same order. Plain data only; absent is null, never an optional
// property. Validation and defaults stay on this side; map layouts stay on the other.
// Every function is synchronous and throws an Error with `code` (ENOENT, EEXIST, EPERM, …). None changes the caller's network namespace.

/** Where a host's redirection lives: what finds it again after a restart. */
export interface CaptureLocation {
  /** On a bpffs, no dots in its name; holds maps/ and links/. */
  readonly bpfDir: string;
  /** Path of the mesh network namespace. */
  readonly meshNetns: string;
  /** Path of the host's network namespace; null: the calling thread's. */
  readonly hostNetns: string | null;
}

export interface CaptureOpenOptions extends CaptureLocation {
  /** auto: tcx where the kernel has it, else clsact. A mode named must work. */
  readonly mode: 'auto' | 'ebpf-tcx' | 'ebpf-clsact';
  /** A worker that has not beaten for longer gets no connections; 0: beats are not looked at. */
  readonly heartbeatTimeoutMs: number;
  /** skb mark bit for packets that the proxy injects, in the host's namespace only. */
  readonly hostMark: number;
  /** cgroup v2 ids (inode numbers), at most two, whose connections into workloads are left alone. */
  readonly exemptCgroups: readonly number[];
}

export interface CaptureSpec {
  /** Of the host side of the workload's veth. */
  readonly ifindex: number;
  readonly gatewayMac: readonly number[];
  readonly outbound: boolean;
  readonly inbound: boolean;
  readonly failClosed: boolean;
  /** IPv4 or IPv6 text. Packets from any other address are not the workload's. */
  readonly addresses: readonly string[];
  readonly excludeOutboundPorts: readonly number[];
  readonly excludeInboundPorts: readonly number[];
  readonly excludeOutboundCidrs: readonly string[];
  readonly includeOutboundCidrs: readonly string[];
}

export interface NamespaceLink {
  /** Inside the namespace. */
  readonly name: string;
  /** Of global scope, without prefix. */
  readonly addresses: readonly string[];
  readonly hostIfindex: number;
  readonly hostName: string;
  /** Its host side's, or that of the bridge it is on. */
  readonly gatewayMac: readonly number[];
}

export interface NamespaceInspection {
  /** Another namespace under the same path has another inode. */
  readonly inode: number;
  /** Veths whose other side is in the host's namespace; others are left out. */
  readonly links: readonly NamespaceLink[];
}

/** Closing leaves everything attached and pinned; only uninstallCapture() removes. */
export interface CaptureHandle {
  readonly mode: 'ebpf-tcx' | 'ebpf-clsact';
  /** Why this mode. */
  readonly reason: string;
  /** Idempotent: replaces what the workload had. EADDRINUSE: an address is another captured workload's. EINVAL: a bad CIDR or address. */
  attach(workload: CaptureSpec): void;
  /** Idempotent; the interface may be gone. */
  detach(ifindex: number): void;
  /** ifindexes of all workloads attached, those of an earlier process included. */
  attached(): number[];
  /** By program, then by reason; see captureNames(). */
  counters(): number[];
  /** By reason. Zeroes for an unknown one. */
  workloadCounters(ifindex: number): number[];
  close(): void;
}

export interface CaptureAddon {
  captureNames(): { readonly programs: readonly string[]; readonly reasons: readonly string[] };
  /** ENOENT: no namespace there (yet). */
  inspectNamespace(path: string, hostNetns: string | null): NamespaceInspection;
  /** Makes or adopts mesh namespace, links, maps and programs. */
  openCapture(options: CaptureOpenOptions): CaptureHandle;
  /** Removes all of it; missing parts are well. */
  uninstallCapture(location: CaptureLocation): void;
}
