// Limits of engines that tests make: small enough to be met, times long enough for a busy machine.
import type { EngineLimits } from '../engine.js';

export const TEST_LIMITS: EngineLimits = {
  maxConnections: 200,
  maxHeadBytes: 8_192,
  maxHeaders: 100,
  maxBufferedBytes: 65_536,
  maxIdlePerEndpoint: 8,
  maxStreams: 128,
  maxTenantConnections: 0,
  maxTenantRequests: 0,
  maxTenantBufferedBytes: 0,
  headerTimeoutMs: 10_000,
  idleTimeoutMs: 30_000,
  streamIdleTimeoutMs: 30_000,
  upstreamIdleTimeoutMs: 30_000,
  connectTimeoutMs: 2_000,
  requestTimeoutMs: 10_000,
  tcpIdleTimeoutMs: 0,
  detectTimeoutMs: 100,
  maxDeferred: 16,
  deferredTimeoutMs: 10_000,
};
