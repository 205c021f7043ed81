// Where a host process' cgroup (version 2) is: by path below the root, or by the name of its systemd unit. Reads the file system; changes nothing.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Workload } from '../../api/gen/mesh/v1/model.js';

/** Slices within slices: system.slice, a team's, one of its own. */
const MAX_SLICE_DEPTH = 8;

/** Mount point of the cgroup v2 hierarchy: /sys/fs/cgroup, or /sys/fs/cgroup/unified beside version 1; null: there is none. */
export function cgroupRoot(mounts = readFileSync('/proc/self/mountinfo', 'utf8')): string | null {
  const line = mounts.split('\n').find((text) => / - cgroup2 /.test(text));
  return line?.split(' ')[4] ?? null;
}

/** Path of the workload's cgroup; null: it is not there (yet). */
export function findCgroup({ cgroup, systemdUnit }: Pick<Workload, 'cgroup' | 'systemdUnit'>, root: string): string | null {
  if (cgroup !== '') return existsSync(join(root, cgroup)) ? join(root, cgroup) : null;
  return findUnit(systemdUnit, root, 0);
}

/** Units lie in slices, and slices in slices; a unit of one name runs once. */
function findUnit(unit: string, folder: string, depth: number): string | null {
  const path = join(folder, unit);
  if (existsSync(path)) return path;
  if (depth === MAX_SLICE_DEPTH) return null;
  for (const slice of slicesIn(folder)) {
    const found = findUnit(unit, join(folder, slice), depth + 1);
    if (found !== null) return found;
  }
  return null;
}

/** Slices come and go at any time: one that has gone has none. */
function slicesIn(folder: string): string[] {
  try {
    const entries = readdirSync(folder, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory() && entry.name.endsWith('.slice')).map(({ name }) => name);
  } catch {
    return [];
  }
}

/** Whether this process is in the cgroup: to capture the agent by its own hand would cut it off from its controller. */
export function holdsThisProcess(path: string, root: string): boolean {
  const own = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1];
  return own !== undefined && `${join(root, own)}/`.startsWith(`${path}/`);
}
