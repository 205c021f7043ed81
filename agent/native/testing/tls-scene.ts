// What the tests of TLS share: certificates of two authorities, one engine in a worker, clients and servers. All of it ends with the tests.
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import type { AddressInfo, Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls';
import { Worker } from 'node:worker_threads';
import { afterAll } from '@jest/globals';
import { closesAfterEach } from '../../../test/lab/closing.js';
import type { ConnectionFailures, EndpointTlsSpec, EngineLimits, ListenerSpec, TlsContextSpec, TlsFailure } from '../engine.js';
import { ADDON, addon } from './addon.js';
import { TEST_LIMITS } from './limits.js';

const LIMITS: EngineLimits = { ...TEST_LIMITS, maxConnections: 500, maxBufferedBytes: 262_144, headerTimeoutMs: 2_000 };
const HOSTS = ['a.test', 'b.test', '*.w.test'];
export const CART = 'spiffe://td.test/ns/shop/sa/cart';

interface Leaf {
  readonly chain: string;
  readonly key: string;
}

export const folder = mkdtempSync(join(tmpdir(), 'weft-tls-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const leaves = new Map<string, Leaf>();

export function openssl(...args: string[]): void {
  execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
}

function makeAuthority(name: string): string {
  openssl(
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-subj',
    `/CN=${name}`,
    '-days',
    '2',
    '-keyout',
    `${name}.key`,
    '-out',
    `${name}.pem`,
  );
  return readFileSync(join(folder, `${name}.pem`), 'utf8');
}

function makeLeaf(name: string, sans: string, authority = 'ca', days = '1'): void {
  writeFileSync(join(folder, `${name}.cnf`), `subjectAltName=${sans}\nbasicConstraints=critical,CA:FALSE\n`);
  openssl(
    'req',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:P-256',
    '-nodes',
    '-subj',
    '/CN=leaf',
    '-keyout',
    `${name}.key`,
    '-out',
    `${name}.csr`,
  );
  openssl(
    'x509',
    '-req',
    '-in',
    `${name}.csr`,
    '-CA',
    `${authority}.pem`,
    '-CAkey',
    `${authority}.key`,
    '-CAcreateserial',
    '-days',
    days,
    '-extfile',
    `${name}.cnf`,
    '-out',
    `${name}.pem`,
  );
  leaves.set(name, { chain: readFileSync(join(folder, `${name}.pem`), 'utf8'), key: readFileSync(join(folder, `${name}.key`), 'utf8') });
}

/** PEM of the authority that everybody trusts. */
export const trust = makeAuthority('ca');
export const foreign = makeAuthority('foreign');
makeLeaf('a', 'DNS:a.test');
makeLeaf('a2', 'DNS:a.test');
makeLeaf('b', 'DNS:b.test');
makeLeaf('w', 'DNS:*.w.test');
makeLeaf('cart', `URI:${CART}`);
makeLeaf('intruder', `URI:${CART}`, 'foreign');

/** What ends with the test. */
export const closing = closesAfterEach();

/** A certificate of the trusted authority's, but for "intruder". */
export function leaf(name: string): Leaf {
  const found = leaves.get(name);
  if (found === undefined) throw new Error(`no leaf ${name}`);
  return found;
}

export class Engine {
  readonly counters = new Float64Array(new SharedArrayBuffer(8 * 256));
  private readonly outstanding = new Int32Array(new SharedArrayBuffer(64));
  private readonly worker: Worker;
  constructor(limits: Partial<EngineLimits> = {}) {
    this.worker = new Worker(join(process.cwd(), 'agent/native/testing/tls-worker.mjs'), {
      workerData: { addon: ADDON, limits: { ...LIMITS, ...limits }, counters: this.counters, outstanding: this.outstanding },
    });
    closing.push(async () => {
      this.worker.postMessage(['close']);
      await once(this.worker, 'exit');
    });
  }
  async call<T = undefined>(method: string, ...args: unknown[]): Promise<T> {
    this.worker.postMessage([method, ...args]);
    const [reply] = (await once(this.worker, 'message')) as [{ value: T; error?: string }];
    if (reply.error !== undefined) throw new Error(reply.error);
    return reply.value;
  }
  counter(name: string): number {
    return this.counters[addon().counterNames().indexOf(name)]!;
  }
  context(spec: Partial<TlsContextSpec>): Promise<number> {
    return this.call<number>('createTlsContext', {
      role: 'server',
      certificates: [],
      trust: null,
      alpn: [],
      passthrough: [],
      clientCertificates: 'none',
      verifiesServer: true,
      accepts: [],
      ticketKeys: null,
      ...spec,
    });
  }
  server(spec: Partial<TlsContextSpec> = {}): Promise<number> {
    return this.context({ certificates: [{ serverNames: [], ...leaf('a'), limits: null }], ...spec });
  }
  listen(spec: Partial<ListenerSpec>): Promise<number> {
    return this.call<number>('listen', {
      id: 1,
      kind: 'gateway',
      address: '127.0.0.1',
      port: 0,
      protocol: 'http1',
      sockmap: null,
      forwarding: null,
      tls: null,
      proxyProtocol: false,
      pod: null,
      ...spec,
    });
  }
  async terminate(context: number, spec: Partial<ListenerSpec> = {}): Promise<number> {
    return this.listen({ tls: { mode: 'terminate', context }, ...spec });
  }
  endpoints(...endpoints: readonly { port: number; tls?: EndpointTlsSpec; protocol?: 'http2' }[]): Promise<undefined> {
    return this.call('useTables', {
      hosts: HOSTS,
      identities: ['spiffe://td.test/other', CART],
      endpoints: endpoints.map(({ port, tls, protocol }, id) => ({
        id,
        address: '127.0.0.1',
        port,
        protocol: protocol ?? 'http1',
        tls: tls ?? null,
      })),
    });
  }
}

export function port(server: Server): number {
  return (server.address() as AddressInfo).port;
}
export async function listening<T extends Server>(server: T): Promise<T> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(() => {
    server.close();
    (server as T & { closeAllConnections?: () => void }).closeAllConnections?.();
  });
  return server;
}
export async function upstream(body = 'ok'): Promise<number> {
  return port(
    await listening(
      createHttpServer((request, response) => {
        request.resume().on('end', () => response.end(`${request.headers.host}:${body}`));
      }),
    ),
  );
}

export function open(portNumber: number, options: ConnectionOptions = {}): TLSSocket {
  const socket = connectTls({ host: '127.0.0.1', port: portNumber, servername: 'a.test', ca: trust, ...options });
  socket.on('error', () => {});
  closing.push(() => void socket.destroy());
  return socket;
}
/** Unlike once(), an error is no failure here. */
export function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.resume().on('close', () => resolve()));
}
export async function secured(socket: TLSSocket): Promise<TLSSocket> {
  if (socket.getProtocol() === null || !socket.authorized) await once(socket, 'secureConnect');
  return socket;
}
export function until(socket: Socket, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let got = '';
    socket.on('data', (bytes) => {
      got += bytes.toString('latin1');
      if (got.includes(text)) resolve(got);
    });
    socket.on('close', () => reject(new Error(`closed after ${JSON.stringify(got.slice(-200))}`)));
  });
}
export async function get(socket: Socket, host = 'a.test'): Promise<string> {
  const answer = until(socket, ':ok');
  socket.write(`GET / HTTP/1.1\r\nhost: ${host}\r\n\r\n`);
  return answer;
}
/** The failure that the engine notes, as soon as it has one. */
export async function failure(engine: Engine): Promise<TlsFailure> {
  for (;;) {
    const {
      tls: [first],
    } = await engine.call<ConnectionFailures>('takeFailures');
    if (first !== undefined) return first;
  }
}
