// One workload as the host has it: is its namespace there, which veth is its, is it attached. Decides when to attach and detach;
// knows neither the list of workloads nor time.

import type { Workload } from '../../api/gen/mesh/v1/model.js';
import type { WorkloadCapture } from '../../api/gen/mesh/v1/status.js';
import type { CaptureAddon, CaptureHandle, CaptureSpec, NamespaceInspection, NamespaceLink } from '../native/capture.js';

/** What a workload is captured with; null where nothing runs or nothing is to be captured. */
interface Attachment {
  readonly ifindex: number;
  readonly inode: number;
  /** The spec as text: equal text, nothing to do. */
  readonly fingerprint: string;
}

type Finding =
  | { readonly kind: 'found'; readonly inode: number; readonly link: NamespaceLink; readonly addresses: readonly string[] }
  | { readonly kind: 'pending' | 'failed'; readonly detail: string };

interface Condition {
  readonly kind: 'captured' | 'excluded' | 'pending' | 'failed';
  readonly detail: string;
  /** Null where the workload does not run (yet). */
  readonly found: { readonly link: NamespaceLink; readonly addresses: readonly string[] } | null;
}

/** The kernel's own text of an address, so that "FD00::0:1" and "fd00::1" are one. */
function canonical(address: string): string {
  return address.includes(':') ? new URL(`http://[${address}]`).hostname.slice(1, -1) : address;
}

/** The veth that carries the workload's addresses; without declared ones, the first that has any. */
function choose(workload: Workload, inspection: NamespaceInspection): Finding {
  const path = workload.networkNamespace;
  if (inspection.links.length === 0) {
    const detail = `${path} has no veth that leads to the agent's network namespace: the agent must run in the namespace that holds the host side (hostNetwork), and the CNI must use veths`;
    return { kind: 'pending', detail };
  }
  const declared = workload.addresses.map(canonical);
  const link = inspection.links.find(({ addresses }) =>
    declared.length === 0 ? addresses.length > 0 : declared.some((address) => addresses.includes(address)),
  );
  if (link !== undefined)
    return { kind: 'found', inode: inspection.inode, link, addresses: declared.length === 0 ? link.addresses : declared };
  const present = inspection.links.map(({ name, addresses }) => `${name}: ${addresses.join(', ') || 'none'}`).join('; ');
  const detail =
    declared.length === 0 ? `no address on any interface of ${path} yet` : `none of ${declared.join(', ')} is in ${path} (${present})`;
  return { kind: 'pending', detail };
}

/** Not `instanceof Error`: the addon's errors may come from another realm. */
function codeOf(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'code' in error ? error.code : null;
}

function messageOf(error: unknown): string {
  return typeof error === 'object' && error !== null && 'message' in error ? String(error.message) : String(error);
}

export class WorkloadTracker {
  private condition: Condition = { kind: 'pending', detail: 'not looked at yet', found: null };
  /** Another workload that names the same namespace and came first. */
  private rival: string | null = null;
  private attachment: Attachment | null = null;

  constructor(
    readonly name: string,
    private workload: Workload,
    private readonly addon: CaptureAddon,
    private readonly handle: CaptureHandle,
    private readonly hostNetns: string | null,
  ) {}

  update(workload: Workload, rival: string | null): void {
    this.workload = workload;
    this.rival = rival;
  }

  get isSettled(): boolean {
    return this.condition.kind === 'captured' || this.condition.kind === 'excluded';
  }

  get path(): string {
    return this.workload.networkNamespace;
  }

  /** The interface attached to, if any. */
  get ifindex(): number | null {
    return this.attachment?.ifindex ?? null;
  }

  /** Brings the kernel in line with what is there now. Returns whether the condition changed. */
  reconcile(): boolean {
    const before = JSON.stringify(this.condition);
    try {
      const finding = this.find();
      if (finding.kind !== 'found') this.detach();
      this.condition = finding.kind === 'found' ? this.capture(finding) : { kind: finding.kind, detail: finding.detail, found: null };
    } catch (error) {
      this.condition = { kind: 'failed', detail: messageOf(error), found: null };
    }
    return JSON.stringify(this.condition) !== before;
  }

  detach(): void {
    if (this.attachment !== null) this.handle.detach(this.attachment.ifindex);
    this.attachment = null;
  }

  /** Addresses while its namespace is there; null otherwise. */
  runningAddresses(): readonly string[] | null {
    return this.condition.found?.addresses ?? null;
  }

  state(reasons: readonly string[]): WorkloadCapture {
    const { outbound = false, inbound = false, failClosed = false } = this.workload.capture ?? {};
    const values = this.attachment === null ? [] : this.handle.workloadCounters(this.attachment.ifindex);
    return {
      workload: this.name,
      state: this.condition.kind,
      detail: this.condition.detail,
      addresses: [...(this.runningAddresses() ?? this.workload.addresses)],
      interface: this.condition.found?.link.hostName ?? '',
      outbound,
      inbound,
      failClosed,
      counters: reasons.map((name, i) => ({ name, value: values[i] ?? 0 })).filter(({ value }) => value > 0),
    };
  }

  private find(): Finding {
    if (this.path === '') return { kind: 'failed', detail: 'the workload names no network namespace: set networkNamespace' };
    if (this.rival !== null) {
      return { kind: 'failed', detail: `${this.path} is already captured as ${this.rival}: one workload a network namespace` };
    }
    try {
      return choose(this.workload, this.addon.inspectNamespace(this.path, this.hostNetns));
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return { kind: 'pending', detail: `waiting for the network namespace ${this.path}` };
      return { kind: 'failed', detail: messageOf(error) };
    }
  }

  private capture({ inode, link, addresses }: Finding & { kind: 'found' }): Condition {
    const { capture } = this.workload;
    const found = { link, addresses };
    if (capture === undefined || !(capture.outbound || capture.inbound)) {
      this.detach();
      return { kind: 'excluded', detail: 'neither direction is to be captured', found };
    }
    const spec: CaptureSpec = { ...capture, ifindex: link.hostIfindex, gatewayMac: link.gatewayMac, addresses };
    const fingerprint = JSON.stringify(spec);
    const attached = this.attachment;
    if (attached?.inode === inode && attached.fingerprint === fingerprint) return { kind: 'captured', detail: '', found };
    if (attached !== null && (attached.inode !== inode || attached.ifindex !== link.hostIfindex)) this.detach();
    try {
      this.handle.attach(spec);
    } catch (error) {
      // attach() leaves nothing behind when it fails. The workload runs all the same.
      this.attachment = null;
      return { kind: 'failed', detail: messageOf(error), found };
    }
    this.attachment = { ifindex: link.hostIfindex, inode, fingerprint };
    return { kind: 'captured', detail: '', found };
  }
}
