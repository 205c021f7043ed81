import { readFileSync } from 'node:fs';
import { createFileRegistry, type FileRegistry, fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { expect, test } from '@jest/globals';
import { methodAt } from './methods.js';
import { type Principal, refusal, refusalAsNode } from './principal.js';

/** Served by agents and proxies, not by controllers. */
const OF_NODES = [
  'mesh.v1.NodeStatus',
  'mesh.v1.ProxyStatus',
  'mesh.v1.Instances',
  'envoy.service.discovery.v3.AggregatedDiscoveryService',
];

function paths(): string[] {
  const bytes = readFileSync(new URL('../../api/gen/descriptors.bin', import.meta.url));
  const registry: FileRegistry = createFileRegistry(fromBinary(FileDescriptorSetSchema, bytes));
  const services = [...registry].filter((each) => each.kind === 'service').filter(({ typeName }) => !OF_NODES.includes(typeName));
  return services.flatMap(({ typeName, methods }) => methods.map(({ name }) => `/${typeName}/${name}`));
}

const node: Principal = { kind: 'node', name: 'node-a', lineage: 0, expiresAtMs: 1, issuer: 'pin' };
const operator = (role: 'viewer' | 'operator' | 'admin'): Principal => ({
  ...{ kind: 'operator', name: 'ann', role, by: 'token', hash: '', issuer: '' },
});
const CALLERS: Readonly<Record<string, Principal>> = {
  stranger: { kind: 'stranger' },
  node,
  viewer: operator('viewer'),
  operator: operator('operator'),
  admin: operator('admin'),
  local: { kind: 'local', name: 'root', by: 'local socket' },
};

test('every method of every service of a controller declares who may call it', () => {
  const all = paths();
  expect(all.length).toBeGreaterThan(20);
  expect(all.filter((path) => methodAt(path) === null)).toEqual([]);
});

test('who may call what', () => {
  const table = paths()
    .sort()
    .map((path) => {
      const requirement = methodAt(path)?.requirement ?? 'admin';
      const may = Object.entries(CALLERS).filter(([, caller]) => refusal(caller, requirement) === null);
      return `${path.replace('/mesh.v1.', '')}: ${may.map(([name]) => name).join(' ')}`;
    });
  expect(table).toEqual([
    'Access/AdmitNode: admin local',
    'Access/CreateJoinToken: admin local',
    'Access/CreateOperator: admin local',
    'Access/DeleteOperator: admin local',
    'Access/ListAudit: admin local',
    'Access/ListAuthorities: admin local',
    'Access/ListJoinTokens: admin local',
    'Access/ListOperators: admin local',
    'Access/ListRevokedNodes: admin local',
    'Access/NodeExplain: viewer operator admin local',
    'Access/NodeStatus: viewer operator admin local',
    'Access/RevokeJoinToken: admin local',
    'Access/RevokeNode: admin local',
    'Access/RotateAuthority: admin local',
    'Access/WhoAmI: viewer operator admin local',
    'Admin/Apply: operator admin local',
    'Admin/CurrentRevision: viewer operator admin local',
    'Admin/Delete: operator admin local',
    'Admin/DrainNode: operator admin local',
    'Admin/Get: viewer operator admin local',
    'Admin/History: viewer operator admin local',
    'Admin/ListNodes: viewer operator admin local',
    'Admin/Rollback: operator admin local',
    'Admin/Wait: viewer operator admin local',
    'Catalog/ListEndpoints: viewer operator admin local',
    'Catalog/ListServices: viewer operator admin local',
    'Catalog/WatchEndpoints: viewer operator admin local',
    'Discovery/Stream: node local',
    'NodeIdentity/Join: stranger node viewer operator admin local',
    'NodeIdentity/Renew: stranger node viewer operator admin local',
    'Quotas/Lease: node local',
    'Registry/Register: node local',
  ]);
});

test('every method that changes something leaves a trace', () => {
  const silent = paths().filter((path) => methodAt(path)?.trace === null);
  expect(silent.map((path) => path.replace(/.*\//, ''))).toEqual(
    expect.arrayContaining(['Get', 'Wait', 'ListNodes', 'History', 'WhoAmI', 'ListAudit', 'Stream', 'Register']),
  );
  const reads = /\/(NodeStatus|NodeExplain|CurrentRevision|Get|Wait\w*|Watch\w+|List\w+|History|WhoAmI|Stream|Register|Lease)$/;
  expect(silent.filter((path) => !reads.test(path))).toEqual([]);
});

test('a node speaks for itself alone, an operator for none', () => {
  expect(refusalAsNode(node, 'node-a')).toBeNull();
  expect(refusalAsNode(node, 'node-b')).toContain('certificate is of node "node-a"');
  expect(refusalAsNode(operator('admin'), 'node-a')).toContain('only node "node-a" itself');
});
