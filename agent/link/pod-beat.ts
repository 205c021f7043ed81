// The beat by which a pod's rules know that its proxy lives, as agent and proxy write it. Imports nothing: every worker loads it.
import { writeFileSync, writeSync } from 'node:fs';

/** One that could not be written is of a pod that is going, with its rules: there is nothing to keep alive. */
export function writeBeat(descriptor: number, isFile: boolean, bytes: Uint8Array): void {
  try {
    if (isFile) writeFileSync(`/proc/self/fd/${descriptor}`, bytes, { flag: 'r+' });
    else writeSync(descriptor, bytes);
  } catch {
    // See above.
  }
}
