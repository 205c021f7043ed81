// Where the network namespaces of this host's pods are: the one that a pod's processes are in, found by the pod's UID in their cgroup's path. The
// container runtime is not asked, so it may be any. Reads /proc; changes nothing.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { inodeAt } from './inode.js';

/** A folder of kubelet's: "pod<uid>" (cgroupfs), "kubepods-burstable-pod<uid>.slice" (systemd, with "_" for "-"). */
const POD_FOLDER = /(?:^|-)pod([0-9a-f][0-9a-f_-]{7,127})(?:\.slice)?$/;
/** A process is forked into its parent's cgroup and moved: looked at so often before it is taken for what it is. */
const LOOKS = 4;
/** Numbers of processes come again: every so many rounds all are looked at afresh. */
const FULL_ROUNDS = 20;

export type PodSearch =
  | { readonly kind: 'found'; readonly path: string }
  /** None of its processes has a network namespace of its own (yet). */
  | { readonly kind: 'absent' }
  | { readonly kind: 'denied'; readonly detail: string };

interface Process {
  readonly uid: string | null;
  readonly looks: number;
}

interface Namespace {
  readonly path: string;
  readonly inode: number;
}

/** UID of the pod whose cgroup that is: the outermost, as a pod may make folders of any name inside of its own. */
export function podOf(cgroups: string): string | null {
  for (const line of cgroups.split('\n')) {
    for (const folder of line.slice(line.indexOf(':', line.indexOf(':') + 1) + 1).split('/')) {
      const uid = POD_FOLDER.exec(folder)?.[1];
      if (uid !== undefined) return uid.replaceAll('_', '-');
    }
  }
  return null;
}

export class Pods {
  /** By UID. */
  private readonly found = new Map<string, Namespace>();
  /** By process id. */
  private processes = new Map<string, Process>();
  private rounds = 0;
  private isSearched = false;

  constructor(
    /** Path of the host's network namespace: a pod's processes start in it. */
    private readonly hostNetns: string,
    private readonly proc = '/proc',
    /** Null: nothing there. Throws with `code` where it may not be looked at. */
    private readonly look: (path: string) => number | null = (path) => inodeAt(path, null),
  ) {}

  /** From here on processes are looked for again, once. */
  nextRound(): void {
    this.isSearched = false;
  }

  /** Costs a look at the namespace while it is the same one. */
  find(uid: string): PodSearch {
    const known = this.found.get(uid);
    if (known !== undefined && this.isAt(known)) return { kind: 'found', path: known.path };
    this.found.delete(uid);
    if (!this.isSearched) this.search();
    return this.choose(uid.toLowerCase());
  }

  /** What is remembered of others is forgotten. */
  keep(uids: ReadonlySet<string>): void {
    for (const uid of this.found.keys()) if (!uids.has(uid)) this.found.delete(uid);
  }

  private isAt({ path, inode }: Namespace): boolean {
    try {
      return this.look(path) === inode;
    } catch {
      // Not gone: it can't be looked at now.
      return true;
    }
  }

  private search(): void {
    this.isSearched = true;
    const isFull = ++this.rounds % FULL_ROUNDS === 0;
    const processes = new Map<string, Process>();
    for (const pid of readdirSync(this.proc)) {
      if (!/^\d+$/.test(pid)) continue;
      const known = isFull ? undefined : this.processes.get(pid);
      const isSettled = known !== undefined && known.looks >= LOOKS;
      processes.set(pid, isSettled ? known : { uid: this.uidOf(pid), looks: (known?.looks ?? 0) + 1 });
    }
    this.processes = processes;
  }

  private uidOf(pid: string): string | null {
    try {
      return podOf(readFileSync(join(this.proc, pid, 'cgroup'), 'utf8'));
    } catch {
      return null;
    }
  }

  /** The oldest process: the pod's sandbox. Later ones may have made namespaces of their own. */
  private choose(uid: string): PodSearch {
    const host = this.look(this.hostNetns);
    let oldest: (Namespace & { readonly startedAt: number }) | null = null;
    let denied: PodSearch = { kind: 'absent' };
    for (const [pid, process] of this.processes) {
      // What was remembered of a process may be of one before it.
      if (process.uid !== uid || this.uidOf(pid) !== uid) continue;
      const path = join(this.proc, pid, 'ns/net');
      try {
        const inode = this.look(path);
        if (inode === null) continue;
        const startedAt = this.startOf(pid);
        if (inode === host || (oldest !== null && oldest.startedAt <= startedAt)) continue;
        oldest = { path, inode, startedAt };
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code !== 'EACCES' && code !== 'EPERM') continue;
        denied = {
          kind: 'denied',
          detail: `${path} may not be looked at: the agent must be started with CAP_SYS_PTRACE for the namespaces of pods`,
        };
      }
    }
    if (oldest === null) return denied;
    this.found.set(uid, { path: oldest.path, inode: oldest.inode });
    return { kind: 'found', path: oldest.path };
  }

  /** In clock ticks since boot (proc(5), stat, field 22). The command before it may hold anything. */
  private startOf(pid: string): number {
    const stat = readFileSync(join(this.proc, pid, 'stat'), 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
  }
}
