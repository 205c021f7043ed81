// What speaks TLS or plain TCP of the Gateway API's own conformance suite, on its manifests and the real `weft proxy --static` process: HTTPS and
// TLS listeners, clients' certificates, TLSRoute, TCPRoute, BackendTLSPolicy. Requests over HTTP alone are in gateway-api-pairs.test.ts.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer as createHttpServer, type IncomingMessage, request as requestHttp, type ServerResponse } from 'node:http';
import { connect as connectHttp2, createSecureServer, type IncomingHttpHeaders } from 'node:http2';
import { createServer as createHttpsServer, request as requestHttps } from 'node:https';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, expect } from '@jest/globals';
import { Certificates, type KeyPair } from '../lab/certificates.js';
import { type Doc, GatewayApiManifests, type ServicePort } from '../lab/gateway-api-manifests.js';
import { ProxyProcess } from '../lab/proxy-process.js';
import { hasTestdata, withTestdata } from '../lab/testdata.js';

const { describe, test } = withTestdata;

/** What is asked, and the backend's name, the status, or `reset` that answers. */
interface Pair {
  readonly gateway?: string | undefined;
  readonly port: number;
  /** Server name of the client's TLS; none: plain text. */
  readonly sni?: string;
  readonly host?: string;
  readonly path?: string;
  /** The authority of the client's certificate. */
  readonly client?: 'default' | 'perPort' | 'stranger' | undefined;
  readonly answer: string | number;
}

const https = (sni: string, host: string, answer: string | number, more: Partial<Pair> = {}): Pair => ({
  port: 443,
  sni,
  host,
  answer,
  ...more,
});
const plain = (path: string, answer: string | number): Pair => ({ port: 80, host: 'abc.example.com', path, answer });
const tcp = (port: number, answer: string): Pair => ({ port, answer });
const [V1, V2, V3] = ['infra-backend-v1', 'infra-backend-v2', 'infra-backend-v3'] as const;
const misdirected = (sni: string, host: string, answer: string | number): Pair =>
  https(sni, host, answer, { path: '/detect-misdirected-requests' });
/** Of clients with such a certificate, or none, at the listener for all and at that of port 8443. */
const clients = (onDefault: string, onPort: string, client?: Pair['client']): Pair[] => [
  https('example.org', 'example.org', onDefault, { client }),
  https('second-example.org', 'second-example.org', onPort, { client, port: 8443 }),
];
const redirected = (path: string, location: string): Pair => https('example.org', 'example.org', location, { path });

