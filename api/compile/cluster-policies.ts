// How clients treat the endpoints of a service: its DestinationRules, with what they say of ports and subsets, and its TrafficPolicies → the
// model's ClusterPolicy, whole for each scope. One service at a time.
import type { ClusterPolicy, ScopedPolicy } from '../gen/mesh/v1/model.js';
import { ROOT_NAMESPACE, seenFrom } from '../resources/index.js';
import { hedgingOfPolicy, retriesOfPolicy } from './attempts.js';
import { connectionsOfPolicy, connectionsOfRule } from './connections.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import { type HostIndex, rulesOf, servicesOf } from './istio-hosts.js';
import { balancingOfPolicy, balancingOfRule, balancingOfService, sorted } from './load-balancing.js';
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
import { exportsOf } from './visibility.js';

export type PolicyIndex = HostIndex & Pick<ObjectIndex, 'policiesByService' | 'rulesByHost'>;
type Rule = Stored<'DestinationRule'>;
type RulePolicy = NonNullable<Rule['manifest']['spec']['trafficPolicy']>;
type OwnSpec = Stored<'TrafficPolicy'>['manifest']['spec'];
/** Those that are said; undefined is never among them. */
type Sections = Partial<ClusterPolicy>;

/** One entry for each section of a policy: the only place that lists them. */
function ofRule(policy: Omit<RulePolicy, 'portLevelSettings'>): Sections {
  return said({
    loadBalancing: balancingOfRule(policy),
    outlierDetection: outliersOfRule(policy),
    circuitBreaker: circuitBreakerOfRule(policy),
    retryBudget: retryBudgetOfRule(policy),
    admission: undefined,
    hedging: undefined,
    connections: connectionsOfRule(policy.connectionPool),
    retries: undefined,
  });
}

/** Of each section the first policy that has it. */
function ofPolicies(policies: readonly Stored<'TrafficPolicy'>[]): Sections {
  const first = <Section extends keyof OwnSpec>(section: Section): OwnSpec[Section] | undefined =>
    policies.map(({ manifest }) => manifest.spec[section]).find((found) => found !== undefined);
  return said({
    loadBalancing: map(first('loadBalancer'), balancingOfPolicy),
    outlierDetection: map(first('outlierDetection'), outliersOfPolicy),
    circuitBreaker: map(first('circuitBreaker'), circuitBreakerOfPolicy),
    retryBudget: map(first('retryBudget'), retryBudgetOfPolicy),
    admission: map(first('admission'), admissionOfPolicy),
    hedging: map(first('hedging'), hedgingOfPolicy),
    connections: map(first('connections'), connectionsOfPolicy),
    retries: map(first('retries'), retriesOfPolicy),
  });
}

function map<From, To>(value: From | undefined, to: (value: From) => To): To | undefined {
  return value === undefined ? undefined : to(value);
}

function said(sections: Sections): Sections {
  return Object.fromEntries(Object.entries(sections).filter(([, section]) => section !== undefined));
}

/**
 * As Istio inherits: what a rule says of a port stands in place of all that it says of the service; what it says of a subset replaces section by
 * section; what it says of a subset's port replaces all again. A TrafficPolicy goes before what a rule says of the service as a whole, and that
 * before what the Service says of itself.
 */
export function compileClusterPolicies(service: Stored<'Service'>, index: PolicyIndex): ScopedPolicy[] {
  const own = ofPolicies(index.policiesByService.get(nameOf(service)) ?? []);
  const ofService = said({ loadBalancing: balancingOfService(service.manifest) });
  const rules = rulesInForce(service, index);
  const top = rules.map(({ manifest }) => manifest.spec.trafficPolicy).find((policy) => policy !== undefined);
  const found: ScopedPolicy[] = [];
  const add = (port: number, labels: Readonly<Record<string, string>>, sections: Sections): void => {
    found.push({ port, labels: sorted(labels), policy: { ...NO_SECTIONS, ...sections } });
  };
  const ofPort = (port: number): Sections => {
    const settings = settingsOf(top, port);
    return settings === undefined ? { ...ofService, ...ofRule(top ?? {}), ...own } : { ...own, ...ofRule(settings) };
  };
  if (Object.keys(ofPort(0)).length > 0) add(0, {}, ofPort(0));
  for (const port of portsOf(top)) add(port, {}, ofPort(port));
  for (const { labels, trafficPolicy } of rules.flatMap(({ manifest }) => manifest.spec.subsets ?? [])) {
    if (trafficPolicy === undefined || Object.keys(labels ?? {}).length === 0) continue;
    for (const port of new Set([0, ...portsOf(top), ...portsOf(trafficPolicy)])) {
      const settings = settingsOf(trafficPolicy, port);
      add(port, labels ?? {}, settings === undefined ? { ...ofPort(port), ...ofRule(trafficPolicy) } : { ...own, ...ofRule(settings) });
    }
  }
  return found;
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
};

