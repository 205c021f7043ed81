// What tests of the compiler begin with: manifests, and how they are read.
import { expect } from '@jest/globals';
import type { ResourceType } from '../../gen/mesh/v1/model.js';
import { formatFinding, parseManifests, type StoredObject } from '../../resources/index.js';
import type { CompiledResource } from '../index.js';

/** As they are stored, the first the oldest. Fails the test on a finding. */
export function stored(...documents: string[]): StoredObject[] {
  const { objects, findings } = parseManifests([{ name: 'f', content: documents.join('\n---\n') }]);
  expect(findings.map(formatFinding)).toEqual([]);
  return objects.map((object, index) => ({ ...object, createdAtMs: 1000 + index }));
}

/** Of all resources of a type, in their order. */
export function messages<T extends ResourceType>(resources: readonly CompiledResource[], type: T) {
  return resources
    .filter((resource): resource is Extract<CompiledResource, { type: T }> => resource.type === type)
    .map((resource) => resource.message as Extract<CompiledResource, { type: T }>['message']);
}

export const CATALOG = `apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: shop}
spec:
  clusterIPs: [10.96.0.10, "FD00:0:0::A"]
  selector: {app: catalog}
  ports: [{name: http-web, port: 80, targetPort: web}, {name: dns, port: 53, protocol: UDP}]`;

export const workload = (name: string, spec: string, labels = '{app: catalog, version: v1}') => `apiVersion: mesh.weft.dev/v1
kind: Workload
metadata: {name: ${name}, namespace: shop, labels: ${labels}}
spec: ${spec}`;
export const V1 = workload(
  'catalog-v1',
  '{node: n1, addresses: [10.1.0.1, "fd01::0001", 10.1.0.9], ports: [{name: web, port: 8080}], weight: 3}',
);

export const route = (spec: string, namespace = 'shop', name = 'catalog') =>
  `apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: ${name}, namespace: ${namespace}}\nspec: ${spec}`;
export const gateway = (spec: string) =>
  `apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: shop}\nspec: {gatewayClassName: weft, ${spec}}`;