const HTTP_PAIRS: Readonly<Record<string, readonly Pair[]>> = {
  'httproute-https-listener': [
    https('example.org', 'example.org', V1),
    https('second-example.org', 'second-example.org', V2),
    https('unknown-example.org', 'unknown-example.org', 404),
    https('unknown-example.org', 'example.org', V1),
  ],
  'httproute-https-listener-detect-misdirected-requests': [
    misdirected('example.org', 'example.org', V1),
    misdirected('example.org', 'second-example.org', 421),
    misdirected('example.org', 'unknown-example.org', 404),
    misdirected('second-example.org', 'second-example.org', V2),
    misdirected('second-example.org', 'example.org', 421),
    misdirected('second-example.org', 'unknown-example.org', 421),
    misdirected('third-example.wildcard.org', 'third-example.wildcard.org', V3),
    misdirected('third-example.wildcard.org', 'fifth-example.wildcard.org', V3),
    misdirected('third-example.wildcard.org', 'fourth-example.wildcard.org', 421),
    misdirected('third-example.wildcard.org', 'second-example.org', 421),
    misdirected('third-example.wildcard.org', 'unknown-example.org', 421),
    misdirected('fourth-example.wildcard.org', 'fourth-example.wildcard.org', V1),
    misdirected('fourth-example.wildcard.org', 'fifth-example.wildcard.org', 421),
    misdirected('unknown-example.org', 'example.org', V1),
    misdirected('unknown-example.org', 'unknown-example.org', 404),
  ],
  'httproute-redirect-port-and-scheme': [
    redirected('/scheme-nil-and-port-nil', 'https://example.org/scheme-nil-and-port-nil'),
    redirected('/scheme-nil-and-port-443', 'https://example.org/scheme-nil-and-port-443'),
    redirected('/scheme-nil-and-port-8443', 'https://example.org:8443/scheme-nil-and-port-8443'),
    redirected('/scheme-http-and-port-nil', 'http://example.org/scheme-http-and-port-nil'),
    redirected('/scheme-http-and-port-80', 'http://example.org/scheme-http-and-port-80'),
    redirected('/scheme-http-and-port-8080', 'http://example.org:8080/scheme-http-and-port-8080'),
  ].map((pair) => ({ ...pair, gateway: 'same-namespace-with-https-listener' })),
  'gateway-with-clientcertificate-validation': [
    ...clients(V1, 'reset', 'default'),
    ...clients('reset', V2, 'perPort'),
    ...clients('reset', 'reset'),
    ...clients('reset', 'reset', 'stranger'),
  ],
  'gateway-with-clientcertificate-validation-insecure-fallback': [
    ...clients(V1, V2, 'default'),
    ...clients(V1, V2, 'perPort'),
    ...clients(V1, V2),
    ...clients(V1, V2, 'stranger'),
  ],
  'gateway-invalid-default-frontend-client-certificate-validation': [
    { port: 80, host: 'example.org', answer: V1 },
    https('example.org', 'example.org', 'reset'),
    https('example.org', 'example.org', 'reset', { client: 'default' }),
  ],
  'gateway-tls-backend-client-certificate': [plain('/', 'tls-backend-with-client-cert-validation')],
  'gateway-secret-reference-grant-all-in-namespace': [https('example.org', 'example.org', 404)],
  'gateway-secret-reference-grant-specific': [https('example.org', 'example.org', 404)],
  'gateway-secret-missing-reference-grant': [https('example.org', 'example.org', 'reset')],
  'gateway-secret-invalid-reference-grant': [https('example.org', 'example.org', 'reset')],
  'gateway-modify-listeners': [
    https('secure.test.com', 'secure.test.com', V1, { gateway: 'gateway-add-listener' }),
    https('secure.test.com', 'secure.test.com', V1, { gateway: 'gateway-remove-listener' }),
    { port: 80, host: 'data.test.com', gateway: 'gateway-remove-listener', answer: V1 },
  ],
  backendtlspolicy: [
    plain('/backendtlspolicy', 'backendtlspolicy-test'),
    plain('/backendtlspolicy-host-mismatch', 503),
    plain('/backendtlspolicy-cert-mismatch', 503),
    plain('/backendtlspolicy-reconcile-test', 'backendtlspolicy-reconcile-test'),
    https('https-listener.org', 'https-listener.org', 'backendtlspolicy-test', {
      gateway: 'same-namespace-with-https-listener',
      path: '/backendtlspolicy',
    }),
  ],
  'backendtlspolicy-san': [
    plain('/backendtlspolicy-san-dns', 'backendtlspolicy-san-dns-test'),
    plain('/backendtlspolicy-san-dns-mismatch', 503),
    plain('/backendtlspolicy-san-uri', 'backendtlspolicy-san-uri-test'),
    plain('/backendtlspolicy-san-uri-mismatch', 503),
    plain('/backendtlspolicy-multiple-sans', 'backendtlspolicy-multiple-sans-test'),
    plain('/backendtlspolicy-multiple-mismatch-sans', 503),
  ],
  'backendtlspolicy-conflict-resolution': [
    plain('/backendtlspolicy-conflicted-without-section-name', 'other.example.com'),
    plain('/backendtlspolicy-conflicted-with-section-name', 'other.example.com'),
    plain('/backendtlspolicy-not-conflicted-with-section-name', 'other.example.com'),
    plain('/backendtlspolicy-not-conflicted-without-section-name', 'abc.example.com'),
  ],
  'backendtlspolicy-invalid-ca-certificate-ref': [
    plain('/backendtlspolicy-nonexistent-ca-certificate-ref', 503),
    plain('/backendtlspolicy-malformed-ca-certificate-ref', 503),
  ],
  'backendtlspolicy-invalid-kind': [plain('/backendtlspolicy-invalid-kind', 503)],
  'tlsroute-hostname-intersection': [
    ['gw-tlsroute-exact-hostname-x-1', 'abc.example.com', 'tls-backend'],
    ['gw-tlsroute-exact-hostname-x-1', 'non.matching.com', 'reset'],
    ...['gw-tlsroute-more-specific-wc-hostname-x-2', 'gw-tlsroute-less-specific-wc-hostname-x-3', 'gw-tlsroute-empty-hostname-x-4'].flatMap(
      (gateway) => [
        [gateway, 'abc.example.com', 'tls-backend'],
        [gateway, 'other.example.com', 'tls-backend-2'],
        [gateway, 'non.matching.org', 'reset'],
      ],
    ),
    ['gw-tlsroute-more-specific-wc-hostname-x-2', 'non.matching.com', 'reset'],
    ['gw-tlsroute-less-specific-wc-hostname-x-3', 'non.matching.com', 'reset'],
  ].map(([gateway, sni = '', answer = '']) => https(sni, sni, answer, { gateway })),
  'tlsroute-invalid-reference-grant': [https('abc.example.com', 'abc.example.com', 'reset')],
  'tlsroute-invalid-backendref-nonexistent': [https('example.com', 'example.com', 'reset')],
};

