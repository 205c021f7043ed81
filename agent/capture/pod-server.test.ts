import { mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { pino } from 'pino';
import { loadAddon } from '../native/addon.js';
import { PodLink } from '../proxy/pod-link.js';
import { PodServer } from './pod-server.js';

const folder = mkdtempSync(join(tmpdir(), 'weft-pod-server-'));
const path = join(folder, 'pods.sock');
const addon = loadAddon();
const log = pino({ level: 'silent' });
const hello = { outboundPort: 15001, inboundPort: 15006, mark: 1, aliveMs: 1_000 };
const pod = (key: number) => ({ key, name: `pod-${key}`, netns: openSync('/dev/null', 'r'), beats: [] });

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setImmediate(resolve));
}

afterAll(() => rmSync(folder, { recursive: true }));

test('a proxy keeps its pods when the agent comes back, until that one has named all that there are', async () => {
  const first = PodServer.start(path, addon, hello, log);
  first.add(pod(1));
  first.add(pod(2));
  first.complete();
  const link = (await PodLink.open(path, addon, log))!;
  link.follow(() => undefined);
  await until(() => link.pods.size === 2);
  first.stop();

  const second = PodServer.start(path, addon, hello, log);
  await until(() => second.hasProxies);
  second.add(pod(3));
  await until(() => link.pods.has(3));
  expect([...link.pods.keys()]).toEqual([1, 2, 3]);
  second.add(pod(2));
  second.complete();
  await until(() => !link.pods.has(1));
  expect([...link.pods.keys()].sort()).toEqual([2, 3]);
  link.close();
  second.stop();
  for (const descriptor of link.takeReleased()) addon.closeDescriptor(descriptor);
  for (const { netns } of link.pods.values()) addon.closeDescriptor(netns);
});
