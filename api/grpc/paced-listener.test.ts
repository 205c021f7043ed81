import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { expect, test } from '@jest/globals';
import { HandshakeQueue } from './paced-listener.js';

class Connection extends EventEmitter {
  destroyed = false;

  destroy(): void {
    this.destroyed = true;
  }
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const connections = (count: number): Connection[] => Array.from({ length: count }, () => new Connection());

test('a few connections begin at each turn of the loop, the first first', async () => {
  const begun: unknown[] = [];
  const queue = new HandshakeQueue(
    (socket) => begun.push(socket),
    () => 0,
  );
  const all = connections(20);
  for (const each of all) queue.add(each as unknown as Socket);
  expect(begun).toEqual([]);
  await turn();
  expect(begun).toEqual(all.slice(0, 8));
  await turn();
  await turn();
  expect(begun).toEqual(all);
});

test('who could not begin in time is sent away, and so is who comes to thousands that wait: nothing is done for either', async () => {
  let now = 0;
  const begun: unknown[] = [];
  const queue = new HandshakeQueue(
    (socket) => begun.push(socket),
    () => now,
  );
  const all = connections(8_193);
  for (const each of all) queue.add(each as unknown as Socket);
  expect(all.filter(({ destroyed }) => destroyed)).toEqual(all.slice(8_192));
  await turn();
  now = 2_501;
  const late = new Connection();
  queue.add(late as unknown as Socket);
  await turn();
  expect(begun).toEqual([...all.slice(0, 8), late]);
  expect(all.slice(8).every(({ destroyed }) => destroyed)).toBe(true);
});

test('who waits when the listener closes is sent away', async () => {
  const begun: unknown[] = [];
  const queue = new HandshakeQueue(
    (socket) => begun.push(socket),
    () => 0,
  );
  const [one] = connections(1) as [Connection];
  queue.add(one as unknown as Socket);
  queue.clear();
  await turn();
  expect([one.destroyed, begun]).toEqual([true, []]);
});
