// The plan and the manifests beside it say the same thing.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from '@jest/globals';
import { parseAllDocuments } from 'yaml';
import { CATALOG_V2_SHARE, SHOP_NAMESPACE, SHOP_PODS, SHOP_SERVICES } from './plan.js';

// biome-ignore lint/suspicious/noExplicitAny: manifests are read as a reader without schema would
type Manifest = any;

function manifests(file: string): Manifest[] {
  const text = readFileSync(fileURLToPath(new URL(`./manifests/${file}`, import.meta.url)), 'utf8');
  return parseAllDocuments(text).map((document) => document.toJS());
}

describe('the sample shop', () => {
  test('has one Workload per pod, on its node, with its addresses', () => {
    const found = manifests('workloads.yaml').map(({ metadata, spec }) => [metadata.name, metadata.namespace, spec.node, spec.addresses]);
    expect(found).toEqual(SHOP_PODS.map((pod) => [pod.name, SHOP_NAMESPACE, pod.node, [pod.v4, pod.v6]]));
  });

  test('has services at the addresses that the hosts files and the translation know, selecting the same pods', () => {
    const workloads = manifests('workloads.yaml');
    const found = manifests('services.yaml').map(({ metadata, spec }) => ({
      name: metadata.name,
      addresses: spec.clusterIPs,
      ports: spec.ports.map((port: Manifest) => [port.port, port.targetPort]),
      pods: workloads
        .filter(({ metadata: { labels } }) => Object.entries(spec.selector).every(([key, value]) => labels[key] === value))
        .map((workload) => workload.metadata.name),
    }));
    expect(found).toEqual(
      SHOP_SERVICES.map(({ name, v4, v6, port, targetPort, pods }) => ({ name, addresses: [v4, v6], ports: [[port, targetPort]], pods })),
    );
  });

  test('splits catalog as the verdict expects', () => {
    const backends = manifests('catalog-route.yaml')[0].spec.rules[0].backendRefs;
    const total = backends.reduce((sum: number, backend: Manifest) => sum + backend.weight, 0);
    expect(backends.find((backend: Manifest) => backend.name === 'catalog-v2').weight / total).toBe(CATALOG_V2_SHARE);
  });
});
