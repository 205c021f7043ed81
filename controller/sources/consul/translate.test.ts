import { expect, test } from '@jest/globals';
import { validateObject } from '../../../api/resources/index.js';
import { serviceName } from '../instances.js';
import { translate } from './translate.js';

const entry = (service: object, checks: object[] = [], node: object = {}): object => ({
  Node: { Node: 'n1', Address: '10.0.0.1', ...node },
  Service: { ID: 'a', Service: 'web', Port: 80, ...service },
  Checks: checks,
});

test('names become DNS labels, or are refused', () => {
  expect(serviceName('Web_API.v2')).toBe('web-api-v2');
  expect(serviceName('_x')).toBeNull();
  expect(serviceName('a'.repeat(64))).toBeNull();
});

test('instances of one port, family and weight share a slice of at most 1,000, and all are valid', () => {
  const many = Array.from({ length: 1_001 }, (_, i) => entry({ Address: `10.1.${i >> 8}.${i & 255}` }));
  const { objects, refused } = translate('web', 'consul', [
    ...many,
    entry({ Address: 'fd00::1' }),
    entry({ Port: 81, Weights: { Passing: 5 } }),
  ]);
  expect(refused).toEqual([]);
  expect(objects.map(({ ref, manifest }) => [ref.name, (manifest as { endpoints?: unknown[] }).endpoints?.length])).toEqual([
    ['web', undefined],
    ['web-80-v4-1', 1_000],
    ['web-80-v4-1-1', 1],
    ['web-80-v6-1', 1],
    ['web-81-v4-5', 1],
  ]);
  for (const { manifest } of objects) expect(validateObject(manifest)).toMatchObject({ ok: true });
});

test('an answer of any shape throws nothing', () => {
  for (const odd of [
    null,
    1,
    {},
    [null],
    [[]],
    [{}],
    [{ Service: 1, Node: [], Checks: {} }],
    [entry({ Port: '80' })],
    [entry({ Port: 0 })],
  ]) {
    expect(translate('web', 'consul', odd).objects).toEqual([]);
  }
});

test('the port is the one asked for in the service’s meta, else the lowest', () => {
  const port = (...entries: object[]): unknown => {
    const [service] = translate('web', 'consul', entries).objects;
    return (service!.manifest as { spec: { ports: { port: number }[] } }).spec.ports[0]?.port;
  };
  expect(port(entry({ Port: 9000 }), entry({ Port: 8000 }))).toBe(8000);
  expect(port(entry({ Port: 9000, Meta: { 'weft-port': '80' } }), entry({ Port: 8000 }))).toBe(80);
  expect(port(entry({ Port: 9000, Meta: { 'weft-port': 'x' } }))).toBe(9000);
});

test('what of an instance’s meta can be a label is one, with the region; instances that differ in them don’t share a slice', () => {
  const { objects } = translate('web', 'consul', [
    entry({ Address: '10.1.0.1', Meta: { version: 'v1', note: 'two words', tier: 'gold' }, Locality: { Region: 'eu' } }),
    entry({ Address: '10.1.0.2', Meta: { version: 'v2' } }),
    entry({ Address: '10.1.0.3', Meta: { version: 'v2' } }),
  ]);
  const slices = objects
    .filter(({ ref }) => ref.kind === 'EndpointSlice')
    .map(({ manifest }) => manifest as { metadata: object; endpoints: object[] });
  expect(slices).toMatchObject([
    {
      metadata: { annotations: { 'mesh.weft.dev/endpoint-labels': 'tier=gold,topology.kubernetes.io/region=eu,version=v1' } },
      endpoints: [{ addresses: ['10.1.0.1'] }],
    },
    {
      metadata: { annotations: { 'mesh.weft.dev/endpoint-labels': 'version=v2' } },
      endpoints: [{ addresses: ['10.1.0.2'] }, { addresses: ['10.1.0.3'] }],
    },
  ]);
  for (const { manifest } of objects) expect(validateObject(manifest)).toMatchObject({ ok: true });
});
