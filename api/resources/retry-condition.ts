// After what a request is tried again, by the names of Envoy, Istio and gRPC. Owner: Envoy's x-envoy-retry-on and x-envoy-retry-grpc-on.
import type { FieldPath } from './finding.js';
import { describe, type Report } from './schema.js';

export const RETRY_CONDITIONS = [
  ...(['5xx', 'gateway-error', 'reset', 'reset-before-request', 'connect-failure', 'envoy-ratelimited', 'retriable-4xx'] as const),
  ...(['refused-stream', 'retriable-status-codes', 'retriable-headers', 'http3-post-connect-failure'] as const),
  ...(['cancelled', 'deadline-exceeded', 'internal', 'resource-exhausted', 'unavailable'] as const),
] as const;
export type RetryCondition = (typeof RETRY_CONDITIONS)[number];

const NAMES: ReadonlySet<string> = new Set(RETRY_CONDITIONS);

export function isStatusCode(text: string): boolean {
  return /^[1-5][0-9][0-9]$/.test(text);
}

export function checkRetryCondition(text: string, path: FieldPath, report: Report): void {
  if (NAMES.has(text) || isStatusCode(text)) return;
  report(path, `${describe(text)} is no condition for a retry: expected some of ${RETRY_CONDITIONS.join(', ')}, or status codes`);
}
