// The folder where agent and proxy make their sockets.
import { mkdirSync } from 'node:fs';

/** Throws with what to do: its default needs root, which a proxy on files does not. */
export function makeRunDirectory(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o755 });
  } catch (error) {
    throw new Error(
      `can't make ${folder}: ${(error as NodeJS.ErrnoException).code}. Give another folder with --run-dir, or run it as root`,
    );
  }
}
