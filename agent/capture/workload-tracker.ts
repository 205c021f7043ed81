// One workload as the host has it: is its namespace there, which veth is its, is it attached. Decides when to attach and detach;
// knows neither the list of workloads nor time.
import type { Workload } from '../../api/gen/mesh/v1/model.js';
import type { WorkloadCapture } from '../../api/gen/mesh/v1/status.js';
import { messageOf } from '../../api/message-of.js';
import { isHostProcess } from '../model/model.js';
import type { CaptureAddon, CaptureHandle, CaptureSpec, CgroupInspection, NamespaceInspection } from '../native/capture.js';
import { holdsThisProcess } from './cgroups.js';
import type { Places } from './places.js';

/** What a workload is captured with; null where nothing runs or nothing is to be captured. */
interface Attachment {
  readonly key: number;
  readonly inode: number;
  /** The spec as text: equal text, nothing to do. */
  readonly fingerprint: string;
}

/** What to attach to: a veth's host side, or a cgroup. */
interface Place extends Pick<CaptureSpec, 'key' | 'inode' | 'gatewayMac' | 'networkNamespace' | 'cgroup'> {
  /** Interface or path. */
  readonly name: string;
}

type Finding =
  | { readonly kind: 'found'; readonly place: Place; readonly addresses: readonly string[] }
  | { readonly kind: 'pending' | 'failed'; readonly detail: string };

interface Condition {
  readonly kind: 'captured' | 'excluded' | 'pending' | 'failed';
  readonly detail: string;
  /** Null where the workload does not run (yet). */
  readonly found: { readonly place: Place; readonly addresses: readonly string[] } | null;
}

/** The kernel's own text of an address, so that "FD00::0:1" and "fd00::1" are one. */
function canonical(address: string): string {
  return address.includes(':') ? new URL(`http://[${address}]`).hostname.slice(1, -1) : address;
}

/** What its manifest says; what this node reported earlier is not that, or a pod would never get another address. */
function declaredAddresses({ addresses, addressesFound }: Workload): readonly string[] {
  return addressesFound ? [] : addresses.map(canonical);
}

/** The interface that carries the workload's addresses; without declared ones, the first that has any. `throughHost`: a veth that leads there. */
function choose(workload: Workload, path: string, inspection: NamespaceInspection, throughHost: boolean): Finding {
  const links = inspection.links.filter(({ hostIfindex }) => hostIfindex !== 0 || !throughHost);
  if (links.length === 0 && throughHost) {
    const detail = `${path} has no veth that leads to the agent's network namespace: the agent must run in the namespace that holds the host side (hostNetwork), and the CNI must use veths`;
    return { kind: 'pending', detail };
  }
  const declared = declaredAddresses(workload);
  const link = links.find(({ addresses }) =>
    declared.length === 0 ? addresses.length > 0 : declared.some((address) => addresses.includes(address)),
  );
  if (link !== undefined) {
    const { hostIfindex, hostName, gatewayMac } = link;
    const { inode } = inspection;
    const seen = throughHost ? { key: hostIfindex, name: hostName } : { key: inode, name: link.name };
    const place = { ...seen, gatewayMac, inode, networkNamespace: path, cgroup: null };
    return { kind: 'found', place, addresses: declared.length === 0 ? link.addresses : declared };
  }
  const present = links.map(({ name, addresses }) => `${name}: ${addresses.join(', ') || 'none'}`).join('; ');
  const detail =
    declared.length === 0 ? `no address on any interface of ${path} yet` : `none of ${declared.join(', ')} is in ${path} (${present})`;
  return { kind: 'pending', detail };
}

function hostProcess(workload: Workload, path: string, { key, inode, addresses: found }: CgroupInspection): Finding {
  const declared = declaredAddresses(workload);
  const addresses = declared.length === 0 ? found : declared;
  if (addresses.length === 0)
    return { kind: 'pending', detail: 'the host has no route to the world, so no address of its own: set addresses' };
  return { kind: 'found', place: { key, name: path, gatewayMac: [], inode, networkNamespace: null, cgroup: path }, addresses };
}

/** Not `instanceof Error`: the addon's errors may come from another realm. */
function codeOf(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'code' in error ? error.code : null;
}

/** Out of descriptors or memory, or weft-netns is not there: they say nothing about what was looked at. */
const NOT_NOW: ReadonlySet<unknown> = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'ENOBUFS', 'EPIPE', 'ETIMEDOUT']);

export class WorkloadTracker {
  private condition: Condition = { kind: 'pending', detail: 'not looked at yet', found: null };
  /** Another workload that names the same namespace and came first. */
  private rival: string | null = null;
  private attachment: Attachment | null = null;
  private isSeen = true;

  constructor(
    readonly name: string,
    private workload: Workload,
    private readonly addon: CaptureAddon,
    private readonly handle: CaptureHandle,
    private readonly hostNetns: string | null,
    private readonly places: Places,
    /** For how long its first connections wait for release(), where it fails closed. */
    private holdMs: number,
  ) {}

  update(workload: Workload, rival: string | null): void {
    this.workload = workload;
    this.rival = rival;
  }

  /** The proxy has its configuration. */
  release(): void {
    this.holdMs = 0;
  }

  get isSettled(): boolean {
    return this.condition.kind === 'captured' || this.condition.kind === 'excluded';
  }

  /** Of its namespace or cgroup; empty: it has none (yet). */
  get path(): string {
    return this.places.pathOf(this.workload);
  }

