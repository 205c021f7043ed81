import { describe, expect, test } from '@jest/globals';
import { Resource } from '../../../api/gen/mesh/v1/discovery.js';
import { ResourceType, Workload } from '../../../api/gen/mesh/v1/model.js';
import { compiled, endpoint, listener, modelOf, newIds, service, workload } from '../testing/models.js';
import { compileTables } from './compile.js';

const CAPTURED = { outbound: true, inbound: true };
const bankWorkload = Resource.fromPartial({
  type: ResourceType.WORKLOAD,
  name: 'bank/till',
  body: Buffer.from(
    Workload.encode(
      Workload.fromPartial({
        namespace: 'bank',
        name: 'till',
        node: 'a',
        addresses: ['10.1.0.9'],
        ports: [{ port: 9000 }],
        capture: CAPTURED,
      }),
    ).finish(),
  ),
});
const MODEL = modelOf(
  service('catalog', '10.96.0.1'),
  endpoint('catalog', 'a', '10.1.0.1'),
  workload('cart', { node: 'a', addresses: ['10.1.0.2'], capture: CAPTURED }),
  bankWorkload,
  listener('edge', 'http', 80),
);

describe('tenants of one generation', () => {
  test('sources are their namespace’s, destinations their owner’s, gateway listeners their gateway’s; captured listeners are nobody’s', () => {
    const { spec, tenants, listeners } = compiled(MODEL);
    const [shop, bank] = [tenants.get('shop'), tenants.get('bank')];
    expect([shop, bank].sort()).toEqual([1, 2]);
    const bySource = Object.fromEntries(spec.sources.map((address, index) => [address, spec.sourceTenants[index]]));
    expect(bySource).toEqual({ '10.1.0.2': shop, '10.1.0.9': bank });
    const byDestination = Object.fromEntries(spec.destinations.map(({ address }, index) => [address, spec.destinationTenants[index]]));
    expect(byDestination).toEqual({ '10.96.0.1': shop, '10.1.0.1': shop, '10.1.0.9': bank });
    for (const { id } of listeners[0]!.sockets) expect(spec.listenerTenants[id]).toBe(shop);
    expect(spec.listenerTenants.slice(0, 4)).toEqual([0, 0, 0, 0]);
  });

  test('a namespace has the weight that was said of it; one that is not known has none, and nobody’s is the usual one', () => {
    const { spec, tenants } = compileTables(
      MODEL,
      1,
      'a',
      newIds(),
      new Map([
        ['bank', 300],
        ['gone', 20],
      ]),
    );
    expect(spec.tenantWeights[tenants.get('bank')!]).toBe(300);
    expect(spec.tenantWeights[0]).toBe(0);
    expect(spec.tenantWeights[tenants.get('shop')!] ?? 0).toBe(0);
    expect(spec.tenantWeights).not.toContain(20);
  });

  test('a namespace keeps its id while others come and go', () => {
    const ids = newIds();
    const bank = compiled(MODEL, 'a', 1, ids).tenants.get('bank');
    expect(compiled(modelOf(bankWorkload), 'a', 2, ids).tenants).toEqual(new Map([['bank', bank]]));
  });

  test('a namespace that finds no id is nobody’s', () => {
    const many = Array.from({ length: 20 }, (_, i) =>
      Resource.fromPartial({
        type: ResourceType.WORKLOAD,
        name: `n${i}/w`,
        body: Buffer.from(
          Workload.encode(Workload.fromPartial({ namespace: `n${i}`, name: 'w', node: 'a', addresses: [`10.2.0.${i}`] })).finish(),
        ),
      }),
    );
    const { spec, tenants } = compiled(modelOf(...many));
    expect(tenants.size).toBe(16);
    expect(spec.sourceTenants.filter((tenant) => tenant === 0)).toHaveLength(4);
  });
});
