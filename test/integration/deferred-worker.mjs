// The worker thread of deferred.test.ts: one engine whose decisions for "ask.test" are an authoriser's, over gRPC. Plain JavaScript, since
// jest transforms no workers.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parentPort, workerData } from 'node:worker_threads';
import { Client, credentials } from '@grpc/grpc-js';
import { ENGINE, endpoint, gateway, TABLES, WORDS } from '../../agent/native/testing/specs.mjs';

const { addon: addonPath, dist, limits, endpoints, authorizer, askTimeoutMs, counters, outstanding } = workerData;
const { DeferredDecisions } = await import(pathToFileURL(join(dist, 'agent/proxy/deferred.js')).href);
const addon = createRequire(import.meta.url)(addonPath);
const HOSTS = ['ask.test', 'up.test'];
const [ANSWERED, DEFERRED, OPAQUE] = [64, -2, 2];
const client = new Client(authorizer, credentials.createInsecure());
const facts = { completions: [], aborted: 0 };

/** true: let it through. */
function ask(path) {
  return (signal) =>
    new Promise((resolve, reject) => {
      const call = client.makeUnaryRequest(
        '/test.Authorizer/Check',
        (value) => value,
        (bytes) => bytes,
        Buffer.from(path),
        { deadline: Date.now() + askTimeoutMs },
        (error, answer) => (error === null ? resolve(answer.toString() === 'yes') : reject(error)),
      );
      signal.addEventListener('abort', () => {
        facts.aborted++;
        call.cancel();
      });
    });
}

function targetOf(d, q) {
  const { descriptors, decisions, arena } = engine;
  const isOpaque = descriptors[d + 4] === OPAQUE;
  if (!isOpaque && HOSTS[descriptors[d + 8]] !== 'ask.test') return 0;
  if ((descriptors[d + 10] & ANSWERED) === 0) {
    const path = isOpaque ? 'tcp' : Buffer.from(arena.subarray(descriptors[d + 14], descriptors[d + 14] + descriptors[d + 15])).toString();
    return deferred.defer(q, ask(path)) ? decisions[q] : -503;
  }
  const outcome = deferred.take(descriptors[d + 21]);
  return outcome.kind === 'failed' ? -500 : outcome.answer ? 0 : -403;
}

function decide() {
  const { header, descriptors, decisions, completions } = engine;
  for (let i = 0; i < header[1]; i++) {
    const [target, token, status, reason] = completions.subarray(i * WORDS.completion, i * WORDS.completion + 4);
    if (target === DEFERRED) deferred.end(token);
    facts.completions.push({ target, status, reason });
  }
  for (let i = 0; i < header[0]; i++) {
    const q = i * WORDS.decision;
    decisions.fill(0, q, q + 12);
    decisions[q + 3] = decisions[q + 4] = decisions[q + 7] = -1;
    const target = targetOf(i * WORDS.descriptor, q);
    // HTTP/2 clients go to the HTTP/2 endpoint.
    decisions[q] = target === 0 && descriptors[i * WORDS.descriptor + 4] === 1 ? 1 : target;
    if (decisions[q] >= 0) Atomics.add(outstanding, decisions[q], 1);
  }
}

const engine = addon.createEngine({ ...ENGINE, limits, outstanding, counters }, decide);
const deferred = new DeferredDecisions(engine, limits.maxDeferred);
const tables = addon.createTables({
  ...TABLES,
  hosts: HOSTS,
  endpoints: endpoints.map(({ port, protocol }, id) => endpoint(id, port, protocol)),
});
engine.useTables(tables);
addon.releaseTables(tables);
const listen = (id, protocol) => engine.listen(gateway(id, protocol));
const ports = { http: listen(1, 'http'), opaque: listen(2, 'opaque') };
parentPort.on('message', (message) => {
  if (message === 'close') deferred.close();
  parentPort.postMessage({ ...facts, open: deferred.size });
  if (message === 'close') {
    engine.close();
    client.close();
    parentPort.close();
  }
});
parentPort.postMessage(ports);
