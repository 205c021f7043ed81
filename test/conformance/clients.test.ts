// Clients and servers of other people through the proxy: what they make of its answers is checked, not its bytes.
import { execFile } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { ProxyProcess } from './proxy-process.js';

const CLIENT_MS = 15_000;
const TEXT = 'abcdefghijklmnopqrstuvwxyz';
const MEBIBYTE = randomBytes(1 << 20);

let connections = 0;
const origin = createServer((incoming, response) => void serve(incoming, response));
origin.on('connection', () => connections++);
origin.on('upgrade', (incoming: IncomingMessage, socket: Socket) => {
  const accept = createHash('sha1').update(`${incoming.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
  socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  socket.on('data', (frame: Buffer) => socket.write(unmasked(frame)));
});
let proxy: ProxyProcess;
let base = '';

beforeAll(async () => {
  origin.listen(0, '127.0.0.1');
  await once(origin, 'listening');
  proxy = await ProxyProcess.start([(origin.address() as AddressInfo).port]);
  base = `http://127.0.0.1:${proxy.ports[0]}`;
});
afterAll(async () => {
  await proxy.stop();
  origin.closeAllConnections();
  origin.close();
});

/** "/text" knows ranges, "/chunked" has trailers; anything else tells what came. */
async function serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const piece of incoming) {
    hash.update(piece as Buffer);
    size += (piece as Buffer).length;
  }
  if (incoming.url === '/text') {
    const range = /^bytes=(\d+)-(\d+)$/.exec(incoming.headers.range ?? '');
    const part = range === null ? TEXT : TEXT.slice(Number(range[1]), Number(range[2]) + 1);
    if (range !== null) response.setHeader('content-range', `bytes ${range[1]}-${range[2]}/${TEXT.length}`);
    response.writeHead(range === null ? 200 : 206, { 'content-length': part.length, 'accept-ranges': 'bytes' }).end(part);
  } else if (incoming.url === '/chunked') {
    response.writeHead(200, { trailer: 'x-sum' });
    response.write('one,');
    response.write('two');
    response.addTrailers({ 'x-sum': '7' });
    response.end();
  } else {
    response.end(
      JSON.stringify({ method: incoming.method, headers: incoming.headers, trailers: incoming.trailers, size, sha256: hash.digest('hex') }),
    );
  }
}

interface Told {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly trailers: Readonly<Record<string, string>>;
  readonly size: number;
  readonly sha256: string;
}
const SHA256 = createHash('sha256').update(MEBIBYTE).digest('hex');

function run(command: string, args: readonly string[], input?: Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(command, [...args], { timeout: CLIENT_MS, maxBuffer: 1 << 24 }, (error, output, errors) =>
      error === null ? resolve(output) : reject(new Error(`${command} ${args.join(' ')}: ${error.message}\n${errors}`)),
    );
    child.stdin?.end(input);
  });
}

const curl = (...args: string[]): Promise<string> => run('curl', ['-sS', '--max-time', '10', ...args]);

describe('curl', () => {
  test('speaks HTTP/1.0', async () => {
    expect(await curl('--http1.0', `${base}/text`)).toBe(TEXT);
    expect(await curl('--http1.0', `${base}/chunked`)).toBe('one,two');
  });

  test('uses one connection for several requests', async () => {
    const output = await curl('--http1.1', '-w', ' %{http_code} %{num_connects}\n', `${base}/text`, `${base}/chunked`, `${base}/text`);
    expect(output).toBe(`${TEXT} 200 1\none,two 200 0\n${TEXT} 200 0\n`);
  });

  test('uploads with Expect: 100-continue', async () => {
    const output = await curl('-v', '--stderr', '-', '-H', 'Expect: 100-continue', '-T', '/usr/bin/env', `${base}/upload`);
    expect(output).toMatch(/< HTTP\/1\.1 100 Continue[\s\S]*< HTTP\/1\.1 200 OK/);
    expect(output).toContain('"expect":"100-continue"');
  });

  test('uploads what it does not know the length of in chunks', async () => {
    const told = JSON.parse(await run('curl', ['-sS', '-T', '-', `${base}/upload`], MEBIBYTE)) as Told;
    expect(told).toMatchObject({ method: 'PUT', size: MEBIBYTE.length, sha256: SHA256 });
    expect(told.headers['transfer-encoding']).toBe('chunked');
  });

  test('asks with HEAD and for ranges', async () => {
    expect(await curl('-I', `${base}/text`)).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*content-length: 26\r\n\r\n$/);
    expect(await curl('-r', '5-9', '-w', ' %{http_code}', `${base}/text`)).toBe('fghij 206');
  });

  test('takes the proxy for an HTTP proxy (absolute-form)', async () => {
    const told = JSON.parse(await curl('-x', base, 'http://shop.test:81/x?y')) as Told;
    expect(told.headers.host).toBe('shop.test:81');
    expect(told.headers).not.toHaveProperty('proxy-connection');
  });
});

