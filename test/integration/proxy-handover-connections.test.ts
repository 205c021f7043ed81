// A running `weft proxy` replaced by its successor: listeners whose connections are not read (TCPRoute, TLSRoute), and what waits in listening
// sockets that outnumber the successor's workers. Real processes.
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Certificates, type KeyPair, secretManifest } from '../lab/certificates.js';
import { DiscoveryTestServer } from '../lab/discovery-server.js';
import { eventually } from '../lab/eventually.js';
import { gatewayResources } from '../lab/gateway-resources.js';
import { freePort } from '../lab/ports.js';
import { gatewayManifest, type ProxyProcess, serviceManifest } from '../lab/proxy-process.js';
import { ProxyScope } from '../lab/proxy-scope.js';

// Every one starts several processes.

const certificates = new Certificates();
const scope = new ProxyScope();
let authority = {} as KeyPair;
beforeAll(() => {
  authority = certificates.authority('root');
});
afterAll(() => certificates.remove());

function echo(socket: Socket): void {
  socket.on('error', () => undefined);
  socket.pipe(socket);
}

const route = (kind: string, section: string, service: string, more = ''): string => `
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: ${kind}
metadata: {name: ${section}}
spec: {parentRefs: [{name: edge, sectionName: ${section}}], ${more}rules: [{backendRefs: [{name: ${service}, port: 80}]}]}
---`;

/** What it is sent must come back. */
function ping(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('data', (bytes: Buffer) => (bytes.toString() === 'ping' ? resolve() : reject(new Error(`it said ${bytes}`))));
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('it was closed without an answer')));
    socket.write('ping');
  });
}

async function open(socket: Socket, event: 'connect' | 'secureConnect'): Promise<Socket> {
  scope.closing.push(() => socket.destroy());
  await once(socket, event);
  return socket;
}

test('connections that are not read go on in the proxy that began them, and none that comes meanwhile is lost', async () => {
  const [tcp, tls, plain] = [await freePort(), await freePort(), await scope.listen(createServer(echo))];
  const passed = await scope.listen(createTlsServer(certificates.issue(authority, 'DNS:passed.test'), echo));
  const own = certificates.issue(authority, 'DNS:ended.test');
  const file = join(scope.folder, 'mesh.yaml');
  const listeners = [
    `{name: tcp, port: ${tcp}, protocol: TCP}`,
    `{name: ended, port: ${tls}, protocol: TLS, hostname: ended.test, tls: {certificateRefs: [{name: own}]}}`,
    `{name: passed, port: ${tls}, protocol: TLS, hostname: passed.test, tls: {mode: Passthrough}}`,
  ];
  writeFileSync(
    file,
    `${secretManifest('own', own)}${serviceManifest('plain', plain)}${serviceManifest('passed', passed)}${gatewayManifest(listeners.join(', '))}${route('TCPRoute', 'tcp', 'plain')}${route('TCPRoute', 'ended', 'plain')}${route('TLSRoute', 'passed', 'passed', 'hostnames: [passed.test], ')}`,
    { mode: 0o600 },
  );
  const secure = (servername: string) =>
    open(connectTls({ port: tls, host: '127.0.0.1', servername, ca: authority.cert }), 'secureConnect');
  const dials = [() => open(connect(tcp, '127.0.0.1'), 'connect'), () => secure('ended.test'), () => secure('passed.test')];

  const first = await scope.start(file);
  const kept = await Promise.all(dials.map((dial) => dial()));
  const answered = dials.map(() => 0);
  let isStopped = false;
  const loads = dials.map(async (dial, index) => {
    while (!isStopped) {
      const socket = await dial();
      await ping(socket);
      socket.destroy();
      answered[index]!++;
    }
  });
  const more = async (): Promise<void> => {
    const goals = answered.map((count) => count + 10);
    await Promise.race([
      Promise.all(loads),
      eventually(
        async () => answered,
        (counts) => counts.every((count, index) => count >= goals[index]!),
      ),
    ]);
  };
  const later: ProxyProcess[] = [];
  for (const workers of ['3', '1']) {
    await more();
    later.push(await scope.start(file, '--workers', workers));
    await more();
    await Promise.all(kept.map(ping));
  }
  isStopped = true;
  await Promise.all(loads);
  // The one between has ended, the first has what it began.
  expect(await later[0]!.exit()).toBe(0);
  expect(first.child.exitCode).toBeNull();
  for (const socket of kept) socket.end();
  expect(await first.exit()).toBe(0);
  expect(first.errors).toMatch(/drained: \d+ connections ended, 0 were cut/);
});

/** Resolves when all threads have stopped: the signal alone takes its time, and one that runs may accept something. */
async function stop({ child }: ProxyProcess): Promise<void> {
  scope.closing.push(() => child.kill('SIGCONT'));
  child.kill('SIGSTOP');
  const states = async () =>
    readdirSync(`/proc/${child.pid}/task`).map((task) => /\) (.)/.exec(readFileSync(`/proc/${child.pid}/task/${task}/stat`, 'utf8'))?.[1]);
  const all = await eventually(states, (found) => found.every((state) => state === 'T'));
  expect(new Set(all)).toEqual(new Set(['T']));
}

test('what waits in the sockets of workers that the successor does not have is served by those it has', async () => {
  const port = await freePort();
  const backend = await scope.listen(createHttpServer((_, response) => response.end('ok')));
  const file = join(scope.folder, 'mesh.yaml');
  writeFileSync(
    file,
    `${serviceManifest('web', backend)}${gatewayManifest(`{name: web, port: ${port}, protocol: HTTP}`)}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: web, port: 80}]}]}
`,
  );
  const first = await scope.start(file, '--workers', '4');
  const agent = await DiscoveryTestServer.start(`unix:${scope.folder}/agent.sock`);
  scope.closing.push(() => agent.stop());
  const successor = scope.launchWith('--agent', agent.address, '--workers', '1');
  const stream = await agent.nextStream();
  await successor.says('taking over from proxy');

  // Neither accepts now: the one is stopped, the other has no configuration. 40 connections on 4 sockets leave one empty once in 25,000 runs.
  await stop(first);
  const heard = await Promise.all(
    Array.from({ length: 40 }, async () => {
      const socket = await open(connect(port, '127.0.0.1'), 'connect');
      socket.write('GET / HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n');
      let text = '';
      socket.on('data', (bytes: Buffer) => {
        text += bytes;
      });
      return { end: once(socket, 'end'), text: () => text };
    }),
  );
  const resources = gatewayResources('default/edge', port, 'default/web', backend);
  stream.send({ nonce: 1, revision: 1, token: { clusterId: 'c', compiler: 'k', revision: 1 }, full: true, resources });
  for (const { end, text } of heard) {
    await end;
    expect(text()).toMatch(/^HTTP\/1\.1 200 OK\r\n.*\r\n\r\nok$/s);
  }
  first.child.kill('SIGCONT');
  expect(await first.exit()).toBe(0);
});
