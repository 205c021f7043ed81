// How set-up talks: a line when a step begins, one when it ends, and the end of a failed command's output. Plain Node, no packages.
import { spawn } from 'node:child_process';

/** Set-up can't go on; the message says what to do. */
export class SetupError extends Error {}

const TAIL_LINES = 25;

export function say(text) {
  process.stdout.write(`${text}\n`);
}

/** Runs `work`, saying what and for how long. */
export async function step(name, work) {
  say(`… ${name}`);
  const began = Date.now();
  const result = await work();
  say(`✓ ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  return result;
}

/** A command's whole output; SetupError with its last lines when it fails. */
export function capture(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
    child.once('error', (error) => reject(new SetupError(`${command}: ${error.message}`)));
    child.once('close', (code) => {
      if (code === 0) return resolve(output);
      reject(new SetupError(`${command} ${args.join(' ')} failed (exit code ${code}):\n${tail(output)}`));
    });
  });
}

/** Runs a command on our own terminal; resolves with its exit code. */
export function passThrough(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: 'inherit', ...options });
    child.once('error', (error) => reject(new SetupError(`${command}: ${error.message}`)));
    child.once('close', (code, signal) => resolve(signal === null ? code : 1));
  });
}

export function tail(output) {
  return output.trimEnd().split('\n').slice(-TAIL_LINES).join('\n');
}

/** Whether only the usage is wanted: it must not wait for builds. */
export function wantsHelp(words) {
  return words.includes('--help') || words.includes('-h');
}

const PARENT_CHECK_MS = 500;

/** npm gives SIGTERM to the shell that it runs us in, which ends without a word to us: we take it for ours. */
export function endWithNpm() {
  const shell = process.ppid;
  if (process.env.npm_lifecycle_event === undefined) return;
  setInterval(() => process.ppid !== shell && process.kill(process.pid, 'SIGTERM'), PARENT_CHECK_MS).unref();
}

/** For the top of a script: an expected error is told without a stack. */
export async function main(work) {
  try {
    process.exitCode = await work();
  } catch (error) {
    process.stderr.write(`${error instanceof SetupError ? error.message : error.stack}\n`);
    process.exitCode = 1;
  }
}