/**
 * Istio's order: of the service's namespace, then of the root namespace; those that name the host before those whose wildcard covers it. One
 * in another namespace is for the clients there alone, which nodes don't tell apart.
 */
export function rulesInForce(service: Stored<'Service'>, index: PolicyIndex): readonly Rule[] {
  const rules = rulesOf(service, index);
  const ofService = rules.filter(({ namespace }) => namespace === service.namespace);
  const ofMesh = rules.filter(({ namespace }) => namespace === ROOT_NAMESPACE && namespace !== service.namespace);
  const [nearest] = ofService.length > 0 ? ofService : ofMesh;
  // Several for one host are taken together; a wildcard's are for whom no other rule is.
  return nearest === undefined
    ? []
    : rules.filter(({ namespace, manifest }) => namespace === nearest.namespace && manifest.spec.host === nearest.manifest.spec.host);
}

/** What of a rule has no effect, or another one than its author may think. */
export function checkDestinationRule(
  rule: Rule,
  index: PolicyIndex & Pick<ObjectIndex, 'destinationRules' | 'namespaces'>,
  report: ReportProblem,
): void {
  const { host = '', trafficPolicy, exportTo } = rule.manifest.spec;
  const services = servicesOf(host, rule.namespace, index);
  if (services.length === 0)
    report('spec.host', `no Service or ServiceEntry has the host ${host}: the rule has no effect`, 'TargetNotFound');
  if (trafficPolicy === undefined || services.length === 0) return;
  if (services.every(({ namespace }) => namespace !== rule.namespace) && rule.namespace !== ROOT_NAMESPACE)
    report(
      'spec.trafficPolicy',
      `it would be for clients in ${rule.namespace} alone, which nodes do not tell from others: it has no effect; put the rule into the service’s namespace`,
      'UnsupportedValue',
    );
  else if (services.some((service) => !isForAllWhoSee(service, seenFrom(exportTo ?? [], rule.namespace), index)))
    report('spec.exportTo', 'nodes do not tell clients by their namespace: the rule is for all that see the service', 'UnsupportedValue');
  const older = services
    .flatMap((service) => rulesInForce(service, index))
    .find((other) => other !== rule && other.manifest.spec.trafficPolicy !== undefined && other.manifest.spec.host === host);
  if (older !== undefined && index.destinationRules.indexOf(older) < index.destinationRules.indexOf(rule))
    report('spec.trafficPolicy', `DestinationRule ${nameOf(older)} is older and has one for ${host}: this one has no effect`, 'Conflicted');
}

/** `isFor`: namespaces; null: all. */
function isForAllWhoSee(service: Stored<'Service'>, isFor: readonly string[] | null, index: Pick<ObjectIndex, 'namespaces'>): boolean {
  return isFor === null || exportsOf(service, index)?.every((namespace) => isFor.includes(namespace)) === true;
}

function portsOf(policy: RulePolicy | undefined): number[] {
  return (policy?.portLevelSettings ?? []).flatMap(({ port }) => port?.number ?? []);
}

/** What it says of that port alone. */
export function settingsOf(policy: RulePolicy | undefined, port: number): Omit<RulePolicy, 'portLevelSettings'> | undefined {
  return policy?.portLevelSettings?.find((settings) => settings.port?.number === port);
}
