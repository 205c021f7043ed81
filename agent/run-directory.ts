// The folder where agent and proxy make their sockets.
import { makeFolder } from '../api/make-folder.js';

/** What proxies make there. */
export const PROXY_FILES = {
  status: 'proxy.sock',
  /** Where what is said between proxies of one run directory is said. */
  handover: 'handover.sock',
  /** Outlives them: sessions are sealed with it. */
  sessionKey: 'session.key',
} as const;

/** Throws with what to do: its default needs root, which a proxy on files does not. */
export function makeRunDirectory(folder: string): void {
  try {
    makeFolder(folder, 0o755);
  } catch (error) {
    throw new Error(
      `can't make ${folder}: ${(error as NodeJS.ErrnoException).code}. Give another folder with --run-dir, or run it as root`,
    );
  }
}
