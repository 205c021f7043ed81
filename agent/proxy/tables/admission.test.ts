import { expect, test } from '@jest/globals';
import type { Resource } from '../../../api/gen/mesh/v1/discovery.js';
import { Endpoint, ResourceType, Service } from '../../../api/gen/mesh/v1/model.js';
import { Model } from '../../model/model.js';
import { admit } from './admission.js';

function service(name: string, hostname = `${name}.shop`): Resource {
  const body = Service.encode(Service.fromPartial({ namespace: 'shop', name, hostnames: [hostname], ports: [{ port: 80 }] })).finish();
  return { type: ResourceType.SERVICE, name: `shop/${name}`, body: Buffer.from(body) };
}

function endpoint(address: string): Resource {
  const message = Endpoint.fromPartial({ service: 'shop/a', id: address, address, ports: [{ port: 8080 }], weight: 1, health: 1 });
  return { type: ResourceType.ENDPOINT, name: `shop/a/${address}`, body: Buffer.from(Endpoint.encode(message).finish()) };
}

/** Takes no host "bad…", no endpoint at 10.0.0.9, and at most so many services. */
class Engine {
  readonly model = new Model();
  builds = 0;
  readonly held = new Set<number>();

  constructor(readonly most = 1_000) {}

  apply(resources: readonly Resource[], { full = false, removed = [] as { type: ResourceType; name: string }[] } = {}) {
    return admit(
      this.model,
      { full, resources, removed, revision: 1 },
      {
        build: () => {
          this.builds++;
          const hosts = [...this.model.services.values()].flatMap(({ hostnames }) => hostnames);
          const bad = hosts.find((host) => host.startsWith('bad'));
          if (bad !== undefined) throw new Error(`host ${bad} is bad`);
          if (hosts.length > this.most) throw new Error('too many');
          if (this.model.endpoints.get('shop/a')?.has('shop/a/10.0.0.9') === true) throw new Error('a bad address');
          this.held.add(this.builds);
          return this.builds;
        },
        discard: (built) => void this.held.delete(built),
      },
    );
  }

  hosts(): string[] {
    return [...this.model.services.values()].flatMap(({ hostnames }) => hostnames).sort();
  }
}

const many = (count: number) => Array.from({ length: count }, (_, index) => service(`s${String(index).padStart(4, '0')}`));

test('what can be built is built once', () => {
  const engine = new Engine();
  expect(engine.apply(many(100), { full: true })).toEqual({ built: 1, rejected: [] });
  expect([engine.builds, engine.model.services.size]).toEqual([1, 100]);
});

test('one of a thousand that can’t be built is refused alone, with the reason', () => {
  const engine = new Engine();
  const resources = many(1_000);
  resources[700] = service('s0700', 'bad.shop');
  const { rejected } = engine.apply(resources, { full: true });
  expect(rejected).toEqual([
    { type: ResourceType.SERVICE, name: 'shop/s0700', error: 'no tables can be made with it: host bad.shop is bad' },
  ]);
  expect(engine.model.services.size).toBe(999);
  expect(engine.builds).toBeLessThan(25);
  expect(engine.held.size).toBe(1);
});

test('of what stood there before the last good version is kept, and a later good one is taken', () => {
  const engine = new Engine();
  engine.apply([service('a'), endpoint('10.0.0.1')], { full: true });
  const { rejected } = engine.apply([service('a', 'bad.shop'), service('b'), endpoint('10.0.0.2'), endpoint('10.0.0.9')]);
  expect(rejected.map(({ name }) => name).sort()).toEqual(['shop/a', 'shop/a/10.0.0.9']);
  expect(engine.hosts()).toEqual(['a.shop', 'b.shop']);
  expect([...(engine.model.endpoints.get('shop/a')?.keys() ?? [])]).toEqual(['shop/a/10.0.0.1', 'shop/a/10.0.0.2']);
  expect(engine.apply([service('a', 'c.shop')]).rejected).toEqual([]);
  expect(engine.hosts()).toEqual(['b.shop', 'c.shop']);
});

test('where there is room for some, the first are taken', () => {
  const engine = new Engine(10);
  expect(engine.apply(many(13), { full: true }).rejected.map(({ name }) => name)).toEqual(['shop/s0010', 'shop/s0011', 'shop/s0012']);
});

test('many that can’t be built take a bounded time: what is not known to be good is refused with them', () => {
  const engine = new Engine();
  const { rejected } = engine.apply(
    [...many(500), ...Array.from({ length: 500 }, (_, index) => service(`t${index}`, `bad${index}.shop`))],
    {
      full: true,
    },
  );
  expect(engine.model.services.size).toBe(500);
  expect(rejected).toHaveLength(500);
  expect(engine.builds).toBeLessThan(80);
});

test('what is no resource’s fault is told as it is', () => {
  const engine = new Engine(1);
  engine.apply([service('a')], { full: true });
  engine.model.services.set('x', Service.fromPartial({ hostnames: ['bad.x'] }));
  expect(() => engine.apply([service('b')])).toThrow('host bad.x is bad');
});
