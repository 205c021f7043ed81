import { expect, test } from '@jest/globals';
import { statusOf } from './conditions.js';
import type { Problem } from './problem.js';

interface Told {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
}

interface Status {
  readonly conditions: Told[];
  readonly parents: { readonly parentRef: { readonly name: string }; readonly conditions: Told[] }[];
  readonly listeners: { readonly conditions: Told[]; readonly supportedKinds: unknown }[];
  readonly ancestors: { readonly ancestorRef: unknown; readonly conditions: Told[] }[];
}

const NOW = '2026-11-21T10:00:00Z';
const EARLIER = '2026-01-01T00:00:00Z';

function judge(
  kind: string,
  body: Record<string, unknown>,
  problems: Partial<Problem>[] = [],
  attached: [string, number][] = [],
  gatewaysOf: ReadonlyMap<string, readonly string[]> = new Map(),
) {
  const object = { metadata: { name: 'a', namespace: 'shop', generation: 3 }, body };
  return statusOf(
    {
      kind,
      object,
      problems: problems.map((problem) => ({
        kind,
        namespace: 'shop',
        name: 'a',
        path: '',
        message: 'because',
        reason: 'Invalid',
        ...problem,
      })),
      isOurGateway: (name) => name === 'shop/edge',
      attachments: { routes: new Map(attached), listenerSets: new Map([['shop/a', 1]]), gatewaysOf },
      nodeAddresses: new Map([['shop/a', ['192.0.2.7']]]),
    },
    NOW,
  ) as unknown as Status;
}

/** "Accepted=True Accepted" by type. */
function told(conditions: readonly Told[] = []): string[] {
  return conditions.map(({ type, status, reason }) => `${type}=${status} ${reason}`);
}

const route = (parentRefs: object[], status = {}) => ({ spec: { parentRefs }, status });
const service = { group: '', kind: 'Service', name: 's' };

test('a route is judged for each parent that is Weft’s, and what others said of theirs stays', () => {
  const theirs = { parentRef: { name: 'other' }, controllerName: 'other.dev/x', conditions: [{ type: 'Accepted' }] };
  const stale = { parentRef: { name: 'gone' }, controllerName: 'weft.dev/gateway', conditions: [] };
  const parents = [{ name: 'edge' }, { name: 'other' }, service, { ...service, name: 't' }];
  const { parents: found } = judge('HTTPRoute', route(parents, { parents: [theirs, stale] }), [
    { path: 'spec.parentRefs[3]', reason: 'NoMatchingParent' },
    { path: 'spec.rules[0].backendRefs[1]', reason: 'BackendNotFound' },
  ]);
  expect(found[0]).toEqual(theirs);
  expect(found.slice(1).map(({ parentRef, conditions }) => [parentRef.name, ...told(conditions)])).toEqual([
    ['edge', 'Accepted=True Accepted', 'ResolvedRefs=False BackendNotFound'],
    ['s', 'Accepted=True Accepted', 'ResolvedRefs=False BackendNotFound'],
    ['t', 'Accepted=False NoMatchingParent', 'ResolvedRefs=False BackendNotFound'],
  ]);
  expect(found[1]?.conditions[1]).toMatchObject({
    observedGeneration: 3,
    lastTransitionTime: NOW,
    message: 'spec.rules[0].backendRefs[1]: because',
  });
});

test('of a route with parents of others alone nothing is said, but what was is taken back', () => {
  expect(judge('HTTPRoute', route([{ name: 'other' }]))).toBeNull();
  const stale = { parentRef: { name: 'edge' }, controllerName: 'weft.dev/gateway', conditions: [] };
  expect(judge('HTTPRoute', route([{ name: 'other' }], { parents: [stale] }))).toEqual({ parents: [] });
});

test('a route that isn’t valid is accepted nowhere', () => {
  const { parents } = judge('HTTPRoute', route([service]), [{ path: 'spec.rules[0].retry', reason: 'Invalid' }]);
  expect(told(parents[0]?.conditions)[0]).toBe('Accepted=False UnsupportedValue');
});

