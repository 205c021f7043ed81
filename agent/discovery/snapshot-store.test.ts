import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, jest, test } from '@jest/globals';
import pino from 'pino';
import { Catalog } from './catalog.js';
import { SnapshotStore } from './snapshot-store.js';

test('the first change is written soon, those behind it together and seconds later', async () => {
  const stateDir = mkdtempSync(join(tmpdir(), 'weft-snapshot-'));
  const timers = jest.spyOn(globalThis, 'setTimeout');
  try {
    const catalog = new Catalog();
    catalog.apply(
      { revision: 1, token: { clusterId: 'c', compiler: 'v', revision: 1 }, full: true, resources: [], removed: [] },
      new Set(),
    );
    const store = new SnapshotStore({ stateDir, node: 'a', log: pino({ level: 'silent' }) });
    store.schedule(catalog);
    await store.flush();
    store.schedule(catalog);
    store.schedule(catalog);
    const [first, second, ...more] = timers.mock.calls.map(([, ms]) => ms!);
    expect([first, more]).toEqual([500, []]);
    expect(second).toBeGreaterThan(4_000);
    await store.close();
    expect((await store.load())?.revision).toBe(1);
  } finally {
    timers.mockRestore();
    rmSync(stateDir, { recursive: true });
  }
});
