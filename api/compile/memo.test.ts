import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { InstanceState, type WorkloadState } from '../gen/mesh/v1/discovery.js';
import { EndpointHealth, ResourceType } from '../gen/mesh/v1/model.js';
import { parseManifests, type StoredObject } from '../resources/index.js';
import { compileModel } from './compile.js';
import type { RunningWorkload } from './input.js';
import { CompileMemo } from './memo.js';
import type { FailingCheck, LiveNode, RegisteredInstance } from './registry.js';
import type { ResolvedName } from './service-entry.js';

/** One of few names, so that objects meet. */
const name = fc.constantFrom('a', 'b');
const small = fc.integer({ min: 1, max: 2 });

const manifest = fc.oneof(
  fc.record({ name, port: small }).map(
    ({ name: service, port }) => `
apiVersion: v1
kind: Service
metadata: {name: ${service}, labels: {${port === 1 ? 'mesh.weft.dev/instances: enabled' : ''}}}
spec: {selector: {app: ${service}}, ports: [{name: http, port: ${port}, targetPort: p${port}}]}`,
  ),
  fc.record({ name, app: name, port: small, node: name }).map(
    ({ name: workload, app, port, node }) => `
apiVersion: mesh.weft.dev/v1
kind: Workload
metadata: {name: ${workload}, labels: {app: ${app}}}
spec: {node: ${node}, networkNamespace: /run/netns/x, ports: [{name: p${port}, port: 8080}]}`,
  ),
  fc.record({ name, of: name, pod: name, node: name, address: small, ready: fc.boolean() }).map(
    ({ name: slice, of, pod, node, address, ready }) => `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ${slice}, labels: {kubernetes.io/service-name: ${of}}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.${address}], nodeName: ${node}, conditions: {ready: ${ready}}, targetRef: {kind: Pod, name: ${pod}}}]`,
  ),
  fc.record({ name, of: name, type: fc.constantFrom('Random', 'RoundRobin, weights: {source: Node}') }).map(
    ({ name: policy, of, type }) => `
apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: {name: ${policy}}
spec: {targetRefs: [{kind: Service, name: ${of}}], loadBalancer: {type: ${type}}}`,
  ),
  fc.record({ name, of: name, ca: name }).map(
    ({ name: policy, of, ca }) => `
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: ${policy}}
spec: {targetRefs: [{group: '', kind: Service, name: ${of}}], validation: {hostname: ${ca}.test, caCertificateRefs: [{group: '', kind: ConfigMap, name: ${ca}}]}}`,
  ),
  fc.record({ name, of: name }).map(
    ({ name: policy, of }) => `
apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: {name: ${policy}}
spec: {targetRefs: [{kind: Service, name: ${of}}], healthCheck: {tcp: {}}}`,
  ),
  fc.constantFrom('enabled', 'disabled').map(
    (value) => `
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {mesh.weft.dev/instances: ${value}}}`,
  ),
  fc.record({ name, zone: name }).map(
    ({ name: node, zone }) => `
apiVersion: v1
kind: Node
metadata: {name: ${node}, labels: {topology.kubernetes.io/zone: ${zone}}}`,
  ),
  fc.record({ name, host: name, port: small, behind: fc.constantFrom('', 'address', 'name', 'selector'), app: name }).map(
    ({ name: entry, host, port, behind, app }) => `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ${entry}}
spec:
  hosts: [${host}.x, ${app}.y]
  ports: [{number: ${port}, name: http, protocol: HTTP}]
  resolution: ${behind === 'selector' ? 'STATIC' : 'DNS'}
  ${behind === 'address' ? `endpoints: [{address: 10.3.0.${port}}]` : ''}
  ${behind === 'name' ? `endpoints: [{address: ${app}.z}, {address: ${host}.z}]` : ''}
  ${behind === 'selector' ? `workloadSelector: {labels: {app: ${app}}}` : ''}`,
  ),
  fc.record({ name, app: name, address: small }).map(
    ({ name: entry, app, address }) => `
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: ${entry}}
spec: {address: 10.4.0.${address}, labels: {app: ${app}}, ports: {p1: 8081, p2: 8082}}`,
  ),
  fc.record({ name, host: fc.constantFrom('a', 'a.default', 'b.x', '*.x'), type: fc.constantFrom('RANDOM', 'LEAST_REQUEST') }).map(
    ({ name: rule, host, type }) => `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: ${rule}}
spec: {host: '${host}', trafficPolicy: {loadBalancer: {simple: ${type}}}}`,
  ),
);

const running = fc.record({ name, node: name, address: small, health: fc.constantFrom(EndpointHealth.READY, EndpointHealth.UNHEALTHY) });
const put = manifest.map((content) => ({ kind: 'put' as const, content }));
const report = fc.oneof(
  running.map((report) => ({ kind: 'runs' as const, report })),
  name.map((workload) => ({ kind: 'ended' as const, workload })),
  fc.record({
    kind: fc.constant('instance' as const),
    service: name,
    node: name,
    address: small,
    isGone: fc.boolean(),
    isChecked: fc.boolean(),
  }),
  fc.record({
    kind: fc.constant('verdict' as const),
    service: name,
    node: name,
    address: fc.constantFrom('10.0.0.1', '10.2.0.1'),
    isGone: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('drained' as const), node: name, isEnded: fc.boolean() }),
  fc.record({ kind: fc.constant('load' as const), node: name, idle: small, isGone: fc.boolean() }),
  fc.record({ kind: fc.constant('node' as const), node: name, zone: name, isGone: fc.boolean() }),
  fc.record({ kind: fc.constant('resolved' as const), host: name, of: fc.constantFrom('x', 'y', 'z'), address: small, error: name }),
);

