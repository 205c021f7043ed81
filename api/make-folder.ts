// Folders that an operator names.
import { mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * Makes it with all above it that isn't there; those have `mode` too. One that is there stays as it is. Throws mkdir's error. Node's own
 * recursive mkdir never ends where nothing can be made in a folder that is there, and the kernel calls that ENOENT: /proc.
 */
export function makeFolder(folder: string, mode: number): void {
  try {
    mkdirSync(folder, { mode });
    return;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' && isFolder(folder)) return;
    if (code !== 'ENOENT' || isFolder(dirname(folder)) || dirname(folder) === folder) throw error;
  }
  makeFolder(dirname(folder), mode);
  makeFolder(folder, mode);
}

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
