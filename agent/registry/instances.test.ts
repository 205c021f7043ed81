import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import pino from 'pino';
import { InstanceState } from '../../api/gen/mesh/v1/discovery.js';
import { EndpointHealth } from '../../api/gen/mesh/v1/model.js';
import { Instances } from './instances.js';

let folder: string;
let changes: number;
const open: Instances[] = [];
beforeEach(() => {
  jest.useFakeTimers();
  folder = mkdtempSync(join(tmpdir(), 'wins-'));
  changes = 0;
});
afterEach(() => {
  for (const instances of open.splice(0)) instances.close();
  jest.useRealTimers();
  rmSync(folder, { recursive: true });
});

function start(): Instances {
  const instances = new Instances({
    file: join(folder, 'state', 'instances'),
    onChange: () => void changes++,
    log: pino({ level: 'silent' }),
  });
  open.push(instances);
  return instances;
}
const api = (id: string, rest: Partial<InstanceState> = {}): InstanceState =>
  InstanceState.fromPartial({ service: 'shop/api', id, address: '10.0.0.1', ports: [{ name: 'http', port: 80 }], ...rest });
const ids = (instances: Instances) => instances.states().map(({ id }) => id);

test('an instance with a TTL lives by its heartbeats, one without until it is deregistered', () => {
  const instances = start();
  instances.register(api('a'), 3_000);
  instances.register(api('b'), 0);
  expect(changes).toBe(2);
  jest.advanceTimersByTime(2_900);
  instances.register(api('a'), 3_000);
  // A heartbeat is no change.
  expect(changes).toBe(2);
  jest.advanceTimersByTime(2_900);
  expect(instances.list()).toMatchObject([{ instance: { id: 'a' }, ttlMs: 3_000, leftMs: 100 }, { leftMs: 0 }]);
  jest.advanceTimersByTime(200);
  expect(ids(instances)).toEqual(['b']);
  expect(changes).toBe(3);
  expect(instances.deregister({ service: 'shop/api', id: 'b' })).toEqual({ kind: 'done' });
  expect(instances.deregister({ service: 'shop/api', id: 'b' })).toMatchObject({ kind: 'not-found' });
  expect(ids(instances)).toEqual([]);
});

test('a drained instance keeps its time, and drains over its heartbeats and a restart of the agent until that is ended', () => {
  const instances = start();
  instances.register(api('a'), 3_000);
  jest.advanceTimersByTime(2_000);
  expect(instances.drain({ service: 'shop/api', id: 'a', end: false })).toEqual({ kind: 'done' });
  expect(instances.list()).toMatchObject([{ drained: true, leftMs: 1_000 }]);
  instances.register(api('a'), 3_000);
  expect(instances.states()).toMatchObject([{ health: EndpointHealth.DRAINING }]);
  expect(changes).toBe(2);
  instances.close();
  const again = start();
  expect(again.states()).toMatchObject([{ health: EndpointHealth.DRAINING }]);
  again.drain({ service: 'shop/api', id: 'a', end: true });
  expect(again.states()).toMatchObject([{ health: EndpointHealth.READY }]);
  again.drain({ service: 'shop/api', id: 'a', end: false });
  again.deregister({ service: 'shop/api', id: 'a' });
  again.register(api('a'), 0);
  expect(again.states()).toMatchObject([{ health: EndpointHealth.READY }]);
});

test('an agent that starts again has them again, with their whole time; a copy that can’t be read is none', () => {
  const first = start();
  first.register(api('a', { labels: { tier: 'gold' } }), 3_000);
  first.register(api('b'), 0);
  jest.advanceTimersByTime(2_500);
  first.close();
  const second = start();
  expect(second.states()).toMatchObject([{ id: 'a', labels: { tier: 'gold' } }, { id: 'b' }]);
  jest.advanceTimersByTime(2_500);
  expect(ids(second)).toEqual(['a', 'b']);
  jest.advanceTimersByTime(1_000);
  expect(ids(second)).toEqual(['b']);
  writeFileSync(join(folder, 'state', 'instances'), '[{"instance": {"ser');
  expect(ids(start())).toEqual([]);
  writeFileSync(join(folder, 'state', 'instances'), '[{"instance": {"service": "../x", "id": "a"}}, 7, null]');
  expect(ids(start())).toEqual([]);
});

test.each([
  [api('A'), 'expected an id of lower-case letters'],
  [api('a', { service: 'shop' }), '"shop" is no service'],
  [api('a', { address: 'localhost' }), '"localhost" is no IPv4 or IPv6 address'],
  [api('a', { ports: [] }), 'it has no port'],
  [
    api('a', {
      ports: [
        { name: '', port: 1, servicePort: 0, protocol: '' },
        { name: 'b', port: 2, servicePort: 0, protocol: '' },
      ],
    }),
    'each needs a name',
  ],
  [api('a', { health: EndpointHealth.UNHEALTHY }), 'expected READY or DRAINING'],
  [api('a', { check: InstanceState.fromPartial({ check: { intervalMs: 1 } }).check }), 'interval of 1 ms'],
  [api('a', { labels: Object.fromEntries(Array.from({ length: 65 }, (_, index) => [`l${index}`, 'x'])) }), '65 labels, at most 64'],
])('what is no instance is refused, with what was expected (%#)', (instance, message) => {
  expect(start().register(instance, 0)).toEqual({ kind: 'invalid', message: expect.stringContaining(message) });
});

test('a TTL has bounds, and so have the instances of a node', () => {
  const instances = start();
  expect(instances.register(api('a'), 10)).toMatchObject({ kind: 'invalid' });
  for (let index = 0; index < 1_000; index++) instances.register(api(`i${index}`), 0);
  expect(instances.register(api('one-more'), 0)).toMatchObject({ kind: 'full' });
  expect(instances.register(api('i7', { weight: 3 }), 0)).toEqual({ kind: 'done' });
});
