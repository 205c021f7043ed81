import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { encodeResource } from '../../api/compile/index.js';
import { WorkloadState } from '../../api/gen/mesh/v1/discovery.js';
import { parseManifests } from '../../api/resources/index.js';
import { systemClock } from '../clock.js';
import { EtcdClient } from '../store/etcd-client.js';
import { Keyspace } from '../store/keys.js';
import { StoreView } from '../store/view.js';
import { ModelCompiler, reportedBy } from './model-compiler.js';

const { objects, findings } = parseManifests([
  {
    name: 'mesh.yaml',
    content: `apiVersion: mesh.weft.dev/v1
kind: Workload
metadata: {name: placed, namespace: shop}
spec: {node: n1, networkNamespace: /run/netns/a, addresses: [10.0.0.1]}
---
apiVersion: mesh.weft.dev/v1
kind: Workload
metadata: {name: free, namespace: shop}
spec: {addresses: [10.0.0.2]}
`,
  },
]);

const report = (name: string, node: string, modRevision: number) => ({ node, modRevision, state: WorkloadState.fromPartial({ name }) });

test.each([
  ['the node of its spec', 'shop/placed', 'n1'],
  ['the one that said so last, where its spec names none', 'shop/free', 'n2'],
])('a workload that two nodes report is that of %s', (_, name, expected) => {
  const reports = [report(name, 'n1', 5), report(name, 'n2', 6)];
  expect(findings).toEqual([]);
  for (const order of [reports, [...reports].reverse()]) expect(reportedBy(order, objects).get(name)?.node).toBe(expected);
});

/** Objects of few names, so that they meet: a service, what stands behind it, and a route and a gateway. */
const manifestOf = (kind: string, name: string, value: number): object => {
  const metadata = { name, namespace: 'shop' };
  if (kind === 'Service')
    return { apiVersion: 'v1', kind, metadata, spec: { clusterIP: `10.9.0.${value}`, ports: [{ name: 'http', port: 80 }] } };
  if (kind === 'EndpointSlice')
    return {
      ...{ apiVersion: 'discovery.k8s.io/v1', kind, addressType: 'IPv4', ports: [{ name: 'http', port: 80 }] },
      metadata: { ...metadata, labels: { 'kubernetes.io/service-name': name } },
      endpoints: Array.from({ length: value }, (_, index) => ({ addresses: [`10.0.${value}.${index + 1}`] })),
    };
  const gateway = { apiVersion: 'gateway.networking.k8s.io/v1', kind, metadata };
  if (kind === 'Gateway')
    return { ...gateway, spec: { gatewayClassName: 'weft', listeners: [{ name: 'web', port: 80 + value, protocol: 'HTTP' }] } };
  return { ...gateway, spec: { parentRefs: [{ name }], rules: [{ backendRefs: [{ name, port: 80, weight: value }] }] } };
};

const edit = fc.record({
  kind: fc.constantFrom('Service', 'EndpointSlice', 'EndpointSlice', 'Gateway', 'HTTPRoute'),
  name: fc.constantFrom('a', 'b', 'c', 'd'),
  value: fc.integer({ min: 1, max: 4 }),
  isGone: fc.boolean(),
});

test('over any edits a compiler that has compiled before says what a new one does, each resource in its own bytes', () => {
  const client = new EtcdClient({ endpoints: ['http://127.0.0.1:1'] });
  const keys = new Keyspace('/weft');
  try {
    fc.assert(
      fc.property(fc.array(fc.array(edit, { maxLength: 3 }), { minLength: 1, maxLength: 15 }), (steps) => {
        const view = new StoreView(client, keys, systemClock, { state: () => {}, unreadable: () => {} });
        const compiler = new ModelCompiler(view);
        for (const [modRevision, edits] of steps.entries()) {
          for (const { kind, name, value, isGone } of edits) {
            const ref = { kind, namespace: 'shop', name };
            const manifest = manifestOf(kind, name, value);
            const record = { manifest, createdAtMs: 1, requestId: '', generation: 0 };
            if (isGone) view.objects.delete(keys.object(ref));
            else view.objects.set(keys.object(ref), { ref, record, modRevision, source: '' });
          }
          const model = compiler.compile();
          expect(model).toEqual(new ModelCompiler(view).compile());
          expect(model.resources).toHaveLength(model.compiled.length);
          for (const [index, resource] of model.compiled.entries()) expect(model.resources[index]).toMatchObject(encodeResource(resource));
        }
      }),
      { numRuns: 60 },
    );
  } finally {
    client.close();
  }
});