test('wrk counts no error and no answer but 200', async () => {
  const output = await run('wrk', ['-t1', '-c16', '-d1s', `${base}/text`]);
  expect(output).not.toMatch(/Socket errors|Non-2xx/);
  expect(Number(/(\d+) requests in/.exec(output)?.[1])).toBeGreaterThan(50);
});

test("Node's http agent keeps its connection, and gets trailers", async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const before = connections;
  try {
    for (let i = 0; i < 20; i++) {
      const sent = request(`${base}/chunked`, { agent });
      sent.end();
      const [response] = (await once(sent, 'response')) as [IncomingMessage];
      let text = '';
      for await (const piece of response) text += piece;
      expect([text, response.trailers['x-sum'], sent.reusedSocket]).toEqual(['one,two', '7', i > 0]);
    }
    expect(connections - before).toBeLessThanOrEqual(1);
  } finally {
    agent.destroy();
  }
});

test("Node's fetch (undici) streams a request and its answer", async () => {
  const body = Readable.toWeb(Readable.from([MEBIBYTE.subarray(0, 1000), MEBIBYTE.subarray(1000)]));
  const response = await fetch(`${base}/upload`, { method: 'POST', body: body as RequestInit['body'], duplex: 'half' } as RequestInit);
  expect((await response.json()) as Told).toMatchObject({ method: 'POST', size: MEBIBYTE.length, sha256: SHA256 });
  const answers = await Promise.all(Array.from({ length: 50 }, async () => (await fetch(`${base}/text`)).text()));
  expect(new Set(answers)).toEqual(new Set([TEXT]));
});

test("Python's http.client keeps its connection over chunked requests, HEAD and errors", async () => {
  const script = `
import http.client, json
client = http.client.HTTPConnection('127.0.0.1', ${proxy.ports[0]}, timeout=10)
seen = []
def ask(*args, **named):
    client.request(*args, **named)
    answer = client.getresponse()
    text = answer.read().decode()
    seen.append([answer.status, json.loads(text)['size'] if args[1] == '/upload' else text])
ask('GET', '/text')
socket = client.sock
ask('HEAD', '/text')
ask('POST', '/upload', body=iter([b'one', b'two']), encode_chunked=True, headers={'Transfer-Encoding': 'chunked'})
ask('GET', '/chunked')
assert client.sock is socket
print(json.dumps(seen))
`;
  expect(JSON.parse(await run('python3', ['-c', script]))).toEqual([
    [200, TEXT],
    [200, ''],
    [200, 6],
    [200, 'one,two'],
  ]);
});

/** One frame of less than 126 bytes, from the client (RFC 6455 5.2). */
function masked(text: string): Buffer {
  const mask = randomBytes(4);
  const payload = Buffer.from(text).map((byte, i) => byte ^ mask[i % 4]!);
  return Buffer.concat([Buffer.from([0x81, 0x80 | payload.length]), mask, payload]);
}

function unmasked(frame: Buffer): Buffer {
  const mask = frame.subarray(2, 6);
  return Buffer.concat([Buffer.from([0x81, frame[1]! & 0x7f]), frame.subarray(6).map((byte, i) => byte ^ mask[i % 4]!)]);
}

test('a WebSocket is opened, and its frames come back', async () => {
  const key = randomBytes(16).toString('base64');
  const headers = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-key': key, 'sec-websocket-version': '13' };
  const sent = request(`${base}/ws`, { headers });
  sent.end();
  const [response, socket] = (await once(sent, 'upgrade')) as [IncomingMessage, Socket];
  expect(response.headers['sec-websocket-accept']).toBe(
    createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64'),
  );
  for (const text of ['hello', 'again', '']) {
    socket.write(masked(text));
    const [frame] = (await once(socket, 'data')) as [Buffer];
    expect(frame).toEqual(Buffer.concat([Buffer.from([0x81, text.length]), Buffer.from(text)]));
  }
  socket.destroy();
});
