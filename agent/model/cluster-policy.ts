// Which of a service's policies is for the endpoints that one port, or one subset of it, leads to: the one rule of all who choose endpoints. Pure.
import type { BackendTls, ClusterPolicy, Service, ServicePort } from '../../api/gen/mesh/v1/model.js';

/** Of a service, or of what some clients have instead. `labels`: of the subset; empty: all endpoints. Absent sections are as by default; undefined: all are. */
export function policyOf(
  { policies }: Pick<Service, 'policies'>,
  port: number,
  labels: Readonly<Record<string, string>>,
): ClusterPolicy | undefined {
  if (policies.length === 0) return undefined;
  const find = (wantedPort: number, wanted: Readonly<Record<string, string>>): ClusterPolicy | undefined =>
    policies.find((scoped) => scoped.port === wantedPort && areSame(scoped.labels, wanted))?.policy;
  const ofSubset = Object.keys(labels).length === 0 ? undefined : (find(port, labels) ?? find(0, labels));
  return ofSubset ?? find(port, {}) ?? find(0, {});
}

/** TLS to the endpoints of the port where that policy is for them; undefined: plain text. */
export function tlsOf({ tls }: ServicePort, policy: ClusterPolicy | undefined): BackendTls | undefined {
  return policy?.tls === undefined ? tls : policy.tls.tls;
}

/** Who begins TLS to the endpoints of the port, of all its clients and to whichever subset. */
export function whoBeginsTls({ policies, consumers }: Service, port: ServicePort): 'all' | 'some' | 'nobody' {
  const scoped = [...policies, ...consumers.flatMap((consumer) => consumer.policies)].filter((each) => each.port === port.port);
  const ways = new Set([undefined, ...scoped.map(({ policy }) => policy)].map((policy) => tlsOf(port, policy) !== undefined));
  return ways.size > 1 ? 'some' : ways.has(true) ? 'all' : 'nobody';
}

/** Whether it says anything of endpoints that fail, or of too many requests. */
export function isGuarded(policy: ClusterPolicy | undefined): boolean {
  return [policy?.outlierDetection, policy?.circuitBreaker, policy?.retryBudget, policy?.admission].some(
    (section) => section !== undefined,
  );
}

function areSame(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}
