// The worker thread of engine.test.ts: one engine whose decisions follow the host's name. Plain JavaScript, since jest transforms no workers.
import { createRequire } from 'node:module';
import { parentPort, workerData } from 'node:worker_threads';
import { ENGINE, endpoint, endWhenTold, gateway, TABLES, WORDS } from './specs.mjs';

const { addon: addonPath, limits, ports, counters, outstanding, accessLog } = workerData;
const addon = createRequire(import.meta.url)(addonPath);
const HOSTS = ['up.test', 'retry.test', 'dead.test', 'local.test', 'throw.test', 'silent.test', 'attempt.test', 'busy.test'];
const [UP, DEAD, SILENT] = [0, 1, 2];
const LOG = 8;
const RETRY = 16;
const completions = [];

function decide() {
  const { header, descriptors, decisions } = engine;
  for (let i = 0; i < header[1]; i++) completions.push([...engine.completions.subarray(i * WORDS.completion, (i + 1) * WORDS.completion)]);
  for (let i = 0; i < header[0]; i++) {
    const d = i * WORDS.descriptor;
    const q = i * WORDS.decision;
    decisions.fill(0, q, q + 12);
    decisions[q + 1] = accessLog === null ? 0 : LOG;
    decisions[q + 2] = 7;
    decisions[q + 3] = decisions[q + 4] = decisions[q + 7] = -1;
    const host = descriptors[d + 4] === 2 ? (descriptors[d + 6] === 3 ? 'dead.test' : 'up.test') : (HOSTS[descriptors[d + 8]] ?? '');
    let target = -404;
    if (host === 'up.test') target = UP;
    if (host === 'silent.test') target = SILENT;
    if (host === 'dead.test') target = DEAD;
    if (host === 'attempt.test') {
      target = SILENT;
      decisions[q + 6] = 100;
    }
    if (host === 'retry.test') {
      target = descriptors[d + 18] === 0 ? DEAD : UP;
      decisions[q + 1] |= RETRY;
    }
    if (host === 'local.test') {
      target = -429;
      decisions[q + 7] = 0;
    }
    if (host === 'throw.test') throw new Error('a decision that fails');
    if (target >= 0) Atomics.add(outstanding, target, 1);
    decisions[q] = target;
  }
}

const engine = addon.createEngine({ ...ENGINE, limits, outstanding, counters, accessLog }, decide);
const tables = addon.createTables({
  ...TABLES,
  hosts: HOSTS,
  endpoints: ports.map((port, id) => endpoint(id, port)),
  localReplies: [{ headers: [['retry-after', '1']], body: 'slow down\n', redirect: null, grpcStatus: -1, reason: 0 }],
});
engine.useTables(tables);
addon.releaseTables(tables);
const listen = (id, protocol) => engine.listen(gateway(id, protocol, id === 4 ? { trustedHops: 1, clientCert: 'sanitize' } : null));
const listening = { http: listen(1, 'http1'), opaque: listen(2, 'opaque'), deadOpaque: listen(3, 'opaque'), forwarded: listen(4, 'http1') };
parentPort.on('message', (message) => {
  if (message === 'completions') parentPort.postMessage(completions.splice(0));
  if (message === 'rss') parentPort.postMessage(process.memoryUsage.rss());
});
endWhenTold(parentPort, engine);
parentPort.postMessage(listening);
