// How much of its memory and descriptors the process uses: figures of the kernel, read anew each time. Decides nothing.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

export interface Usage {
  readonly used: number;
  /** 0: none is known. */
  readonly limit: number;
}

/** Where the kernel's files are; tests have their own. */
export interface KernelPaths {
  readonly proc: string;
  readonly cgroup: string;
}
export const KERNEL: KernelPaths = { proc: '/proc/self', cgroup: '/sys/fs/cgroup' };

/** Descriptors that are open, of RLIMIT_NOFILE. */
export function descriptors({ proc }: KernelPaths = KERNEL): Usage {
  const used = openDescriptors(join(proc, 'fd'));
  const limit = Number(/^Max open files\s+(\d+)/m.exec(read(join(proc, 'limits')))?.[1] ?? 0);
  return { used, limit: isExhausted ? Math.min(used, limit) : limit };
}

/** Since Linux 6.2 the folder's size; before that it has none. */
function openDescriptors(folder: string): number {
  const { size } = statSync(folder);
  if (size > 0) return size;
  try {
    return readdirSync(folder).length;
  } catch {
    // There is none left to read it with.
    return Number.MAX_SAFE_INTEGER;
  }
}

/** Of the cgroup that is nearest to its limit, ours or one above; without any limit: our own pages, of these and what the host has left. */
export function memory(kernel: KernelPaths = KERNEL): Usage {
  const [first, ...others] = limitedCgroups(kernel);
  if (first === undefined) return hostMemory(kernel);
  return others.reduce((tightest, usage) => (usage.used / usage.limit > tightest.used / tightest.limit ? usage : tightest), first);
}

function hostMemory({ proc }: KernelPaths): Usage {
  const resident = kilobytes(read(join(proc, 'status')), 'VmRSS');
  const available = kilobytes(read(join(proc, '..', 'meminfo')), 'MemAvailable');
  return { used: resident ?? 0, limit: resident === null || available === null ? 0 : resident + available };
}

/** In bytes; null: the text does not say. */
function kilobytes(text: string, name: string): number | null {
  const found = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text);
  return found === null ? null : Number(found[1]) * 1024;
}

/** Names of one hierarchy's files. What is inactive page cache the kernel takes back before it kills: not counted (as by the kubelet). */
const V2 = { limit: 'memory.max', usage: 'memory.current', inactive: /^inactive_file (\d+)$/m };
const V1 = { limit: 'memory.limit_in_bytes', usage: 'memory.usage_in_bytes', inactive: /^total_inactive_file (\d+)$/m };

function limitedCgroups({ proc, cgroup }: KernelPaths): Usage[] {
  const groups = read(join(proc, 'cgroup'));
  const v1 = /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(.*)$/m.exec(groups)?.[1];
  const v2 = /^0::(.*)$/m.exec(groups)?.[1];
  if (v1 !== undefined) return usages(join(cgroup, 'memory'), v1, V1);
  return v2 === undefined ? [] : usages(cgroup, v2, V2);
}

/** From the process's own group up to the root of what is mounted; a container sees its own as that root. */
function usages(root: string, path: string, names: typeof V2): Usage[] {
  const found: Usage[] = [];
  for (let folder = join(root, path); folder.startsWith(root); folder = dirname(folder)) {
    const limit = Number(read(join(folder, names.limit)).trim() || Number.NaN);
    // "max", and of v1 the largest number of pages there is: no limit.
    if (!Number.isFinite(limit) || limit <= 0 || limit > 2 ** 60) continue;
    const usage = Number(read(join(folder, names.usage)));
    const inactive = Number(names.inactive.exec(read(join(folder, 'memory.stat')))?.[1] ?? 0);
    found.push({ used: Math.max(0, usage - inactive), limit });
  }
  return found;
}

/** What the files said last: without a descriptor they can't be read. */
const lastRead = new Map<string, string>();
/** The last read failed for want of a descriptor. */
let isExhausted = false;

/** Empty: there is no such file. */
function read(path: string): string {
  isExhausted = false;
  try {
    const text = readFileSync(path, 'utf8');
    lastRead.set(path, text);
    return text;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    isExhausted = code === 'EMFILE' || code === 'ENFILE';
    return isExhausted ? (lastRead.get(path) ?? '') : '';
  }
}
