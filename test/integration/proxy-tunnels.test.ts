// Tunnels through the real `weft proxy --static`, with the clients and servers people use: ws, Node's HTTP/2, curl.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { WebSocket, WebSocketServer } from 'ws';
import { eventually } from '../lab/eventually.js';
import { freePort } from '../lab/ports.js';
import { accessLog, gatewayManifest, type ProxyProcess } from '../lab/proxy-process.js';
import { ProxyScope } from '../lab/proxy-scope.js';

const scope = new ProxyScope();

/** An HTTP/1.1 server whose WebSockets echo. */
function echoOverHttp1(): Promise<number> {
  const server = createServer((_, response) => response.writeHead(426).end());
  const sockets = new WebSocketServer({ server, handleProtocols: () => 'chat' });
  sockets.on('connection', (socket) => socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary })));
  return scope.listen(server);
}

/** An HTTP/2 server whose tunnels echo bytes; its extended CONNECT may be turned off. */
async function echoOverHttp2(enableConnectProtocol = true): Promise<{ port: number; seen: Record<string, unknown>[] }> {
  const seen: Record<string, unknown>[] = [];
  const server = createHttp2Server({ settings: { enableConnectProtocol } });
  server.on('stream', (stream, headers) => {
    seen.push(headers);
    stream.on('error', () => undefined);
    stream.respond({ ':status': 200 });
    stream.pipe(stream);
  });
  return { port: await scope.listen(server), seen };
}

async function gateway(
  backend: number,
  portName: 'http' | 'http2' | 'tcp',
  ...flags: string[]
): Promise<{ proxy: ProxyProcess; port: number }> {
  const port = await freePort();
  const file = join(scope.folder, 'tunnels.yaml');
  writeFileSync(
    file,
    `${gatewayManifest(`{name: http, port: ${port}, protocol: HTTP}`)}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: chat}
spec:
  parentRefs: [{name: edge}]
  rules: [{matches: [{path: {value: /chat}, method: GET}], backendRefs: [{name: chat, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: tunnels}
spec:
  parentRefs: [{name: edge}]
  hostnames: [db.test]
  rules: [{matches: [{method: CONNECT}], backendRefs: [{name: chat, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: anything}
spec:
  parentRefs: [{name: edge}]
  hostnames: [open.test]
  rules: [{backendRefs: [{name: chat, port: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: chat}
spec: {ports: [{name: ${portName}, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: chat-1, labels: {kubernetes.io/service-name: chat}}
addressType: IPv4
ports: [{name: ${portName}, port: ${backend}}]
endpoints: [{addresses: [127.0.0.1]}]
`,
  );
  const proxy = await scope.start(file, ...flags);
  return { proxy, port };
}

async function session(port: number): Promise<ClientHttp2Session> {
  const client = connectHttp2(`http://127.0.0.1:${port}`);
  scope.closing.push(() => client.destroy());
  client.on('error', () => undefined);
  await once(client, 'remoteSettings');
  return client;
}

function extendedConnect(client: ClientHttp2Session): ClientHttp2Stream {
  return client.request(
    { ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/chat', 'sec-websocket-version': '13', 'sec-websocket-protocol': 'chat' },
    { endStream: false },
  );
}

/** A client's text frame (RFC 6455 5.2), masked with zeros. */
function frame(text: string): Buffer {
  return Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)]);
}

async function echoes(port: number): Promise<void> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/chat`, ['chat']);
  scope.closing.push(() => socket.terminate());
  await once(socket, 'open');
  for (const size of [1, 125, 70_000, 3_000_000]) {
    const sent = Buffer.alloc(size, size % 251);
    socket.send(sent);
    const [got] = (await once(socket, 'message')) as [Buffer];
    expect(got.equals(sent)).toBe(true);
  }
  socket.close(1000, 'done');
  const [code] = (await once(socket, 'close')) as [number];
  expect(code).toBe(1000);
}

test('ws talks to ws through the proxy, is counted while it does, and told when it ends', async () => {
  const log = join(scope.folder, 'access.log');
  const { proxy, port } = await gateway(await echoOverHttp1(), 'http', '--access-log', 'all', '--access-log-file', log);
  const open = new WebSocket(`ws://127.0.0.1:${port}/chat`, ['chat']);
  await once(open, 'open');
  expect(open.protocol).toBe('chat');
  expect(await proxy.counter('opaque_open')).toBe(1);
  open.close(1000);
  await once(open, 'close');
  await echoes(port);
  expect(
    await eventually(
      () => proxy.counter('opaque_open'),
      (count) => count === 0,
    ),
  ).toBe(0);
  expect(await proxy.counter('upgrades')).toBe(2);
  const lines = await eventually(
    async () => accessLog(log),
    (all) => all.length === 2,
  );
  expect(lines[1]).toMatchObject({ method: 'GET', path: '/chat', status: 101 });
  expect(lines[1]!.bytes_received).toBeGreaterThan(3_000_000);
  expect(lines[1]!.bytes_sent).toBeGreaterThan(3_000_000);
});

