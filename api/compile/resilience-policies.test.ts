import { describe, expect, test } from '@jest/globals';
import { ResourceType, type Service } from '../gen/mesh/v1/model.js';
import { formatFinding, parseManifests } from '../resources/index.js';
import { compileModel } from './index.js';
import { stored } from './testing/manifests.js';

const SERVICE = `apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {ports: [{name: http, port: 80}]}`;
const rule = (trafficPolicy: string) =>
  `apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews, namespace: shop}\nspec: {host: reviews, trafficPolicy: ${trafficPolicy}}`;
const own = (sections: string) => `apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: {name: reviews, namespace: shop}
spec: {targetRefs: [{kind: Service, name: reviews}], ${sections}}`;

function policyOf(document: string) {
  const { resources } = compileModel({ objects: stored(SERVICE, document), running: null });
  return (resources.find(({ type }) => type === ResourceType.SERVICE)!.message as Service).policies[0]?.policy;
}

const findingsOf = (sections: string): string[] => parseManifests([{ name: 'f', content: own(sections) }]).findings.map(formatFinding);

describe('outlier detection', () => {
  test('has Envoy’s defaults where an Istio rule is empty', () => {
    expect(policyOf(rule('{outlierDetection: {}}'))?.outlierDetection).toEqual({
      consecutive5xx: 5,
      consecutiveGatewayErrors: 0,
      consecutiveLocalOriginFailures: 5,
      splitsLocalOrigin: false,
      intervalMs: 10_000,
      baseEjectionMs: 30_000,
      maxEjectionMs: 300_000,
      maxEjectionPercent: 10,
      successRate: undefined,
      failurePercentage: undefined,
      trialRequests: 3,
    });
  });

  test('takes what an Istio rule says; 0 turns a count off', () => {
    const section = `{consecutive5xxErrors: 0, consecutiveGatewayErrors: 7, splitExternalLocalOriginErrors: true,
      consecutiveLocalOriginFailures: 4, interval: 1.5s, baseEjectionTime: 3m, maxEjectionPercent: 100}`;
    expect(policyOf(rule(`{outlierDetection: ${section}}`))?.outlierDetection).toMatchObject({
      consecutive5xx: 0,
      consecutiveGatewayErrors: 7,
      consecutiveLocalOriginFailures: 4,
      splitsLocalOrigin: true,
      intervalMs: 1_500,
      baseEjectionMs: 180_000,
      maxEjectionPercent: 100,
    });
  });

  test('of a TrafficPolicy has rates', () => {
    expect(
      policyOf(own('outlierDetection: {successRate: {}, failurePercentage: {threshold: 40, minimumEndpoints: 2}}'))?.outlierDetection,
    ).toMatchObject({
      successRate: { minimumRequests: 100, minimumEndpoints: 5, deviations: 1.9 },
      failurePercentage: { minimumRequests: 50, minimumEndpoints: 2, threshold: 40 },
    });
  });
});

test('limits of requests and retries are an Istio connection pool’s, or a TrafficPolicy’s', () => {
  expect(policyOf(rule('{connectionPool: {http: {http2MaxRequests: 9, maxRetries: 2}}}'))?.circuitBreaker).toEqual({
    maxRequests: 9,
    maxRetries: 2,
    maxEndpointRequests: 0,
  });
  expect(policyOf(rule('{connectionPool: {tcp: {maxConnections: 9}}}'))?.circuitBreaker).toBeUndefined();
  expect(policyOf(own('circuitBreaker: {maxRequestsPerEndpoint: 4, maxRetries: 0}'))?.circuitBreaker).toEqual({
    maxRequests: 0,
    maxRetries: 0,
    maxEndpointRequests: 4,
  });
});

