// The limits of one namespace, by the real `weft proxy --static` process: what is beyond each is refused with a clear answer and counted,
// and another namespace is served as ever.
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type Agent, type ClientRequest, createServer, get, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { eventually } from '../lab/eventually.js';
import { freePort } from '../lab/ports.js';
import { ProxyProcess } from '../lab/proxy-process.js';

const MAX_CONNECTIONS = 6;
const MAX_REQUESTS = 3;
const MAX_BUFFERED = 131_072;
/** More than the kernel keeps for one connection. */
const LARGE = 64 * 1_048_576;

const folder = mkdtempSync(join(tmpdir(), 'wtn-'));
const held: ServerResponse[] = [];
const origin = createServer((request, response) => {
  if (request.url === '/held') held.push(response);
  else if (request.url === '/large') response.end(Buffer.alloc(LARGE));
  else response.end('ok');
});
let proxy: ProxyProcess;
let metricsPort = 0;
const ports = { flooder: 0, victim: 0 };
const cleanups: (() => unknown)[] = [];

function tenant(namespace: string, port: number, originPort: number): string {
  const metadata = `{name: own, namespace: ${namespace}}`;
  return `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: ${metadata}
spec: {gatewayClassName: weft, addresses: [{value: 127.0.0.1}], listeners: [{name: web, port: ${port}, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: ${metadata}
spec: {parentRefs: [{name: own}], rules: [{backendRefs: [{name: own, port: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: ${metadata}
spec: {ports: [{name: http, port: 80, appProtocol: http}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: own, namespace: ${namespace}, labels: {kubernetes.io/service-name: own}}
addressType: IPv4
ports: [{name: http, port: ${originPort}}]
endpoints: [{addresses: [127.0.0.1]}]
---`;
}

beforeAll(async () => {
  origin.listen(0, '127.0.0.1');
  await once(origin, 'listening');
  const originPort = (origin.address() as AddressInfo).port;
  ports.flooder = await freePort();
  ports.victim = await freePort();
  metricsPort = await freePort();
  const file = join(folder, 'tenants.yaml');
  writeFileSync(file, tenant('flooder', ports.flooder, originPort) + tenant('victim', ports.victim, originPort));
  const limits = [
    `--max-tenant-connections=${MAX_CONNECTIONS}`,
    `--max-tenant-requests=${MAX_REQUESTS}`,
    `--max-tenant-buffered-bytes=${MAX_BUFFERED}`,
  ];
  proxy = ProxyProcess.start(file, folder, '--workers=1', `--metrics-listen=127.0.0.1:${metricsPort}`, ...limits);
  await proxy.says('"ready"');
});

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
  for (const response of held.splice(0)) response.destroy();
  await eventually(
    () => metric('weft_tenant_connections', 'flooder'),
    (count) => count === 0,
  );
});

afterAll(async () => {
  await proxy.kill();
  origin.close();
  origin.closeAllConnections();
  rmSync(folder, { recursive: true, force: true });
});

function open(port: number, path: string, agent: Agent | false = false): ClientRequest {
  const request = get({ port, host: '127.0.0.1', path, agent });
  request.on('error', () => undefined);
  cleanups.push(() => request.destroy());
  return request;
}

async function ask(
  port: number,
  path = '/',
  agent: Agent | false = false,
): Promise<{ status: number; retryAfter: string | undefined; text: string }> {
  const [response] = (await once(open(port, path, agent), 'response')) as [IncomingMessage];
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk as string;
  return { status: response.statusCode!, retryAfter: response.headers['retry-after'], text };
}

function dial(port: number): Socket {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  cleanups.push(() => socket.destroy());
  return socket;
}

async function metric(name: string, namespace: string, reason?: string): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
  const labels = reason === undefined ? `namespace="${namespace}"` : `namespace="${namespace}",reason="${reason}"`;
  const line = text.split('\n').find((each) => each.startsWith(`${name}{${labels}}`));
  if (line === undefined) throw new Error(`no ${name}{${labels}}`);
  return Number(line.split(' ')[1]);
}

const refused = (namespace: string, reason: string): Promise<number> => metric('weft_tenant_refused_total', namespace, reason);

async function expectVictimServed(reason: string): Promise<void> {
  expect(await ask(ports.victim)).toMatchObject({ status: 200, text: 'ok' });
  expect(await refused('victim', reason)).toBe(0);
}

test('more connections than a namespace may have are closed as they come, and there is room again when one has gone', async () => {
  const open = Array.from({ length: MAX_CONNECTIONS }, () => dial(ports.flooder));
  await eventually(
    () => metric('weft_tenant_connections', 'flooder'),
    (count) => count === MAX_CONNECTIONS,
  );
  await once(dial(ports.flooder).resume(), 'close');
  expect(await refused('flooder', 'connections')).toBe(1);
  await expectVictimServed('connections');
  open[0]!.destroy();
  await eventually(
    () => metric('weft_tenant_connections', 'flooder'),
    (count) => count < MAX_CONNECTIONS,
  );
  expect(await ask(ports.flooder)).toMatchObject({ status: 200 });
});

test('more requests than a namespace may have in flight get 503 with Retry-After, those under way go on', async () => {
  const waiting = Array.from({ length: MAX_REQUESTS }, () => ask(ports.flooder, '/held'));
  await eventually(
    () => metric('weft_tenant_requests', 'flooder'),
    (count) => count === MAX_REQUESTS,
  );
  const answer = await ask(ports.flooder);
  expect(answer).toEqual({ status: 503, retryAfter: '1', text: 'weft: the namespace has too many requests in flight\n' });
  expect(await refused('flooder', 'requests')).toBe(1);
  await expectVictimServed('requests');
  await eventually(
    async () => held.length,
    (count) => count === MAX_REQUESTS,
  );
  for (const response of held.splice(0)) response.end('late');
  for (const one of waiting) expect(await one).toMatchObject({ status: 200, text: 'late' });
  expect(await ask(ports.flooder)).toMatchObject({ status: 200, text: 'ok' });
});

test('a namespace with more in buffers than it may gets 503 with Retry-After until its slow reader has read, who loses nothing', async () => {
  const [slow] = (await once(open(ports.flooder, '/large'), 'response')) as [IncomingMessage];
  slow.pause();
  await eventually(
    () => metric('weft_tenant_buffered_bytes', 'flooder'),
    (bytes) => bytes >= MAX_BUFFERED,
  );
  const answer = await ask(ports.flooder);
  expect(answer).toEqual({ status: 503, retryAfter: '1', text: "weft: too many bytes wait in the namespace's buffers\n" });
  expect(await refused('flooder', 'buffered_bytes')).toBe(1);
  await expectVictimServed('buffered_bytes');
  let bytes = 0;
  for await (const chunk of slow) bytes += (chunk as Buffer).length;
  expect(bytes).toBe(LARGE);
  expect(await ask(ports.flooder)).toMatchObject({ status: 200, text: 'ok' });
  expect(await metric('weft_tenant_buffered_bytes', 'flooder')).toBe(0);
});
