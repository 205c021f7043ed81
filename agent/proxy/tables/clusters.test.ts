import { expect, test } from '@jest/globals';
import type { Resource } from '../../../api/gen/mesh/v1/discovery.js';
import { EndpointHealth, LoadBalancing_Algorithm } from '../../../api/gen/mesh/v1/model.js';
import { Model } from '../../model/model.js';
import { NO_PATTERNS } from '../patterns.js';
import { backend, balanced, compiled, endpoint, modelOf, newIds, route, service, toService, workload } from '../testing/models.js';
import type { Generation, TableIds } from './compile.js';
import { DecisionTables } from './decision-tables.js';
import {
  BALANCER_WORDS,
  BalancerWord,
  CLUSTER_WORDS,
  ClusterWord,
  DESTINATION_WORDS,
  GROUP_WORDS,
  GroupWord,
  MEMBER_WORDS,
} from './layout.js';

const READY = { health: EndpointHealth.READY };
const two = [service('a', '10.96.0.1'), service('b', '10.96.0.2')];
const ofBoth = [endpoint('a', '1', '10.1.0.1', READY), endpoint('b', '1', '10.1.0.2', READY)];
const gone = ({ type, name }: Resource) => ({ type, name });

test('of services that stand as they did the clusters are the same objects, of others new ones with the ids of the endpoints that stayed', () => {
  const [model, ids] = [modelOf(...two, ...ofBoth), newIds()];
  const before = compiled(model, 'a', 1, ids);
  model.apply({ full: false, revision: 2, removed: [], resources: [endpoint('b', '2', '10.1.0.3', READY)] });
  const after = compiled(model, 'a', 2, ids);
  expect(after.clusters[0]).toBe(before.clusters[0]);
  expect(after.clusters[1]).not.toBe(before.clusters[1]);
  const idsOf = ({ clusters }: Generation) => clusters.map(({ endpoints }) => endpoints.map(({ id }) => id));
  expect(idsOf(before)).toEqual([[0], [1]]);
  expect(idsOf(after)).toEqual([[0], [1, 2]]);
});

test('a socket that two services have keeps its id until neither has it, and a full snapshot changes nothing', () => {
  const both = [...two, endpoint('a', '1', '10.1.0.1', READY), endpoint('b', '1', '10.1.0.1', READY)];
  const [model, ids] = [modelOf(...both), newIds()];
  const idOf = (generation: number): (number | undefined)[] => compiled(model, 'a', generation, ids).spec.endpoints.map(({ id }) => id);
  expect(idOf(1)).toEqual([0]);
  model.apply({ full: true, revision: 2, removed: [], resources: both });
  expect(idOf(2)).toEqual([0]);
  model.apply({ full: false, revision: 3, removed: [gone(both[2]!)], resources: [endpoint('a', '2', '10.1.0.2', READY)] });
  expect(idOf(3)).toEqual([1, 0]);
  model.apply({ full: false, revision: 4, removed: [gone(both[3]!)], resources: [endpoint('a', '3', '10.1.0.3', READY)] });
  // What rested returns with its id, a new name has a new one.
  expect(idOf(4)).toEqual([1, 2]);
});

test('after any changes tables are as if they were made anew', () => {
  const random = generator(7);
  const draw = (below: number): number => Math.floor(random() * below);
  const [model, ids] = [new Model(), newIds()];
  const all = new Map<string, Resource>();
  for (let generation = 1; generation <= 60; generation++) {
    const resources = Array.from({ length: 1 + draw(4) }, () => drawn(draw));
    const removed = [...all.values()].filter(() => random() < 0.1).map(gone);
    model.apply({ full: false, revision: generation, resources, removed });
    for (const { type, name } of removed) all.delete(`${type} ${name}`);
    for (const resource of resources) all.set(`${resource.type} ${resource.name}`, resource);
    const anew = newIds();
    const wanted = described(compiled(modelOf(...all.values()), 'a', 1, anew), anew);
    expect(described(compiled(model, 'a', generation, ids), ids)).toEqual(wanted);
  }
});

