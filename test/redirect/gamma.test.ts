// The Gateway API in the mesh (GAMMA): pods call services, their connections are captured, the real `weft proxy` follows the HTTPRoutes and GRPCRoutes
// whose parents are those services. The requests of the suite's gateway tests are asked here of a Service with the same routes; what only a mesh has is
// in manifests of this file. Everything is in force at once, each in a namespace of its own. Fails where it cannot run.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect } from '@jest/globals';
import { parseAllDocuments } from 'yaml';
import { compileModel } from '../../api/compile/index.js';
import { encodeResource } from '../../api/compile/wire.js';
import type { Resource } from '../../api/gen/mesh/v1/discovery.js';
import { formatFinding, parseManifests } from '../../api/resources/index.js';
import { call, GRPC_PAIRS, PAIRS, type Pair, REDIRECTS } from '../lab/gateway-api-pairs.js';
import { hasTestdata, testdata, withTestdata } from '../lab/testdata.js';
import { type Lab, POD_A, POD_B, POD_C } from './lab.js';
import { MeshProxy, NODE } from './mesh-proxy.js';
import { Scene } from './scene.js';

const { describe, test } = withTestdata;
const PEER = join(process.cwd(), 'test/redirect/http-peer.mjs');

/** Of the gateway suite: those whose routes ask nothing of host names, listeners and other namespaces. */
const HTTP_FILES = [
  'httproute-simple-same-namespace',
  'httproute-named-rule',
  'httproute-exact-path-matching',
  'httproute-matching',
  'httproute-header-matching',
  'httproute-method-matching',
  'httproute-query-param-matching',
  'httproute-path-match-order',
  'httproute-request-header-modifier',
  'httproute-response-header-modifier',
  'httproute-omitted-backendrefs',
  'httproute-invalid-nonexistent-backendref',
  'httproute-invalid-backendref-unknown-kind',
  'httproute-timeout-request',
  'httproute-timeout-backend-request',
  'httproute-rewrite-path',
  'httproute-backend-url-rewrite',
  'httproute-request-header-modifier-backend',
  'httproute-weight',
];
const GRPC_FILES = Object.keys(GRPC_PAIRS).filter((file) => !file.includes('listener'));
const redirects = REDIRECTS.filter(([file, , , , port = 80]) => port === 80 && !file.endsWith('port-and-scheme'));
const ROUTED_FILES = [...HTTP_FILES, ...GRPC_FILES, ...new Set(redirects.map(([file]) => file))];

/** Servers, by name, with their ports in pod B. */
const SERVERS = [
  ...['entry', 'infra-backend-v1', 'infra-backend-v2', 'infra-backend-v3', 'echo-v1', 'echo-v2'].map((name) => [name, 'http'] as const),
  ...['grpc-infra-backend-v1', 'grpc-infra-backend-v2', 'grpc-infra-backend-v3', 'echo-v1', 'echo-v2'].map(
    (name) => [name, 'grpc'] as const,
  ),
].map(([name, protocol], index) => ({ name, protocol, port: 9_200 + index }));
const portOf = (name: string, protocol: 'http' | 'grpc'): number =>
  SERVERS.find((server) => server.name === name && server.protocol === protocol)!.port;
const GRPC_PORT = 7070;

type Manifest = Readonly<Record<string, unknown>>;
const service = (namespace: string, name: string, clusterIp: string, endpoints: readonly string[]): Manifest[] => {
  const isCalled = name.startsWith('grpc-');
  const ports = [
    { name: 'web', port: 80, appProtocol: isCalled ? 'grpc' : 'http' },
    { name: 'alt', port: 8080, appProtocol: isCalled ? 'grpc' : 'http' },
    { name: 'rpc', port: GRPC_PORT, appProtocol: 'grpc' },
  ];
  const has = (endpoint: string, protocol: 'http' | 'grpc'): boolean =>
    SERVERS.some((server) => server.name === endpoint && server.protocol === protocol);
  return [
    { apiVersion: 'v1', kind: 'Service', metadata: { name, namespace }, spec: { clusterIP: clusterIp, ports } },
    ...endpoints.map((endpoint) => ({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: `${name}-${endpoint}`, namespace, labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      ports: (['web', 'alt', 'rpc'] as const).flatMap((port) => {
        const protocol = port === 'rpc' || isCalled ? 'grpc' : 'http';
        return has(endpoint, protocol) ? [{ name: port, port: portOf(endpoint, protocol) }] : [];
      }),
      endpoints: [{ addresses: [POD_B.v4] }],
    })),
  ];
};

const addressOf = (index: number, host: number): string => `10.97.${index}.${host}`;
const asParent = (name: string, more: Manifest = {}): Manifest => ({ group: '', kind: 'Service', name, ...more });

