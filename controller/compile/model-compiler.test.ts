import { expect, test } from '@jest/globals';
import { WorkloadState } from '../../api/gen/mesh/v1/discovery.js';
import { parseManifests } from '../../api/resources/index.js';
import { reportedBy } from './model-compiler.js';

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