/** A service (with or without a policy), an endpoint, a route by labels or of gRPC, a workload that makes an endpoint local. */
function drawn(draw: (below: number) => number): Resource {
  const name = 'abc'[draw(3)]!;
  const at = draw(6);
  switch (draw(5)) {
    case 0:
      return service(name, `10.96.0.${name.charCodeAt(0)}`, draw(2) === 0 ? {} : balanced(LoadBalancing_Algorithm.RING_HASH));
    case 1: {
      const subset = { ...backend(name), labels: { version: `v${draw(2)}` } };
      const kind = draw(2) === 0 ? 'GRPCRoute' : 'HTTPRoute';
      const made = route(name, { kind, parents: [toService(name)], rules: [{ backends: [subset] }] });
      return { ...made, name: `${kind}/${made.name}` };
    }
    case 2:
      return workload(`w${at}`, { node: 'a', addresses: [`10.1.0.${at}`], capture: { inbound: draw(2) === 0, outbound: true } });
    default: {
      const failing = draw(4) === 0;
      const check = failing ? { failing, node: 'a', detail: '', sourceHealth: EndpointHealth.READY } : undefined;
      const health = failing ? EndpointHealth.UNHEALTHY : EndpointHealth.READY;
      const address = draw(3) === 0 ? `fd00::${at}` : `10.1.0.${at}`;
      return endpoint(name, `${at}`, address, { weight: 1 + draw(3), labels: { version: `v${draw(2)}` }, health, check });
    }
  }
}

/** Every row of clusters in words that ids and the order of what is kept do not show in. */
function described({ clusters, variants, buffer, spec, tenants }: Generation, { labels }: TableIds): unknown {
  const tables = new DecisionTables(buffer, NO_PATTERNS);
  const sockets = new Map(spec.endpoints.map(({ id, ...rest }) => [id, rest]));
  const memberAt = (member: number): unknown => {
    const [id, weight, upTo, isLocal, , isReady, isLast] = tables.members.subarray(member * MEMBER_WORDS, (member + 1) * MEMBER_WORDS);
    return { socket: sockets.get(id!), weight, upTo, isLocal, isReady, isLast };
  };
  const run = (first: number, count: number): unknown[] => Array.from({ length: count }, (_, i) => memberAt(first + i));
  const groupsOf = (balancer: number): unknown => {
    if (balancer < 0) return null;
    const row = balancer * BALANCER_WORDS;
    const first = tables.balancers[row + BalancerWord.Groups]!;
    return Array.from({ length: tables.balancers[row + BalancerWord.GroupCount]! }, (_, i) => {
      const at = (first + i) * GROUP_WORDS;
      const table = tables.groups[at + GroupWord.Table]!;
      const words = tables.hashTables.subarray(table, table + 2 * tables.groups[at + GroupWord.TableSize]!);
      return [run(tables.groups[at + GroupWord.Members]!, tables.groups[at + GroupWord.MemberCount]!), [...words]];
    });
  };
  const rows = Array.from({ length: tables.clusters.length / CLUSTER_WORDS }, (_, row) => {
    const word = (index: ClusterWord): number => tables.clusters[row * CLUSTER_WORDS + index]!;
    return {
      members: run(word(ClusterWord.Members), word(ClusterWord.MemberCount)),
      rest: [ClusterWord.Balancing, ClusterWord.TotalWeight, ClusterWord.IsEven, ClusterWord.Families].map(word),
      groups: groupsOf(word(ClusterWord.Balancer)),
    };
  });
  const tenantNames = new Map([...tenants].map(([name, id]) => [id, name]));
  const destinations = spec.destinations.map((destination, index) => {
    const [scope, isLocal, service, to, guard, limits, outside] = tables.destinations.subarray(index * DESTINATION_WORDS);
    const names = [labels.textOf(service!), labels.textOf(to!), tenantNames.get(spec.destinationTenants[index]!)];
    return { destination, names, rest: [scope, isLocal, guard, limits, outside] };
  });
  const sources = spec.sources.map((address, index) => [
    address,
    spec.sourceTwins[index],
    labels.textOf(tables.sources[index]!),
    tenantNames.get(spec.sourceTenants[index]!),
  ]);
  // Workloads come in the order in which they were told.
  return {
    keys: [...clusters, ...variants].map(({ key, names }) => [key, names]),
    rows,
    destinations: destinations.sort(byText),
    sources: sources.sort(byText),
  };
}

function byText(one: unknown, other: unknown): number {
  return JSON.stringify(one) < JSON.stringify(other) ? -1 : 1;
}

/** Mulberry32. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
