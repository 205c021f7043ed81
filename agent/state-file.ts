// Small files of the state directory: replaced as a whole, for their owner alone.
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { makeFolder } from '../api/make-folder.js';

/** Throws where the disk doesn't take it; what was there before then stays. */
export function replaceFile(file: string, text: string): void {
  makeFolder(dirname(file), 0o700);
  const temporary = `${file}.tmp`;
  // One that is there would keep its owner and mode, or lead elsewhere.
  rmSync(temporary, { force: true });
  writeFileSync(temporary, text, { mode: 0o600, flag: 'wx' });
  renameSync(temporary, file);
}
