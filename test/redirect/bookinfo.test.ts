// Istio's Bookinfo examples where they are meant to be: a pod calls services of the mesh, its connections are captured, the real `weft proxy`
// follows the VirtualServices as Istio ships them. Who answers is a real server for each version. Fails where it cannot run.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect } from '@jest/globals';
import { compileModel } from '../../api/compile/index.js';
import { encodeResource } from '../../api/compile/wire.js';
import type { Resource } from '../../api/gen/mesh/v1/discovery.js';
import { ResourceType } from '../../api/gen/mesh/v1/model.js';
import { formatFinding, objectKey, parseManifests, type StoredObject } from '../../api/resources/index.js';
import { Certificates } from '../lab/certificates.js';
import { testdata, withTestdata } from '../lab/testdata.js';
import { POD_A, POD_B, POD_C, REMOTE } from './lab.js';
import { MeshProxy, NODE } from './mesh-proxy.js';
import { Scene } from './scene.js';

const { describe, test } = withTestdata;
const VIPS = { reviews: '10.96.9.61', ratings: '10.96.9.62', details: '10.96.9.64' } as const;
const VERSIONS = { reviews: ['v1', 'v2', 'v3'], ratings: ['v1', 'v2', 'v2-mysql', 'v2-mysql-vm'], details: ['v1', 'v2'] } as const;
type App = keyof typeof VIPS;
const APPS = Object.keys(VIPS) as App[];
/** Of a server that no object names. */
const OUTSIDE_PORT = 9_150;
/** Where nothing answers. */
const NOWHERE = '198.51.100.7';
const portOf = (app: App, index: number): number => 9_100 + APPS.indexOf(app) * 10 + index;

const SERVER = `
const { createServer } = require('node:http');
const names = JSON.parse(process.argv[1]);
for (const [port, name] of names) createServer((request, response) => response.end(name)).listen(port, '0.0.0.0');
console.log('ready');`;

/** Says by what name and for what it was asked, from where, and by whom. */
const TLS_SERVER = `
const [cert, key, ca] = JSON.parse(process.argv[1]);
require('node:https').createServer({ cert, key, ca, requestCert: true, rejectUnauthorized: true }, ({ headers, url, socket }, response) =>
  response.end([headers.host, url, socket.remoteAddress, socket.getPeerCertificate().subjectaltname].join(' ')),
).listen(Number(process.argv[2]), '0.0.0.0', () => console.log('ready'));`;

/** Says what a server answers to what is no HTTP, or how the connection ends. */
const BYTES = `
const socket = require('node:net').connect(Number(process.argv[2]), process.argv[1], () => socket.write('\\x16\\x00nothing'));
socket.on('data', (bytes) => { console.log(String(bytes)); socket.destroy(); });
socket.on('error', ({ code }) => console.log(code));`;

