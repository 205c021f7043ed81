// The redirection of this host's workloads: follows the list it is given and the network namespaces that come and go. The agent's
// composition root owns it; it must not know who makes the list, nor proxies. Everything it makes survives it, pinned.
import { existsSync, rmSync } from 'node:fs';
import type { Workload } from '../../api/gen/mesh/v1/model.js';
import type { CaptureState } from '../../api/gen/mesh/v1/status.js';
import { messageOf } from '../../api/message-of.js';
import { loadAddon } from '../native/addon.js';
import { type CaptureAddon, type CaptureHandle, type CaptureLocation, HOST_MARK } from '../native/capture.js';
import type { MessageSocketAddon } from '../native/message-socket.js';
import { cgroupRoot, findCgroup } from './cgroups.js';
import { inodeOrNull, standingAt } from './inode.js';
import { EBPF_MODES, firstWorking, isNatMode, NAT_MODES } from './modes.js';
import { NatCapture, removeNatRules, testNat } from './nat-capture.js';
import { Places } from './places.js';
import { WorkloadTracker } from './workload-tracker.js';

/** What this needs of a pino logger. */
export interface CaptureLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export interface CaptureOptions {
  readonly bpfDir: string;
  readonly meshNetns: string;
  /**
   * off: nothing is captured, and the states say so. ebpf: what passes the self-test, tcx before clsact; auto: the same, then nftables,
   * then iptables, or off where none does. A mode named in full is not tested first.
   */
  readonly mode: 'auto' | 'ebpf' | 'ebpf-tcx' | 'ebpf-clsact' | 'nftables' | 'iptables' | 'off';
  readonly heartbeatTimeoutMs: number;
  readonly log: CaptureLog;
  /** Unix socket where proxies hear of pods that nftables or iptables capture; null or absent: these two are not to be had. */
  readonly podSocket?: string | null;
  /** Path of the host's network namespace; null or absent: the one the agent runs in. */
  readonly hostNetns?: string | null;
  /** skb mark bit of injected packets; change it where a CNI uses the same. */
  readonly hostMark?: number;
  /** At most two systemd units, or cgroup paths below the root, whose processes probe workloads: their connections stay direct. */
  readonly probesFrom?: readonly string[];
  /** Whose DNS queries go to the proxy: of workloads that say so (the default), of all that are captured, of none. */
  readonly dns?: 'labelled' | 'all' | 'off';
  /** For how long the first connections of a fail-closed workload wait for release(), where it was not captured before. */
  readonly holdMs?: number;
}

/** A workload whose network namespace or cgroup is there, captured or not. */
export interface WorkloadState {
  readonly workload: Workload;
  /** As declared, else as found on its interface. */
  readonly addresses: readonly string[];
}

/** Namespaces are polled: /run/netns can be told apart from other paths only by its users, and inotify does not see mounts. */
const POLL_MS = 500;
/** Captured workloads whose namespace file did not change are looked at afresh every so many polls: a veth may be replaced in place. */
const FULL_POLLS = 10;

/** A client's TCP sends its SYN again after 1 s and 3 s. */
const HOLD_MS = 5_000;

const EARLIER_GOES_ON =
  "an earlier agent's redirection is still there and nobody keeps it up to date: remove it with weft agent --uninstall, then start again";

/** Counters start anew with it too. */
const REPLACED =
  'these pinned maps had the layout of another version and were replaced; workloads stay captured. If listeners, dns_listeners, workers or host_flows are among them, a proxy that ran before gets no connections until it is restarted (fail-closed workloads are refused, others go direct)';

function locate(options: Pick<CaptureOptions, 'bpfDir' | 'meshNetns' | 'hostNetns'>): CaptureLocation {
  return { bpfDir: options.bpfDir, meshNetns: options.meshNetns, hostNetns: options.hostNetns ?? null };
}

interface ModeChoice {
  readonly mode: CaptureHandle['mode'] | 'off';
  /** Empty: what the loader says. */
  readonly reason: string;
}

