// How TLS ends, on either side of the real `weft proxy --static` process: a client's close_notify is the end of its requests and no more, and
// a server's missing one is an answer that is not whole.
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectHttp2, constants } from 'node:http2';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { connect as connectTls, createSecureContext, TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Certificates, type KeyPair, secretManifest } from '../lab/certificates.js';
import { eventually } from '../lab/eventually.js';
import { freePort } from '../lab/ports.js';
import { gatewayManifest, ProxyProcess } from '../lab/proxy-process.js';

/** What the backend does with a request. */
type Answer = (tls: TLSSocket, raw: Socket) => void;

/** Content type of TLS. */
const ALERT = 21;
const HEAD = 'HTTP/1.1 200 OK\r\n';
const certificates = new Certificates();
const folder = mkdtempSync(join(tmpdir(), 'wte-'));
let [edge, authority] = [{} as KeyPair, {} as KeyPair];
let proxy: ProxyProcess;
let port = 0;
/** By path. */
const answers = new Map<string, Answer>();

const backend = createServer((raw) => {
  raw.on('error', () => {});
  const tls = new TLSSocket(raw, { isServer: true, secureContext });
  tls.on('error', () => {});
  let heard = '';
  tls.setEncoding('latin1').on('data', (text: string) => {
    heard += text;
    if (!heard.endsWith('\r\n\r\n')) return;
    const path = heard.split(' ')[1]!;
    heard = '';
    answers.get(path)?.(tls, raw);
  });
});
let secureContext: ReturnType<typeof createSecureContext>;

const manifests = (backendPort: number): string => `${secretManifest('edge', edge)}
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {ports: [{name: main, port: 443, appProtocol: http}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shop-1, labels: {kubernetes.io/service-name: shop}}
addressType: IPv4
ports: [{name: main, port: ${backendPort}}]
endpoints: [{addresses: [127.0.0.1]}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ca}
data: {ca.crt: ${JSON.stringify(authority.cert)}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: shop}]
  validation: {hostname: shop.test, caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]}
---${gatewayManifest(`{name: web, port: ${port}, protocol: HTTPS, tls: {certificateRefs: [{name: edge}]}}`)}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: shop, port: 443}]}]}
`;

beforeAll(async () => {
  authority = certificates.authority('root');
  edge = certificates.issue(authority, 'DNS:edge.test');
  secureContext = createSecureContext(certificates.issue(authority, 'DNS:shop.test'));
  backend.listen(0, '127.0.0.1');
  await once(backend, 'listening');
  port = await freePort();
  const file = join(folder, 'edge.yaml');
  writeFileSync(file, manifests((backend.address() as AddressInfo).port), { mode: 0o600 });
  proxy = ProxyProcess.start(file, folder);
  await proxy.says('"ready"');
});
afterAll(async () => {
  await proxy.kill();
  backend.close();
  certificates.remove();
  rmSync(folder, { recursive: true, force: true });
});

/** What TLS writes to the socket, held back when that is wanted. */
class Wire extends Duplex {
  private held: Buffer[] | null = null;
  private heard = Buffer.alloc(0);

  constructor(readonly raw: Socket) {
    super();
    raw.on('data', (bytes: Buffer) => {
      this.heard = Buffer.concat([this.heard, bytes]);
      this.push(bytes);
    });
    raw.on('end', () => this.push(null));
    raw.on('error', () => {});
    raw.on('close', () => this.destroy());
  }

  /** Its type, which TLS 1.2 does not hide. */
  lastRecord(): number {
    let type = 0;
    for (let at = 0; at + 5 <= this.heard.length; at += 5 + this.heard.readUInt16BE(at + 3)) type = this.heard.readUInt8(at);
    return type;
  }

  hold(): void {
    this.held = [];
  }

  release(): void {
    this.raw.write(Buffer.concat(this.held ?? []));
    this.held = null;
  }

  override _read(): void {}

  override _write(bytes: Buffer, _: BufferEncoding, done: () => void): void {
    if (this.held === null) this.raw.write(bytes);
    else this.held.push(bytes);
    done();
  }
}

class Client {
  heard = '';

  private constructor(
    readonly wire: Wire,
    readonly tls: TLSSocket,
  ) {
    tls.setEncoding('latin1').on('data', (text: string) => {
      this.heard += text;
    });
  }

  static async to(version: 'TLSv1.2' | 'TLSv1.3'): Promise<Client> {
    const raw = connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
    await once(raw, 'connect');
    const wire = new Wire(raw);
    const tls = connectTls({ socket: wire, servername: 'edge.test', ca: authority.cert, minVersion: version, maxVersion: version });
    tls.on('error', () => {});
    await once(tls, 'secureConnect');
    return new Client(wire, tls);
  }

