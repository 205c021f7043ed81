// Which DestinationRules hold for a service, for whose requests, and what they say of a port. Selects; compiles nothing of what they say.
import { ROOT_NAMESPACE, seenFrom } from '../resources/index.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import { type HostIndex, knownHost, rulesOf } from './istio-hosts.js';
import { compareText } from './route-order.js';

export type Rule = Stored<'DestinationRule'>;
export type RulePolicy = NonNullable<Rule['manifest']['spec']['trafficPolicy']>;
export type RuleIndex = HostIndex & Pick<ObjectIndex, 'rulesByHost'>;

/** Workloads of a namespace: those that a rule selects by these labels; without labels all others. */
export interface Client {
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
}

/**
 * Istio's order: rules of the client's namespace, of the service's, of the root namespace; there those that name the host before those whose
 * wildcard covers it, and those that select the client before the others. `client` null: whoever has none that is not for all.
 */
export function rulesInForce(service: Stored<'Service'>, client: Client | null, index: RuleIndex): readonly Rule[] {
  const seenIn = (place: string) => rulesOf(service, index, place).filter((rule) => holdsFor(rule, client));
  const own =
    client === null ? [] : seenIn(client.namespace).filter(({ namespace, manifest: { spec } }) => isNear(namespace, spec.exportTo));
  const found = own.length > 0 ? own : ([service.namespace, ROOT_NAMESPACE].map(seenIn).find((rules) => rules.length > 0) ?? []);
  const [first] = found;
  if (first === undefined) return [];
  // Several for one host are taken together; a wildcard's are for whom no other rule is.
  const host = hostOfRule(first, index);
  const ofHost = found.filter((rule) => hostOfRule(rule, index) === host);
  const selecting = ofHost.filter(selects);
  return selecting.length > 0 ? selecting : ofHost;
}

/** For whom other rules are in force than for everyone: those that are selected first, then namespaces. */
export function clientsOf(service: Stored<'Service'>, index: RuleIndex): Client[] {
  const rules = rulesOf(service, index);
  const textOf = (client: Client | null): string => rulesInForce(service, client, index).map(nameOf).join();
  const usual = textOf(null);
  const clients = new Map(rules.flatMap(clientsOfRule).flatMap((client) => (client === null ? [] : [[keyOf(client), client] as const])));
  return [...clients.values()]
    .filter((client) => textOf(client) !== usual)
    .sort((a, b) => Number(isWhole(a)) - Number(isWhole(b)) || (isWhole(a) ? compareText(a.namespace, b.namespace) : 0));
}

/** Among whom the rule may be in force; null: those that have no rules of their own. */
export function clientsOfRule(rule: Rule): (Client | null)[] {
  if (selects(rule)) return [{ namespace: rule.namespace, labels: labelsOf(rule) }];
  const namespaces = seenBy(rule);
  const own = (namespaces ?? [rule.namespace]).map((namespace) => ({ namespace, labels: {} }));
  return namespaces === null ? [null, ...own] : own;
}

function isWhole({ labels }: Client): boolean {
  return Object.keys(labels).length === 0;
}

function keyOf({ namespace, labels }: Client): string {
  return JSON.stringify([namespace, Object.entries(labels).sort()]);
}

/** What it says of that port alone. */
export function settingsOf(policy: RulePolicy | undefined, port: number): Omit<RulePolicy, 'portLevelSettings'> | undefined {
  return policy?.portLevelSettings?.find((settings) => settings.port?.number === port);
}

export function portsOf(policy: RulePolicy | undefined): number[] {
  return (policy?.portLevelSettings ?? []).flatMap(({ port }) => port?.number ?? []);
}

/** Of rules for one host the oldest that has one. */
export function policyOfAll(rules: readonly Rule[]): { readonly rule: Rule; readonly policy: RulePolicy } | undefined {
  for (const rule of rules) {
    const { trafficPolicy: policy } = rule.manifest.spec;
    if (policy !== undefined) return { rule, policy };
  }
  return undefined;
}

/** Endpoints of subsets are known by their labels alone. The subsets whose policy is therefore not their own, by their place, and why. */
export function sharedPolicies({ manifest: { spec } }: Rule): [at: number, why: string][] {
  const byLabels = new Map<string, string>();
  return (spec.subsets ?? []).flatMap(({ name, labels = {}, trafficPolicy }, at): [number, string][] => {
    const key = JSON.stringify(Object.entries(labels).sort());
    const twin = byLabels.get(key);
    if (twin === undefined) byLabels.set(key, name);
    if (trafficPolicy === undefined) return [];
    if (Object.keys(labels).length === 0)
      return [[at, 'without labels a subset is all endpoints, which have the policy of the rule: it has no effect']];
    return twin === undefined ? [] : [[at, `subset ${twin} has the same labels: of two the first that has a policy says it for both`]];
  });
}

function holdsFor(rule: Rule, client: Client | null): boolean {
  const namespaces = seenBy(rule);
  if (client === null) return namespaces === null && !selects(rule);
  return namespaces?.includes(client.namespace) !== false && (!selects(rule) || areSame(labelsOf(rule), client.labels));
}

/** Namespaces; null: all. Selectors choose among the clients of the rule's own. */
function seenBy(rule: Rule): readonly string[] | null {
  return selects(rule) ? [rule.namespace] : seenFrom(rule.manifest.spec.exportTo ?? [], rule.namespace);
}

/** A rule of the root namespace that others see too is for those that have no other, its own clients among them (Istio). */
function isNear(namespace: string, exportTo: readonly string[] | undefined): boolean {
  return namespace !== ROOT_NAMESPACE || seenFrom(exportTo ?? [], namespace)?.length === 1;
}

function selects(rule: Rule): boolean {
  return Object.keys(labelsOf(rule)).length > 0;
}

function labelsOf({ manifest }: Rule): Readonly<Record<string, string>> {
  return manifest.spec.workloadSelector?.matchLabels ?? {};
}

function areSame(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name]);
}

function hostOfRule({ namespace, manifest }: Rule, index: HostIndex): string {
  return knownHost(manifest.spec.host ?? '', namespace, index);
}
