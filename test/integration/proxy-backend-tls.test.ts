// BackendTLSPolicy: the real `weft proxy --static` process with two workers, before nginx and node:http2 servers that speak TLS alone.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { createSecureServer } from 'node:http2';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import { Client, credentials, type handleUnaryCall, Server, ServerCredentials } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Certificates, type KeyPair, secretManifest } from '../lab/certificates.js';
import { eventually } from '../lab/eventually.js';
import { freePort } from '../lab/ports.js';
import { accessLog, gatewayManifest, type ProxyProcess } from '../lab/proxy-process.js';
import { ProxyScope } from '../lab/proxy-scope.js';

let certificates: Certificates;
let authority: KeyPair;
const scope = new ProxyScope();
beforeAll(() => {
  certificates = new Certificates();
  authority = certificates.authority('backend root');
});
afterAll(() => certificates.remove());

/** nginx, which answers with what its TLS heard. */
async function nginx(pair: KeyPair): Promise<number> {
  const port = await freePort();
  const root = mkdtempSync(join(scope.folder, 'nginx-'));
  mkdirSync(join(root, 'logs'));
  writeFileSync(
    join(root, 'nginx.conf'),
    `daemon off; master_process off; pid ${root}/pid; error_log ${root}/error.log notice; events {}
http { access_log off;
  client_body_temp_path ${root}/b; proxy_temp_path ${root}/p; fastcgi_temp_path ${root}/f; uwsgi_temp_path ${root}/u; scgi_temp_path ${root}/s;
  server { listen 127.0.0.1:${port} ssl; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate ${pair.certFile}; ssl_certificate_key ${pair.keyFile};
    location / { return 200 "$ssl_server_name $ssl_protocol $ssl_alpn_protocol $ssl_session_reused"; } } }`,
  );
  const child = spawn('nginx', ['-p', root, '-c', join(root, 'nginx.conf')], { stdio: 'ignore' });
  scope.closing.push(async () => {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  });
  await eventually(
    () =>
      new Promise<boolean>((resolve) => {
        const socket = connect(port, '127.0.0.1', () => resolve(true));
        socket.on('error', () => resolve(false));
        socket.on('connect', () => socket.destroy());
      }),
    (isUp) => isUp,
  );
  return port;
}

const service = (name: string, port: number, appProtocol: string): string => `
apiVersion: v1
kind: Service
metadata: {name: ${name}}
spec: {ports: [{name: main, port: 443, appProtocol: ${appProtocol}}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ${name}-1, labels: {kubernetes.io/service-name: ${name}}}
addressType: IPv4
ports: [{name: main, port: ${port}}]
endpoints: [{addresses: [127.0.0.1]}]
---`;
const configMap = (name: string, pem: string): string => `
apiVersion: v1
kind: ConfigMap
metadata: {name: ${name}}
data: {ca.crt: ${JSON.stringify(pem)}}
---`;
const policy = (serviceName: string, validation: string, section = ''): string => `
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: ${serviceName}}
spec: {targetRefs: [{group: "", kind: Service, name: ${serviceName}${section === '' ? '' : `, sectionName: ${section}`}}], validation: {${validation}}}
---`;
const trusting = (hostname: string, configMapName = 'ca', more = ''): string =>
  `hostname: ${hostname}, caCertificateRefs: [{group: "", kind: ConfigMap, name: ${configMapName}}]${more}`;
const httpRoute = (name: string, path = '/'): string => `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ${name}}
spec: {parentRefs: [{name: edge}], rules: [{matches: [{path: {value: ${path}}}], backendRefs: [{name: ${name}, port: 443}]}]}
---`;

const grpcRoute = (name: string, method: string): string => `
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: ${name}}
spec: {parentRefs: [{name: edge}], rules: [{matches: [{method: ${method}}], backendRefs: [{name: ${name}, port: 443}]}]}
---`;

