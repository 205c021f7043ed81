// What stands at a path: another namespace or cgroup under the same path has another inode.
import { statSync } from 'node:fs';
import type { CaptureAddon } from '../native/capture.js';

/**
 * Null: nothing is there. `addon`: weft-netns looks where this process may not (other users' processes). Throws with `code` (EACCES, EPERM) where neither
 * may.
 */
export function inodeAt(path: string, addon: Pick<CaptureAddon, 'namespaceInode'> | null): number | null {
  try {
    return statSync(path, { throwIfNoEntry: false })?.ino ?? null;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'EACCES' && code !== 'EPERM') return null;
    if (addon === null) throw error;
    return addon.namespaceInode(path);
  }
}

/** Null also where nobody may look. */
export function inodeOrNull(path: string, addon: Pick<CaptureAddon, 'namespaceInode'> | null): number | null {
  try {
    return inodeAt(path, addon);
  } catch {
    return null;
  }
}

/**
 * Another text when something else stands there. The kernel gives the number of a namespace that has gone to the next one: a mounted one is
 * told by its time too. Not so below /proc, where every look makes the time, nor of cgroups, whose numbers come once and whose times move.
 */
export function standingAt(path: string, addon: Pick<CaptureAddon, 'namespaceInode'> | null): string {
  const isMounted = !path.startsWith('/proc/') && !path.startsWith('/sys/');
  try {
    const mounted = isMounted ? statSync(path, { throwIfNoEntry: false }) : undefined;
    if (mounted !== undefined) return `${mounted.ino} of ${mounted.ctimeMs}`;
  } catch {
    // Asked for in the other way.
  }
  return String(inodeOrNull(path, addon));
}
