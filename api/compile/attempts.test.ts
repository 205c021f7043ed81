import { expect, test } from '@jest/globals';
import { hedgingOfPolicy, retriesOfPolicy } from './attempts.js';
import { connectionsOfPolicy, connectionsOfRule } from './connections.js';

test('retries of a policy: Istio’s conditions where none are named, and only what is safe', () => {
  expect(retriesOfPolicy({ attempts: 2 })).toEqual({
    retry: {
      attempts: 2,
      statuses: [503],
      grpcStatuses: [1, 14],
      connectFailure: true,
      refused: true,
      reset: false,
      rateLimited: false,
      anyMethod: false,
      heedsRetryAfter: false,
      headers: [],
      requestNamesHeaders: false,
      repeatsEndpoints: false,
      remoteLocalities: undefined,
      backoffMs: 25,
    },
    attemptTimeoutMs: 0,
  });
  const all = {
    attempts: 1,
    perTryTimeout: '1s',
    on: ['reset'],
    backoff: '100ms',
    retryAfter: true,
    anyMethod: true,
    retriableHeaders: ['X-Busy'],
  };
  expect(retriesOfPolicy(all)).toMatchObject({
    retry: { attempts: 1, statuses: [], reset: true, anyMethod: true, heedsRetryAfter: true, backoffMs: 100, headers: ['x-busy'] },
    attemptTimeoutMs: 1_000,
  });
});

test('second attempts come after a time, or after what most answers take', () => {
  expect(hedgingOfPolicy({ after: '50ms' })).toEqual({ afterMs: 50, afterPercentile: 0, maxPartsPerMillion: 100_000, anyMethod: false });
  expect(hedgingOfPolicy({ after: 'p95', max: 2.5, anyMethod: true })).toEqual({
    afterMs: 0,
    afterPercentile: 95,
    maxPartsPerMillion: 25_000,
    anyMethod: true,
  });
});

test('a DestinationRule’s connection pool: what it says of connections; 0 is no limit, as in Istio', () => {
  expect(connectionsOfRule(undefined)).toBeUndefined();
  expect(connectionsOfRule({ http: { http2MaxRequests: 3, maxRetries: 2 } })).toBeUndefined();
  expect(
    connectionsOfRule({
      tcp: {
        maxConnections: 7,
        connectTimeout: '30ms',
        tcpKeepalive: { time: '7200s', interval: '75s' },
        maxConnectionDuration: '2h',
        idleTimeout: '1h',
      },
      http: { http1MaxPendingRequests: 0, maxRequestsPerConnection: 2, maxConcurrentStreams: 9, idleTimeout: '90s' },
    }),
  ).toEqual({
    maxConnections: 7,
    maxPending: undefined,
    maxEndpointConnections: undefined,
    maxEndpointPending: undefined,
    maxRequestsPerConnection: 2,
    maxStreams: 9,
    connectTimeoutMs: 30,
    idleTimeoutMs: 90_000,
    tcpIdleTimeoutMs: 3_600_000,
    maxDurationMs: 7_200_000,
    keepalive: { timeS: 7_200, intervalS: 75, probes: 0 },
    upgradesToHttp2: false,
    streamIdleTimeoutMs: 0,
  });
});

test('a maximal duration alone is something that is said, and none is longer than the engine takes', () => {
  expect(connectionsOfRule({ tcp: { maxConnectionDuration: '1500us' } })).toMatchObject({ maxDurationMs: 2, tcpIdleTimeoutMs: 0 });
  expect(connectionsOfRule({ tcp: { maxConnectionDuration: '1000h' } })).toMatchObject({ maxDurationMs: 2_147_483_647 });
  expect(connectionsOfPolicy({ maxConnectionDuration: '30m' })).toMatchObject({ maxDurationMs: 1_800_000, maxConnections: undefined });
});

test('a policy’s connections are taken as they are said; no waiting requests are not any number', () => {
  expect(connectionsOfPolicy({ maxConnections: 1, maxPendingRequests: 0, streamIdleTimeout: '5m' })).toMatchObject({
    maxConnections: 1,
    maxPending: 0,
    maxEndpointConnections: undefined,
    streamIdleTimeoutMs: 300_000,
    connectTimeoutMs: 0,
  });
});
