import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { type CompiledResource, compileModel, encodeResource } from '../../api/compile/index.js';
import { HttpRoute, ResourceType } from '../../api/gen/mesh/v1/model.js';
import { parseManifests, type StoredObject } from '../../api/resources/index.js';
import { ModelHistory } from '../serve/model-history.js';
import type { Interest } from './interest.js';
import { NodeInterests } from './node-interests.js';
import { isAlike } from './topology.js';
import { unitsOf, type VisibleResource } from './units.js';

function parsed(content: string): StoredObject[] {
  const { objects, findings } = parseManifests([{ name: 'x', content }]);
  expect(findings).toEqual([]);
  return objects.map((object) => ({ ...object, createdAtMs: 1 }));
}

function visible(resource: CompiledResource): VisibleResource {
  return { ...encodeResource(resource), units: unitsOf(resource) };
}

/** What a node is told of a mesh of these objects, "SERVICE shop/cart". */
function toldOf(node: string, ...contents: string[]): string[] {
  const { resources, visibility } = compileModel({ objects: parsed(contents.join('---\n')), running: null });
  const interests = new NodeInterests();
  interests.update(resources, visibility);
  const interest = interests.of(node);
  return resources.filter((resource) => interest.sees(visible(resource))).map(({ type, name }) => `${ResourceType[type]} ${name}`);
}

const service = (namespace: string, name: string, exportTo?: string): string => `apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: ${namespace}${exportTo === undefined ? '' : `, annotations: {networking.istio.io/exportTo: "${exportTo}"}`}}
spec: {selector: {app: ${name}}, ports: [{name: http, port: 80}]}
`;
const namespace = (name: string, exportTo: string): string => `apiVersion: v1
kind: Namespace
metadata: {name: ${name}, annotations: {networking.istio.io/exportTo: "${exportTo}"}}
`;
const workload = (of: string, name: string, node: string, more = ''): string => `apiVersion: mesh.weft.dev/v1
kind: Workload
metadata: {name: ${name}, namespace: ${of}, labels: {app: ${name}}}
spec: {node: ${node}, networkNamespace: /run/netns/${name}, addresses: ["10.0.0.${name.length}"]${more}}
`;
const sidecar = (of: string, name: string, hosts: readonly string[], labels = ''): string => `apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: ${name}, namespace: ${of}}
spec:
  egress: [{hosts: [${hosts.map((host) => `"${host}"`).join(', ')}]}]
  ${labels === '' ? '' : `workloadSelector: {labels: {app: ${labels}}}`}
`;
const route = (of: string, name: string, parent: string, backend: string): string => `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ${name}, namespace: ${of}}
spec: {parentRefs: [{${parent}}], rules: [{backendRefs: [{name: ${backend}, port: 80}]}]}
`;
const mirrored = (of: string, to: string): string =>
  of.replace('rules: [{', `rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: ${to}, port: 80}}}], `);
/** For the clients of some namespaces. */
const narrowed = (of: string, host: string, backend: string, exportTo: string): string => `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ${host.split('.')[0]}, namespace: ${of}}
spec: {hosts: [${host}.svc.cluster.local], exportTo: [${exportTo}], http: [{route: [{destination: {host: ${backend}.svc.cluster.local}}]}]}
`;
const gateway = (of: string, name: string, nodes: string): string => `apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: ${name}, namespace: ${of}${nodes === '' ? '' : `, annotations: {mesh.weft.dev/node-selector: "${nodes}"}`}}
spec: {gatewayClassName: weft, listeners: [{name: web, port: 80, protocol: HTTP}]}
`;

test('where nothing is narrowed every node is told everything, also one on which nothing runs', () => {
  const mesh = [service('shop', 'cart'), service('bank', 'pay'), workload('shop', 'cart', 'n1'), gateway('shop', 'edge', '')];
  expect(toldOf('n9', ...mesh)).toEqual([
    'SERVICE bank/pay',
    'SERVICE shop/cart',
    'ENDPOINT shop/cart/10.0.0.4',
    'WORKLOAD shop/cart',
    'LISTENER shop/edge/web',
  ]);
});

