// Sessions as decisions have them: the endpoint that a token names, and when another one is chosen.
import { describe, expect, test } from '@jest/globals';
import { EndpointHealth, SessionPersistence_Type } from '../../api/gen/mesh/v1/model.js';
import type { Generation } from './tables/compile.js';
import { backend, compiled, endpoint, modelOf, newIds, route, service, toService } from './testing/models.js';
import { TestProxy, type TestRequest } from './testing/requests.js';
import { randoms } from './testing/statistics.js';

const request: TestRequest = { listener: 0, destination: ['10.0.0.1', 80], source: '10.1.0.9', host: 's' };
const POLICY = { policies: [{ policy: { loadBalancing: { slowStart: { windowMs: 1 } } } }] };

const { READY, UNHEALTHY } = EndpointHealth;
const ADDRESSES = ['10.1.0.1', '10.1.0.2', '10.1.0.3'];

/** A proxy of three endpoints, what the requests with the cookie of a first one get, and what may change between. */
class Bed {
  private readonly ids = newIds();
  private generation = 1;
  private tables: Generation;
  private readonly proxy: TestProxy;
  private readonly random = randoms(1);

  constructor(private readonly session: object = {}) {
    this.tables = this.compile([]);
    this.proxy = new TestProxy(this.tables);
  }

  private compile(unhealthy: readonly string[]): Generation {
    const sid = { type: SessionPersistence_Type.COOKIE, name: 'sid', key: Buffer.alloc(32, 7), ...this.session };
    const persistent = route('r', { parents: [toService('s')], rules: [{ backends: [backend('s', 1)], sessionPersistence: sid }] });
    const endpoints = ADDRESSES.map((address) => {
      const failing = unhealthy.includes(address);
      const check = { node: 'n1', failing, detail: '', sourceHealth: READY };
      return endpoint('s', address, address, { health: failing ? UNHEALTHY : READY, check });
    });
    return compiled(modelOf(service('s', '10.0.0.1', POLICY), ...endpoints, persistent), 'n1', this.generation++, this.ids);
  }

  fail(addresses: readonly string[]): void {
    this.tables = this.compile(addresses);
    this.proxy.publish(this.tables);
  }

  eject(addresses: readonly string[]): void {
    for (const { id, address } of this.tables.spec.endpoints) if (addresses.includes(address)) this.proxy.states.setUnavailable(id, true);
  }

  ask(cookie = ''): { readonly address: string; readonly lines: string } {
    const decision = this.proxy.decide({ ...request, headers: cookie === '' ? {} : { cookie }, random: this.random() });
    const { address = 'none' } = this.tables.spec.endpoints.find(({ id }) => id === decision.target) ?? {};
    return { address, lines: decision.answerLines };
  }

  begin(): { readonly address: string; readonly cookie: string } {
    const { address, lines } = this.ask();
    return { address, cookie: /sid=[^;]+/.exec(lines)![0] };
  }

  /** Of twenty requests with the cookie: where they go, and what the first answer gives. */
  follow(cookie: string): { readonly addresses: string[]; readonly lines: string } {
    const all = Array.from({ length: 20 }, () => this.ask(cookie));
    return { addresses: [...new Set(all.map(({ address }) => address))], lines: all[0]!.lines };
  }
}

describe('a session', () => {
  test('stays with its endpoint', () => {
    const bed = new Bed();
    const { address, cookie } = bed.begin();
    expect(bed.follow(cookie)).toEqual({ addresses: [address], lines: '' });
  });

  test.each(['eject', 'fail'] as const)('leaves an endpoint that takes no work (%s), as long as another one does', (how) => {
    const bed = new Bed();
    const { address, cookie } = bed.begin();
    bed[how]([address]);
    const { addresses, lines } = bed.follow(cookie);
    expect(addresses).not.toContain(address);
    expect(lines).toMatch(/^set-cookie: sid=/);
    bed[how](ADDRESSES);
    const none = { eject: { addresses: ['none'], lines: '' }, fail: { addresses: [address], lines: '' } };
    expect(bed.follow(cookie)).toEqual(none[how]);
  });

  test('without a limit of time has a cookie that lasts, if it is a permanent one', () => {
    const { lines } = new Bed({ permanent: true }).ask();
    expect(Number(/; Max-Age=(\d+)/.exec(lines)![1])).toBeGreaterThan(86_400);
  });
});
