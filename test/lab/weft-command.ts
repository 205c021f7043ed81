// For tests: the real `weft` command (from dist, as users run it), run to its end.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { WEFT } from '../../deploy/local/cluster.js';

export interface WeftEnded {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** `environment` besides our own; `input` is its standard input. */
export async function runWeft(args: readonly string[], environment: NodeJS.ProcessEnv, input = ''): Promise<WeftEnded> {
  const child = spawn(process.execPath, [WEFT, ...args], { env: { ...process.env, ...environment } });
  child.stdin.end(input);
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  return { code, stdout, stderr };
}
