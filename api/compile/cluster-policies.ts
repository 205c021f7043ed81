// How clients treat the endpoints of a service: its DestinationRules, with what they say of ports and subsets, and its TrafficPolicies → the
// model's ClusterPolicy, whole for each scope. One service at a time.
import type { ClusterPolicy, ConsumerPolicies, ScopedPolicy } from '../gen/mesh/v1/model.js';
import { hedgingOfPolicy, retriesOfPolicy } from './attempts.js';
import { type BackendTlsIndex, type Subset, TlsOfRules } from './backend-tls.js';
import { connectionsOfPolicy, connectionsOfRule } from './connections.js';
import {
  type Client,
  clientsOf,
  clientsOfRule,
  policyOfAll,
  portsOf,
  type Rule,
  type RulePolicy,
  rulesInForce,
  settingsOf,
  sharedPolicies,
} from './destination-rules.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import { servicesOf } from './istio-hosts.js';
import { balancingOfPolicy, balancingOfRule, balancingOfService, heedingOutliers, sorted } from './load-balancing.js';
import type { ReportProblem } from './problem.js';
import {
  admissionOfPolicy,
  circuitBreakerOfPolicy,
  circuitBreakerOfRule,
  outliersOfPolicy,
  outliersOfRule,
  retryBudgetOfPolicy,
  retryBudgetOfRule,
} from './resilience-policies.js';
import { tcpPorts } from './service-ports.js';

export type PolicyIndex = BackendTlsIndex & Pick<ObjectIndex, 'policiesByService' | 'backendTrafficByService'>;
type OwnSpec = Stored<'TrafficPolicy'>['manifest']['spec'];
/** Those that are said; undefined is never among them. */
interface Sections extends Partial<ClusterPolicy> {
  /** With outlierDetection: fewer that take work are too few; 0: nothing is said. */
  readonly minHealthPercent?: number;
  /** Who detects outliers by a DestinationRule prefers near endpoints (Istio). */
  readonly prefersNear?: boolean;
  /** With loadBalancing: it says itself which endpoints are near, or that it is all the same. */
  readonly isPlaced?: boolean;
}

/** One entry for each section of a policy: the only place that lists them. */
function ofRule(policy: Omit<RulePolicy, 'portLevelSettings'>): Sections {
  return said({
    loadBalancing: map(policy.loadBalancer, balancingOfRule),
    isPlaced: map(policy.loadBalancer, ({ localityLbSetting }) => localityLbSetting !== undefined),
    outlierDetection: outliersOfRule(policy),
    minHealthPercent: map(policy.outlierDetection, ({ minHealthPercent = 0 }) => minHealthPercent),
    prefersNear: map(policy.outlierDetection, () => true),
    circuitBreaker: circuitBreakerOfRule(policy),
    retryBudget: retryBudgetOfRule(policy),
    admission: undefined,
    hedging: undefined,
    connections: connectionsOfRule(policy.connectionPool),
    retries: undefined,
    tls: undefined,
  });
}

/** Of each section the first policy that has it. */
function ofPolicies(policies: readonly Stored<'TrafficPolicy'>[]): Sections {
  const first = <Section extends keyof OwnSpec>(section: Section): OwnSpec[Section] | undefined =>
    policies.map(({ manifest }) => manifest.spec[section]).find((found) => found !== undefined);
  return said({
    loadBalancing: map(first('loadBalancer'), balancingOfPolicy),
    isPlaced: map(first('loadBalancer'), () => true),
    outlierDetection: map(first('outlierDetection'), outliersOfPolicy),
    minHealthPercent: map(first('outlierDetection'), ({ minHealthPercent = 0 }) => minHealthPercent),
    circuitBreaker: map(first('circuitBreaker'), circuitBreakerOfPolicy),
    retryBudget: map(first('retryBudget'), retryBudgetOfPolicy),
    admission: map(first('admission'), admissionOfPolicy),
    hedging: map(first('hedging'), hedgingOfPolicy),
    connections: map(first('connections'), connectionsOfPolicy),
    retries: map(first('retries'), retriesOfPolicy),
  });
}

/** Of Gateway API's policies, behind Weft's own. */
function ofConstraints(policies: readonly Stored<'XBackendTrafficPolicy'>[]): Sections {
  const constraint = policies.map(({ manifest }) => manifest.spec.retryConstraint).find((found) => found !== undefined);
  return constraint === undefined ? {} : { retryBudget: retryBudgetOfPolicy({ ...constraint, budget: constraint.budget ?? {} }) };
}

function map<From, To>(value: From | undefined, to: (value: From) => To): To | undefined {
  return value === undefined ? undefined : to(value);
}

function said(sections: { readonly [Section in keyof Sections]: Sections[Section] | undefined }): Sections {
  return Object.fromEntries(Object.entries(sections).filter(([, section]) => section !== undefined));
}

function policyWith({ minHealthPercent = 0, prefersNear = false, isPlaced = false, ...sections }: Sections): ClusterPolicy {
  const loadBalancing = heedingOutliers(sections.loadBalancing, { minHealthPercent, prefersNear: prefersNear && !isPlaced });
  return { ...NO_SECTIONS, ...sections, loadBalancing };
}

