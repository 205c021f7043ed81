// Runs the system's own tools (ip, nft, mount, …) to their end. Knows nothing of the lab.
import { execFile } from 'node:child_process';
import { messageOf } from '../../api/message-of.js';

export class CommandFailed extends Error {
  constructor(
    readonly command: string,
    readonly exitCode: number | null,
    readonly stderr: string,
  ) {
    super(`${command}: ${exitCode === null ? 'did not run' : `exit code ${exitCode}`}${stderr === '' ? '' : `\n${stderr.trimEnd()}`}`);
  }
}

/** Standard output of a command that succeeded; throws CommandFailed otherwise. At most 60 s and 16 MiB. */
export function run(file: string, args: readonly string[], input = ''): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(file, args, { timeout: 60_000, maxBuffer: 16 << 20 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else
        reject(new CommandFailed([file, ...args].join(' '), typeof error.code === 'number' ? error.code : null, stderr || error.message));
    });
    child.stdin?.on('error', () => undefined); // The exit code says why it stopped reading.
    child.stdin?.end(input);
  });
}

/** As run(), for removals: what is already gone is no error. Returns the complaint, or null. */
export async function attempt(file: string, args: readonly string[], input = ''): Promise<string | null> {
  try {
    await run(file, args, input);
    return null;
  } catch (error) {
    return messageOf(error);
  }
}

/** Arguments that run a command in a network namespace. Not `ip netns exec`: that hides bpffs and cgroups behind a new mount namespace. */
export function inNamespace(namespace: string, command: readonly string[]): string[] {
  return [`--net=/run/netns/${namespace}`, '--', ...command];
}