/** The routes of a file, for clients of the Service "entry". */
function routed(file: string, index: number): Manifest[] {
  const namespace = `f${index}`;
  const routes = parseAllDocuments(testdata(`gateway-api-manifests/${file}.yaml`)).flatMap((doc) => {
    const route = doc.toJS() as { kind: string; metadata: { name: string }; spec: Manifest } | null;
    if (route?.kind !== 'HTTPRoute' && route?.kind !== 'GRPCRoute') return [];
    const { hostnames: _, ...spec } = route.spec;
    const port = route.kind === 'GRPCRoute' ? GRPC_PORT : 80;
    return [{ ...route, metadata: { name: route.metadata.name, namespace }, spec: { ...spec, parentRefs: [asParent('entry', { port })] } }];
  });
  const names = ['infra-backend-v1', 'infra-backend-v2', 'infra-backend-v3'];
  const backends = [...names, ...names.map((name) => `grpc-${name}`)];
  return [
    ...service(namespace, 'entry', addressOf(index, 1), ['entry']),
    ...backends.flatMap((name, at) => service(namespace, name, addressOf(index, 2 + at), [name])),
    ...routes,
  ];
}

const route = (namespace: string, parents: readonly Manifest[], rules: readonly Manifest[], kind = 'HTTPRoute'): Manifest => ({
  apiVersion: 'gateway.networking.k8s.io/v1',
  kind,
  metadata: { name: `${kind.toLowerCase()}-${String(parents[0]?.name)}`, namespace },
  spec: { parentRefs: parents, rules },
});
const marked = (value: string, backend: string): Manifest => ({
  filters: [{ type: 'ResponseHeaderModifier', responseHeaderModifier: { set: [{ name: 'X-Header-Set', value }] } }],
  backendRefs: [{ name: backend, port: 80 }],
});
const under = (path: string, backend: string): Manifest => ({
  matches: [{ path: { type: 'PathPrefix', value: path } }],
  backendRefs: [{ name: backend, port: 80 }],
});

/** What only a mesh has: routes of namespace `own`, and of the clients' there where the second is theirs. Each has services echo, echo-v1 and echo-v2. */
const MESH: Readonly<Record<string, (own: string) => readonly Manifest[]>> = {
  'mesh-basic': () => [],
  'mesh-split': (own) => [route(own, [asParent('echo')], [under('/v1', 'echo-v1'), under('/v2', 'echo-v2')])],
  'mesh-frontend': (own) => [route(own, [asParent('echo-v2')], [marked('set', 'echo-v2')])],
  'mesh-ports': (own) => [
    route(own, [asParent('echo-v1', { port: 80 })], [marked('v1', 'echo-v1')]),
    route(own, [asParent('echo-v2')], [marked('v2', 'echo-v2')]),
  ],
  'mesh-consumer-route': (own) => [
    route('consumer', [asParent('echo-v1', { namespace: own })], [withNamespace(marked('set', 'echo-v1'), own)]),
  ],
  'mesh-consumer-overrides': (own) => [
    route(own, [asParent('echo-v1')], [marked('producer', 'echo-v1')]),
    withName(
      route('consumer', [asParent('echo-v1', { namespace: own })], [withNamespace(under('/mine', 'echo-v1'), own)]),
      'consumer-overrides',
    ),
  ],
  'mesh-grpc-weight': (own) => [
    route(
      own,
      [asParent('echo', { port: GRPC_PORT })],
      [
        {
          backendRefs: [
            { name: 'echo-v1', port: GRPC_PORT, weight: 70 },
            { name: 'echo-v2', port: GRPC_PORT, weight: 30 },
          ],
        },
      ],
      'GRPCRoute',
    ),
  ],
};
function withNamespace(rule: Manifest, namespace: string): Manifest {
  const references = rule.backendRefs as readonly Manifest[];
  return { ...rule, backendRefs: references.map((reference) => ({ ...reference, namespace })) };
}
function withName(object: Manifest, name: string): Manifest {
  return { ...object, metadata: { ...(object.metadata as Manifest), name } };
}

const MESH_GROUPS = Object.keys(MESH);
const meshIndex = (group: string): number => 100 + MESH_GROUPS.indexOf(group);
const ECHO = ['echo', 'echo-v1', 'echo-v2'] as const;

function meshManifests(group: string): Manifest[] {
  const own = group;
  const services = ECHO.flatMap((name, at) =>
    service(own, name, addressOf(meshIndex(group), 1 + at), name === 'echo' ? ['echo-v1', 'echo-v2'] : [name]),
  );
  return [...services, ...MESH[group]!(own)];
}

interface Asked {
  readonly host: string;
  readonly port: number;
  readonly path: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly isCall?: boolean;
}
interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly seen: { readonly backend: string; readonly headers: Readonly<Record<string, string>> } | null;
}

