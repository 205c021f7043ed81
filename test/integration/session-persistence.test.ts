// Sessions of HTTPRoutes on the real `weft proxy --static` process, with as many workers as it has: which endpoint a client's token leads to, and what
// clients can't do with it.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { EchoBackend, type Seen } from '../lab/echo-backend.js';
import { freePort } from '../lab/ports.js';
import { gatewayManifest, ProxyProcess } from '../lab/proxy-process.js';

const folder = mkdtempSync(join(tmpdir(), 'wsp-'));
const file = join(folder, 'sessions.yaml');
const backends: EchoBackend[] = [];
const KEY = Buffer.alloc(40, 'k').toString('base64');
let port = 0;
let proxy: ProxyProcess;

function service(name: string, targets: readonly EchoBackend[]): string {
  const slices = targets.map(
    (target, at) => `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ${name}-${at}, labels: {kubernetes.io/service-name: ${name}}}
addressType: IPv4
ports: [{name: http, port: ${target.port}}]
endpoints: [{addresses: [127.0.0.1]}]
---`,
  );
  return `\napiVersion: v1\nkind: Service\nmetadata: {name: ${name}}\nspec: {ports: [{name: http, port: 80, appProtocol: http}]}\n---${slices.join('')}`;
}

const rule = (path: string, session: string, refs = '{name: many, port: 80}'): string =>
  `  - {matches: [{path: {value: ${path}}}], backendRefs: [${refs}], sessionPersistence: {${session}}}`;

function write(many: readonly EchoBackend[]): void {
  const [first, second] = backends;
  const manifests = `${service('many', many)}${service('one', [first!])}${service('two', [second!])}${service('policied', many)}
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackendTrafficPolicy
metadata: {name: sessions}
spec: {targetRefs: [{group: "", kind: Service, name: policied}], sessionPersistence: {sessionName: ofservice}}
---
apiVersion: v1
kind: Secret
metadata: {name: weft-session-key}
data: {key: ${KEY}}
---${gatewayManifest(`{name: web, port: ${port}, protocol: HTTP}`)}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: edge}]
  rules:
${rule('/cookie', 'sessionName: shop')}
${rule('/permanent', 'sessionName: kept, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}')}
${rule('/header', 'sessionName: X-Session, type: Header')}
${rule('/short', 'sessionName: short, absoluteTimeout: 1s')}
${rule('/split', 'sessionName: split', '{name: one, port: 80, weight: 1}, {name: two, port: 80, weight: 1}')}
${rule('/route-first', 'sessionName: shop', '{name: policied, port: 80}')}
  - {matches: [{path: {value: /policy}}], backendRefs: [{name: policied, port: 80}]}
  - {matches: [{path: {value: /partly}}], backendRefs: [{name: policied, port: 80}, {name: many, port: 80}]}
  - {matches: [{path: {value: /none}}], backendRefs: [{name: many, port: 80}]}
`;
  writeFileSync(file, manifests, { mode: 0o600 });
}

beforeAll(async () => {
  for (const name of ['a', 'b', 'c', 'd', 'e']) backends.push(await EchoBackend.start(name));
  port = await freePort();
  write(backends);
  proxy = ProxyProcess.start(file, folder);
  await proxy.says('"ready"');
});
afterAll(async () => {
  await proxy.kill();
  for (const backend of backends) backend.close();
  rmSync(folder, { recursive: true, force: true });
});

async function ask(path: string, headers: Record<string, string> = {}) {
  // A connection each: workers are chosen anew.
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { ...headers, connection: 'close' } });
  const [line = ''] = answer.headers.getSetCookie();
  return { by: ((await answer.json()) as Seen).backend, line, cookie: line.split(';')[0] ?? '', headers: answer.headers };
}

test.each(['/cookie', '/split'])('%s: who shows the cookie comes to the endpoint that gave it, and is given no other', async (path) => {
  const seen = new Set<string>();
  for (let client = 0; client < 12; client++) {
    const first = await ask(path);
    expect(first.line).toMatch(/^(shop|split)=[A-Za-z0-9_-]{59}; Path=\/; HttpOnly$/);
    seen.add(first.by);
    for (let i = 0; i < 4; i++) {
      const next = await ask(path, { cookie: `other=1; ${first.cookie}; more=2` });
      expect([next.by, next.line]).toEqual([first.by, '']);
    }
  }
  expect(seen.size).toBeGreaterThan(1);
});

test('of a Service’s policy, where the rule says none itself and all its backends have one', async () => {
  const first = await ask('/policy');
  expect(first.line).toMatch(/^ofservice=/);
  for (let i = 0; i < 6; i++) expect((await ask('/policy', { cookie: first.cookie })).by).toBe(first.by);
  expect((await ask('/route-first')).line).toMatch(/^shop=/);
  expect((await ask('/partly')).line).toBe('');
});

test('a permanent cookie says how long; a header is what it is called', async () => {
  expect((await ask('/permanent')).line).toMatch(/; Max-Age=3600$/);
  const first = await ask('/header');
  const token = first.headers.get('x-session') ?? '';
  for (let i = 0; i < 6; i++) expect((await ask('/header', { 'x-session': token })).by).toBe(first.by);
});

test('what was changed, or is no token, is as none: a new one is given', async () => {
  const { cookie } = await ask('/cookie');
  const middle = cookie.length - 20;
  const changed = `${cookie.slice(0, middle)}${cookie[middle] === 'A' ? 'B' : 'A'}${cookie.slice(middle + 1)}`;
  for (const bad of [changed, 'shop=', 'shop=127.0.0.1:80', `shop=${'A'.repeat(59)}`, `shop=${'A'.repeat(4_000)}`])
    expect((await ask('/cookie', { cookie: bad })).line).toMatch(/^shop=/);
  expect((await ask('/none', { cookie })).line).toBe('');
});

test('a session ends after its absolute time', async () => {
  const first = await ask('/short');
  const ends = performance.now() + 1_100;
  let last = await ask('/short', { cookie: first.cookie });
  expect([last.by, last.line]).toEqual([first.by, '']);
  while (last.line === '' && performance.now() < ends + 3_000) last = await ask('/short', { cookie: first.cookie });
  expect(last.line).toMatch(/^short=/);
});

test('sessions outlive the proxy, and an endpoint that goes: then they are of another one', async () => {
  const first = await ask('/cookie');
  await proxy.kill();
  proxy = ProxyProcess.start(file, folder);
  await proxy.says('"ready"');
  expect((await ask('/cookie', { cookie: first.cookie })).by).toBe(first.by);
  const from = proxy.errors.length;
  write(backends.filter(({ name }) => name !== first.by));
  await proxy.says('is in force', from);
  const next = await ask('/cookie', { cookie: first.cookie });
  expect(next.by).not.toBe(first.by);
  expect(next.line).toMatch(/^shop=/);
  expect((await ask('/cookie', { cookie: next.cookie })).by).toBe(next.by);
});
