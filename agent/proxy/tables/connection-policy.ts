// What a cluster's policy says of connections → what the engine is told of them.
import type { Connections } from '../../../api/gen/mesh/v1/model.js';
import type { ConnectionPolicySpec } from '../../native/engine.js';

const NO_LIMIT = -1;

/** `service`: where they are counted (ConnectionCounts). */
export function connectionPolicy(service: number, policy: Connections): ConnectionPolicySpec {
  return {
    service,
    maxConnections: policy.maxConnections ?? NO_LIMIT,
    maxPending: policy.maxPending ?? NO_LIMIT,
    maxEndpointConnections: policy.maxEndpointConnections ?? NO_LIMIT,
    maxEndpointPending: policy.maxEndpointPending ?? NO_LIMIT,
    maxRequests: policy.maxRequestsPerConnection,
    maxStreams: policy.maxStreams,
    connectTimeoutMs: policy.connectTimeoutMs,
    idleTimeoutMs: policy.idleTimeoutMs,
    tcpIdleTimeoutMs: policy.tcpIdleTimeoutMs,
    maxDurationMs: policy.maxDurationMs,
    keepaliveTimeS: policy.keepalive?.timeS ?? 0,
    keepaliveIntervalS: policy.keepalive?.intervalS ?? 0,
    keepaliveProbes: policy.keepalive?.probes ?? 0,
  };
}