  /** What it is attached as, if it is. */
  get key(): number | null {
    return this.attachment?.key ?? null;
  }

  /** It could not be looked at, and whether an earlier agent captured it is not known. */
  get isUnknown(): boolean {
    return this.attachment === null && !this.isSeen;
  }

  /** Brings the kernel in line with what is there now. Returns whether the condition changed. */
  reconcile(): boolean {
    const before = JSON.stringify(this.condition);
    try {
      const finding = this.look();
      if (finding === null) return JSON.stringify(this.condition) !== before;
      if (finding.kind !== 'found') this.detach();
      this.condition = finding.kind === 'found' ? this.capture(finding) : { kind: finding.kind, detail: finding.detail, found: null };
    } catch (error) {
      this.condition = { kind: 'failed', detail: messageOf(error), found: null };
    }
    return JSON.stringify(this.condition) !== before;
  }

  /** Null: it could not be looked at. What is captured stays so: a fail-closed one would be open. */
  private look(): Finding | null {
    try {
      const finding = this.find();
      this.isSeen = true;
      return finding;
    } catch (error) {
      this.isSeen = false;
      this.condition = { kind: 'failed', detail: messageOf(error), found: this.condition.found };
      return null;
    }
  }

  detach(): void {
    if (this.attachment !== null) this.handle.detach(this.attachment.key);
    this.attachment = null;
  }

  /** Addresses while its namespace is there; null otherwise. */
  runningAddresses(): readonly string[] | null {
    return this.condition.found?.addresses ?? null;
  }

  state(reasons: readonly string[]): WorkloadCapture {
    const { outbound = false, inbound = false, failClosed = false } = this.workload.capture ?? {};
    const values = this.attachment === null ? [] : this.handle.workloadCounters(this.attachment.key);
    return {
      workload: this.name,
      state: this.condition.kind,
      detail: this.condition.detail,
      addresses: [...(this.runningAddresses() ?? this.workload.addresses)],
      interface: this.condition.found?.place.name ?? '',
      outbound,
      inbound,
      failClosed,
      counters: reasons.map((name, i) => ({ name, value: values[i] ?? 0 })).filter(({ value }) => value > 0),
    };
  }

  private find(): Finding {
    const { path } = this;
    const { cgroups } = this.places;
    if (path === '') return this.nowhere();
    if (this.rival !== null) {
      return { kind: 'failed', detail: `${path} is already captured as ${this.rival}: one workload a network namespace or cgroup` };
    }
    try {
      if (!isHostProcess(this.workload))
        return choose(this.workload, path, this.addon.inspectNamespace(path, this.hostNetns), this.handle.mode.startsWith('ebpf'));
      if (cgroups !== null && holdsThisProcess(path, cgroups)) {
        return { kind: 'failed', detail: `the agent itself runs in ${path}: name a cgroup of the process alone` };
      }
      return hostProcess(this.workload, path, this.addon.inspectCgroup(path, this.hostNetns));
    } catch (error) {
      const code = codeOf(error);
      if (code === 'ENOENT') return { kind: 'pending', detail: `waiting for ${path}` };
      if (NOT_NOW.has(code)) throw error;
      return { kind: 'failed', detail: messageOf(error) };
    }
  }

  /** Without a path. */
  private nowhere(): Finding {
    const { systemdUnit, cgroup, podUid } = this.workload;
    if (podUid !== '') {
      const search = this.places.searchPod(this.workload);
      if (search.kind === 'denied') return { kind: 'failed', detail: search.detail };
      return { kind: 'pending', detail: `waiting for a process of pod ${podUid} with a network namespace of its own` };
    }
    if (!isHostProcess(this.workload)) {
      return { kind: 'failed', detail: 'the workload names no place: set networkNamespace, systemdUnit, cgroup or podUID' };
    }
    const { cgroups } = this.places;
    if (cgroups === null) {
      return { kind: 'failed', detail: 'no cgroup v2 hierarchy is mounted on this host: mount -t cgroup2 none /sys/fs/cgroup/unified' };
    }
    return { kind: 'pending', detail: `waiting for the cgroup of ${systemdUnit || cgroup} below ${cgroups}` };
  }

  private capture({ place, addresses }: Finding & { kind: 'found' }): Condition {
    const { capture } = this.workload;
    const found = { place, addresses };
    if (capture === undefined || !(capture.outbound || capture.inbound)) {
      this.detach();
      return {
        kind: 'excluded',
        detail: 'neither direction is to be captured: spec.capture says so, or the label mesh.weft.dev/capture',
        found,
      };
    }
    const { key, inode, gatewayMac, networkNamespace, cgroup } = place;
    const ports = this.workload.ports.map(({ port }) => port);
    const holdMs = capture.failClosed ? this.holdMs : 0;
    const spec: CaptureSpec = { ...capture, key, inode, gatewayMac, networkNamespace, cgroup, ports, addresses, holdMs };
    const fingerprint = JSON.stringify(spec);
    const { attachment } = this;
    if (attachment?.fingerprint === fingerprint) return { kind: 'captured', detail: '', found };
    if (attachment !== null && (attachment.inode !== place.inode || attachment.key !== place.key)) this.detach();
    try {
      this.handle.attach(spec);
    } catch (error) {
      // attach() leaves nothing behind when it fails. The workload runs all the same.
      this.attachment = null;
      return { kind: 'failed', detail: messageOf(error), found };
    }
    this.attachment = { key: place.key, inode: place.inode, fingerprint };
    return { kind: 'captured', detail: '', found };
  }
}