/**
 * As Istio inherits: what a rule says of a port stands in place of all that it says of the service; what it says of a subset replaces section by
 * section; what it says of a subset's port replaces all again. A TrafficPolicy goes before what a rule says of the service as a whole, and that
 * before what the Service says of itself. `client` null: of whoever has no policies of his own.
 */
export function compileClusterPolicies(service: Stored<'Service'>, client: Client | null, index: PolicyIndex): ScopedPolicy[] {
  const name = nameOf(service);
  const own = { ...ofConstraints(index.backendTrafficByService.get(name) ?? []), ...ofPolicies(index.policiesByService.get(name) ?? []) };
  const balancing = balancingOfService(service.manifest);
  const ofService = said({ loadBalancing: balancing, isPlaced: map(balancing, ({ locality }) => locality !== undefined) });
  const rules = rulesInForce(service, client, index);
  const top = policyOfAll(rules)?.policy;
  const tls = new TlsOfRules(service, rules, index);
  const found: ScopedPolicy[] = [];
  const add = (subset: Subset | undefined, ofPort: (port: number) => Sections): void => {
    const apart = tcpPorts(service).flatMap(({ port }) => (tls.apart(port, subset) === undefined ? [] : [port]));
    for (const port of new Set([0, ...portsOf(top), ...portsOf(subset?.policy), ...apart])) {
      const sections = said({ ...ofPort(port), tls: port === 0 ? undefined : tls.apart(port, subset) });
      if (port === 0 && subset === undefined && Object.keys(sections).length === 0) continue;
      found.push({ port, labels: sorted(subset?.labels ?? {}), policy: policyWith(sections) });
    }
  };
  const ofPort = (port: number): Sections => {
    const settings = settingsOf(top, port);
    return settings === undefined ? { ...ofService, ...ofRule(top ?? {}), ...own } : { ...own, ...ofRule(settings) };
  };
  add(undefined, ofPort);
  for (const subset of rules.flatMap(subsetsOf))
    add(subset, (port) => {
      const settings = settingsOf(subset.policy, port);
      return settings === undefined ? { ...ofPort(port), ...ofRule(subset.policy) } : { ...own, ...ofRule(settings) };
    });
  return found;
}

/** Those that say something of their endpoints. */
function subsetsOf(rule: Rule): Subset[] {
  return (rule.manifest.spec.subsets ?? []).flatMap(({ labels = {}, trafficPolicy: policy }) =>
    policy === undefined || Object.keys(labels).length === 0 ? [] : [{ rule, labels, policy }],
  );
}

/** The first of them that a client is among holds for him. */
export function compileConsumers(service: Stored<'Service'>, index: PolicyIndex): ConsumerPolicies[] {
  return clientsOf(service, index).map((client) => ({
    namespace: client.namespace,
    labels: sorted(client.labels),
    policies: compileClusterPolicies(service, client, index),
  }));
}

const NO_SECTIONS: ClusterPolicy = {
  loadBalancing: undefined,
  outlierDetection: undefined,
  circuitBreaker: undefined,
  retryBudget: undefined,
  admission: undefined,
  hedging: undefined,
  connections: undefined,
  retries: undefined,
  tls: undefined,
};

/** What of a rule has no effect. */
export function checkDestinationRule(rule: Rule, index: PolicyIndex & Pick<ObjectIndex, 'destinationRules'>, report: ReportProblem): void {
  const { host = '', trafficPolicy } = rule.manifest.spec;
  const services = servicesOf(host, rule.namespace, index);
  if (services.length === 0)
    report('spec.host', `no Service or ServiceEntry has the host ${host}: the rule has no effect`, 'TargetNotFound');
  rule.manifest.spec.subsets?.forEach(({ trafficPolicy: ofSubset }, at) => {
    if (ofSubset?.proxyProtocol !== undefined)
      report(`spec.subsets[${at}].trafficPolicy.proxyProtocol`, 'it is for all endpoints or none: it has no effect', 'UnsupportedValue');
  });
  for (const [at, why] of sharedPolicies(rule)) report(`spec.subsets[${at}].trafficPolicy`, why, 'UnsupportedValue');
  if (trafficPolicy === undefined || services.length === 0) return;
  const [service] = services;
  const places = clientsOfRule(rule).map((client) => rulesInForce(service!, client, index));
  const mine = places.filter((rules) => rules.includes(rule));
  const older = mine.map((rules) => policyOfAll(rules)?.rule).find((other) => other !== rule);
  if (older !== undefined)
    report('spec.trafficPolicy', `DestinationRule ${nameOf(older)} is older and has one for ${host}: this one has no effect`, 'Conflicted');
  else if (mine.length === 0 && services.length === 1)
    report('spec.trafficPolicy', 'every client has another rule that comes before it: this one has no effect', 'Conflicted');
  if (trafficPolicy.proxyProtocol !== undefined && !clientsOfRule(rule).includes(null))
    report('spec.trafficPolicy.proxyProtocol', 'only a rule that is for all clients says it: it has no effect', 'UnsupportedValue');
}
