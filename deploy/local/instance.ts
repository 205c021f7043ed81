// The life of a lab instance on this machine: claiming its name, finding out whether its owner lives, and removing everything that
// belongs to it, also what a killed owner left. Removes only what the layout names or what carries the instance's mark.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { attempt } from './command-line.js';
import { isInstanceName, type Layout, layout as layoutOf, NODES } from './layout.js';
import { INSTANCE_VARIABLE } from './process.js';

/** What a starting lab writes first of all. */
interface LabRecord {
  readonly pid: number;
  /** Field 22 of /proc/<pid>/stat: a recycled pid has another. */
  readonly startTicks: string;
  readonly namespaces: readonly string[];
}

export type Claim =
  | { readonly kind: 'claimed'; readonly removed: readonly string[] }
  | { readonly kind: 'running'; readonly pid: number }
  | { readonly kind: 'foreign'; readonly path: string };

/** Makes the instance this process's own; what a dead owner left is removed first. */
export async function claimInstance(layout: Layout, pods: readonly string[]): Promise<Claim> {
  const owner = findOwner(layout);
  if (owner.kind !== 'none') return owner;
  const removed = await removeInstance(layout, pods);
  const record: LabRecord = {
    pid: process.pid,
    startTicks: startTicks(process.pid) ?? '',
    namespaces: namespacesOf(layout, pods),
  };
  mkdirSync(layout.runDir, { recursive: true });
  writeFileSync(layout.recordFile, `${JSON.stringify(record, null, 2)}\n`, { flag: 'wx' });
  return { kind: 'claimed', removed };
}

/** A pod that the claim did not name, before it is made: whoever removes the instance must know of it. */
export function recordPod(layout: Layout, pod: string): void {
  const record = readRecord(layout);
  if (record === null) throw new Error(`${layout.recordFile} is gone: somebody removed the lab while it ran`);
  const namespaces = [...new Set([...record.namespaces, layout.podNamespace(pod)])];
  writeFileSync(`${layout.recordFile}.new`, `${JSON.stringify({ ...record, namespaces }, null, 2)}\n`);
  renameSync(`${layout.recordFile}.new`, layout.recordFile);
}

/** Removes instances with such names whose owners are dead. Returns what there was, readable. */
export async function removeDead(isNamed: (instance: string) => boolean): Promise<string[]> {
  const names = readdirSync('/run').filter((name) => isInstanceName(name) && isNamed(name));
  const dead = names.map(layoutOf).filter((each) => readRecord(each) !== null && findOwner(each).kind === 'none');
  const removed: string[] = [];
  for (const each of dead) removed.push(...(await removeInstance(each, [])));
  return removed;
}

export type Owner = Exclude<Claim, { kind: 'claimed' }> | { readonly kind: 'none' };

export function findOwner(layout: Layout): Owner {
  const record = readRecord(layout);
  if (record === null) {
    const entries = existsSync(layout.runDir) ? readdirSync(layout.runDir) : [];
    return entries.length === 0 ? { kind: 'none' } : { kind: 'foreign', path: layout.runDir };
  }
  if (record.pid !== process.pid && startTicks(record.pid) === record.startTicks) return { kind: 'running', pid: record.pid };
  return { kind: 'none' };
}

/** Removes all of the instance, its processes first. Idempotent. Returns what there was, readable. */
export async function removeInstance(layout: Layout, pods: readonly string[]): Promise<string[]> {
  const removed: string[] = [];
  for (const pid of await killMarked(layout.instance)) removed.push(`process ${pid}`);
  const names = new Set([...namespacesOf(layout, pods), ...(readRecord(layout)?.namespaces ?? [])]);
  for (const name of names) {
    if (!existsSync(`/run/netns/${name}`)) continue;
    const complaint = await attempt('ip', ['netns', 'del', name]);
    if (complaint !== null) throw new Error(complaint);
    removed.push(`namespace ${name}`);
  }
  for (const mount of mountsUnder(layout.runDir)) {
    const complaint = await attempt('umount', [mount]);
    if (complaint !== null) throw new Error(complaint);
    removed.push(`mount ${mount}`);
  }
  for (const path of [layout.etcdDir, layout.runDir]) {
    if (!existsSync(path)) continue;
    rmSync(path, { recursive: true, force: true });
    removed.push(path);
  }
  return removed;
}

/** Every namespace that an instance can have. */
export function namespacesOf(layout: Layout, pods: readonly string[]): string[] {
  return [
    layout.controlNamespace,
    ...NODES.flatMap((node) => [layout.hostNamespace(node), layout.meshNamespace(node)]),
    ...pods.map(layout.podNamespace),
  ];
}

/** Pids of the instance's processes, found by their environment. */
export function processesOf(instance: string): number[] {
  const mark = `${INSTANCE_VARIABLE}=${instance}`;
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .filter((entry) => {
      try {
        return readFileSync(`/proc/${entry}/environ`, 'latin1').split('\0').includes(mark);
      } catch {
        return false; // It ended while we looked.
      }
    })
    .map(Number)
    .filter((pid) => pid !== process.pid);
}

export function mountsUnder(path: string): string[] {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((mount) => mount.startsWith(`${path}/`))
    .reverse();
}

async function killMarked(instance: string): Promise<number[]> {
  const pids = processesOf(instance);
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // Ended by itself.
    }
  }
  // A killed process holds its namespace and sockets until the kernel is through with it.
  for (let waited = 0; pids.some((pid) => existsSync(`/proc/${pid}/ns/net`) && startTicks(pid) !== null); waited += 5) {
    if (waited > 5_000) throw new Error(`processes ${pids.join(', ')} do not end after SIGKILL`);
    await delay(5);
  }
  return pids;
}

function readRecord(layout: Layout): LabRecord | null {
  try {
    return JSON.parse(readFileSync(layout.recordFile, 'utf8')) as LabRecord;
  } catch {
    return null;
  }
}

/** Null when there is no such process, or only its zombie. */
function startTicks(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? null : (fields[19] ?? null);
  } catch {
    return null;
  }
}
