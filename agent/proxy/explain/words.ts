// Parts of a decision in words, for operators. Pure.
import type { ClusterPolicy } from '../../../api/gen/mesh/v1/model.js';
import type { MutationSpec, RetrySpec } from '../../native/engine.js';
import type { ServiceQuestion } from '../rate-limit/service-request.js';

export function askedText({ call, request }: ServiceQuestion): string {
  const { service, domain, timeoutMs, failsClosed } = call;
  const descriptors = request.descriptors.map(({ entries }) => `(${entries.map(({ key, value }) => `${key}=${value}`).join(', ')})`);
  const hits = call.hits === 1 ? '' : ` with ${call.hits} hits`;
  const otherwise = failsClosed ? 'it is answered 500' : 'it passes';
  return `passes if ${service} says so, asked about ${descriptors.join(' and ')} of ${domain}${hits}; without an answer in ${timeoutMs} ms ${otherwise}`;
}

export function mutationLines(of: string, mutation: MutationSpec | undefined): string[] {
  if (mutation === undefined) return [];
  return [
    ...mutation.remove.map((name) => `${of}: ${name} is removed`),
    ...mutation.set.map(([name, value]) => `${of}: ${name} is set to ${value}`),
    ...mutation.add.map(([name, value]) => `${of}: ${name} gets ${value} added`),
  ];
}

/** Undefined: what holds where nothing is said. */
export function retryInWords(retry: RetrySpec | undefined): string {
  if (retry === undefined)
    return 'is repeated on another endpoint where no connection was made or nothing was done with it, if the method is idempotent';
  const when = [
    retry.statuses.length > 0 ? `status ${retry.statuses.length > 8 ? `one of ${retry.statuses.length}` : retry.statuses.join(', ')}` : '',
    retry.grpcStatuses.length > 0 ? `gRPC status ${retry.grpcStatuses.join(', ')}` : '',
    retry.connectFailure ? 'no connection' : '',
    retry.refused ? 'a refused stream' : '',
    retry.reset ? 'no answer' : '',
    retry.rateLimited ? 'x-envoy-ratelimited' : '',
    retry.headers.length > 0 ? `a header ${retry.headers.join(' or ')}` : '',
    retry.requestNamesHeaders ? 'a header that x-envoy-retriable-header-names names' : '',
  ].filter((part) => part !== '');
  const methods = retry.anyMethod ? '' : ', if the method is idempotent';
  const backoff = retry.backoffMs > 0 ? `, after ${retry.backoffMs} ms and then longer` : '';
  return `is repeated on ${when.join('; ') || 'nothing'}${methods}${backoff}`;
}

/** Limits of the service by which requests for it are answered 503 (UO): a line, or none. */
export function limitsInWords(policy: ClusterPolicy | undefined): string[] {
  const { circuitBreaker, connections, admission } = policy ?? {};
  const some = (most: number | undefined, what: string): string => (most === undefined || most === 0 ? '' : `${most} ${what}`);
  const limits = [
    some(circuitBreaker?.maxRequests, 'requests at once'),
    some(circuitBreaker?.maxEndpointRequests, 'requests at once of an endpoint'),
    some(connections?.maxConnections, 'connections'),
    some(connections?.maxEndpointConnections, 'connections of an endpoint'),
    connections?.maxPending === undefined ? '' : `${connections.maxPending} requests that wait for one`,
    connections?.maxEndpointPending === undefined ? '' : `${connections.maxEndpointPending} requests that wait for one of an endpoint`,
    admission === undefined ? '' : 'as many requests at once as its admission finds',
  ].filter((limit) => limit !== '');
  return limits.length === 0 ? [] : [`the service takes, from each node, at most ${limits.join(', ')}`];
}