describe('Bookinfo in the mesh', () => {
  const scene = new Scene('bookinfo');
  let server: ChildProcess | null = null;
  let proxy: MeshProxy | null = null;

  /** `examples`: names of Bookinfo's files, or whole manifests. */
  function resources(...examples: string[]): Resource[] {
    const workload = (name: string, labels: string, namespace: string, rest: string): string =>
      `apiVersion: mesh.weft.dev/v1\nkind: Workload\nmetadata: {name: ${name}, labels: ${labels}}\nspec: {node: ${NODE}, networkNamespace: ${scene.lab.path(namespace)}, ${rest}}`;
    const manifests = [
      workload('productpage', '{app: productpage}', 'a', `addresses: [${POD_A.v4}]`),
      ...APPS.flatMap((app) => [
        `apiVersion: v1\nkind: Service\nmetadata: {name: ${app}}\nspec: {clusterIP: ${VIPS[app]}, selector: {app: ${app}}, ports: [{name: http, port: 9080, targetPort: http}]}`,
        ...VERSIONS[app].map((version, index) =>
          workload(
            `${app}-${version}`,
            `{app: ${app}, version: ${version}}`,
            'b',
            `addresses: [${POD_B.v4}], ports: [{name: http, port: ${portOf(app, index)}}]`,
          ),
        ),
      ]),
      ...['destination-rule-all', ...examples].map((name) => (name.includes('\n') ? name : testdata(`bookinfo/networking/${name}.yaml`))),
    ];
    // As when they are applied one after the other: an object takes the place of its namesake.
    const stored = new Map<string, StoredObject>();
    for (const [index, content] of manifests.entries()) {
      const { objects, findings } = parseManifests([{ name: 'bookinfo', content }]);
      expect(findings.map(formatFinding)).toEqual([]);
      for (const object of objects)
        stored.set(objectKey(object.kind, object.namespace, object.name), { ...object, createdAtMs: 1_000 + index });
    }
    return compileModel({ objects: [...stored.values()], running: null }).resources.map(encodeResource);
  }

  /** "<status> <body> <seconds>" of a request of the pod. */
  function ask(app: App, ...headers: string[]): { status: number; body: string; seconds: number } {
    const words = headers.flatMap((header) => ['-H', header]);
    const text = scene.lab.in('a', 'curl', ['-s', '-m', '10', '-w', ' %{http_code} %{time_total}', ...words, `http://${VIPS[app]}:9080/`]);
    const [, body = '', status = '', seconds = ''] = /^(.*) (\d+) ([\d.]+)$/s.exec(text) ?? [];
    return { status: Number(status), body, seconds: Number(seconds) };
  }

  /** Over one connection: each request is decided on. */
  function counts(app: App, times: number): Record<string, number> {
    const urls = Array.from({ length: times }, () => `http://${VIPS[app]}:9080/`);
    const found: Record<string, number> = {};
    for (const body of scene.lab
      .in('a', 'curl', ['-s', '-m', '10', '-w', '\n', ...urls])
      .trim()
      .split('\n'))
      found[body] = (found[body] ?? 0) + 1;
    return found;
  }

  beforeAll(async () => {
    await scene.up();
    await scene.open('auto');
    await scene.capture.reconcile(scene.enrolled());
    const names = APPS.flatMap((app) => VERSIONS[app].map((version, index) => [portOf(app, index), `${app}-${version}`]));
    names.push([OUTSIDE_PORT, 'outside']);
    server = spawn('nsenter', [`--net=${scene.lab.path('b')}`, process.execPath, '-e', SERVER, JSON.stringify(names)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(server.stdout!, 'data');
    proxy = await MeshProxy.start(scene.lab, 'proxy', resources());
  });
  afterAll(async () => {
    await proxy?.kill();
    server?.kill('SIGKILL');
    await scene.down();
  });

  test('everything to v1; reviews to v3', async () => {
    await proxy!.update(resources('virtual-service-all-v1'));
    expect([counts('reviews', 6), counts('ratings', 4)]).toEqual([{ 'reviews-v1': 6 }, { 'ratings-v1': 4 }]);
    await proxy!.update(resources('virtual-service-reviews-v3'));
    expect(counts('reviews', 6)).toEqual({ 'reviews-v3': 6 });
  });

  test.each([
    ['reviews-50-v3', ['v1', 'v3'], 0.5],
    ['reviews-v2-v3', ['v2', 'v3'], 0.5],
    ['reviews-80-20', ['v1', 'v2'], 0.8],
    ['reviews-90-10', ['v1', 'v2'], 0.9],
  ])('%s', async (example, versions, share) => {
    await proxy!.update(resources(`virtual-service-${example}`));
    const times = 200;
    const found = counts('reviews', times);
    expect(Object.keys(found).sort()).toEqual(versions.map((version) => `reviews-${version}`));
    // Five deviations: once in two million runs it is more.
    expect(Math.abs(found[`reviews-${versions[0]}`]! - times * share)).toBeLessThan(5 * Math.sqrt(times * share * (1 - share)));
  });

  test('the versions with a database, the details of v2, and the first version’s failures', async () => {
    const bodies = (): string[] => APPS.map((app) => ask(app).body);
    await proxy!.update(resources('virtual-service-all-v1', 'virtual-service-ratings-db'));
    expect(bodies()).toEqual(['reviews-v3', 'ratings-v2', 'details-v1']);
    await proxy!.update(resources('virtual-service-all-v1', 'virtual-service-ratings-mysql', 'virtual-service-details-v2'));
    expect(bodies()).toEqual(['reviews-v3', 'ratings-v2-mysql', 'details-v2']);
    await proxy!.update(resources('virtual-service-all-v1', 'virtual-service-ratings-mysql-vm'));
    expect(bodies()).toEqual(['reviews-v3', 'ratings-v2-mysql-vm', 'details-v1']);
    await proxy!.update(resources('virtual-service-all-v1', 'fault-injection-details-v1'));
    expect([ask('details').status, ask('reviews').body]).toEqual([555, 'reviews-v1']);
  });

  test('jason sees v2, all others v3, or v1', async () => {
    await proxy!.update(resources('virtual-service-reviews-jason-v2-v3'));
    expect([ask('reviews', 'end-user: jason').body, ask('reviews').body]).toEqual(['reviews-v2', 'reviews-v3']);
    await proxy!.update(resources('virtual-service-reviews-test-v2'));
    expect([ask('reviews', 'end-user: jason').body, ask('reviews').body]).toEqual(['reviews-v2', 'reviews-v1']);
  });

  test('the ratings of jason are aborted; or come 7 seconds late', async () => {
    await proxy!.update(resources('virtual-service-ratings-test-abort'));
    expect([ask('ratings', 'end-user: jason').status, ask('ratings').body]).toEqual([500, 'ratings-v1']);
    await proxy!.update(resources('virtual-service-ratings-test-delay'));
    expect(ask('ratings')).toMatchObject({ body: 'ratings-v1' });
    const late = ask('ratings', 'end-user: jason');
    expect(late.body).toBe('ratings-v1');
    expect(late.seconds).toBeGreaterThan(6.9);
    expect(late.seconds).toBeLessThan(9);
  });

  test('REGISTRY_ONLY refuses what is in no registry, and lets through what a ServiceEntry names, by its name', async () => {
    const curl = (...words: string[]): string => scene.lab.in('a', 'curl', ['-s', '-m', '5', '-w', ' %{http_code}', ...words]);
    const direct = `http://${POD_B.v4}:${OUTSIDE_PORT}/`;
    const bytes = (): string => scene.lab.in('a', process.execPath, ['-e', BYTES, POD_B.v4, String(OUTSIDE_PORT)]).trim();
    const policy = (mode: string): string =>
      `apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: default}\nspec: {outboundTrafficPolicy: {mode: ${mode}}}`;
    const entry = `apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: outside}\nspec: {hosts: [outside.test], ports: [{number: 80, name: http, protocol: HTTP, targetPort: ${OUTSIDE_PORT}}], resolution: STATIC, endpoints: [{address: ${POD_B.v4}}]}`;
    await proxy!.update(resources(policy('ALLOW_ANY')));
    expect(curl(direct)).toBe('outside 200');
    expect(bytes()).toMatch(/^HTTP\/1.1 400 /);
    await proxy!.update(resources(policy('REGISTRY_ONLY')));
    expect(curl(direct)).toMatch(/^weft: this destination is in no registry.* 502$/s);
    expect(bytes()).toBe('ECONNRESET');
    await proxy!.update(resources(policy('REGISTRY_ONLY'), entry));
    expect(curl('-H', 'Host: outside.test', `http://${NOWHERE}/`)).toBe('outside 200');
    expect(ask('ratings').status).toBe(200);
  });

  test('the way out leads through the egress gateway: the pod speaks plain text, the gateway TLS; the server sees the gateway and its certificate', async () => {
    const certificates = new Certificates();
    const [authority, clients] = [certificates.authority('outside'), certificates.authority('clients')];
    const ends = {
      server: certificates.issue(authority, 'DNS:edition.cnn.com'),
      gateway: certificates.issue(clients, 'URI:spiffe://td.test/egress'),
    };
    const egress = egressManifests(JSON.stringify(authority.cert), JSON.stringify(ends.gateway.cert), JSON.stringify(ends.gateway.key));
    const file = join(scene.lab.folder, 'egress.yaml');
    writeFileSync(file, egress, { mode: 0o600 });
    const started: ChildProcess[] = [];
    const start = async (namespace: string, says: string, ...command: string[]): Promise<void> => {
      const child = spawn('nsenter', [`--net=${scene.lab.path(namespace)}`, process.execPath, ...command], {
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      started.push(child);
      await Promise.race([said(child, says), once(child, 'exit').then(() => Promise.reject(new Error(`it ended before it said ${says}`)))]);
    };
    try {
      const pems = [ends.server.cert, ends.server.key, clients.cert];
      await start('c', 'ready', '-e', TLS_SERVER, JSON.stringify(pems), String(OUTSIDE_PORT));
      const flags = ['--static', file, '--run-dir', join(scene.lab.folder, 'egress'), '--workers', '1'];
      await start('remote', '"ready"', join(process.cwd(), 'dist', 'cli', 'main.js'), 'proxy', ...flags);
      // What a node is told on which the Gateway doesn't run.
      await proxy!.update(resources(egress).filter(({ type }) => type !== ResourceType.LISTENER));
      const curl = (host: string): string =>
        scene.lab.in('a', 'curl', ['-s', '-m', '5', '-w', ' %{http_code}', '-H', `Host: ${host}`, `http://${NOWHERE}/politics`]);
      expect(curl('edition.cnn.com')).toBe(`edition.cnn.com /politics ${REMOTE.v4} URI:spiffe://td.test/egress 200`);
      expect(curl('other.test')).toMatch(/in no registry.* 502$/s);
    } finally {
      for (const child of started) child.kill('SIGKILL');
      certificates.remove();
    }
  }, 30_000);
});

/** Resolves when the process has written that. */
function said(child: ChildProcess, text: string): Promise<void> {
  let all = '';
  return new Promise((resolve) => {
    for (const stream of [child.stdout!, child.stderr!])
      stream.on('data', (bytes) => {
        all += String(bytes);
        if (all.includes(text)) resolve();
      });
  });
}

/** Istio's recipe, with TLS from the gateway on; arguments are PEM in quotes. */
function egressManifests(authority: string, cert: string, key: string): string {
  return `
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
---
apiVersion: v1
kind: Service
metadata: {name: istio-egressgateway, namespace: istio-system}
spec: {clusterIP: 10.96.9.63, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: egress, namespace: istio-system, labels: {kubernetes.io/service-name: istio-egressgateway}}
addressType: IPv4
ports: [{name: http, port: 8090}]
endpoints: [{addresses: [${REMOTE.v4}]}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: istio-egressgateway}
spec:
  selector: {istio: egressgateway}
  servers: [{port: {number: 8090, name: http, protocol: HTTP}, hosts: [edition.cnn.com]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: cnn}
spec:
  hosts: [edition.cnn.com]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS, targetPort: ${OUTSIDE_PORT}}]
  resolution: STATIC
  endpoints: [{address: ${POD_C.v4}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: through-the-egress-gateway}
spec:
  hosts: [edition.cnn.com]
  gateways: [istio-egressgateway, mesh]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, port: {number: 80}}}]
  - match: [{gateways: [istio-egressgateway], port: 8090}]
    route: [{destination: {host: edition.cnn.com, port: {number: 443}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: originate-tls}
spec:
  host: edition.cnn.com
  trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: MUTUAL, credentialName: cnn-client}}]}
---
apiVersion: v1
kind: Secret
metadata: {name: cnn-client}
stringData: {ca.crt: ${authority}, tls.crt: ${cert}, tls.key: ${key}}
`;
}
