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