const step = fc.oneof(
  { weight: 1, arbitrary: put },
  { weight: 1, arbitrary: fc.nat(20).map((index) => ({ kind: 'remove' as const, index })) },
  { weight: 8, arbitrary: report },
);
/** A mesh, and what is said of it while it stands: then most of it is not looked at again. */
const standing = fc.tuple(fc.array(put, { minLength: 15, maxLength: 30 }), fc.array(report, { minLength: 5, maxLength: 15 }));

test.each([
  ['changes', fc.array(step, { maxLength: 25 }), 150],
  ['reports', standing.map(([objects, reports]) => [...objects, ...reports]), 60],
])('over any %s the result is that of compiling anew, and what is unchanged is the same object', (_, sequence, numRuns) => {
  fc.assert(
    fc.property(sequence, (steps) => {
      const memo = new CompileMemo();
      const objects = new Map<string, StoredObject>();
      const reports = new Map<string, RunningWorkload>();
      let nodes = new Map<string, LiveNode>();
      let drained: ReadonlySet<string> = new Set();
      const idlePercent = new Map<string, number>();
      const instances = new Map<string, ReadonlyMap<string, RegisteredInstance>>();
      const failing = new Map<string, ReadonlyMap<string, readonly FailingCheck[]>>();
      const resolved = new Map<string, ResolvedName>();
      for (const each of steps) {
        if (each.kind === 'put') {
          const { objects: parsed, findings } = parseManifests([{ name: 'x', content: each.content }]);
          expect(findings).toEqual([]);
          for (const object of parsed) objects.set(`${object.kind}/${object.name}`, { ...object, createdAtMs: 1 });
        } else if (each.kind === 'remove') objects.delete([...objects.keys()][each.index] ?? '');
        else if (each.kind === 'ended') reports.delete(`default/${each.workload}`);
        else if (each.kind === 'resolved') {
          const { host, of, address, error } = each;
          resolved.set(`${host}.${of}`, { addresses: [`10.5.0.${address}`], error: error === 'a' ? '' : error });
        } else if (each.kind === 'node') {
          nodes = new Map(nodes);
          if (each.isGone) nodes.delete(each.node);
          else nodes.set(each.node, { zone: each.zone, region: '', checks: true });
        } else if (each.kind === 'load') {
          if (each.isGone) idlePercent.delete(each.node);
          else idlePercent.set(each.node, each.idle);
        } else if (each.kind === 'drained') {
          drained = new Set(each.isEnded ? [] : [...drained, each.node]);
        } else if (each.kind === 'instance') {
          const state = InstanceState.fromPartial({
            id: 'i',
            address: `10.2.0.${each.address}`,
            ports: [{ name: 'http', port: 8080 }],
            ...(each.isChecked ? { check: { intervalMs: 1_000 } } : {}),
          });
          const inner = new Map(instances.get(`default/${each.service}`));
          if (each.isGone) inner.delete(each.node);
          else inner.set(each.node, { node: each.node, state });
          instances.set(`default/${each.service}`, inner);
        } else if (each.kind === 'verdict') {
          const inner = new Map(failing.get(`default/${each.service}`));
          if (each.isGone) inner.delete(each.address);
          else inner.set(each.address, [{ node: each.node, detail: '' }]);
          failing.set(`default/${each.service}`, inner);
        } else {
          const { name: workload, node, address, health } = each.report;
          const state: WorkloadState = { name: `default/${workload}`, addresses: [`10.1.0.${address}`], health };
          reports.set(state.name, { node, state });
        }
        const registry = { nodes, instances, failing, drained, idlePercent };
        const input = { objects: [...objects.values()], running: reports, nowMs: 0, registry, resolved };
        const compiled = compileModel(input, memo);
        // Of copies: what is remembered by the identity of an object is not remembered of them.
        expect(compiled).toEqual(compileModel({ ...input, objects: input.objects.map((object) => structuredClone(object)) }));
        const again = compileModel(input, memo);
        // A service with TLS to its endpoints is always made anew.
        const kept = ({ resources }: typeof compiled) =>
          resources.filter(
            (resource) =>
              resource.type === ResourceType.ENDPOINT ||
              (resource.type === ResourceType.SERVICE && resource.message.ports.every(({ tls }) => tls === undefined)),
          );
        for (const [index, resource] of kept(again).entries()) expect(resource).toBe(kept(compiled)[index]);
      }
    }),
    { numRuns },
  );
});

test('a verdict on an endpoint alone is heard', () => {
  const text = `
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: a, labels: {kubernetes.io/service-name: a}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.1]}]
---
apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: {name: a}
spec: {targetRefs: [{kind: Service, name: a}], healthCheck: {tcp: {}}}`;
  const objects = parseManifests([{ name: 'x', content: text }]).objects.map((object) => ({ ...object, createdAtMs: 1 }));
  const nodes = new Map([['n', { zone: '', region: '', checks: true }]]);
  const failing = new Map<string, ReadonlyMap<string, readonly FailingCheck[]>>();
  const input = {
    objects,
    running: new Map(),
    registry: { nodes, instances: new Map(), failing, drained: new Set<string>(), idlePercent: new Map() },
  };
  const memo = new CompileMemo();
  const health = (): unknown[] =>
    compileModel(input, memo).resources.flatMap((resource) => (resource.type === ResourceType.ENDPOINT ? [resource.message.health] : []));
  expect(health()).toEqual([EndpointHealth.READY]);
  failing.set('default/a', new Map([['10.0.0.1', [{ node: 'n', detail: '' }]]]));
  expect(health()).toEqual([EndpointHealth.UNHEALTHY]);
});
