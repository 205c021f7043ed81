import { EventEmitter } from 'node:events';
import { status } from '@grpc/grpc-js';
import { expect, test } from '@jest/globals';
import type { EtcdClient } from './etcd-client.js';
import { Leases } from './lease.js';

class Stream extends EventEmitter {
  readonly sent: string[] = [];

  write({ ID }: { readonly ID: string }): void {
    this.sent.push(ID);
  }
}

/** Streams to nobody, in the order in which they were opened, and a clock whose time is over when the test says so. */
function silence() {
  const streams: Stream[] = [];
  const client = {
    stream: () => Promise.resolve(streams[streams.push(new Stream()) - 1]),
    drop: (stream: Stream) => stream.removeAllListeners(),
  } as unknown as EtcdClient;
  const timers = new Set<() => void>();
  const after = (_: number, action: () => void): (() => void) => {
    timers.add(action);
    return () => void timers.delete(action);
  };
  const leases = new Leases(client, { now: () => 0, after });
  return { streams, leases, timeIsOver: () => void [...timers].map((action) => action()) };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('an answer that came while the thread was busy counts, though its time is over', async () => {
  const { streams, leases, timeIsOver } = silence();
  const alive = leases.keepAlive('7');
  await turn();
  timeIsOver();
  streams[0]?.emit('data', { ID: '7', TTL: '10' });
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

test('a thousand leases are asked for at once over a few streams, each of which has one request under way', async () => {
  const { streams, leases } = silence();
  const ids = Array.from({ length: 1_000 }, (_, index) => String(index + 1));
  const alive = ids.map((id) => leases.keepAlive(id));
  await turn();
  expect(streams).toHaveLength(64);
  const isAnswered = new Set<string>();
  while (isAnswered.size < ids.length) {
    for (const { sent } of streams) expect(sent.filter((id) => !isAnswered.has(id)).length).toBeLessThanOrEqual(1);
    const under = streams.flatMap((stream) => stream.sent.filter((id) => !isAnswered.has(id)).map((id) => ({ stream, id })));
    expect(under.length).toBeGreaterThan(0);
    for (const { stream, id } of under) {
      isAnswered.add(id);
      stream.emit('data', { ID: id, TTL: Number(id) % 2 === 0 ? '10' : '0' });
    }
  }
  await expect(Promise.all(alive)).resolves.toEqual(ids.map((id) => Number(id) % 2 === 0));
  expect(streams).toHaveLength(64);
});

test('one lease without an answer holds up no other', async () => {
  const { streams, leases } = silence();
  const [stuck, alive] = [leases.keepAlive('7'), leases.keepAlive('8')];
  stuck.catch(() => {});
  await turn();
  streams.find(({ sent }) => sent[0] === '8')?.emit('data', { ID: '8', TTL: '10' });
  await expect(alive).resolves.toBe(true);
  leases.close();
  await expect(stuck).rejects.toMatchObject({ code: status.CANCELLED });
});