/** The first mode that carries traffic here. Throws where none does and `auto` was not asked for. */
function chooseMode(addon: CaptureAddon & MessageSocketAddon, { mode: wanted, bpfDir, podSocket }: CaptureOptions): ModeChoice {
  if (wanted !== 'auto' && wanted !== 'ebpf') return { mode: wanted, reason: '' };
  const fallbacks = wanted === 'auto' && typeof podSocket === 'string' ? NAT_MODES : [];
  const { mode, faults } = firstWorking([...EBPF_MODES, ...fallbacks], (each) =>
    isNatMode(each) ? testNat(each, addon) : addon.testCapture(each, bpfDir),
  );
  if (mode !== null) return { mode, reason: [...faults, `${mode} passed the self-test`].join('; ') };
  const reason = `no way to redirect passed the self-test: ${faults.join('; ')}`;
  if (wanted === 'ebpf') throw new Error(reason);
  return { mode: 'off', reason };
}

/** Makes or adopts what that mode needs, and removes what another mode left here. */
function openHandle(
  addon: CaptureAddon & MessageSocketAddon,
  options: CaptureOptions,
  { mode, reason }: ModeChoice & { mode: CaptureHandle['mode'] },
): CaptureHandle {
  const { heartbeatTimeoutMs, log, podSocket = null } = options;
  if (isNatMode(mode)) {
    if (podSocket === null) throw new Error(`--capture ${mode} needs a socket for proxies`);
    addon.uninstallCapture(locate(options));
    const others = NAT_MODES.filter((each) => each !== mode);
    if (existsSync(podSocket)) removeNatRules(addon, podSocket, others);
    return new NatCapture({ mode, reason: reason || `named by --capture`, heartbeatTimeoutMs, socket: podSocket, log }, addon);
  }
  if (podSocket !== null && existsSync(podSocket)) removeFallback(addon, podSocket);
  return addon.openCapture({ ...locate(options), mode, heartbeatTimeoutMs, hostMark: options.hostMark ?? HOST_MARK });
}

/** An agent whose mode was nftables or iptables leaves its socket, by which the next one knows that there may be rules in pods. */
function removeFallback(addon: CaptureAddon & MessageSocketAddon, podSocket: string): void {
  removeNatRules(addon, podSocket, NAT_MODES);
  rmSync(podSocket, { force: true });
}

export class Capture {
  private readonly trackers = new Map<string, WorkloadTracker>();
  private readonly workloads = new Map<string, Workload>();
  /** By workload: what stood where when it was looked at last. */
  private readonly standing = new Map<string, string>();
  private readonly listeners = new Set<() => void>();
  private readonly places: Places;
  private readonly timer: NodeJS.Timeout;
  private polls = 0;
  /** Something may be attached that is nobody's on the list. */
  private hasStrangers = false;
  /** For how many polls more each is looked at every time: a pod gets its addresses one after the other, and is captured at the first. */
  private readonly fresh = new Map<WorkloadTracker, number>();
  /** Ids of the cgroups that are exempt now; null: those of an earlier agent. */
  private probes: readonly number[] | null = null;

  private constructor(
    private readonly log: CaptureLog,
    private readonly addon: CaptureAddon | null,
    private readonly handle: CaptureHandle | null,
    private readonly hostNetns: string | null,
    /** Why this mode. */
    private readonly reason: string,
    private readonly holdMs: number,
    private readonly probesFrom: readonly string[],
    private readonly dns: 'labelled' | 'all' | 'off' = 'labelled',
  ) {
    this.places = new Places(cgroupRoot(), hostNetns, addon);
    this.exemptProbes();
    this.timer = setInterval(() => this.poll(), POLL_MS);
    this.timer.unref();
  }

  /** Makes or adopts the host's redirection. Rejects with what is missing and what to do: capabilities, bpffs, kernel. */
  static async open(options: CaptureOptions): Promise<Capture> {
    const earlier = [options.bpfDir, options.podSocket ?? ''].filter((path) => existsSync(path));
    const without = (reason: string): Capture => {
      if (earlier.length > 0) options.log.warn({ earlier }, EARLIER_GOES_ON);
      return new Capture(options.log, null, null, null, reason, 0, []);
    };
    if (options.mode === 'off') return without('switched off by --capture');
    const addon = loadAddon();
    const choice = chooseMode(addon, options);
    if (choice.mode === 'off') {
      options.log.warn({ reason: choice.reason }, 'redirection does not work on this host: connections go direct');
      return without(choice.reason);
    }
    const handle = openHandle(addon, options, { ...choice, mode: choice.mode });
    if (handle.replacedMaps.length > 0) options.log.warn({ maps: handle.replacedMaps }, REPLACED);
    const reason = choice.reason || handle.reason;
    options.log.info({ mode: handle.mode, reason, adopted: handle.attached().length }, 'redirection is ready');
    const { hostNetns = null, holdMs = HOLD_MS, probesFrom = [], dns } = options;
    return new Capture(options.log, addon, handle, hostNetns, reason, holdMs, probesFrom, dns);
  }