const TCP_PAIRS: Readonly<Record<string, readonly Pair[]>> = {
  'tlsroute-simple-same-namespace': [
    { ...tcp(443, 'tcp-backend over TLS'), sni: 'abc.example.com' },
    { ...tcp(443, 'reset'), sni: 'other.example.com' },
    { ...tcp(443, 'reset'), sni: 'abc.example.org' },
  ],
  'tlsroute-terminate-simple-same-namespace': [
    { ...tcp(8443, 'tcp-backend'), sni: 'tls.example.com' },
    { ...tcp(8443, 'reset'), sni: 'abc.example.com' },
  ],
  'tlsroute-mixed-termination-same-namespace': [
    { ...tcp(8883, 'tcp-backend'), sni: 'tls.example.com' },
    { ...tcp(8883, 'tcp-backend over TLS'), sni: 'abc.example.com' },
    { ...tcp(8883, 'reset'), sni: 'unknown.example.com' },
  ],
  'backendtlspolicy-tlsroute-terminate': [{ ...tcp(8443, 'btls-terminate-tls-backend over TLS'), sni: 'tls.example.com' }],
  'tcproute-parentref-attach-all': [9310, 9311, 9312, 9313].map((port) => tcp(port, 'tcp-echo-attach-all')),
  'tcproute-parentref-port-and-section-name': [tcp(9300, 'tcp-echo-one'), tcp(9301, 'tcp-echo-two'), tcp(9302, 'tcp-echo-three')],
  'tcproute-multiple-routes-attachment': [tcp(9310, 'tcp-attach-backend-1')],
  'tcproute-reference-grant': [tcp(9320, 'tcp-reference-grant-backend')],
  'tcproute-invalid-cross-namespace-backend-ref': [tcp(9321, 'reset')],
  'tcproute-invalid-backendref-nonexistent': [tcp(9300, 'reset')],
  'tcproute-weighted-routing': [],
};

const GRPC_SERVICE = 'gateway_api_conformance.echo_basic.grpcecho.GrpcEcho';
const GRPC_FILE = 'backendtlspolicy-grpcroute';
const FILES = [...Object.keys(HTTP_PAIRS), ...Object.keys(TCP_PAIRS), GRPC_FILE];

const folder = mkdtempSync(join(tmpdir(), 'wgc-'));
const servers: Record<'http' | 'tls' | 'mutual' | 'tcp' | 'tcpTls' | 'grpc', Server> = {} as never;
const sockets = new Set<Socket>();
const clientPairs: Partial<Record<NonNullable<Pair['client']>, KeyPair>> = {};
const manifests = new GatewayApiManifests('127.74', '127.75.0', portOf);
let proxy: ProxyProcess | undefined;
let certificates: Certificates | undefined;

