// TrafficPolicy's section `connections`. Owner: Weft, docs/traffic/connections.md.
import { fields, type Report, textOf, type Unchecked, wholeNumber, withRule } from './schema.js';
import { duration, durationMs } from './syntax.js';

const limit = wholeNumber(1, 2_147_483_647);
const waiting = wholeNumber(0, 2_147_483_647);
const MAX_TIME_MS = 86_400_000;
const TIMES = ['connectTimeout', 'idleTimeout', 'tcpIdleTimeout', 'streamIdleTimeout', 'maxConnectionDuration'] as const;

export const connections = withRule(
  fields({
    maxConnections: limit.optional(),
    maxPendingRequests: waiting.optional(),
    maxEndpointConnections: limit.optional(),
    maxEndpointPendingRequests: waiting.optional(),
    maxRequestsPerConnection: limit.optional(),
    maxConcurrentStreams: limit.optional(),
    connectTimeout: duration.optional(),
    idleTimeout: duration.optional(),
    tcpIdleTimeout: duration.optional(),
    streamIdleTimeout: duration.optional(),
    maxConnectionDuration: duration.optional(),
    tcpKeepalive: fields({
      time: duration.optional(),
      interval: duration.optional(),
      probes: wholeNumber(1, 127).optional(),
    }).optional(),
  }),
  (value, report) => checkTimes(value, report),
);

function checkTimes(value: Unchecked, report: Report): void {
  for (const field of TIMES) {
    const ms = durationMs(textOf(value, field) ?? '');
    if (ms !== null && (ms < 1 || ms > MAX_TIME_MS)) report([field], `expected 1ms to 24h, found ${value[field]}`);
  }
}
