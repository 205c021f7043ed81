// What a host of Istio's kinds means in a namespace, and which services it names. Pure.
import { qualifiedName } from '../resources/index.js';
import { covers, fullHost, SERVICE_DOMAIN } from '../resources/istio-host.js';
import type { ObjectIndex, Stored } from './input.js';

/** As fullHost(), in lower case and without a dot at its end, as hosts of ServiceEntries are known; and "reviews.shop" where that is a Service. */
export function knownHost(written: string, namespace: string, { services }: HostIndex): string {
  const host = written.toLowerCase().replace(/\.$/, '');
  const [name, of, ...more] = host.split('.');
  return of !== undefined && more.length === 0 && services.has(`${of}/${name}`) ? `${host}.${SERVICE_DOMAIN}` : fullHost(host, namespace);
}

export type HostIndex = Pick<ObjectIndex, 'services' | 'entryHosts'>;

/** Of a Service, or of a host that a ServiceEntry adds. */
export function hostOf(service: Stored<'Service'>, { entryHosts }: HostIndex): string {
  return entryHosts.has(qualifiedName(service.namespace, service.name))
    ? service.name
    : `${service.name}.${service.namespace}.${SERVICE_DOMAIN}`;
}

/** Where several have one name those of its own namespace first, then the oldest. */
export function servicesOf(host: string, namespace: string, index: HostIndex): Stored<'Service'>[] {
  const wanted = knownHost(host, namespace, index);
  const own = wanted.endsWith(`.${SERVICE_DOMAIN}`) ? wanted.slice(0, -SERVICE_DOMAIN.length - 1).split('.') : [];
  const direct = own.length === 2 ? index.services.get(`${own[1]}/${own[0]}`) : undefined;
  if (direct !== undefined && !index.entryHosts.has(qualifiedName(direct.namespace, direct.name))) return [direct];
  return [...index.services.values()].filter((service) => covers(wanted, hostOf(service, index))).sort(ownFirst(namespace));
}

/** Of services of one host those of the namespace, then the oldest. */
export function ownFirst(namespace: string) {
  return (a: Stored<'Service'>, b: Stored<'Service'>): number =>
    Number(b.namespace === namespace) - Number(a.namespace === namespace) || a.createdAtMs - b.createdAtMs;
}

/** DestinationRules that name the service's host, the oldest first; then those whose wildcard covers it, the longest first. With `from` those of that namespace. */
export function rulesOf(
  service: Stored<'Service'>,
  index: HostIndex & Pick<ObjectIndex, 'rulesByHost'>,
  from?: string,
): readonly Stored<'DestinationRule'>[] {
  const { all, byNamespace } = index.rulesByHost;
  const { exact, wildcards } = from === undefined ? all : (byNamespace.get(from) ?? NO_RULES);
  const host = hostOf(service, index);
  return [...(exact.get(host) ?? []), ...wildcards.filter(({ pattern }) => covers(pattern, host)).map(({ rule }) => rule)];
}

interface RulesOfHosts {
  readonly exact: Map<string, Stored<'DestinationRule'>[]>;
  /** The longest first. */
  readonly wildcards: { readonly pattern: string; readonly rule: Stored<'DestinationRule'> }[];
}

const NO_RULES: RulesOfHosts = { exact: new Map(), wildcards: [] };

export interface RulesByHost {
  readonly all: RulesOfHosts;
  /** Of the rules. A client asks in three namespaces at most, however many have a rule for the same hosts. */
  readonly byNamespace: ReadonlyMap<string, RulesOfHosts>;
}

/** `rules`: the oldest first. */
export function rulesByHost(rules: readonly Stored<'DestinationRule'>[], index: HostIndex): RulesByHost {
  const all: RulesOfHosts = { exact: new Map(), wildcards: [] };
  const byNamespace = new Map<string, RulesOfHosts>();
  for (const rule of rules) {
    const host = knownHost(rule.manifest.spec.host ?? '', rule.namespace, index);
    const own: RulesOfHosts = byNamespace.get(rule.namespace) ?? { exact: new Map(), wildcards: [] };
    byNamespace.set(rule.namespace, own);
    for (const { exact, wildcards } of [all, own]) {
      const named = exact.get(host);
      if (host.startsWith('*')) wildcards.push({ pattern: host, rule });
      else if (named === undefined) exact.set(host, [rule]);
      else named.push(rule);
    }
  }
  for (const { wildcards } of [all, ...byNamespace.values()]) wildcards.sort((a, b) => b.pattern.length - a.pattern.length);
  return { all, byNamespace };
}