test('a retry budget is of the requests in flight, or as Gateway API has it of an interval', () => {
  const ofActive = { percent: 30, least: 3, intervalMs: 0 };
  expect(policyOf(rule('{retryBudget: {percent: 30}}'))?.retryBudget).toEqual({ ofActive, ofInterval: undefined });
  expect(policyOf(own('retryBudget: {percent: 30}'))?.retryBudget).toEqual({ ofActive, ofInterval: undefined });
  expect(policyOf(own('retryBudget: {budget: {percent: 25, interval: 20s}, minRetryRate: {count: 6, interval: 2s}}'))?.retryBudget).toEqual(
    {
      ofActive: undefined,
      ofInterval: { percent: 25, least: 60, intervalMs: 20_000 },
    },
  );
});

test('a retryConstraint is a budget of an interval, its defaults those of Gateway API, and of two the oldest’s; a TrafficPolicy’s goes before it', () => {
  const constraint = (name: string, text: string) => `apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackendTrafficPolicy
metadata: {name: ${name}, namespace: shop}
spec: {targetRefs: [{group: "", kind: Service, name: reviews}], retryConstraint: ${text}}`;
  const budget = (percent: number, least: number, intervalMs: number) => ({
    ofActive: undefined,
    ofInterval: { percent, least, intervalMs },
  });
  expect(policyOf(constraint('b', '{}'))?.retryBudget).toEqual(budget(20, 100, 10_000));
  const some = constraint('b', '{budget: {percent: 50, interval: 20s}, minRetryRate: {count: 1, interval: 2s}}');
  expect(policyOf(`${some}\n---\n${constraint('a', '{}')}`)?.retryBudget).toEqual(budget(50, 10, 20_000));
  expect(policyOf(`${some}\n---\n${own('retryBudget: {percent: 30}')}`)?.retryBudget?.ofInterval).toBeUndefined();
  const invalid = parseManifests([{ name: 'f', content: constraint('a', '{budget: {interval: 2h}, minRetryRate: {count: 0}}') }]);
  expect(invalid.findings.map(formatFinding).join()).toMatch(
    /count: .*found 0.*interval: expected 1s to 1h, found 2h|interval: expected.*count:/s,
  );
});

test('admission is a fixed limit or one that is found, with classes of criticality', () => {
  const adaptive = {
    ...{ minConcurrency: 3, maxConcurrency: 1_000, updateIntervalMs: 100, minRttIntervalMs: 60_000, minRttRequests: 50 },
    ...{ bufferPercent: 25, percentile: 50 },
  };
  expect(policyOf(own('admission: {adaptive: {}}'))?.admission).toEqual({ maxConcurrency: 0, adaptive, criticality: undefined });
  expect(policyOf(own('admission: {maxConcurrency: 9, criticality: {header: X-Class, values: [a, b, c], default: c}}'))?.admission).toEqual(
    {
      maxConcurrency: 9,
      adaptive,
      criticality: { header: 'x-class', values: ['a', 'b', 'c'], defaultClass: 2 },
    },
  );
});

test('mistakes are told with what is expected', () => {
  expect(findingsOf('admission: {criticality: {header: x-class, values: [a, a], default: b}}')).toEqual([
    expect.stringMatching(/admission: expected maxConcurrency \(a fixed limit\), or adaptive/),
    expect.stringMatching(/criticality\.values: values must be unique/),
    expect.stringMatching(/criticality\.default: expected one of values, found "b"/),
  ]);
  expect(findingsOf('retryBudget: {}')[0]).toMatch(/says nothing: expected percent and minRetryConcurrency/);
  expect(findingsOf('circuitBreaker: {}')[0]).toMatch(/says nothing: expected a limit/);
  expect(findingsOf('outlierDetection: {interval: 1ms}')[0]).toMatch(/interval: expected 10ms to 1h, found 1ms/);
  expect(findingsOf('retryBudget: {budget: {interval: 10ms}}')[0]).toMatch(/budget.interval: expected 1s to 1h, found 10ms/);
  expect(findingsOf('admission: {adaptive: {minConcurrency: 9, maxConcurrency: 5}}')[0]).toMatch(
    /minConcurrency: expected no more than maxConcurrency/,
  );
});
