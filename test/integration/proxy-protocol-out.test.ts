// PROXY protocol headers from the real `weft proxy --static` process to real HAProxy and nginx, which tell whom they take for the client.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, type Agent as AgentType, type IncomingMessage, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { eventually } from '../lab/eventually.js';
import { freePort } from '../lab/ports.js';
import { ProxyProcess, serviceManifest } from '../lab/proxy-process.js';

const cleanups: (() => unknown)[] = [];
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'grpcweb-px-'));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
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

async function haproxy(): Promise<number> {
  const port = await freePort();
  const file = join(folder, 'haproxy.cfg');
  writeFileSync(
    file,
    `defaults
  mode http
  timeout client 10s
  timeout connect 1s
  timeout server 1s
frontend f
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
    test(`${name} learns every client from version ${version}, over kept connections too`, async () => {
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

  test(`${name} learns clients that come over IPv6, though it is reached over IPv4`, async () => {
    const port = await gateway(await start(), 'v2');
    const agent = new Agent();
    const { text, own } = await ask('::1', port, agent);
    expect(text).toBe(`::1 ${own} ${port}`);
  });
}
