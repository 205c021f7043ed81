// PROXY protocol headers between the real `weft proxy --static` process and others: to real HAProxy and nginx, which tell whom they take for the
// client, and from real HAProxy that stands in front.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, type Agent as AgentType, createServer, type IncomingMessage, request } from 'node:http';
import { Agent as TlsAgent, request as tlsRequest } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from '@jest/globals';
import { Certificates, secretManifest } from '../lab/certificates.js';
import { closesAfterEach } from '../lab/closing.js';
import { eventually } from '../lab/eventually.js';
import { freePort } from '../lab/ports.js';
import { accessLog, ProxyProcess, serviceManifest } from '../lab/proxy-process.js';

const cleanups = closesAfterEach();
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'weft-proxy-protocol-'));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
});

async function serve(command: string, args: readonly string[], port: number): Promise<void> {
  const child: ChildProcess = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  cleanups.push(async () => {
    if (child.exitCode !== null) return;
    child.kill('SIGTERM');
    await once(child, 'exit');
  });
  const answers = (): Promise<boolean> =>
    new Promise((resolve, reject) => {
      if (child.exitCode !== null) reject(new Error(`${command} ended: ${said}`));
      const socket: Socket = connect(port, '127.0.0.1');
      socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
      socket.on('connect', () => socket.destroy());
    });
  expect(await eventually(answers, (up) => up)).toBe(true);
}

const HAPROXY_DEFAULTS = `defaults
  mode http
  timeout client 10s
  timeout connect 1s
  timeout server 10s
`;

async function haproxy(): Promise<number> {
  const port = await freePort();
  const file = join(folder, 'haproxy.cfg');
  writeFileSync(
    file,
    `${HAPROXY_DEFAULTS}frontend f
  bind 127.0.0.1:${port} accept-proxy
  http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst_port]"
`,
  );
  await serve('haproxy', ['-db', '-f', file], port);
  return port;
}

async function nginx(): Promise<number> {
  const port = await freePort();
  const file = join(folder, 'nginx.conf');
  mkdirSync(join(folder, 'nginx'));
  writeFileSync(
    file,
    `daemon off; master_process off; pid ${folder}/nginx.pid; error_log stderr; events {}
http { access_log off; client_body_temp_path ${folder}/nginx; proxy_temp_path ${folder}/nginx; fastcgi_temp_path ${folder}/nginx;
  uwsgi_temp_path ${folder}/nginx; scgi_temp_path ${folder}/nginx;
  server { listen 127.0.0.1:${port} proxy_protocol;
    location / { return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_port"; } } }
`,
  );
  await serve('nginx', ['-p', folder, '-c', file], port);
  return port;
}

async function gateway(target: number, version: string): Promise<number> {
  const port = await freePort();
  const file = join(folder, 'gateway.yaml');
  const listener = (address: string, name: string): string => `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: ${name}}
spec: {gatewayClassName: weft, addresses: [{value: "${address}"}], listeners: [{name: http, port: ${port}, protocol: HTTP}]}
---`;
  writeFileSync(
    file,
    `${serviceManifest('echo', target)}${listener('127.0.0.1', 'four')}${listener('::1', 'six')}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: echo}
spec: {parentRefs: [{name: four}, {name: six}], rules: [{backendRefs: [{name: echo, port: 80}]}]}
---
apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: {name: echo}
spec: {targetRefs: [{kind: Service, name: echo}], proxyProtocol: ${version}}
`,
  );
  const proxy = ProxyProcess.start(file, folder);
  cleanups.push(() => proxy.kill());
  await proxy.says('"ready"');
  return port;
}

/** What the server took for the client, and the client's own port. */
async function ask(host: string, port: number, agent: AgentType): Promise<{ text: string; own: number | undefined }> {
  const sent = request({ host, port, agent, headers: { host: 'x.test' } });
  sent.end();
  const [socket] = (await once(sent, 'socket')) as [Socket];
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  const own = socket.localPort;
  let text = '';
  for await (const chunk of response) text += chunk;
  return { text, own };
}

for (const [name, start] of [
  ['HAProxy', haproxy],
  ['nginx', nginx],
] as const) {
  for (const version of ['v1', 'v2']) {
    test(`${name} behind learns every client from version ${version}, over kept connections too`, async () => {
      const port = await gateway(await start(), version);
      for (let client = 0; client < 3; client++) {
        const agent = new Agent({ keepAlive: true, maxSockets: 1 });
        cleanups.push(() => agent.destroy());
        for (let turn = 0; turn < 3; turn++) {
          const { text, own } = await ask('127.0.0.1', port, agent);
          expect(text).toBe(`127.0.0.1 ${own} ${port}`);
        }
      }
    });
  }

  test(`${name} behind learns clients that come over IPv6, though it is reached over IPv4`, async () => {
    const port = await gateway(await start(), 'v2');
    const agent = new Agent();
    const { text, own } = await ask('::1', port, agent);
    expect(text).toBe(`::1 ${own} ${port}`);
  });
}