test('a service goes to the nodes of the namespaces it is exported to: its own annotation, else that of its namespace', () => {
  const mesh = [
    service('shop', 'cart'),
    service('bank', 'pay', '.'),
    service('bank', 'rates', '*'),
    service('bank', 'vault', '~'),
    service('bank', 'ledger', 'shop,audit'),
    namespace('audit', '.'),
    service('audit', 'log'),
    workload('shop', 'web', 'n1'),
  ];
  const services = (node: string): string[] => toldOf(node, ...mesh).filter((name) => name.startsWith('SERVICE'));
  expect(services('n1')).toEqual(['SERVICE bank/ledger', 'SERVICE bank/rates', 'SERVICE shop/cart']);
  // Nothing runs there.
  expect(services('n2')).toEqual([]);
});

test('what runs on a node it is told of though nobody may see it: of connections that come in it knows the service and the caller', () => {
  const mesh = [
    service('bank', 'vault', '~'),
    service('bank', 'pay', 'shop'),
    service('shop', 'web', '.'),
    workload('bank', 'vault', 'n1'),
    workload('shop', 'web', 'n2'),
    workload('games', 'chess', 'n3'),
  ];
  expect(toldOf('n1', ...mesh)).toEqual([
    'SERVICE bank/vault',
    'ENDPOINT bank/vault/10.0.0.5',
    'WORKLOAD bank/vault',
    // It may call bank/pay; games may call nothing of bank.
    'WORKLOAD shop/web',
  ]);
  expect(toldOf('n3', ...mesh)).toEqual(['WORKLOAD games/chess']);
});

test('a Sidecar of a workload goes before that of its namespace, and that before that of the mesh; exports hold all the same', () => {
  const mesh = [
    service('shop', 'cart'),
    service('shop', 'web'),
    service('bank', 'pay'),
    service('bank', 'vault', '.'),
    service('games', 'chess'),
    sidecar('istio-system', 'default', ['./*']),
    sidecar('shop', 'default', ['./*', 'bank/*']),
    sidecar('shop', 'web', ['*/chess.games.svc.cluster.local', '~/*'], 'web'),
    workload('shop', 'cart', 'n1'),
    workload('shop', 'web', 'n2'),
    workload('games', 'chess', 'n3'),
  ];
  const services = (node: string): string[] => toldOf(node, ...mesh).flatMap((name) => /^SERVICE (.*)/.exec(name)?.[1] ?? []);
  expect(services('n1')).toEqual(['bank/pay', 'shop/cart', 'shop/web']);
  // Itself, for it runs there.
  expect(services('n2')).toEqual(['games/chess', 'shop/web']);
  expect(services('n3')).toEqual(['games/chess']);
});

test('where routes lead is told whole, with its own routes; a gateway is told of on its nodes alone', () => {
  const mesh = [
    service('shop', 'cart', '.'),
    service('shop', 'v1', '~'),
    service('shop', 'v2', '~'),
    service('shop', 'v3', '~'),
    route('shop', 'cart', 'kind: Service, group: "", name: cart', 'v1'),
    route('shop', 'v1', 'kind: Service, group: "", name: v1', 'v2'),
    route('shop', 'edge', 'name: edge', 'v3'),
    gateway('shop', 'edge', 'role=edge,kubernetes.io/hostname in (n2, n3)'),
    'apiVersion: v1\nkind: Node\nmetadata: {name: n2, labels: {role: edge}}\n',
    workload('shop', 'web', 'n1'),
  ];
  expect(toldOf('n1', ...mesh)).toEqual([
    'SERVICE shop/cart',
    'SERVICE shop/v1',
    'SERVICE shop/v2',
    'HTTP_ROUTE shop/cart',
    'HTTP_ROUTE shop/v1',
    'WORKLOAD shop/web',
  ]);
  expect(toldOf('n2', ...mesh)).toEqual(['SERVICE shop/v3', 'HTTP_ROUTE shop/edge', 'LISTENER shop/edge/web']);
  expect(toldOf('n3', ...mesh)).toEqual([]);
});