test('ws talks to an HTTP/2 server that takes extended CONNECT', async () => {
  const { port: backend, seen } = await echoOverHttp2();
  const { port } = await gateway(backend, 'http2');
  const socket = new WebSocket(`ws://127.0.0.1:${port}/chat`);
  scope.closing.push(() => socket.terminate());
  // ws has checked the answer to its key.
  await once(socket, 'open');
  expect(seen[0]).toMatchObject({ ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/chat', 'sec-websocket-version': '13' });
  expect(seen[0]).not.toHaveProperty('sec-websocket-key');
  // The server echoes the masked frame: to a client an error of the protocol (RFC 6455 5.1), which shows that it came back.
  const failed = once(socket, 'error');
  socket.send('hello');
  expect(((await failed) as [Error])[0].message).toContain('MASK must be clear');
});

test('ws is told 501 where the HTTP/2 server takes no extended CONNECT', async () => {
  const { port: backend, seen } = await echoOverHttp2(false);
  const { port } = await gateway(backend, 'http2');
  const socket = new WebSocket(`ws://127.0.0.1:${port}/chat`);
  socket.on('error', () => undefined);
  const [, response] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage];
  expect(response.statusCode).toBe(501);
  expect(seen).toEqual([]);
});

test('an HTTP/2 client’s WebSocket goes to a server that speaks HTTP/1.1, and ends on either side', async () => {
  const { proxy, port } = await gateway(await echoOverHttp1(), 'http');
  const client = await session(port);
  expect(client.remoteSettings.enableConnectProtocol).toBe(true);
  const stream = extendedConnect(client);
  const [headers] = (await once(stream, 'response')) as [Record<string, unknown>];
  expect(headers).toMatchObject({ ':status': 200, 'sec-websocket-protocol': 'chat' });
  expect(headers).not.toHaveProperty('sec-websocket-accept');
  stream.write(frame('hello'));
  const [echo] = (await once(stream, 'data')) as [Buffer];
  expect(echo).toEqual(Buffer.concat([Buffer.from([0x81, 5]), Buffer.from('hello')]));
  // A close frame: the server answers it and ends.
  stream.write(Buffer.from([0x88, 0x80, 0, 0, 0, 0]));
  stream.resume();
  await once(stream, 'end');
  stream.end();
  await once(stream, 'close');
  expect(stream.rstCode).toBe(0);

  const other = extendedConnect(client);
  await once(other, 'response');
  other.on('error', () => undefined);
  other.close(8);
  expect(
    await eventually(
      () => proxy.counter('opaque_open'),
      (count) => count === 0,
    ),
  ).toBe(0);
});

test('an HTTP/2 client’s WebSocket goes to an HTTP/2 server, large as it is', async () => {
  const { port: backend, seen } = await echoOverHttp2();
  const { port } = await gateway(backend, 'http2');
  const stream = extendedConnect(await session(port));
  await once(stream, 'response');
  expect(seen[0]).toMatchObject({ ':method': 'CONNECT', ':protocol': 'websocket' });
  const sent = Buffer.alloc(8 << 20, 'tunnel');
  stream.end(sent);
  const got: Buffer[] = [];
  for await (const piece of stream) got.push(piece as Buffer);
  expect(Buffer.concat(got).equals(sent)).toBe(true);
});

/** curl through the gateway as its proxy. */
async function curl(port: number, url: string): Promise<{ stdout: string; stderr: string }> {
  const args = ['-sv', '--max-time', '10', '--proxytunnel', '-x', `http://127.0.0.1:${port}`, url];
  return new Promise((resolve) => execFile('curl', args, (_, stdout, stderr) => resolve({ stdout, stderr })));
}

test('curl tunnels to the backend that the rule names, whatever port it asks for, and to nothing else', async () => {
  const server = createServer((incoming, response) => response.end(`host ${incoming.headers.host}`));
  const { proxy, port } = await gateway(await scope.listen(server), 'tcp');
  expect((await curl(port, 'http://db.test:5432/')).stdout).toBe('host db.test:5432');
  // A rule for everything is none for tunnels; a name that no rule has is not dialled.
  expect((await curl(port, 'http://open.test:80/')).stderr).toContain('CONNECT tunnel failed, response 404');
  expect((await curl(port, `http://127.0.0.1:${port}/`)).stderr).toContain('CONNECT tunnel failed, response 404');
  expect(await proxy.counter('upstream_connects')).toBe(1);
});

test('an HTTP/2 client’s CONNECT is passed on to a backend that is a proxy', async () => {
  const server = createServer();
  server.on('connect', (incoming: IncomingMessage, socket: Socket) => {
    socket.write(`HTTP/1.1 200 Yes\r\n\r\nto ${incoming.url}: `);
    socket.pipe(socket);
  });
  const { port } = await gateway(await scope.listen(server), 'http');
  const stream = (await session(port)).request({ ':method': 'CONNECT', ':authority': 'db.test:5432' }, { endStream: false });
  const [headers] = (await once(stream, 'response')) as [Record<string, unknown>];
  expect(headers[':status']).toBe(200);
  stream.end('hello');
  let text = '';
  for await (const piece of stream) text += piece;
  expect(text).toBe('to db.test:5432: hello');
});
