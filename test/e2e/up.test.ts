// `weft up` as its users run it: from outside, as a process, with a look at the machine before and after.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { afterEach, expect, test } from '@jest/globals';
import { WEFT } from '../../deploy/local/cluster.js';
import { until } from '../lab/eventually.js';
import { inventory } from './machine.js';

const INSTANCE = 'wlab-e2e-up';

let running: ChildProcess | null = null;

interface Ended {
  readonly code: number | null;
  readonly output: string;
}

function up(flags: readonly string[]): { readonly child: ChildProcess; readonly ended: Promise<Ended>; readonly output: () => string } {
  const child = spawn(process.execPath, [WEFT, 'up', '--instance', INSTANCE, ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
  running = child;
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const ended = new Promise<Ended>((resolve) => child.once('close', (code) => resolve({ code, output })));
  return { child, ended, output: () => output };
}

afterEach(async () => {
  running?.kill('SIGKILL');
  running = null;
  await up(['--clean']).ended;
});

test('up --once carries every request through the mesh exactly once, says so, and leaves nothing behind', async () => {
  const before = inventory(INSTANCE);
  const { code, output } = await up(['--once']).ended;
  expect({ code, output }).toEqual({ code: 0, output: expect.stringContaining('All was well') });
  expect(inventory(INSTANCE)).toEqual(before);
});

test('SIGTERM takes the running cluster down and leaves nothing behind', async () => {
  const before = inventory(INSTANCE);
  const { child, ended, output } = up([]);
  await until('Split of catalog', () => output().includes('Split of catalog'), output);
  child.kill('SIGTERM');
  expect(await ended).toEqual({ code: 0, output: expect.stringContaining('Nothing is left') });
  expect(inventory(INSTANCE)).toEqual(before);
});

test('what a killed one leaves is removed by the next start, and none of its processes outlives it', async () => {
  const before = inventory(INSTANCE);
  const first = up([]);
  await until('Split of catalog', () => first.output().includes('Split of catalog'), first.output);
  const record = JSON.parse(readFileSync(`/run/${INSTANCE}/lab.json`, 'utf8')) as { pid: number };
  expect(record.pid).toBe(first.child.pid);
  first.child.kill('SIGKILL');
  await first.ended;
  await until('its processes ended', () => inventory(INSTANCE).processes?.length === 0);
  expect(existsSync(`/run/netns/${INSTANCE}-ctl`)).toBe(true);
  const { code, output } = await up(['--clean']).ended;
  expect({ code, output }).toEqual({ code: 0, output: expect.stringContaining(`removed namespace ${INSTANCE}-ctl`) });
  expect(inventory(INSTANCE)).toEqual(before);
});