test('the rules of a VirtualService go where clients of the namespaces are that it is exported to, with where they lead; others have the service alone', () => {
  const mesh = [
    service('shop', 'cart'),
    service('bank', 'pay'),
    service('bank', 'rates', '~'),
    narrowed('shop', 'cart.shop', 'pay.bank', 'games'),
    narrowed('bank', 'pay.bank', 'rates.bank', '., games'),
    workload('games', 'chess', 'n1'),
    workload('shop', 'web', 'n2'),
    workload('bank', 'till', 'n3'),
  ];
  const told = (node: string): string[] => toldOf(node, ...mesh).filter((name) => !name.startsWith('WORKLOAD'));
  const services = ['SERVICE bank/pay', 'SERVICE bank/rates', 'SERVICE shop/cart'];
  const [cart, pay] = ['HTTP_ROUTE VirtualService/shop/cart@cart.shop:80', 'HTTP_ROUTE VirtualService/bank/pay@pay.bank:80'];
  expect(told('n1')).toEqual([...services, pay, cart]);
  expect(told('n2')).toEqual(['SERVICE bank/pay', 'SERVICE shop/cart']);
  expect(told('n3')).toEqual([...services, pay]);
  // Nothing runs there.
  expect(told('n4')).toEqual([]);
});

test('a host of a ServiceEntry is told like a service, to whom its entry is exported and where a Sidecar asks for it by name', () => {
  const entry = (of: string, host: string, exportTo: string): string => `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ${host.split('.')[0]}, namespace: ${of}}
spec: {hosts: [${host}], exportTo: ["${exportTo}"], resolution: STATIC, endpoints: [{address: 192.0.2.1}], ports: [{number: 80, name: http, protocol: HTTP}]}
`;
  const mesh = [
    entry('shop', 'mail.example.com', '.'),
    entry('shop', 'maps.example.com', '*'),
    entry('shop', 'news.example.org', '*'),
    sidecar('bank', 'default', ['*/*.example.com']),
    workload('shop', 'web', 'n1'),
    workload('bank', 'teller', 'n2'),
  ];
  const services = (node: string): string[] => toldOf(node, ...mesh).flatMap((name) => /^SERVICE (.*)/.exec(name)?.[1] ?? []);
  expect(services('n1')).toEqual(['shop/mail.example.com', 'shop/maps.example.com', 'shop/news.example.org']);
  expect(services('n2')).toEqual(['shop/maps.example.com']);
});

test('a workload that is not captured counts too: it may be a proxyless client of the agent', () => {
  const mesh = [service('bank', 'pay', 'shop'), workload('shop', 'web', 'n1', ', capture: {outbound: false, inbound: false}')];
  expect(toldOf('n1', ...mesh)).toEqual(['SERVICE bank/pay', 'WORKLOAD shop/web']);
});