test('a condition keeps its time until it turns, and conditions of others stay', () => {
  const before = (status: string) => [
    { type: 'Accepted', status, reason: 'Accepted', message: '', observedGeneration: 2, lastTransitionTime: EARLIER },
    { type: 'example.com/Other', status: 'True', lastTransitionTime: EARLIER },
  ];
  const spec = { controllerName: 'weft.dev/gateway' };
  const after = judge('GatewayClass', { spec, status: { conditions: before('True') } });
  expect(after.conditions).toEqual([
    before('')[1],
    { type: 'Accepted', status: 'True', reason: 'Accepted', message: '', observedGeneration: 3, lastTransitionTime: EARLIER },
  ]);
  const turned = judge('GatewayClass', { spec, status: { conditions: before('Unknown') } });
  expect(turned.conditions[1]).toMatchObject({ lastTransitionTime: NOW });
  const refused = judge('GatewayClass', { spec }, [{ path: 'spec.parametersRef', reason: 'Invalid' }]);
  expect(told(refused.conditions)).toEqual(['Accepted=False InvalidParameters']);
});

test('a Gateway is told listener by listener', () => {
  const tls = { certificateRefs: [{ name: 'x' }] };
  const listeners = [
    { name: 'web', port: 80, protocol: 'HTTP' },
    { name: 'tls', port: 443, protocol: 'HTTPS', tls },
    { name: 'odd', port: 81, protocol: 'HTTP', allowedRoutes: { kinds: [{ kind: 'HTTPRoute' }, { kind: 'TCPRoute' }] } },
  ];
  const found = judge(
    'Gateway',
    { spec: { listeners } },
    [
      { path: 'spec.listeners[1].tls.certificateRefs[0]', reason: 'InvalidCertificateRef' },
      { path: 'spec.listeners[1]', reason: 'Invalid' },
    ],
    [['shop/a/web', 2]],
  );
  expect(told(found.conditions)).toEqual(['Accepted=True Accepted', 'Programmed=True Programmed']);
  expect(found).toMatchObject({ addresses: [{ type: 'IPAddress', value: '192.0.2.7' }] });
  expect(judge('Gateway', { spec: { listeners, addresses: [{ value: '192.0.2.9' }] } })).toMatchObject({
    addresses: [{ value: '192.0.2.9' }],
  });
  const of = (index: number) => found.listeners[index]!;
  expect(of(0)).toMatchObject({ name: 'web', attachedRoutes: 2, supportedKinds: [{ kind: 'HTTPRoute' }, { kind: 'GRPCRoute' }] });
  expect(told(of(0).conditions)).toEqual([
    'Accepted=True Accepted',
    'Programmed=True Programmed',
    'ResolvedRefs=True ResolvedRefs',
    'Conflicted=False NoConflicts',
  ]);
  expect(told(of(1).conditions).slice(0, 3)).toEqual([
    'Accepted=True Accepted',
    'Programmed=False Invalid',
    'ResolvedRefs=False InvalidCertificateRef',
  ]);
  expect(of(2).supportedKinds).toEqual([{ group: 'gateway.networking.k8s.io', kind: 'HTTPRoute' }]);
  expect(told(of(2).conditions)[2]).toBe('ResolvedRefs=False InvalidRouteKinds');
  const invalid = judge('Gateway', { spec: { listeners } }, [{ path: 'spec.listeners[0].protocol', reason: 'Invalid' }]);
  expect(told(invalid.conditions)).toEqual(['Accepted=False Invalid', 'Programmed=False Invalid']);
  expect(invalid.listeners.map(({ conditions }) => told(conditions)[0])).toEqual([
    'Accepted=False Invalid',
    'Accepted=True Accepted',
    'Accepted=True Accepted',
  ]);
});

