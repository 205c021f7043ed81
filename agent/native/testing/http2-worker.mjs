// The worker thread of engine-http2.test.ts and engine-grpc.test.ts: one engine; host "eN.test" goes to endpoint N. Plain JavaScript, since jest transforms no workers.
import { createRequire } from 'node:module';
import { parentPort, workerData } from 'node:worker_threads';
import { ENGINE, endpoint, endWhenTold, gateway, TABLES, WORDS } from './specs.mjs';

const { addon: addonPath, limits, endpoints, counters, outstanding, trustedHops } = workerData;
const addon = createRequire(import.meta.url)(addonPath);
const HOSTS = ['e0.test', 'e1.test', 'e2.test', 'e3.test', 'local.test', 'retry.test', 'slow.test'];
const RETRY = 16;

function decide() {
  const { header, descriptors, decisions } = engine;
  for (let i = 0; i < header[0]; i++) {
    const d = i * WORDS.descriptor;
    const q = i * WORDS.decision;
    decisions.fill(0, q, q + 12);
    decisions[q + 3] = decisions[q + 4] = decisions[q + 7] = -1;
    const host = HOSTS[descriptors[d + 8]] ?? '';
    let target = -404;
    if (host[0] === 'e') target = Number(host[1]);
    if (host === 'local.test') {
      target = -503;
      decisions[q + 7] = 0;
    }
    if (host === 'retry.test') {
      target = descriptors[d + 18] === 0 ? 1 : 0;
      decisions[q + 1] |= RETRY;
    }
    if (host === 'slow.test') {
      target = 0;
      decisions[q + 5] = 200;
    }
    if (descriptors[d + 9] === 1) decisions[q + 3] = decisions[q + 4] = 0;
    if (target >= 0) Atomics.add(outstanding, target, 1);
    decisions[q] = target;
  }
}

const engine = addon.createEngine({ ...ENGINE, limits, outstanding, counters }, decide);
const tables = addon.createTables({
  ...TABLES,
  hosts: HOSTS,
  paths: ['/', '/mutated'],
  endpoints: endpoints.map(({ port, protocol }, id) => endpoint(id, port, protocol)),
  mutations: [{ remove: ['x-secret'], set: [['x-set', 'yes']], add: [] }],
  localReplies: [{ headers: [['retry-after', '1']], body: 'not now\n', redirect: null, grpcStatus: -1, reason: 0 }],
});
engine.useTables(tables);
addon.releaseTables(tables);
const listen = (id, protocol) =>
  engine.listen(gateway(id, protocol, trustedHops === null ? null : { trustedHops, clientCert: 'sanitize' }));
const listening = { http1: listen(1, 'http1'), http2: listen(2, 'http2'), http: listen(3, 'http') };
endWhenTold(parentPort, engine);
parentPort.postMessage(listening);