// Few, so that objects meet and are put again.
const NAMES = ['a', 'b'];
const NODES = ['n1', 'n2'];
const name = fc.constantFrom(...NAMES);
const exported = fc.constantFrom(undefined, '.', '*', '~', 'a', 'a,b');
const manifest = fc.oneof(
  { weight: 3, arbitrary: fc.tuple(name, name, exported).map((of) => service(...of)) },
  { weight: 3, arbitrary: fc.tuple(name, name, fc.constantFrom(...NODES)).map((of) => workload(...of)) },
  fc.tuple(name, fc.constantFrom('.', '*', 'a')).map((of) => namespace(...of)),
  fc
    .tuple(name, name, fc.constantFrom(['./*'], ['a/*', '*/b.b.svc.cluster.local'], ['~/*'] as readonly string[]))
    .map((of) => sidecar(...of)),
  fc.tuple(name, name, name).map(([of, parent, backend]) => route(of, parent, `kind: Service, group: "", name: ${parent}`, backend)),
  fc.tuple(name, name).map(([of, backend]) => route(of, `edge-${backend}`, 'name: edge', backend)),
  fc
    .tuple(name, name, name, fc.constantFrom('.', '"*"', 'a', 'a, b'))
    .map(([of, host, backend, to]) => narrowed(of, `${host}.${of}`, `${backend}.a`, to)),
  fc.tuple(name, fc.constantFrom('', 'kubernetes.io/hostname=n1')).map(([of, nodes]) => gateway(of, 'edge', nodes)),
);
const step = fc.oneof(
  { weight: 4, arbitrary: manifest.map((content) => ({ kind: 'put' as const, content })) },
  { weight: 2, arbitrary: fc.nat(30).map((index) => ({ kind: 'remove' as const, index })) },
  // A slow reader, that gets the sum of what it missed; or one that comes back with its token, perhaps to a replica that has just started.
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('tell' as const), node: fc.constantFrom(...NODES), anew: fc.boolean() }) },
);

test('over any changes, told in any steps, a node holds what a node that comes anew is sent', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 5, maxLength: 40, size: 'max' }), (steps) => {
      const objects = new Map<string, StoredObject>();
      const interests = new NodeInterests();
      const history = new ModelHistory();
      history.restart(1, []);
      const nodes = new Map(NODES.map((node) => [node, { held: new Map<string, Buffer>(), at: 1, interest: interests.of(node) }]));
      let revision = 1;
      const compile = (): void => {
        const { resources, visibility } = compileModel({ objects: [...objects.values()], running: null });
        const isOther = interests.update(resources, visibility);
        // What is kept from revision to revision is what would be made anew.
        const anew = new NodeInterests();
        anew.update(resources, visibility);
        for (const node of NODES) expect(interests.of(node).digest).toBe(anew.of(node).digest);
        history.advance(++revision, resources.map(visible), isOther);
      };
      const tell = (node: string, interestThere: (digest: string) => Interest | null): void => {
        const state = nodes.get(node)!;
        const now = interests.of(node);
        const before = interestThere(state.interest.digest);
        const delta = history.since(before === null ? null : state.at, { before: before ?? now, now });
        if (delta.full) state.held.clear();
        for (const { type, name: removed } of delta.removed) state.held.delete(`${type}/${removed}`);
        for (const { type, name: changed, body } of delta.resources) state.held.set(`${type}/${changed}`, body);
        Object.assign(state, { at: delta.revision, interest: now });
        const fresh = history.since(null, { before: now, now }).resources;
        expect([...state.held.keys()].sort()).toEqual(fresh.map(({ type, name: expected }) => `${type}/${expected}`).sort());
        for (const { type, name: expected, body } of fresh) expect(state.held.get(`${type}/${expected}`)?.equals(body)).toBe(true);
      };
      for (const each of steps) {
        if (each.kind === 'tell') {
          const current = interests.of(each.node);
          tell(each.node, (digest) => (each.anew ? (digest === current.digest ? current : null) : interests.withDigest(digest)));
          continue;
        }
        if (each.kind === 'remove') objects.delete([...objects.keys()][each.index] ?? '');
        else for (const object of parsed(each.content)) objects.set(`${object.kind}/${object.namespace}/${object.name}`, object);
        compile();
      }
      for (const node of NODES) tell(node, (digest) => interests.withDigest(digest));
    }),
    { numRuns: 100 },
  );
});

test('equal interests have equal digests at a replica that saw another past', () => {
  const mesh = [service('shop', 'cart', '.'), service('bank', 'pay', '.'), workload('shop', 'web', 'n1'), workload('shop', 'cart', 'n2')];
  const digests = (contents: readonly string[][]): string[] => {
    const interests = new NodeInterests();
    for (const each of contents) {
      const { resources, visibility } = compileModel({ objects: parsed(each.join('---\n')), running: null });
      interests.update(resources, visibility);
    }
    return [interests.of('n1').digest, interests.of('n2').digest];
  };
  const [first, second] = digests([mesh]);
  expect(second).toBe(first);
  expect(digests([[service('bank', 'old', '.'), workload('bank', 'old', 'n1')], [...mesh].reverse()])).toEqual([first, second]);
  expect(digests([[...mesh, service('shop', 'more', '.')]])[0]).not.toBe(first);
});