  /** Removes everything that open() and reconcile() made, whoever made it; missing parts are well. */
  static async uninstall(options: Pick<CaptureOptions, 'bpfDir' | 'meshNetns' | 'hostNetns' | 'podSocket'>): Promise<void> {
    const addon = loadAddon();
    if (typeof options.podSocket === 'string') removeFallback(addon, options.podSocket);
    addon.uninstallCapture(locate(options));
  }

  /** The whole list: what is not in it is detached, also what an earlier agent attached. */
  async reconcile(workloads: readonly Workload[]): Promise<void> {
    this.workloads.clear();
    this.standing.clear();
    for (const workload of workloads) this.workloads.set(`${workload.namespace}/${workload.name}`, this.withDns(workload));
    this.places.listed(workloads);
    this.places.nextRound();
    if (this.addon === null || this.handle === null) {
      this.changed();
      return;
    }
    for (const [name, tracker] of this.trackers) {
      if (this.workloads.has(name)) continue;
      this.letGo(name, () => tracker.detach());
      this.trackers.delete(name);
      this.fresh.delete(tracker);
    }
    const owners = new Map<string, string>();
    for (const [name, workload] of this.workloads) {
      const place = workload.networkNamespace || workload.systemdUnit || workload.cgroup || workload.podUid;
      const owner = owners.get(place) ?? name;
      owners.set(place, owner);
      const tracker =
        this.trackers.get(name) ?? new WorkloadTracker(name, workload, this.addon, this.handle, this.hostNetns, this.places, this.holdMs);
      tracker.update(workload, owner === name ? null : owner);
      this.trackers.set(name, tracker);
    }
    this.exemptProbes();
    this.inspect(() => true);
    this.detachStrangers(this.handle);
    this.changed();
  }

  /** The proxy has the configuration of every workload listed: connections of new ones wait no longer. */
  release(): void {
    for (const tracker of this.trackers.values()) tracker.release();
    if (this.handle !== null && this.inspect(() => true)) this.changed();
  }

  /** Those whose network namespace or cgroup is there: what the node registers. In mode off, those with declared addresses whose namespace file is. */
  running(): readonly WorkloadState[] {
    const result: WorkloadState[] = [];
    for (const [name, workload] of this.workloads) {
      const tracker = this.trackers.get(name);
      if (tracker === undefined) {
        if (inodeOrNull(this.places.pathOf(workload), this.addon) !== null) result.push({ workload, addresses: workload.addresses });
        continue;
      }
      const addresses = tracker.runningAddresses();
      if (addresses !== null) result.push({ workload, addresses });
    }
    return result;
  }

  /** Called after any workload's state changed. Returns the unsubscriber. */
  onChange(callback: () => void): () => void {
    this.listeners.add(callback);
    return () => this.listeners.delete(callback);
  }

  state(): CaptureState {
    if (this.addon === null || this.handle === null) return this.stateWhenOff();
    const { programs, reasons } = this.addon.captureNames();
    const values = this.handle.counters();
    const counters = programs.flatMap((program, p) =>
      reasons.map((reason, r) => ({ name: `${program}.${reason}`, value: values[p * reasons.length + r] ?? 0 })),
    );
    return {
      mode: this.handle.mode,
      reason: this.reason,
      workloads: [...this.trackers.values()].map((tracker) => tracker.state(reasons)),
      counters: counters.filter(({ value }) => value > 0),
    };
  }

  /** Stops following; what is attached stays, and the proxy goes on serving. Idempotent. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    this.listeners.clear();
    this.trackers.clear();
    this.workloads.clear();
    this.handle?.close();
  }

  private poll(): void {
    const isFull = ++this.polls % FULL_POLLS === 0;
    this.places.nextRound();
    if (isFull) this.exemptProbes();
    if (this.handle === null) {
      const moved = [...this.workloads].filter(([name, workload]) => this.hasMoved(name, this.places.pathOf(workload)));
      if (moved.length > 0) this.changed();
      return;
    }
    const isDue = (tracker: WorkloadTracker): boolean =>
      this.hasMoved(tracker.name, tracker.path) || this.isFresh(tracker) || isFull || !tracker.isSettled;
    if (this.inspect(isDue)) this.changed();
    if (isFull && this.hasStrangers) this.detachStrangers(this.handle);
  }

  /** Whether something else stands there, or it is found elsewhere, than at the last call. */
  private hasMoved(name: string, path: string): boolean {
    const now = `${standingAt(path, this.addon)} ${path}`;
    const before = this.standing.get(name);
    this.standing.set(name, now);
    return before !== now;
  }

