// Chromium through a gateway's TLS listener, all over one HTTP/2 connection: a page with many parts, uploads, EventSource, WebSocket.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Browser, chromium, type Page } from 'playwright-core';
import { WebSocketServer } from 'ws';
import { eventually } from '../lab/eventually.js';
import { Gateway } from '../lab/gateway.js';
import { accessLog } from '../lab/proxy-process.js';

const PARTS = 200;
const UPLOAD = 3_000_000;
const PAGE = `<!doctype html><title>shop</title><link rel=icon href=data:,>${Array.from(
  { length: PARTS },
  (_, i) => `<script defer src="/part/${i}.js"></script>`,
).join('')}`;

const origin = createServer((incoming, response) => void serve(incoming, response));
const sockets = new WebSocketServer({ server: origin });
const logs = mkdtempSync(join(tmpdir(), 'wbrowser-'));
const logFile = join(logs, 'access.log');
let gateway: Gateway;
let browser: Browser;
let page: Page;

beforeAll(async () => {
  sockets.on('connection', (socket) => socket.on('message', (data: Buffer, isBinary) => socket.send(data, { binary: isBinary })));
  origin.listen(0, '127.0.0.1');
  await once(origin, 'listening');
  const site = { name: 'site', port: (origin.address() as AddressInfo).port, appProtocol: 'http', prefix: '/' };
  gateway = await Gateway.start([site], '--access-log', 'all', '--access-log-file', logFile);
  browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: [
      ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
      ...['--disable-component-update', '--disable-sync', `--host-resolver-rules=MAP ${gateway.host} 127.0.0.1`],
    ],
  });
  page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
});
afterAll(async () => {
  await browser?.close();
  await gateway?.stop();
  rmSync(logs, { recursive: true, force: true });
  for (const socket of sockets.clients) socket.terminate();
  origin.closeAllConnections();
  origin.close();
});

async function serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
  const part = /^\/part\/(\d+)\.js$/.exec(incoming.url ?? '')?.[1];
  if (incoming.url === '/') {
    response.setHeader('content-type', 'text/html').end(PAGE);
  } else if (part !== undefined) {
    response.setHeader('content-type', 'text/javascript').end(`(window.parts ??= []).push(${part}) // ${'x'.repeat(Number(part) * 50)}`);
  } else if (incoming.url === '/events') {
    response.setHeader('content-type', 'text/event-stream');
    // The next only when the one before must have left the proxy: nothing may wait for the end of the answer.
    for (let i = 0; i < 3; i++) {
      response.write(`id: ${i}\ndata: event ${i}\n\n`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    response.on('close', () => response.end());
  } else {
    const hash = createHash('sha256');
    for await (const chunk of incoming) hash.update(chunk as Buffer);
    response.end(hash.digest('hex'));
  }
}

test(`a page and its ${PARTS} parts come over one HTTP/2 connection`, async () => {
  const before = await gateway.proxy.counter('downstream_accepted');
  await page.goto(`https://${gateway.host}:${gateway.tlsPort}/`, { waitUntil: 'load' });
  const seen = await page.evaluate(() => ({
    parts: (globalThis as unknown as { parts: number[] }).parts,
    protocols: performance
      .getEntries()
      .filter((entry) => 'nextHopProtocol' in entry)
      .map((entry) => (entry as unknown as { nextHopProtocol: string }).nextHopProtocol),
  }));
  expect(seen.parts).toEqual(Array.from({ length: PARTS }, (_, i) => i));
  expect(seen.protocols).toHaveLength(PARTS + 1);
  expect(new Set(seen.protocols)).toEqual(new Set(['h2']));
  // Browsers may open a spare one.
  expect((await gateway.proxy.counter('downstream_accepted')) - before).toBeLessThanOrEqual(2);
});

test('uploads arrive whole, several at once', async () => {
  const [sent, got] = await page.evaluate(async (size) => {
    const bodies = Array.from({ length: 4 }, (_, i) => new Uint8Array(size).map((_byte, at) => (at * (i + 3)) >> 3));
    const hex = (bytes: ArrayBuffer): string => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, '0')).join('');
    const got = await Promise.all(bodies.map(async (body) => (await fetch('/upload', { method: 'POST', body })).text()));
    const sent = await Promise.all(bodies.map(async (body) => hex(await crypto.subtle.digest('SHA-256', body))));
    return [sent, got];
  }, UPLOAD);
  expect(got).toEqual(sent);
});

test('events of an EventSource come one by one, while the answer goes on', async () => {
  const events = await page.evaluate(
    () =>
      new Promise<string[]>((resolve) => {
        const got: string[] = [];
        const source = new (globalThis as unknown as { EventSource: new (url: string) => BrowserEventSource }).EventSource('/events');
        interface BrowserEventSource {
          onmessage: (event: { data: string }) => void;
          close(): void;
        }
        source.onmessage = ({ data }) => {
          if (got.push(data) < 3) return;
          source.close();
          resolve(got);
        };
      }),
  );
  expect(events).toEqual(['event 0', 'event 1', 'event 2']);
});

test('a WebSocket on the page’s HTTP/2 connection carries text and a mebibyte of bytes both ways, and closes with its code', async () => {
  const before = await gateway.proxy.counter('downstream_accepted');
  const url = `wss://${gateway.host}:${gateway.tlsPort}/ws`;
  const seen = await page.evaluate(
    (target) =>
      new Promise<{ text: string; size: number; code: number }>((resolve, reject) => {
        const socket = new WebSocket(target);
        socket.binaryType = 'arraybuffer';
        let text = '';
        let size = 0;
        socket.onopen = () => socket.send('hello');
        socket.onerror = () => reject(new Error('the WebSocket failed'));
        socket.onmessage = ({ data }) => {
          if (typeof data === 'string') {
            text = data;
            socket.send(new Uint8Array(1 << 20).fill(7));
          } else {
            size = new Uint8Array(data as ArrayBuffer).filter((byte) => byte === 7).length;
            socket.close(4003, 'enough');
          }
        };
        socket.onclose = ({ code }) => resolve({ text, size, code });
      }),
    url,
  );
  expect(seen).toEqual({ text: 'hello', size: 1 << 20, code: 4003 });
  // RFC 8441: no connection of its own.
  expect((await gateway.proxy.counter('downstream_accepted')) - before).toBe(0);
  const logged = async () => accessLog(logFile).filter(({ path }) => path === '/ws');
  const [socket] = await eventually(logged, (lines) => lines.length > 0);
  expect(socket).toMatchObject({ protocol: 'http/2', status: 200 });
});