function portOf(service: string, { targetPort }: ServicePort): number {
  const { http, tls, mutual, tcp: bytes, tcpTls, grpc } = servers;
  const kind = (): Server => {
    if (service.startsWith('tcp-') || service === 'btls-terminate-tls-backend') return targetPort === 8443 ? tcpTls : bytes;
    if (service.endsWith('client-cert-validation')) return mutual;
    if (service.includes('-grpc-')) return grpc;
    return targetPort === 8443 ? tls : http;
  };
  return (kind().address() as AddressInfo).port;
}

/** Says its name; where policies compete for one Service also the server name that was asked for. */
function answer(asked: IncomingMessage, response: ServerResponse): void {
  const name = manifests.nameAt(asked.socket.localAddress) ?? '';
  response.end(/-conflicted-/.test(name) ? String((asked.socket as TLSSocket).servername) : name);
}

function echo(socket: Socket, suffix: string): void {
  socket.on('error', () => socket.destroy());
  socket.on('data', () => socket.end(`${manifests.nameAt(socket.localAddress)}${suffix}`));
}

/** What the suite makes itself: certificates, and who signed them. */
function secrets(made: Certificates): { readonly docs: Doc[]; readonly checks: KeyPair; readonly authority: KeyPair } {
  const namespace = 'gateway-conformance-infra';
  const [authority, perPort, stranger] = ['backends', 'clients of one port', 'nobody'].map((name) => made.authority(name)) as [
    KeyPair,
    KeyPair,
    KeyPair,
  ];
  const secret = (name: string, { cert, key }: KeyPair, of = namespace): object => ({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name, namespace: of },
    type: 'kubernetes.io/tls',
    stringData: { 'tls.crt': cert, 'tls.key': key },
  });
  const trust = (name: string, { cert }: KeyPair): object => ({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name, namespace },
    data: { 'ca.crt': cert },
  });
  const checks = made.issue(authority, 'DNS:abc.example.com', 'DNS:other.example.com', 'URI:spiffe://abc.example.com/test-identity');
  const validity = made.issue(authority, 'DNS:*.org', 'DNS:*.example.org');
  const client = made.issue(authority, 'DNS:client.test');
  clientPairs.default = client;
  clientPairs.perPort = made.issue(perPort, 'DNS:client.test');
  clientPairs.stranger = made.issue(stranger, 'DNS:client.test');
  const docs = [
    secret('tls-validity-checks-certificate', validity),
    secret('certificate', validity, 'gateway-conformance-web-backend'),
    secret('tls-terminate-checks-certificate', made.issue(authority, 'DNS:tls.example.com')),
    secret('tls-checks-client-certificate', client),
    trust('tls-checks-ca-certificate', authority),
    trust('mismatch-ca-certificate', stranger),
    trust('tls-validity-checks-ca-certificate', authority),
    trust('tls-validity-checks-per-port-ca-certificate', perPort),
  ];
  return { docs: docs as Doc[], checks, authority };
}

beforeAll(async () => {
  if (!hasTestdata) return;
  certificates = new Certificates();
  const { docs, checks, authority } = secrets(certificates);
  const { cert, key } = checks;
  servers.http = createHttpServer(answer);
  servers.tls = createHttpsServer({ cert, key }, answer);
  servers.mutual = createHttpsServer({ cert, key, ca: authority.cert, requestCert: true, rejectUnauthorized: true }, answer);
  servers.tcp = createServer((socket) => echo(socket, ''));
  servers.tcpTls = createTlsServer({ cert, key }, (socket) => echo(socket, ' over TLS'));
  servers.grpc = createSecureServer({ cert, key }).on('stream', (stream) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.resume().end();
  });
  for (const server of Object.values(servers)) {
    server.on('connection', (socket: Socket) => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
    });
    await once(server.listen(0, '0.0.0.0'), 'listening');
  }
  const file = join(folder, 'all.yaml');
  manifests.write(file, FILES, docs);
  proxy = ProxyProcess.start(file, folder);
  await proxy.says('"ready"');
});

