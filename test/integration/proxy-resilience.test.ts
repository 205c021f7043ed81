// Endpoints that fail and more requests than a service bears, by the real `weft proxy --static` process with two workers: ejection and return,
// limits that answer at once, a budget that retries stay within, the less critical shed first.
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, createServer, get, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { eventually } from '../lab/eventually.js';
import { freePort } from '../lab/ports.js';
import { accessLog, gatewayManifest, ProxyProcess } from '../lab/proxy-process.js';

const EJECTION_MS = 300;

const folder = mkdtempSync(join(tmpdir(), 'wtr-'));
const servers: Server[] = [];
const agent = new Agent({ keepAlive: true, maxSockets: 64 });
const held: ServerResponse[] = [];
/** What the server that is ejected answers; how often it was asked, and those of which every second request fails. */
let flakyStatus = 200;
const asked = { flaky: 0, half: 0 };
let proxy: ProxyProcess;
let port = 0;
let metricsPort = 0;

async function serve(listener: RequestListener): Promise<number> {
  const server = createServer(listener);
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** So many at once, each for so long; the others wait in line. */
function queueing(concurrency: number, ms: number): RequestListener {
  const line: (() => void)[] = [];
  let busy = 0;
  const begin = (response: ServerResponse): void => {
    busy++;
    setTimeout(() => {
      busy--;
      response.end('done');
      line.shift()?.();
    }, ms);
  };
  return (_, response) => {
    if (busy < concurrency) begin(response);
    else line.push(() => begin(response));
  };
}

function service(name: string, ports: readonly number[], rule: string, policy: string): string {
  const slices = ports.map(
    (endpoint, index) => `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ${name}-${index}, labels: {kubernetes.io/service-name: ${name}}}
addressType: IPv4
ports: [{name: http, port: ${endpoint}}]
endpoints: [{addresses: [127.0.0.1]}]
---`,
  );
  return `
apiVersion: v1
kind: Service
metadata: {name: ${name}}
spec: {ports: [{name: http, port: 80, appProtocol: http}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ${name}}
spec: {parentRefs: [{name: edge}], hostnames: [${name}.test], rules: [{backendRefs: [{name: ${name}, port: 80}]${rule}}]}
---${slices.join('')}
${policy}
---`;
}

const ownPolicy = (name: string, sections: string): string =>
  `{apiVersion: mesh.weft.dev/v1, kind: TrafficPolicy, metadata: {name: ${name}}, spec: {targetRefs: [{kind: Service, name: ${name}}], ${sections}}}`;

interface Answer {
  readonly status: number;
  readonly body: string;
}

async function ask(host: string, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
  const request = get({ host: '127.0.0.1', port, agent, headers: { host: `${host}.test`, ...headers } });
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  let body = '';
  response.setEncoding('latin1').on('data', (piece: string) => {
    body += piece;
  });
  await once(response, 'end');
  return { status: response.statusCode!, body };
}

async function metric(name: string, labels: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
  const line = text.split('\n').find((each) => each.startsWith(`${name}{`) && each.includes(labels));
  return Number(line?.split(' ').at(-1) ?? Number.NaN);
}

/** Asked again after each answer of the proxy. */
async function until(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  await eventually(async () => {
    await (await fetch(`http://127.0.0.1:${metricsPort}/healthz`)).arrayBuffer();
    return isTrue();
  }, Boolean);
}

/** Flags of the access log's lines for a host. */
function flags(host: string): unknown[] {
  const lines = accessLog(join(folder, 'access.log'));
  return lines.filter(({ authority }) => authority === `${host}.test`).map((line) => line.response_flag);
}

beforeAll(async () => {
  const hold = await serve((_, response) => held.push(response));
  const failingHalf: RequestListener = (_, response) => void response.writeHead(asked.half++ % 2 === 0 ? 200 : 503).end();
  const ports = {
    flaky: await serve((_, response) => {
      asked.flaky++;
      response.writeHead(flakyStatus).end();
    }),
    good: [await serve((_, response) => response.end('good')), await serve((_, response) => response.end('good'))],
    half: [await serve(failingHalf), await serve(failingHalf)],
  };
  port = await freePort();
  metricsPort = await freePort();
  const file = join(folder, 'resilience.yaml');
  writeFileSync(
    file,
    gatewayManifest(`{name: web, port: ${port}, protocol: HTTP}`) +
      service(
        'ejected',
        [ports.flaky, ...ports.good],
        '',
        ownPolicy(
          'ejected',
          `outlierDetection: {consecutive5xxErrors: 3, baseEjectionTime: ${EJECTION_MS}ms, maxEjectionPercent: 50, trialRequests: 2}`,
        ),
      ) +
      service(
        'eased',
        [ports.flaky, ...ports.good],
        '',
        ownPolicy(
          'eased',
          `outlierDetection: {consecutive5xxErrors: 3, baseEjectionTime: ${EJECTION_MS}ms, maxEjectionPercent: 50, trialRequests: 2}, loadBalancer: {type: RoundRobin, slowStart: {window: 1h, minimumPercent: 1}}`,
        ),
      ) +
      service(
        'limited',
        [hold],
        '',
        `{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: limited}, spec: {host: limited, trafficPolicy: {connectionPool: {http: {http2MaxRequests: 3}}}}}`,
      ) +
      service('narrow', [hold, hold], '', ownPolicy('narrow', 'circuitBreaker: {maxRequestsPerEndpoint: 2}')) +
      service(
        'budgeted',
        ports.half,
        ', retry: {attempts: 3, codes: [503]}',
        ownPolicy('budgeted', 'retryBudget: {budget: {percent: 20, interval: 10s}, minRetryRate: {count: 1, interval: 1s}}'),
      ) +
      service(
        'slow',
        [await serve(queueing(4, 10))],
        '',
        ownPolicy('slow', 'admission: {adaptive: {minRTTRequests: 20, maxConcurrency: 200}}'),
      ) +
      service(
        'classed',
        [hold],
        '',
        ownPolicy('classed', 'admission: {maxConcurrency: 8, criticality: {header: X-Criticality, values: [high, low], default: low}}'),
      ),
  );
  const options = [
    '--workers=2',
    `--metrics-listen=127.0.0.1:${metricsPort}`,
    '--access-log=all',
    `--access-log-file=${join(folder, 'access.log')}`,
  ];
  proxy = ProxyProcess.start(file, folder, ...options);
  await proxy.says('"ready"');
});

afterEach(() => {
  for (const response of held.splice(0)) response.end('held');
});

afterAll(async () => {
  agent.destroy();
  await proxy.kill();
  for (const server of servers) server.close();
  rmSync(folder, { recursive: true });
});

/** The server that is ejected from the service answers 503 until it is. */
async function ejectFrom(name: string): Promise<void> {
  flakyStatus = 503;
  await until(async () => {
    await ask(name);
    return (await metric('weft_outlier_ejections_active', name)) === 1;
  });
}

/** It is well again, and tried until it is back; returns how many of the next requests it has. */
async function shareOfReturned(name: string, requests: number): Promise<number> {
  flakyStatus = 200;
  await until(async () => {
    expect((await ask(name)).status).toBe(200);
    return (await metric('weft_outlier_ejections_active', name)) === 0;
  });
  const before = asked.flaky;
  for (let i = 0; i < requests; i++) await ask(name);
  return asked.flaky - before;
}

test('an endpoint that answers 503 is ejected, and comes back by a few trial requests when it is well', async () => {
  await ejectFrom('ejected');
  const before = asked.flaky;
  const from = performance.now();
  let failed = 0;
  for (let i = 0; i < 30; i++) failed += (await ask('ejected')).status === 200 ? 0 : 1;
  const tries = asked.flaky - before;
  // It is tried once for each time that it was ejected, and by no other request.
  expect(tries).toBeLessThanOrEqual(1 + (performance.now() - from) / EJECTION_MS);
  expect(failed).toBe(tries);
  expect(await metric('weft_outlier_ejections_total', 'ejected:80",direction="outbound",type="consecutive_5xx"')).toBe(1);
  expect(await shareOfReturned('ejected', 12)).toBeGreaterThanOrEqual(3);
});

test('an endpoint that comes back begins slowly, where the policy has a slow start', async () => {
  await ejectFrom('eased');
  expect(await shareOfReturned('eased', 40)).toBeLessThanOrEqual(2);
});

test('requests beyond a service’s limit are answered 503 at once, with the flag UO, and let in again when others end', async () => {
  const waiting = Array.from({ length: 3 }, () => ask('limited'));
  await until(() => held.length === 3);
  const refused = await ask('limited');
  expect(refused).toEqual({ status: 503, body: 'weft: the service has too many requests in flight\n' });
  for (const response of held.splice(0)) response.end('held');
  expect((await Promise.all(waiting)).map((answer) => answer.status)).toEqual([200, 200, 200]);
  // On whichever worker: those that ended make room at once.
  for (let i = 0; i < 12; i++) {
    const next = ask('limited');
    await until(() => held.length === 1);
    held.pop()!.end('held');
    expect((await next).status).toBe(200);
  }
  await until(() => flags('limited').filter((flag) => flag === 'UO').length === 1);
  expect(await metric('weft_circuit_breaker_overflow_total', 'limited:80",direction="outbound",limit="requests"')).toBe(1);
});

test('an endpoint has no more requests than it may; the others take them', async () => {
  const waiting = Array.from({ length: 2 }, () => ask('narrow'));
  await until(() => held.length === 2);
  expect((await ask('narrow')).status).toBe(503);
  for (const response of held.splice(0)) response.end('held');
  await Promise.all(waiting);
});

test('retries stay within the budget while half of the requests fail', async () => {
  const count = 200;
  const answers = await Promise.all(Array.from({ length: count }, () => ask('budgeted')));
  const attempts = asked.half;
  // A fifth of the requests, and one a second of the interval of ten.
  expect(attempts - count).toBeLessThanOrEqual(count / 5 + 10 + 2);
  expect(attempts - count).toBeGreaterThan(20);
  const failed = answers.filter((answer) => answer.status === 503).length;
  expect(failed).toBeGreaterThan(0);
  expect(await metric('weft_upstream_retries_total', 'budgeted')).toBe(attempts - count);
});

test('of too many requests the less critical are shed first', async () => {
  // The last quarter of the limit is for the most critical. One after the other: of two workers that look at the same moment both find room.
  const low: Promise<Answer>[] = [];
  for (let count = 1; count <= 6; count++) {
    low.push(ask('classed'));
    await until(() => held.length === count);
  }
  for (let count = 0; count < 6; count++) low.push(ask('classed'));
  const high = Array.from({ length: 2 }, () => ask('classed', { 'x-criticality': 'high' }));
  await until(() => held.length === 8);
  expect((await ask('classed', { 'x-criticality': 'high' })).status).toBe(503);
  for (const response of held.splice(0)) response.end('held');
  expect((await Promise.all(high)).map((answer) => answer.status)).toEqual([200, 200]);
  expect((await Promise.all(low)).filter((answer) => answer.status === 200)).toHaveLength(6);
  expect(await metric('weft_admission_shed_total', 'classed:80",direction="outbound",class="1"')).toBe(6);
});

test('a service that is asked for more than it does gets what it can do, and the rest is refused at once', async () => {
  let isOver = false;
  const answers = { good: 0, shed: 0, other: 0 };
  const clients = Array.from({ length: 60 }, async () => {
    while (!isOver) {
      const { status } = await ask('slow');
      answers[status === 200 ? 'good' : status === 503 ? 'shed' : 'other']++;
    }
  });
  await until(async () => answers.good > 100 && (await metric('weft_admission_min_rtt_seconds', 'slow')) > 0);
  isOver = true;
  await Promise.all(clients);
  expect(answers.shed).toBeGreaterThan(100);
  expect(answers.other).toBe(0);
  // How many may wait is for the simulation to hold (test/simulate): here client and server are one busy process.
  expect(await metric('weft_admission_min_rtt_seconds', 'slow')).toBeGreaterThanOrEqual(0.009);
});
