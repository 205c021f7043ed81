import { expect, test } from '@jest/globals';
import type { DiscoveryRequest } from '../../api/gen/envoy/service/discovery/v3/discovery.js';
import { LoadBalancing_Algorithm } from '../../api/gen/mesh/v1/model.js';
import { balanced as balancedBy, endpoint, modelOf, service } from '../proxy/testing/models.js';
import { type ResourceKind, XdsResources } from './resources.js';
import { Subscription } from './subscription.js';

function said(names: readonly string[], nonce = '', error = ''): DiscoveryRequest {
  const errorDetail = error === '' ? undefined : { code: 3, message: error };
  return { versionInfo: '', node: undefined, resourceNames: [...names], typeUrl: '', responseNonce: nonce, errorDetail };
}

function begun(kind: ResourceKind, names: readonly string[]) {
  const model = modelOf(service('a', '10.0.0.1'), service('b', '10.0.0.2'), endpoint('a', 'x', '10.1.0.1'));
  const resources = new XdsResources(model);
  const subscription = new Subscription(kind);
  expect(subscription.hear(said(names))).toEqual({ kind: 'heard' });
  let nonce = 0;
  const next = (): string[] | null => {
    const response = subscription.next(resources, `r${model.revision}`, String(nonce + 1));
    if (response === null) return null;
    nonce++;
    return [response.versionInfo, response.nonce, String(response.resources.length)];
  };
  const change = (...changed: Parameters<typeof modelOf>): void => {
    model.apply({ full: false, resources: changed, removed: [], revision: model.revision + 1 });
    resources.changed(null);
  };
  return { subscription, next, change, model, resources };
}

test('one response is under way; what changes meanwhile comes as one after its answer', () => {
  const { subscription, next, change } = begun('cluster', ['shop/a:80']);
  expect(next()).toEqual(['r1', '1', '1']);
  const balanced = (algorithm: LoadBalancing_Algorithm) => service('a', '10.0.0.1', balancedBy(algorithm));
  change(balanced(LoadBalancing_Algorithm.ROUND_ROBIN));
  change(balanced(LoadBalancing_Algorithm.LEAST_REQUEST));
  expect(next()).toBeNull();
  subscription.hear(said(['shop/a:80'], '1'));
  expect(subscription.acked).toBe('r1');
  // As it was when the client was told.
  expect(next()).toBeNull();
  change(balanced(LoadBalancing_Algorithm.ROUND_ROBIN));
  expect(next()).toEqual(['r4', '2', '1']);
});

test('answers to older responses count for nothing, names in them neither', () => {
  const { subscription, next } = begun('cluster', ['shop/a:80']);
  next();
  expect(subscription.hear(said(['shop/b:80'])).kind).toBe('stale');
  expect(subscription.hear(said(['shop/b:80'], '7')).kind).toBe('stale');
  expect([...subscription.names]).toEqual(['shop/a:80']);
  expect(next()).toBeNull();
});

test('clusters are told whole, so that one that is missing is gone; routes and endpoints as they change', () => {
  const clusters = begun('cluster', ['shop/a:80', 'shop/b:80']);
  expect(clusters.next()).toEqual(['r1', '1', '2']);
  clusters.subscription.hear(said(['shop/a:80', 'shop/b:80'], '1'));
  clusters.model.apply({ full: false, resources: [], removed: [{ type: 1, name: 'shop/b' }], revision: 2 });
  clusters.resources.changed(null);
  expect(clusters.next()).toEqual(['r2', '2', '1']);

  const endpoints = begun('endpoints', ['shop/a:80', 'shop/b:80']);
  expect(endpoints.next()).toEqual(['r1', '1', '2']);
  endpoints.subscription.hear(said(['shop/a:80', 'shop/b:80'], '1'));
  endpoints.change(endpoint('a', 'y', '10.1.0.2'));
  expect(endpoints.next()).toEqual(['r2', '2', '1']);
  endpoints.subscription.hear(said(['shop/a:80', 'shop/b:80'], '2'));
  endpoints.model.apply({ full: false, resources: [], removed: [{ type: 1, name: 'shop/b' }], revision: 3 });
  endpoints.resources.changed(null);
  expect(endpoints.next()).toBeNull();
});

test('what does not exist is not answered, until it does', () => {
  const { subscription, next, change } = begun('cluster', ['shop/c:80']);
  expect(next()).toBeNull();
  change(service('c', '10.0.0.3'));
  expect(next()).toEqual(['r2', '1', '1']);
  expect(subscription.hear(said(['shop/c:80', 'shop/d:80'], '1')).kind).toBe('heard');
  expect(next()).toBeNull();
});

test('a refusal is kept until something is accepted, and what was refused is not sent again unchanged', () => {
  const { subscription, next, change } = begun('cluster', ['shop/a:80']);
  next();
  expect(subscription.hear(said(['shop/a:80'], '1', `no${'!'.repeat(5_000)}`)).kind).toBe('refused');
  expect(subscription.refused?.version).toBe('r1');
  expect(subscription.refused?.error).toHaveLength(1_024);
  expect(subscription.acked).toBe('');
  expect(next()).toBeNull();
  // The same once more, as clients repeat it with new names: one refusal.
  expect(subscription.hear(said(['shop/a:80', 'shop/b:80'], '1', 'no')).kind).toBe('heard');
  expect(next()).toEqual(['r1', '2', '2']);
  subscription.hear(said(['shop/a:80', 'shop/b:80'], '2'));
  expect(subscription.refused).toBeNull();
  change(service('a', '10.0.0.1', balancedBy(LoadBalancing_Algorithm.ROUND_ROBIN)));
  expect(next()).toEqual(['r2', '3', '2']);
});

test('many endpoints come in several responses, each after the answer to the one before', () => {
  const services = Array.from({ length: 30 }, (_, index) => service(`s${index}`, `10.0.1.${index}`));
  const many = services.flatMap((_, index) =>
    Array.from({ length: 1_500 }, (__, each) => endpoint(`s${index}`, `e${each}`, `10.1.${each >> 8}.${each & 255}`)),
  );
  const resources = new XdsResources(modelOf(...services, ...many));
  const names = services.map((_, index) => `shop/s${index}:80`);
  const subscription = new Subscription('endpoints');
  subscription.hear(said(names));
  let told = 0;
  let responses = 0;
  for (;;) {
    const response = subscription.next(resources, 'r1', String(responses + 1));
    if (response === null) break;
    responses++;
    told += response.resources.length;
    expect(response.resources.reduce((sum, { value }) => sum + value.length, 0)).toBeLessThan(1_100_000);
    subscription.hear(said(names, String(responses)));
  }
  expect([told, responses > 1]).toEqual([30, true]);
});

test('a client must name what it wants, and not too much of it', () => {
  expect(new Subscription('cluster').hear(said([])).kind).toBe('violation');
  expect(new Subscription('cluster').hear(said(Array.from({ length: 1_001 }, (_, index) => `${index}`))).kind).toBe('violation');
  expect(new Subscription('cluster').hear(said(['x'.repeat(513)])).kind).toBe('violation');
});
