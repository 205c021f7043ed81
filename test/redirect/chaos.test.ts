// A few seconds of `npm run chaos` (from dist) with the same deeds every time: two hosts with real daemons, a proxy killed and upgraded, an
// agent restarted, pods that come and go, calls all the time. And one that is interrupted. Fails where it cannot run.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';

const program = join(process.env.WEFT_DIST ?? join(process.cwd(), 'dist'), 'test', 'chaos', 'main.js');

function start(...flags: readonly string[]) {
  const child = spawn(process.execPath, [program, 'redirect', ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const ended = once(child, 'exit').then(([code]) => ({ code: code as number, said }));
  const left = () => [
    ...readdirSync('/run/netns').filter((name) => name.startsWith(`chaos-${child.pid}-`)),
    ...[`/run/chaos-${child.pid}`, `/dev/shm/chaos-${child.pid}-etcd`].filter((path) => existsSync(path)),
  ];
  return { child, ended, left };
}

test('chaos of a few seconds: nobody is wrongly served, errors only through what was killed, and the hosts are as before', async () => {
  const { ended, left } = start('--minutes', '0.1', '--seed', '2419');
  const { code, said } = await ended;
  expect({ code, said }).toMatchObject({ code: 0, said: expect.stringContaining('no finding') });
  expect(left()).toEqual([]);
});

test('an interrupted run removes its hosts and pods', async () => {
  const { child, ended, left } = start('--minutes', '5');
  while (left().filter((name) => name.includes('-pod-')).length < 2) await new Promise((resolve) => setTimeout(resolve, 50));
  child.kill('SIGTERM');
  expect((await ended).code).toBe(130);
  expect(left()).toEqual([]);
});
