import { EventEmitter } from 'node:events';
import { status } from '@grpc/grpc-js';
import { expect, test } from '@jest/globals';
import type { EtcdClient } from './etcd-client.js';
import { Leases } from './lease.js';

/** A keepalive stream to nobody, and a clock whose time is over when the test says so. */
function silence() {
  const stream = Object.assign(new EventEmitter(), { write: () => true, cancel: () => {} });
  const client = { stream: () => Promise.resolve(stream), drop: () => stream.removeAllListeners() } as unknown as EtcdClient;
  const timers = new Set<() => void>();
  const after = (_: number, action: () => void): (() => void) => {
    timers.add(action);
    return () => void timers.delete(action);
  };
  const leases = new Leases(client, { now: () => 0, after });
  return { stream, leases, timeIsOver: () => void [...timers].map((action) => action()) };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('an answer that came while the thread was busy counts, though its time is over', async () => {
  const { stream, leases, timeIsOver } = silence();
  const alive = leases.keepAlive('7');
  await turn();
  timeIsOver();
  stream.emit('data', { ID: '7', TTL: '10' });
  await expect(alive).resolves.toBe(true);
});

test('without an answer everyone who waits hears of it', async () => {
  const { leases, timeIsOver } = silence();
  const alive = [leases.keepAlive('7'), leases.keepAlive('8')];
  await turn();
  timeIsOver();
  const late = expect.objectContaining({ code: status.DEADLINE_EXCEEDED });
  await expect(Promise.allSettled(alive)).resolves.toEqual(alive.map(() => ({ status: 'rejected', reason: late })));
});