const slice = (node: string): string => `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: vault, namespace: bank, labels: {kubernetes.io/service-name: vault}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints: [{addresses: [10.0.0.99], nodeName: ${node}}]
`;
const countedBy = (counter: string): string => `
apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: {name: limits, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: cart}]
  rateLimits: [{name: all, by: [{source: Address}], service: {name: ${counter}, port: 80, domain: shop}}]
`;
const hidden = [service('bank', 'vault', '~'), service('bank', 'ledger', '~'), service('shop', 'cart', '.')];
const standing = [...hidden, workload('shop', 'web', 'n1')];

test.each([
  ['where an endpoint is', [...standing, slice('n1')], [...standing, slice('n2')]],
  ['where a workload is', standing, [...hidden, workload('shop', 'web', 'n2')]],
  [
    'what a Sidecar selects',
    [...standing, sidecar('shop', 'none', ['~/*'], 'other')],
    [...hidden, workload('shop', 'web', 'n1').replace('app: web', 'app: other'), sidecar('shop', 'none', ['~/*'], 'other')],
  ],
  [
    'where a route leads',
    [...standing, service('shop', 'till', '~'), route('shop', 'cart', 'kind: Service, group: "", name: cart', 'cart')],
    [...standing, service('shop', 'till', '~'), route('shop', 'cart', 'kind: Service, group: "", name: cart', 'till')],
  ],
  [
    'where a route mirrors to',
    [...standing, service('shop', 'till', '~'), route('shop', 'cart', 'kind: Service, group: "", name: cart', 'cart')],
    [...standing, service('shop', 'till', '~'), mirrored(route('shop', 'cart', 'kind: Service, group: "", name: cart', 'cart'), 'till')],
  ],
  [
    'who counts a rate limit',
    [...standing, service('shop', 'till', '~'), countedBy('cart')],
    [...standing, service('shop', 'till', '~'), countedBy('till')],
  ],
  [
    'where a gateway runs',
    [...standing, gateway('shop', 'edge', 'kubernetes.io/hostname=n1')],
    [...standing, gateway('shop', 'edge', 'kubernetes.io/hostname=n2')],
  ],
  ['who sees a service', standing, [...standing.slice(1), service('bank', 'vault', 'shop')]],
])('a revision that changes nothing but %s is a new topology', (_, before, after) => {
  const interests = new NodeInterests();
  const digests = [before, after].map((contents) => {
    const { resources, visibility } = compileModel({ objects: parsed(contents.join('---\n')), running: null });
    interests.update(resources, visibility);
    const anew = new NodeInterests();
    anew.update(resources, visibility);
    const digest = interests.of('n1').digest;
    expect(digest).toBe(anew.of('n1').digest);
    return digest;
  });
  expect(digests[1]).not.toBe(digests[0]);
});

test('a step of a canary leads where it led before, which costs no topology; another backend, or a mirror, does', () => {
  const route = (service: string, weight: number, mirror = 'shop/m'): CompiledResource => ({
    ...{ type: ResourceType.HTTP_ROUTE, name: 'shop/r' },
    message: HttpRoute.fromPartial({ rules: [{ backends: [{ service, weight }], mirrors: [{ service: mirror }] }] }),
  });
  expect(isAlike([route('shop/a', 90)], [route('shop/a', 50)])).toBe(true);
  expect(isAlike([route('shop/a', 90)], [route('shop/b', 90)])).toBe(false);
  expect(isAlike([route('shop/a', 90)], [route('shop/a', 90, 'shop/n')])).toBe(false);
});
