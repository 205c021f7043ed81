import { expect, test } from '@jest/globals';
import { Catalogue } from './catalogue.js';
import type { Ingest, SourceObject } from './ingester.js';

const NAMESPACE = 'there';

/** What stands, as "Kind/name", and what was told of services. */
function scene() {
  const stands = new Set<string>(['Service/left-behind', 'EndpointSlice/left-behind-1']);
  const refused: string[] = [];
  const ingest: Ingest = {
    put: ({ ref: { kind, name } }) => stands.add(`${kind}/${name}`),
    remove: ({ kind, name }) => stands.delete(`${kind}/${name}`),
    settle: (kind, present) => {
      for (const key of stands) {
        const [found = '', name = ''] = key.split('/');
        if (found === kind && !present({ kind, namespace: NAMESPACE, name })) stands.delete(key);
      }
    },
  };
  const catalogue = new Catalogue({
    namespace: NAMESPACE,
    ingest,
    refused: (service, messages) => refused.push(`${service}: ${messages}`),
  });
  return { catalogue, stands, refused };
}

const object = (kind: string, name: string): SourceObject => ({
  ref: { kind, namespace: NAMESPACE, name },
  manifest: {},
  createdAtMs: 0,
  generation: 0,
});

test('what a service had and has no more goes, and all of it when the service does', () => {
  const { catalogue, stands } = scene();
  catalogue.put('Shop', [object('Service', 'shop'), object('EndpointSlice', 'shop-1'), object('EndpointSlice', 'shop-2')]);
  catalogue.put('Shop', [object('Service', 'shop'), object('EndpointSlice', 'shop-2')]);
  expect([...stands].filter((key) => key.includes('shop'))).toEqual(['Service/shop', 'EndpointSlice/shop-2']);
  expect([catalogue.services(), catalogue.holder('shop'), catalogue.holder('Shop')]).toEqual([['Shop'], 'Shop', null]);
  catalogue.drop('Shop');
  expect([catalogue.services(), catalogue.holder('shop'), [...stands].some((key) => key.includes('shop'))]).toEqual([[], null, false]);
});

test('once all is known, what an earlier leader wrote goes, and nothing else', () => {
  const { catalogue, stands } = scene();
  catalogue.put('shop', [object('Service', 'shop'), object('EndpointSlice', 'shop-1')]);
  catalogue.settle();
  expect([...stands]).toEqual(['Service/shop', 'EndpointSlice/shop-1']);
});

test('what is left out is told when it changes, and again of a service that came back', () => {
  const { catalogue, refused } = scene();
  for (const messages of [['no port'], ['no port'], [], ['no port']]) catalogue.refuse('shop', messages);
  catalogue.drop('shop');
  catalogue.refuse('shop', ['no port']);
  expect(refused).toEqual(['shop: no port', 'shop: no port', 'shop: no port']);
});