afterAll(async () => {
  await proxy?.kill();
  for (const server of Object.values(servers)) server.close();
  for (const socket of sockets) socket.destroy();
  certificates?.remove();
  rmSync(folder, { recursive: true, force: true });
});

/** `answer` as a pair has it; of a redirect its location. */
async function ask(file: string, { gateway, port, sni, host = '', path = '/', client }: Pair): Promise<string | number> {
  const pair = client === undefined ? undefined : clientPairs[client];
  const options = { host: manifests.addressOf(file, gateway), port, path, agent: false, headers: { host } } as const;
  const sent =
    sni === undefined
      ? requestHttp(options)
      : requestHttps({ ...options, servername: sni, rejectUnauthorized: false, cert: pair?.cert, key: pair?.key });
  sent.end();
  try {
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    let text = '';
    for await (const piece of response) text += piece;
    return response.statusCode === 200 ? text : (response.headers.location ?? response.statusCode ?? 0);
  } catch {
    return 'reset';
  }
}

const titled = (pairs: readonly Pair[]) =>
  pairs.map(
    (pair) =>
      [
        `${pair.gateway ?? ''}:${pair.port} ${pair.sni ?? ''} ${pair.host ?? ''}${pair.path ?? ''} ${pair.client ?? ''}: ${pair.answer}`,
        pair,
      ] as const,
  );

describe.each(Object.entries(HTTP_PAIRS))('%s', (file, pairs) => {
  test.each(titled(pairs))('%s', async (_, pair) => {
    expect(await ask(file, pair)).toBe(pair.answer);
  });
});

/** The text that comes for a few bytes. */
async function say(file: string, { gateway, port, sni }: Pair): Promise<string> {
  const host = manifests.addressOf(file, gateway);
  const socket = sni === undefined ? connect(port, host) : connectTls({ host, port, servername: sni, rejectUnauthorized: false });
  socket.write('hello');
  try {
    const [bytes] = (await Promise.race([once(socket, 'data'), once(socket, 'close').then(() => ['reset'])])) as [Buffer | string];
    return String(bytes);
  } catch {
    return 'reset';
  } finally {
    socket.destroy();
  }
}

describe.each(Object.entries(TCP_PAIRS).filter(([, pairs]) => pairs.length > 0))('%s', (file, pairs) => {
  test.each(titled(pairs))('%s', async (_, pair) => {
    expect(await say(file, pair)).toBe(pair.answer);
  });
});

test('connections are shared out as the weights say, and weight 0 gets none', async () => {
  const counts = new Map<string, number>();
  for (let i = 0; i < 300; i++) {
    const name = await say('tcproute-weighted-routing', tcp(9300, ''));
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  expect([...counts.keys()].sort()).toEqual(['tcp-backend-v1', 'tcp-backend-v2']);
  // 70 of 100; of 300 within 0.1 in all but one of 6,000 runs.
  expect(Math.abs((counts.get('tcp-backend-v1') ?? 0) / 300 - 0.7)).toBeLessThan(0.1);
});

test.each([
  ['Echo', 'abc.example.com', 0],
  ['EchoTwo', 'abc.example.com', 14],
  ['Echo', 'cert-mismatch.example.com', 14],
])('a gRPC call over verified TLS: %s of %s has status %i', async (method, authority, status) => {
  const session = connectHttp2(`http://${manifests.addressOf(GRPC_FILE, undefined)}:80`);
  const stream = session.request({
    ':method': 'POST',
    ':path': `/${GRPC_SERVICE}/${method}`,
    ':authority': authority,
    'content-type': 'application/grpc',
  });
  let told: IncomingHttpHeaders = {};
  stream.on('response', (head) => {
    told = { ...head, ...told };
  });
  stream.on('trailers', (trailers) => {
    told = { ...told, ...trailers };
  });
  stream.end(Buffer.alloc(5)).resume();
  await once(stream, 'close');
  session.close();
  expect(Number(told['grpc-status'])).toBe(status);
});
