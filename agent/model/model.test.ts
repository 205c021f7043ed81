import { expect, test } from '@jest/globals';
import type { Resource } from '../../api/gen/mesh/v1/discovery.js';
import { Endpoint, ResourceType, Service } from '../../api/gen/mesh/v1/model.js';
import { Model } from './model.js';

const service = (name: string, port: number): Resource => ({
  type: ResourceType.SERVICE,
  name: `shop/${name}`,
  body: Buffer.from(Service.encode(Service.fromPartial({ namespace: 'shop', name, ports: [{ port }] })).finish()),
});
const endpoint = (id: string, address: string): Resource => ({
  type: ResourceType.ENDPOINT,
  name: `shop/a/${id}`,
  body: Buffer.from(Endpoint.encode(Endpoint.fromPartial({ service: 'shop/a', id, address })).finish()),
});
const update = (resources: Resource[], full = false, removed: { type: ResourceType; name: string }[] = []) => ({
  full,
  resources,
  removed,
  revision: 1,
});

test('a bad resource is refused alone and its last good version kept, in a delta and in a full snapshot', () => {
  const model = new Model();
  model.apply(update([service('a', 80), service('b', 80)]));
  const garbage = { ...service('a', 80), body: Buffer.from([0xff, 0xff, 0xff]) };
  const rejections = model.apply(update([garbage, service('b', 99_999), service('c', 80)], true));
  expect(rejections.map(({ name }) => name)).toEqual(['shop/a', 'shop/b']);
  expect(rejections[1]!.error).toBe('port 99999: expected 1 to 65535');
  expect([...model.services].map(([name, { ports }]) => [name, ports[0]!.port])).toEqual([
    ['shop/a', 80],
    ['shop/b', 80],
    ['shop/c', 80],
  ]);
});

test('a full snapshot drops what it does not name', () => {
  const model = new Model();
  model.apply(update([service('a', 80), endpoint('1', '10.0.0.1')]));
  model.apply(update([service('b', 80)], true));
  expect([...model.services.keys(), ...model.endpoints.keys()]).toEqual(['shop/b']);
});

test('endpoints are found by their service, through change and removal', () => {
  const model = new Model();
  model.apply(update([endpoint('1', '10.0.0.1'), endpoint('2', '10.0.0.2')]));
  model.apply(update([endpoint('1', '10.0.0.9')], false, [{ type: ResourceType.ENDPOINT, name: 'shop/a/2' }]));
  expect([...model.endpoints.get('shop/a')!.values()].map(({ address }) => address)).toEqual(['10.0.0.9']);
  model.apply(update([], false, [{ type: ResourceType.ENDPOINT, name: 'shop/a/1' }]));
  expect(model.endpoints.size).toBe(0);
});

test('an unknown type and a name that contradicts the body are refused', () => {
  const model = new Model();
  const wrong = { ...service('a', 80), name: 'shop/z' };
  expect(model.apply(update([{ type: 99 as ResourceType, name: 'x', body: Buffer.alloc(0) }, wrong]))).toHaveLength(2);
  expect(model.services.size).toBe(0);
});

test('a field of newer software, at any depth, is gone without and told, until the resource comes without it or goes', () => {
  const model = new Model();
  const known = '0a0473686f70120161';
  const port = '0a04687474701050';
  const novelty = '8afa01036e6577';
  // Field 5, the ports: 8 bytes, or 15 with the novelty in them.
  const body = Buffer.from(`${known}2a08${port}`, 'hex');
  const nested = Buffer.from(`${known}2a0f${port}${novelty}`, 'hex');
  const tell = (service: Uint8Array) =>
    model.apply({
      full: false,
      resources: [{ type: ResourceType.SERVICE, name: 'shop/a', body: Buffer.from(service) }],
      removed: [],
      revision: 1,
    });
  for (const newer of [Buffer.concat([body, Buffer.from(novelty, 'hex')]), nested]) {
    expect(tell(newer)).toEqual([]);
    expect(model.services.get('shop/a')?.ports[0]).toMatchObject({ name: 'http', port: 80 });
    expect(model.notice).toMatch(/^1 resource has fields .*, shop\/a for one: it goes without them; upgrade this node$/);
    tell(body);
    expect(model.notice).toBeNull();
  }
  tell(nested);
  model.apply({ full: true, resources: [], removed: [], revision: 2 });
  expect(model.notice).toBeNull();
});