  /** The request and close_notify, in one segment or two; then perhaps FIN. */
  async ask(path: string, { inOne, fin }: { inOne: boolean; fin: boolean }): Promise<void> {
    if (inOne) this.wire.hold();
    await new Promise((sent) => this.tls.write(`GET ${path} HTTP/1.1\r\nHost: edge.test\r\n\r\n`, sent));
    this.tls.end();
    await once(this.tls, 'finish');
    if (inOne) this.wire.release();
    if (fin) this.wire.raw.end();
  }
}

const late: Answer = (tls) => setTimeout(() => tls.write(`${HEAD}content-length: 2\r\n\r\nok`), 50);

describe.each(['TLSv1.2', 'TLSv1.3'] as const)('a client of %s', (version) => {
  test.each([
    { inOne: true, fin: true },
    { inOne: true, fin: false },
    { inOne: false, fin: true },
    { inOne: false, fin: false },
  ])('that says close_notify behind its request is answered (%j)', async (way) => {
    answers.set('/late', late);
    const client = await Client.to(version);
    await client.ask('/late', way);
    await eventually(
      async () => client.heard,
      (heard) => heard.endsWith('ok'),
    );
    expect(client.heard).toMatch(/^HTTP\/1.1 200 OK\r\n.*\r\n\r\nok$/s);
    // The proxy has nothing more to say to it either.
    if (way.fin) expect(await eventually(async () => client.wire.raw.closed, Boolean)).toBe(true);
    client.wire.raw.destroy();
  });

  test('that ends without close_notify is gone, and its request is given up', async () => {
    const client = await Client.to(version);
    const reached = new Promise<Socket>((resolve) => answers.set('/gone', (_, raw) => resolve(raw)));
    client.tls.write('GET /gone HTTP/1.1\r\nHost: edge.test\r\n\r\n');
    const server = await reached;
    client.wire.raw.end();
    await once(server, 'close');
    expect(client.heard).toBe('');
  });
});

const untilClose = `${HEAD}\r\nsome`;
const whole: Answer = (tls) => tls.end(untilClose);
const truncated: Answer = (tls, raw) => tls.write(untilClose, () => raw.end());

/** An HTTP/1.0 client knows the end by TLS alone (a reset that comes with the last bytes is an end to Node); close_notify is an alert. */
async function ask1(path: string, version: '1.0' | '1.1'): Promise<{ text: string; isWhole: boolean }> {
  const client = await Client.to('TLSv1.2');
  client.tls.write(`GET ${path} HTTP/${version}\r\nHost: edge.test\r\nConnection: close\r\n\r\n`);
  client.wire.raw.on('end', () => client.wire.raw.end());
  await once(client.wire, 'close');
  const isWhole = version === '1.0' ? client.wire.lastRecord() === ALERT : client.heard.endsWith('\r\n0\r\n\r\n');
  return { text: client.heard, isWhole };
}

async function ask2(path: string): Promise<{ text: string; code: number }> {
  const session = connectHttp2(`https://127.0.0.1:${port}`, { ca: authority.cert, servername: 'edge.test' });
  session.on('error', () => {});
  const stream = session.request({ ':path': path, ':authority': 'edge.test' });
  let text = '';
  stream.setEncoding('latin1').on('data', (piece: string) => {
    text += piece;
  });
  stream.on('error', () => {});
  await new Promise((resolve) => stream.on('close', resolve));
  session.destroy();
  return { text, code: stream.rstCode };
}

describe('an answer over TLS that ends with its connection', () => {
  test('is whole behind close_notify, for every client', async () => {
    answers.set('/whole', whole);
    for (const version of ['1.0', '1.1'] as const) {
      const { text, isWhole } = await ask1('/whole', version);
      expect([version, text.includes('some'), isWhole]).toEqual([version, true, true]);
    }
    expect(await ask2('/whole')).toEqual({ text: 'some', code: constants.NGHTTP2_NO_ERROR });
  });

  test('is not whole without it, and no client takes it for that', async () => {
    answers.set('/truncated', truncated);
    for (const version of ['1.0', '1.1'] as const) {
      const { isWhole } = await ask1('/truncated', version);
      expect([version, isWhole]).toEqual([version, false]);
    }
    expect((await ask2('/truncated')).code).toBe(constants.NGHTTP2_INTERNAL_ERROR);
    expect(await proxy.counter('upstream_resets')).toBe(3);
    expect(await proxy.counter('tls_failures_truncated')).toBeGreaterThanOrEqual(3);
  });

  test('needs none where its length says how long it is', async () => {
    answers.set('/length', (tls, raw) => tls.write(`${HEAD}content-length: 2\r\n\r\nok`, () => raw.end()));
    expect((await ask1('/length', '1.0')).isWhole).toBe(true);
    expect(await ask2('/length')).toEqual({ text: 'ok', code: constants.NGHTTP2_NO_ERROR });
  });
});