describe('HAProxy in front', () => {
  const certificates = new Certificates();
  const authority = certificates.authority('edge');
  const edge = certificates.issue(authority, 'DNS:x.test');
  afterAll(() => certificates.remove());

  interface Front {
    readonly proxy: ProxyProcess;
    readonly log: string;
    /** Of the gateway itself. */
    readonly port: number;
    /** Of HAProxy, which sends a header in front of what it passes on. */
    readonly relay: number;
    readonly tlsRelay: number;
    /** The Gateway's annotations are others. */
    annotate(text: string): Promise<void>;
  }

  async function front(header: string): Promise<Front> {
    const origin = createServer((message, response) => void response.end(String(message.headers['x-forwarded-for'])));
    await once(origin.listen(0, '127.0.0.1'), 'listening');
    cleanups.push(() => origin.close());
    const [port, tlsPort, relay, tlsRelay] = [await freePort(), await freePort(), await freePort(), await freePort()];
    const [file, log] = [join(folder, 'gateway.yaml'), join(folder, 'access.log')];
    const manifests = (annotations: string) => `${serviceManifest('echo', (origin.address() as AddressInfo).port)}
${secretManifest('edge', edge)}
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, annotations: {${annotations}}}
spec:
  gatewayClassName: weft
  addresses: [{value: 127.0.0.1}]
  listeners:
  - {name: plain, port: ${port}, protocol: HTTP}
  - {name: web, port: ${tlsPort}, protocol: HTTPS, tls: {certificateRefs: [{name: edge}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: echo}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: echo, port: 80}]}]}
`;
    writeFileSync(file, manifests('mesh.weft.dev/proxy-protocol: "true"'), { mode: 0o600 });
    const proxy = ProxyProcess.start(file, folder, '--access-log', 'all', '--access-log-file', log);
    cleanups.push(() => proxy.kill());
    await proxy.says('"ready"');
    const config = join(folder, 'front.cfg');
    const relays = [
      [relay, port],
      [tlsRelay, tlsPort],
    ].map(([at, to]) => `listen l${at}\n  mode tcp\n  bind 127.0.0.1:${at}\n  server s 127.0.0.1:${to} ${header}\n`);
    writeFileSync(config, `${HAPROXY_DEFAULTS}${relays.join('')}`);
    await serve('haproxy', ['-db', '-f', config], relay);
    const annotate = async (text: string): Promise<void> => {
      const from = proxy.errors.length;
      writeFileSync(file, manifests(text));
      await proxy.says('is in force', from);
    };
    return { proxy, log, port, relay, tlsRelay, annotate };
  }

  /** As a client at 127.0.0.7. Rejects with what the connection ends with. */
  async function askFrom7(port: number, agent: AgentType | TlsAgent): Promise<{ text: string; connection: string | undefined }> {
    const options = { host: '127.0.0.1', localAddress: '127.0.0.7', port, agent, headers: { host: 'x.test' } };
    const sent = agent instanceof TlsAgent ? tlsRequest({ ...options, servername: 'x.test', ca: authority.cert }) : request(options);
    sent.end();
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    let text = '';
    for await (const chunk of response) text += chunk;
    return { text, connection: response.headers.connection };
  }

  for (const header of ['send-proxy', 'send-proxy-v2'])
    test(`who asks is learnt by ${header}, in plain text and under TLS, and nobody is served without a header`, async () => {
      const { proxy, log, port, relay, tlsRelay } = await front(header);
      for (const [at, agent] of [
        [relay, new Agent({ keepAlive: true, maxSockets: 1 })],
        [tlsRelay, new TlsAgent({ keepAlive: true, maxSockets: 1 })],
      ] as const) {
        cleanups.push(() => agent.destroy());
        for (let turn = 0; turn < 3; turn++) expect((await askFrom7(at, agent)).text).toBe('127.0.0.7');
      }
      const lines = await eventually(
        () => Promise.resolve(accessLog(log)),
        ({ length }) => length === 6,
      );
      for (const { client } of lines) expect(client).toMatch(/^127\.0\.0\.7:\d+$/);
      await expect(askFrom7(port, new Agent())).rejects.toThrow(/ECONNRESET|socket hang up/);
      expect(await proxy.counter('openings_refused_proxy_header')).toBe(1);
      await proxy.says(`to 127.0.0.1 port ${port} refused: absent`);
    });

  test('it is switched on and off while the gateway runs; who came before has one more answer', async () => {
    const { port, relay, annotate } = await front('send-proxy-v2');
    const kept = new Agent({ keepAlive: true, maxSockets: 1 });
    cleanups.push(() => kept.destroy());
    expect(await askFrom7(relay, kept)).toEqual({ text: '127.0.0.7', connection: undefined });
    await annotate('');
    expect(await askFrom7(relay, kept)).toEqual({ text: '127.0.0.7', connection: 'close' });
    expect((await askFrom7(port, kept)).text).toBe('127.0.0.7');
    await annotate('mesh.weft.dev/proxy-protocol: "true"');
    expect(await askFrom7(port, kept)).toEqual({ text: '127.0.0.7', connection: 'close' });
    await expect(askFrom7(port, new Agent())).rejects.toThrow(/ECONNRESET|socket hang up/);
    expect((await askFrom7(relay, new Agent())).text).toBe('127.0.0.7');
  });
});
