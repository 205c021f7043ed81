import { type FileHandle, open, rm } from 'node:fs/promises';

/** Makes the file anew, for its owner alone: one that somebody put there would keep its owner and mode, or lead elsewhere. Throws what the disk says. */
export async function openNewFile(path: string): Promise<FileHandle> {
  await rm(path, { force: true });
  return open(path, 'wx', 0o600);
}