/** A process in a pod that asks. */
class PodClient {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #asked = 0;

  constructor(lab: Lab, namespace: string) {
    this.#child = spawn('nsenter', [`--net=${lab.path(namespace)}`, process.execPath, PEER, 'ask'], { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.#child.stdout! }).on('line', (line) => {
      const { id, ...answer } = JSON.parse(line) as Answer & { readonly id: number };
      this.#waiting.get(id)?.(answer);
      this.#waiting.delete(id);
    });
  }

  ask(asked: Asked): Promise<Answer> {
    const id = this.#asked++;
    const answered = new Promise<Answer>((resolve) => this.#waiting.set(id, resolve));
    this.#child.stdin!.write(`${JSON.stringify({ id, ...asked })}\n`);
    return answered;
  }

  end(): void {
    this.#child.kill('SIGKILL');
  }
}

const scene = new Scene('gamma');
let server: ChildProcess | undefined;
let proxy: MeshProxy | undefined;
/** In namespaces "producer" and "consumer". */
let client: PodClient;
let consumer: PodClient;

function resources(): Resource[] {
  const workload = (name: string, namespace: string, pod: string, address: string): Manifest => ({
    apiVersion: 'mesh.weft.dev/v1',
    kind: 'Workload',
    metadata: { name, namespace },
    spec: { node: NODE, networkNamespace: scene.lab.path(pod), addresses: [address] },
  });
  const manifests = [
    workload('client', 'producer', 'a', POD_A.v4),
    workload('client', 'consumer', 'c', POD_C.v4),
    workload('servers', 'producer', 'b', POD_B.v4),
    ...ROUTED_FILES.flatMap(routed),
    ...MESH_GROUPS.flatMap(meshManifests),
  ];
  const content = manifests.map((manifest) => JSON.stringify(manifest)).join('\n---\n');
  const { objects, findings } = parseManifests([{ name: 'gamma', content }]);
  expect(findings.map(formatFinding)).toEqual([]);
  const stored = objects.map((object, index) => ({ ...object, createdAtMs: 1_000 + index }));
  return compileModel({ objects: stored, running: null }).resources.map(encodeResource);
}