test('a BackendTLSPolicy is judged for each Service it is for', () => {
  const { ancestors } = judge('BackendTLSPolicy', { spec: { targetRefs: [service, { ...service, name: 't', sectionName: 'x' }] } }, [
    { path: 'spec.targetRefs[1].sectionName', reason: 'TargetNotFound' },
    { path: 'spec.validation.caCertificateRefs[0]', reason: 'InvalidCACertificateRef' },
  ]);
  expect(ancestors.map(({ ancestorRef, conditions }) => [ancestorRef, ...told(conditions)])).toEqual([
    [{ group: '', kind: 'Service', namespace: 'shop', name: 's' }, 'Accepted=True Accepted', 'ResolvedRefs=False InvalidCACertificateRef'],
    [
      { group: '', kind: 'Service', namespace: 'shop', name: 't', sectionName: 'x' },
      'Accepted=False TargetNotFound',
      'ResolvedRefs=False InvalidCACertificateRef',
    ],
  ]);
});

test('… by the Gateways that lead to it, each once, whatever is refused of its Services', () => {
  const targetRefs = [
    { ...service, name: 'u' },
    { ...service, name: 'v' },
  ];
  const problem = { path: 'spec.targetRefs[1]', reason: 'Conflicted' as const };
  const of = (name: string) =>
    new Map([
      ['shop/u', ['shop/edge']],
      ['shop/v', [name]],
    ]);
  const refusals = (name: string) =>
    judge('BackendTLSPolicy', { spec: { targetRefs } }, [problem], [], of(name)).ancestors.map(({ ancestorRef, conditions }) => [
      ancestorRef,
      told(conditions)[0],
    ]);
  const ref = (name: string) => ({ group: 'gateway.networking.k8s.io', kind: 'Gateway', namespace: 'shop', name });
  expect(refusals('shop/edge')).toEqual([[ref('edge'), 'Accepted=False Conflicted']]);
  expect(refusals('shop/other')).toEqual([
    [ref('edge'), 'Accepted=True Accepted'],
    [ref('other'), 'Accepted=False Conflicted'],
  ]);
});

test('rules that can’t be carried out make a route partially invalid, all of them make it unaccepted, and that goes when they do', () => {
  const spec = { parentRefs: [{ name: 'edge' }], rules: [{}, {}] };
  const unsupported = (rule: number) => ({ path: `spec.rules[${rule}].filters`, reason: 'UnsupportedValue' as const });
  const some = judge('HTTPRoute', { spec }, [unsupported(1)]);
  expect(told(some.parents[0]?.conditions)).toEqual([
    'Accepted=True Accepted',
    'ResolvedRefs=True ResolvedRefs',
    'PartiallyInvalid=True UnsupportedValue',
  ]);
  // Nothing changed, nothing is written.
  expect(judge('HTTPRoute', { spec, status: some }, [unsupported(1)])).toEqual(some);
  expect(told(judge('HTTPRoute', { spec }, [unsupported(0), unsupported(1)]).parents[0]?.conditions)[0]).toBe(
    'Accepted=False UnsupportedValue',
  );
  expect(told(judge('HTTPRoute', { spec, status: some }).parents[0]?.conditions)).toHaveLength(2);
});

test('a listener of a protocol that is not there, or whose port has another one, is not accepted', () => {
  const listeners = [
    { name: 'a', protocol: 'HTTP' },
    { name: 'b', protocol: 'UDP' },
    { name: 'c', protocol: 'TCP' },
  ];
  const found = judge('Gateway', { spec: { listeners } }, [
    { path: 'spec.listeners[1].protocol', reason: 'UnsupportedProtocol' },
    { path: 'spec.listeners[2]', reason: 'ProtocolConflict' },
  ]);
  expect(found.listeners.map(({ conditions }) => told(conditions))).toEqual([
    ['Accepted=True Accepted', 'Programmed=True Programmed', 'ResolvedRefs=True ResolvedRefs', 'Conflicted=False NoConflicts'],
    ['Accepted=False UnsupportedProtocol', 'Programmed=False Invalid', 'ResolvedRefs=True ResolvedRefs', 'Conflicted=False NoConflicts'],
    ['Accepted=False ProtocolConflict', 'Programmed=False Invalid', 'ResolvedRefs=True ResolvedRefs', 'Conflicted=True ProtocolConflict'],
  ]);
});