  private withDns(workload: Workload): Workload {
    const { capture } = workload;
    if (this.dns === 'labelled' || capture === undefined) return workload;
    return { ...workload, capture: { ...capture, dns: this.dns === 'all' && (capture.outbound || capture.inbound) } };
  }

  /** A unit that is started again has another cgroup. */
  private exemptProbes(): void {
    if (this.handle === null) return;
    const { cgroups } = this.places;
    const paths = this.probesFrom.map((place) => {
      const isPath = place.startsWith('/');
      return cgroups === null ? null : findCgroup({ cgroup: isPath ? place : '', systemdUnit: isPath ? '' : place }, cgroups);
    });
    const ids = paths.map((path) => (path === null ? null : inodeOrNull(path, null))).filter((id) => id !== null);
    if (ids.join() === this.probes?.join()) return;
    this.probes = ids;
    this.handle.exempt(ids);
    if (this.probesFrom.length > 0)
      this.log.info({ probesFrom: this.probesFrom, cgroups: ids.length }, 'connections of probes stay direct');
  }

  /** Twice over where needed: a workload may wait for an address that another one gives up in the same round. */
  private inspect(isDue: (tracker: WorkloadTracker) => boolean): boolean {
    let hasChanged = false;
    const due = [...this.trackers.values()].filter(isDue);
    for (const tracker of due) {
      hasChanged = this.reconcileOne(tracker) || hasChanged;
    }
    for (const tracker of due.filter(({ isSettled }) => !isSettled)) hasChanged = this.reconcileOne(tracker) || hasChanged;
    return hasChanged;
  }

  private isFresh(tracker: WorkloadTracker): boolean {
    const left = (this.fresh.get(tracker) ?? 0) - 1;
    if (left > 0) this.fresh.set(tracker, left);
    else this.fresh.delete(tracker);
    return left >= 0;
  }

  private reconcileOne(tracker: WorkloadTracker): boolean {
    if (!tracker.reconcile()) return false;
    this.fresh.set(tracker, FULL_POLLS);
    const { workload, state, detail, interface: link } = tracker.state([]);
    if (state === 'failed') this.log.warn({ workload, detail }, 'workload cannot be captured');
    else this.log.info({ workload, state, detail, interface: link }, 'workload changed');
    return true;
  }

  /** Attached by an earlier agent and not on the list any more, or not let go when it left the list. */
  private detachStrangers(handle: CaptureHandle): void {
    // Whose is what is attached, where one on the list could not be looked at?
    this.hasStrangers = [...this.trackers.values()].some(({ isUnknown }) => isUnknown);
    if (this.hasStrangers) return;
    const wanted = new Set([...this.trackers.values()].map(({ key }) => key));
    for (const key of handle.attached()) {
      if (!wanted.has(key)) this.letGo(String(key), () => handle.detach(key));
    }
  }

  /** One that can't be (its namespace goes at this moment) holds up no other, and is tried again. */
  private letGo(what: string, detach: () => void): void {
    try {
      detach();
    } catch (error) {
      this.hasStrangers = true;
      this.log.warn({ workload: what, err: error }, `what was captured can't be let go, trying again: ${messageOf(error)}`);
    }
  }

  private changed(): void {
    for (const listener of this.listeners) listener();
  }

  private stateWhenOff(): CaptureState {
    const workloads = [...this.workloads].map(([name, { addresses, capture }]) => ({
      workload: name,
      state: 'excluded',
      detail: `redirection is off on this node, its connections are direct: ${this.reason}`,
      addresses,
      interface: '',
      outbound: capture?.outbound ?? false,
      inbound: capture?.inbound ?? false,
      failClosed: capture?.failClosed ?? false,
      counters: [],
    }));
    return { mode: 'off', reason: this.reason, workloads, counters: [] };
  }
}
