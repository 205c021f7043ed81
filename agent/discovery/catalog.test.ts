import { expect, test } from '@jest/globals';
import { ResourceType } from '../../api/gen/mesh/v1/model.js';
import { Catalog } from './catalog.js';

const resource = (name: string, text: string) => ({ type: ResourceType.ENDPOINT, name, body: Buffer.from(text) });
const token = (revision: number) => ({ clusterId: 'c', compiler: 'v1', revision });
const NONE = new Set<string>();

function catalogWith(...names: string[]): Catalog {
  const catalog = new Catalog();
  const resources = names.map((name) => resource(name, `${name} 1`));
  catalog.apply({ full: true, revision: 1, token: token(1), resources, removed: [] }, NONE);
  return catalog;
}
const texts = (delta: ReturnType<Catalog['since']>) => delta?.resources.map(({ body }) => body.toString());

test('what the node puts in place is served and not stored, and a reader gets it and its end as deltas of the same revision', () => {
  const catalog = catalogWith('a', 'b');
  const before = catalog.servedToken!;
  expect(before).toEqual(token(1));
  expect(catalog.overlay([resource('a', 'a here')])).toMatchObject([{ name: 'a' }]);
  expect(catalog.overlay([resource('a', 'a here')])).toEqual([]);
  const during = catalog.servedToken!;
  expect(texts(catalog.since(before))).toEqual(['a here']);
  expect([...catalog.servedResources()].map(({ body }) => body.toString())).toEqual(['a here', 'b 1']);
  expect([...catalog.resources()].map(({ body }) => body.toString())).toEqual(['a 1', 'b 1']);
  expect(catalog.token).toEqual(token(1));
  catalog.overlay([]);
  expect(texts(catalog.since(during))).toEqual(['a 1']);
  expect(texts(catalog.since(catalog.servedToken!))).toEqual([]);
});

test('a revision and what the node puts in place come as one delta; what is gone is gone', () => {
  const catalog = catalogWith('a', 'b');
  catalog.overlay([resource('a', 'a here')]);
  const before = catalog.servedToken!;
  catalog.apply(
    { full: false, revision: 2, token: token(2), resources: [resource('a', 'a 2')], removed: [{ type: ResourceType.ENDPOINT, name: 'b' }] },
    NONE,
  );
  expect(catalog.since(before)).toMatchObject({ resources: [{ name: 'a', body: Buffer.from('a here') }], removed: [{ name: 'b' }] });
  catalog.apply({ full: false, revision: 3, token: token(3), resources: [], removed: [{ type: ResourceType.ENDPOINT, name: 'a' }] }, NONE);
  expect(catalog.since(before)).toMatchObject({ resources: [], removed: [{ name: 'b' }, { name: 'a' }] });
});

test('a reader served by an earlier run, which had put something in place, gets everything', () => {
  const earlier = catalogWith('a');
  earlier.overlay([resource('a', 'a there')]);
  const catalog = catalogWith('a');
  expect(catalog.since(earlier.servedToken!)).toBeNull();
  catalog.overlay([resource('a', 'a here')]);
  expect(catalog.since(earlier.servedToken!)).toBeNull();
});
