// What holds of all that is compiled: order, the wire, and which of two policies has a service.
import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { LoadBalancing_Algorithm, ResourceType } from '../gen/mesh/v1/model.js';
import { canonicalAddress } from './address.js';
import { compileModel, decodeResource, encodeResource } from './index.js';
import { CATALOG, gateway, messages, route, stored, V1 } from './testing/manifests.js';

test('whatever an older policy sets too is told', () => {
  const policy = (name: string, spec: string) =>
    `apiVersion: mesh.weft.dev/v1\nkind: TrafficPolicy\nmetadata: {name: ${name}, namespace: shop}\nspec: {targetRefs: [{kind: Service, name: catalog}], ${spec}}`;
  const both = 'retries: {attempts: 1}, connections: {maxConnections: 9}';
  const { problems } = compileModel({ objects: stored(CATALOG, policy('a', both), policy('b', both)), running: null });
  expect(problems.map(({ name, message }) => [name, / sets (\w+) /.exec(message)?.[1]])).toEqual([
    ['b', 'retries'],
    ['b', 'connections'],
  ]);
});

test('the oldest policy sets the load balancer; the others are told', () => {
  const policy = (name: string, type: string) =>
    `apiVersion: mesh.weft.dev/v1\nkind: TrafficPolicy\nmetadata: {name: ${name}, namespace: shop}\nspec: {targetRefs: [{kind: Service, name: catalog}], loadBalancer: {type: ${type}}}`;
  const { resources, problems } = compileModel({
    objects: stored(CATALOG, policy('z', 'Random'), policy('a', 'RoundRobin')),
    running: null,
  });
  expect(messages(resources, ResourceType.SERVICE)[0]?.policies[0]?.policy?.loadBalancing?.algorithm).toBe(LoadBalancing_Algorithm.RANDOM);
  expect(problems).toMatchObject([{ kind: 'TrafficPolicy', name: 'a' }]);
});

test('the order of the objects changes nothing, and everything survives the wire', () => {
  const objects = stored(
    CATALOG,
    V1,
    gateway('listeners: [{name: a, port: 80, protocol: HTTP}]'),
    route('{parentRefs: [{name: edge}, {group: "", kind: Service, name: catalog}], rules: [{backendRefs: [{name: catalog, port: 80}]}]}'),
  );
  const expected = compileModel({ objects, running: null });
  fc.assert(
    fc.property(fc.shuffledSubarray(objects, { minLength: objects.length }), (shuffled) => {
      expect(compileModel({ objects: shuffled, running: null })).toEqual(expected);
    }),
    { numRuns: 20 },
  );
  for (const resource of expected.resources) expect(decodeResource(encodeResource(resource))).toEqual({ kind: 'resource', resource });
});

test('what a node cannot decode is refused alone', () => {
  const refused = decodeResource({ type: ResourceType.SERVICE, name: 'a/b', body: Buffer.from([0xff, 0xff]) });
  expect(refused).toMatchObject({ kind: 'refused', name: 'a/b' });
  expect(decodeResource({ type: 99 as ResourceType, name: 'a/b', body: Buffer.alloc(0) })).toMatchObject({ kind: 'refused' });
});

test('what is no address does not stop the compiler: the node that gets it refuses it alone', () => {
  for (const address of ['fe80::1%eth0', 'not an address', '']) expect(canonicalAddress(address)).toBe(address);
});