async function start(
  manifests: string,
): Promise<{ proxy: ProxyProcess; write: (text: string) => Promise<void>; log: () => Record<string, unknown>[] }> {
  const [file, logFile] = [join(scope.folder, 'edge.yaml'), join(scope.folder, 'access.log')];
  writeFileSync(file, manifests);
  const proxy = await scope.start(file, '--access-log', 'all', '--access-log-file', logFile);
  const write = async (text: string): Promise<void> => {
    const from = proxy.errors.length;
    writeFileSync(file, text);
    await proxy.says('is in force', from);
  };
  const log = (): Record<string, unknown>[] => accessLog(logFile);
  return { proxy, write, log };
}

function ask(port: number, path = '/'): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    get({ port, host: '127.0.0.1', path, agent: false }, (response) => {
      let text = '';
      response.on('data', (chunk) => {
        text += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    }).on('error', reject);
  });
}

const http = (port: number): string => gatewayManifest(`{name: web, port: ${port}, protocol: HTTP}`);

describe('a service with a BackendTLSPolicy', () => {
  test('that asks for a certificate is shown the gateway’s own, for requests and for connections, and the one in force', async () => {
    const [web, tcp, bare] = [await freePort(), await freePort(), await freePort()];
    const asking = createTlsServer(
      { ...certificates.issue(authority, 'DNS:catalog.test'), ca: authority.cert, requestCert: true, rejectUnauthorized: true },
      (socket) => {
        socket.on('error', () => undefined);
        const text = String(socket.getPeerX509Certificate()?.subjectAltName);
        socket.once('data', () => socket.end(`HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: ${text.length}\r\n\r\n${text}`));
      },
    );
    asking.on('tlsClientError', () => undefined);
    asking.listen(0, '127.0.0.1');
    await once(asking, 'listening');
    scope.closing.push(() => asking.close());
    const edge = (name: string, listeners: string, more: string): string =>
      `${gatewayManifest(listeners).replace('{name: edge}', `{name: ${name}}`).replace('gatewayClassName: weft', `gatewayClassName: weft${more}`)}`;
    const routes = (parent: string): string =>
      `${httpRoute('catalog').replace('[{name: edge}]', `[{name: ${parent}}, {name: bare}]`)}
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: TCPRoute
metadata: {name: catalog}
spec: {parentRefs: [{name: ${parent}, sectionName: tcp}], rules: [{backendRefs: [{name: catalog, port: 443}]}]}
---`;
    const base = `${service('catalog', (asking.address() as AddressInfo).port, 'https')}${configMap('ca', authority.cert)}${policy('catalog', trusting('catalog.test'))}${routes('edge')}${edge('bare', `{name: web, port: ${bare}, protocol: HTTP}`, '')}`;
    const listeners = `{name: web, port: ${web}, protocol: HTTP}, {name: tcp, port: ${tcp}, protocol: TCP}`;
    const one = secretManifest('one', certificates.issue(authority, 'DNS:one.test'));
    const { proxy, write } = await start(
      `${base}${one}${edge('edge', listeners, ', tls: {backend: {clientCertificateRef: {group: "", kind: Secret, name: one}}}')}`,
    );
    expect(await ask(web)).toEqual({ status: 200, text: 'DNS:one.test' });
    expect((await ask(tcp)).text).toBe('DNS:one.test');
    // The same route on a gateway that has none.
    expect((await ask(bare)).status).toBeGreaterThanOrEqual(502);
    const two = secretManifest('one', certificates.issue(authority, 'DNS:two.test'));
    await write(`${base}${two}${edge('edge', listeners, ', backendTLS: {clientCertificateRef: {name: one}}')}`);
    expect((await ask(web)).text).toBe('DNS:two.test');
    await write(`${base}${edge('edge', listeners, ', tls: {backend: {clientCertificateRef: {name: one}}}')}`);
    await proxy.says("spec.tls.backend.clientCertificateRef: Secret default/one doesn't exist: backends are shown no certificate");
    expect((await ask(web)).status).toBeGreaterThanOrEqual(502);
  });

  test('is spoken to over TLS, with its hostname as server name, and only where the certificate is for it', async () => {
    const port = await freePort();
    const server = await nginx(certificates.issue(authority, 'DNS:catalog.test', 'URI:spiffe://mesh.test/ns/shop/sa/catalog'));
    const base = `${http(port)}${httpRoute('catalog')}${service('catalog', server, 'https')}${configMap('ca', authority.cert)}`;
    const { proxy, write, log } = await start(`${base}${policy('catalog', trusting('catalog.test'))}`);
    expect(await ask(port)).toEqual({ status: 200, text: 'catalog.test TLSv1.3 http/1.1 .' });
    // One that is for another name: 503, UF, and what to do in the log.
    await write(`${base}${policy('catalog', trusting('other.test'))}`);
    expect((await ask(port)).status).toBe(503);
    await proxy.says('wrong-identity');
    expect(log().map(({ status, response_flag }) => [status, response_flag])).toContainEqual([503, 'UF']);
    // Subject alternative names stand in place of the host name.
    await write(
      `${base}${policy('catalog', trusting('other.test', 'ca', ', subjectAltNames: [{type: URI, uri: "spiffe://mesh.test/ns/shop/sa/catalog"}]'))}`,
    );
    expect((await ask(port)).text).toMatch(/^other\.test /);
    await write(
      `${base}${policy('catalog', trusting('catalog.test', 'ca', ', subjectAltNames: [{type: Hostname, hostname: else.test}]'))}`,
    );
    expect((await ask(port)).status).toBe(503);
    // Nobody vouches for it any more.
    await write(
      `${base.replace(configMap('ca', authority.cert), configMap('ca', certificates.authority('another').cert))}${policy('catalog', trusting('catalog.test'))}`,
    );
    expect((await ask(port)).status).toBe(503);
    await proxy.says('untrusted');
    await write(`${base}${policy('catalog', 'hostname: catalog.test, wellKnownCACertificates: System')}`);
    expect((await ask(port)).status).toBe(503);
  });

  test('gets nothing, and no plain text, when its policy can’t be followed, and the reason is told', async () => {
    const port = await freePort();
    let received = 0;
    const plain = createTlsServer().on('connection', () => received++);
    plain.listen(0, '127.0.0.1');
    await once(plain, 'listening');
    scope.closing.push(() => plain.close());
    const backendPort = (plain.address() as AddressInfo).port;
    const base = `${http(port)}${httpRoute('catalog')}${service('catalog', backendPort, 'https')}`;
    const { proxy, write } = await start(`${base}${policy('catalog', trusting('catalog.test'))}`);
    expect((await ask(port)).status).toBe(503);
    await proxy.says("ConfigMap default/ca doesn't exist: it is not used");
    await write(`${base}${policy('catalog', trusting('catalog.test'))}${configMap('ca', 'Hello')}`);
    expect((await ask(port)).status).toBe(503);
    await proxy.says('ConfigMap default/ca, key ca.crt: expected PEM certificates, found no');
    expect(received).toBe(0);
  });

  test('is reached over TLS by what a TLS or TCP listener ends, and untouched by TLS that passes through', async () => {
    const [ending, passing, tcp] = [await freePort(), await freePort(), await freePort()];
    const pair = certificates.issue(authority, 'DNS:db.test');
    const server = createTlsServer({ ...pair, allowHalfOpen: true }, (socket) => {
      socket.on('error', () => undefined);
      // When the client has said all: then no end can overtake another.
      socket.resume().on('end', () => socket.end(`${socket.servername || 'no name'}`));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    scope.closing.push(() => server.close());
    const l4 = (kind: string, name: string): string =>
      `\napiVersion: gateway.networking.k8s.io/v1alpha2\nkind: ${kind}\nmetadata: {name: ${name}}\nspec: {parentRefs: [{name: edge, sectionName: ${name}}], rules: [{backendRefs: [{name: db, port: 443}]}]}\n---`;
    const secret = `\napiVersion: v1\nkind: Secret\nmetadata: {name: edge}\ntype: kubernetes.io/tls\nstringData: {tls.crt: ${JSON.stringify(pair.cert)}, tls.key: ${JSON.stringify(pair.key)}}\n---`;
    const listeners = `{name: ending, port: ${ending}, protocol: TLS, tls: {certificateRefs: [{name: edge}]}}, {name: passing, port: ${passing}, protocol: TLS, tls: {mode: Passthrough}}, {name: tcp, port: ${tcp}, protocol: TCP}`;
    await start(
      `${gatewayManifest(listeners)}${l4('TLSRoute', 'ending')}${l4('TLSRoute', 'passing')}${l4('TCPRoute', 'tcp')}${secret}${service('db', (server.address() as AddressInfo).port, 'tls')}${configMap('ca', authority.cert)}${policy('db', trusting('db.test'))}`,
    );
    const read = async (socket: ReturnType<typeof connect>): Promise<string> => {
      let text = '';
      socket.on('data', (chunk) => {
        text += chunk.toString();
      });
      socket.end('hello');
      await once(socket, 'end');
      socket.destroy();
      return text;
    };
    const tls = (port: number, servername: string) =>
      connectTls({ port, host: '127.0.0.1', ca: authority.cert, servername, checkServerIdentity: () => undefined });
    expect(await read(tls(ending, 'client.test'))).toBe('db.test');
    expect(await read(tls(passing, 'client.test'))).toBe('client.test');
    expect(await read(connect(tcp, '127.0.0.1'))).toBe('db.test');
  });

  test.each([
    ['a port that declares it', 'grpc', httpRoute('grpc')],
    ['a GRPCRoute', 'https', grpcRoute('grpc', '{service: test.Echo}')],
    [
      'a GRPCRoute for a method of any service',
      'https',
      `${grpcRoute('grpc', '{method: Echo}')}${grpcRoute('absent', '{method: Echoes}')}`,
    ],
  ])('gRPC by %s is spoken to by HTTP/2 over TLS', async (_, appProtocol, route) => {
    const port = await freePort();
    const pair = certificates.issue(authority, 'DNS:grpc.test');
    const server = new Server();
    const echo: handleUnaryCall<Buffer, Buffer> = (call, callback) => callback(null, call.request);
    const same = (value: Buffer): Buffer => value;
    const method = {
      requestStream: false,
      responseStream: false,
      requestSerialize: same,
      requestDeserialize: same,
      responseSerialize: same,
      responseDeserialize: same,
    } as const;
    server.addService({ echo: { path: '/test.Echo/Echo', ...method } }, { echo });
    const bound = await new Promise<number>((resolve, reject) =>
      server.bindAsync(
        '127.0.0.1:0',
        ServerCredentials.createSsl(null, [{ private_key: Buffer.from(pair.key), cert_chain: Buffer.from(pair.cert) }]),
        (error, number) => (error === null ? resolve(number) : reject(error)),
      ),
    );
    scope.closing.push(() => server.forceShutdown());
    await start(
      `${http(port)}${route}${service('grpc', bound, appProtocol)}${configMap('ca', authority.cert)}${policy('grpc', trusting('grpc.test'), 'main')}`,
    );
    const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure());
    scope.closing.push(() => client.close());
    const answer = await new Promise<Buffer | undefined>((resolve, reject) =>
      client.makeUnaryRequest('/test.Echo/Echo', same, same, Buffer.from('hello'), (error, value) =>
        error === null ? resolve(value) : reject(error),
      ),
    );
    expect(answer?.toString()).toBe('hello');
  });
});

test('a port declared HTTP/2 is spoken to by HTTP/2 over TLS, whatever the client speaks', async () => {
  const port = await freePort();
  const server = createSecureServer(certificates.issue(authority, 'DNS:h2.test'), (request, response) => {
    response.end(`${request.httpVersion} ${(request.socket as unknown as { alpnProtocol: string }).alpnProtocol}`);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  scope.closing.push(() => server.close());
  await start(
    `${http(port)}${httpRoute('h2')}${service('h2', (server.address() as AddressInfo).port, 'kubernetes.io/h2c')}${configMap('ca', authority.cert)}${policy('h2', trusting('h2.test'))}`,
  );
  expect(await ask(port)).toEqual({ status: 200, text: '2.0 h2' });
});