beforeAll(async () => {
  if (!hasTestdata) return;
  await scene.up();
  await scene.open('auto');
  await scene.capture.reconcile([...scene.enrolled(), scene.workload('c')]);
  const names = SERVERS.map(({ port, name, protocol }) => [port, name, protocol]);
  server = spawn('nsenter', [`--net=${scene.lab.path('b')}`, process.execPath, PEER, 'serve', JSON.stringify(names)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(server.stdout!, 'data');
  proxy = await MeshProxy.start(scene.lab, 'proxy', resources());
  client = new PodClient(scene.lab, 'a');
  consumer = new PodClient(scene.lab, 'c');
});

afterAll(async () => {
  client?.end();
  consumer?.end();
  await proxy?.kill();
  server?.kill('SIGKILL');
  await scene.down();
});

const entry = (file: string): string => addressOf(ROUTED_FILES.indexOf(file), 1);
const only = (wanted: Pair['seen'], found: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(
    Object.keys(wanted ?? {}).map((name) => [name, found[name] === undefined ? undefined : String(found[name]).replace(/,\s*/g, ', ')]),
  );
const titled = (pairs: readonly Pair[]) =>
  pairs.map((pair) => [`${pair.method ?? 'GET'} ${pair.path} ${JSON.stringify(pair.headers ?? {})}`, pair] as const);

describe.each(HTTP_FILES.filter((file) => PAIRS[file]!.length > 0))('%s', (file) => {
  test.each(titled(PAIRS[file]!))('%s', async (_, { path = '/', method = 'GET', headers, answer, seen, told }) => {
    const found = await client.ask({ host: entry(file), port: 80, path, method, headers: { host: 'entry', ...headers } });
    if (typeof answer === 'number') return void expect(found.status).toBe(answer);
    expect([found.status, found.seen?.backend]).toEqual([200, answer]);
    expect(only(seen, found.seen?.headers ?? {})).toEqual(seen ?? {});
    expect(only(told, found.headers)).toEqual(told ?? {});
  });
});

describe.each(GRPC_FILES.filter((file) => GRPC_PAIRS[file]!.length > 0))('%s', (file) => {
  test.each(titled(GRPC_PAIRS[file]!))('%s', async (_, { path = '/', headers, answer, seen }) => {
    const found = await client.ask({ host: entry(file), port: GRPC_PORT, path, headers: { host: 'entry', ...headers }, isCall: true });
    expect([found.status, found.seen?.backend]).toEqual(typeof answer === 'number' ? [answer, undefined] : [0, answer]);
    expect(only(seen, found.seen?.headers ?? {})).toEqual(seen ?? {});
  });
});

test.each(redirects)('%s: %s is answered %i with %s', async (file, path, status, location) => {
  const found = await client.ask({ host: entry(file), port: 80, path, headers: { host: 'entry' } });
  expect([found.status, found.headers.location]).toEqual([status, location.replace('HOST', 'entry')]);
});

/** Who answers, by which route: `set` is what X-Header-Set says. */
interface MeshPair {
  readonly to: (typeof ECHO)[number] | 'pod of echo-v2';
  readonly port?: number;
  readonly path?: string;
  readonly hostname?: string;
  readonly from?: 'consumer';
  readonly answer: RegExp | number;
  readonly set?: string;
}
const [ANY, ONE, TWO] = [/^echo-v[12]$/, /^echo-v1$/, /^echo-v2$/] as const;
const MESH_PAIRS: Readonly<Record<string, readonly MeshPair[]>> = {
  'mesh-basic': [
    { to: 'echo', answer: ANY },
    { to: 'echo-v1', answer: ONE },
    { to: 'echo-v2', port: 8080, answer: TWO },
    { to: 'echo-v2', from: 'consumer', answer: TWO },
  ],
  'mesh-split': [
    { to: 'echo', path: '/v1', answer: ONE },
    { to: 'echo', path: '/v2', answer: TWO },
    { to: 'echo', path: '/v2', port: 8080, from: 'consumer', answer: TWO },
    { to: 'echo', path: '/v3', answer: 404 },
  ],
  'mesh-frontend': [
    { to: 'echo-v2', answer: TWO, set: 'set' },
    { to: 'pod of echo-v2', hostname: 'echo-v2', answer: TWO },
    { to: 'echo-v2', hostname: 'echo-v1', answer: TWO, set: 'set' },
    { to: 'echo-v1', hostname: 'echo-v2', answer: ONE },
  ],
  'mesh-ports': [
    { to: 'echo-v1', answer: ONE, set: 'v1' },
    { to: 'echo-v1', port: 8080, answer: ONE },
    { to: 'echo-v2', answer: TWO, set: 'v2' },
    { to: 'echo-v2', port: 8080, answer: TWO, set: 'v2' },
  ],
  'mesh-consumer-route': [
    { to: 'echo-v1', from: 'consumer', answer: ONE, set: 'set' },
    { to: 'echo-v1', answer: ONE },
  ],
  'mesh-consumer-overrides': [
    { to: 'echo-v1', path: '/mine', answer: ONE, set: 'producer' },
    { to: 'echo-v1', path: '/mine', from: 'consumer', answer: ONE },
    { to: 'echo-v1', path: '/', from: 'consumer', answer: 404 },
  ],
};

describe.each(Object.entries(MESH_PAIRS))('%s', (group, pairs) => {
  test.each(
    pairs.map(
      (pair) => [`${pair.from ?? 'producer'} to ${pair.to}:${pair.port ?? 80}${pair.path ?? '/'} ${pair.hostname ?? ''}`, pair] as const,
    ),
  )('%s', async (_, { to, port = 80, path = '/', hostname, from, answer, set }) => {
    const index = (ECHO as readonly string[]).indexOf(to);
    const address = index < 0 ? POD_B.v4 : addressOf(meshIndex(group), 1 + index);
    const found = await (from === 'consumer' ? consumer : client).ask({
      host: address,
      port: index < 0 ? portOf('echo-v2', 'http') : port,
      path,
      headers: { host: hostname ?? to },
    });
    if (typeof answer === 'number') return void expect(found.status).toBe(answer);
    expect(found.seen?.backend).toMatch(answer);
    expect(found.headers['x-header-set']).toBe(set);
  });
});

/** Of 500: 0.7 lies within 0.62 and 0.78 in all but one of 10,000 runs. */
const DRAWS = 500;

test('shares of requests and of calls are as the weights say', async () => {
  const share = async (of: string, ask: () => Promise<Answer>): Promise<number> => {
    let count = 0;
    for (let i = 0; i < DRAWS; i++) if ((await ask()).seen?.backend === of) count++;
    return count / DRAWS;
  };
  const requests = await share('infra-backend-v1', () => client.ask({ host: entry('httproute-weight'), port: 80, path: '/' }));
  const { path = '' } = call('Echo', '');
  const echo = addressOf(meshIndex('mesh-grpc-weight'), 1);
  const calls = await share('echo-v1', () => client.ask({ host: echo, port: GRPC_PORT, path, headers: { host: 'echo' }, isCall: true }));
  expect([Math.abs(requests - 0.7) < 0.08, Math.abs(calls - 0.7) < 0.08]).toEqual([true, true]);
});
