// The worker thread of tls.test.ts: one engine that does what the test asks, [method, ...arguments] at a time, and keeps the descriptors it
// saw. HTTP goes to the endpoint with the host's index, opaque connections to that of their server name, else to endpoint 0.
import { createRequire } from 'node:module';
import { parentPort, workerData } from 'node:worker_threads';
import { ENGINE, TABLES, WORDS } from './specs.mjs';

const { addon: addonPath, limits, counters, outstanding } = workerData;
const addon = createRequire(import.meta.url)(addonPath);
const seen = [];
const DESCRIPTOR = { kind: 4, listener: 6, host: 8, flags: 10, serverName: 22, identity: 23 };
const OPAQUE = 2;

function decide() {
  const { header, descriptors, decisions } = engine;
  for (let i = 0; i < header[0]; i++) {
    const d = i * WORDS.descriptor;
    const q = i * WORDS.decision;
    const row = Object.fromEntries(Object.entries(DESCRIPTOR).map(([name, word]) => [name, descriptors[d + word]]));
    if (seen.length < 1000) seen.push(row);
    decisions.fill(0, q, q + 12);
    decisions[q + 3] = decisions[q + 4] = decisions[q + 7] = -1;
    const target = row.kind === OPAQUE ? Math.max(0, row.serverName) : row.host < 0 ? -404 : row.host;
    if (target >= 0) Atomics.add(outstanding, target, 1);
    decisions[q] = target;
  }
}

const engine = addon.createEngine({ ...ENGINE, limits, outstanding, counters }, decide);

const methods = {
  useTables(spec) {
    const handle = addon.createTables({ ...TABLES, ...spec });
    engine.useTables(handle);
    addon.releaseTables(handle);
  },
  seen: () => seen.splice(0),
  rss: () => process.memoryUsage.rss(),
  close() {
    engine.close();
    parentPort.close();
  },
};

parentPort.on('message', ([method, ...args]) => {
  let reply;
  try {
    const owner = methods[method] ? methods : engine[method] ? engine : addon;
    reply = { value: owner[method](...args) };
  } catch (error) {
    reply = { error: error.message };
  }
  parentPort.postMessage(reply);
});
