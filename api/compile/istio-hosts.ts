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

/** DestinationRules that name the service's host, the oldest first; then those whose wildcard covers it, the longest first. */
export function rulesOf(
  service: Stored<'Service'>,
  index: HostIndex & Pick<ObjectIndex, 'rulesByHost'>,
): readonly Stored<'DestinationRule'>[] {
  const { exact, wildcards } = index.rulesByHost;
  const host = hostOf(service, index);
  return [...(exact.get(host) ?? []), ...wildcards.filter(({ pattern }) => covers(pattern, host)).map(({ rule }) => rule)];
}

export interface RulesByHost {
  readonly exact: ReadonlyMap<string, readonly Stored<'DestinationRule'>[]>;
  /** The longest first. */
  readonly wildcards: readonly { readonly pattern: string; readonly rule: Stored<'DestinationRule'> }[];
}

/** `rules`: the oldest first. */
export function rulesByHost(rules: readonly Stored<'DestinationRule'>[], index: HostIndex): RulesByHost {
  const exact = new Map<string, Stored<'DestinationRule'>[]>();
  const wildcards: { pattern: string; rule: Stored<'DestinationRule'> }[] = [];
  for (const rule of rules) {
    const host = knownHost(rule.manifest.spec.host ?? '', rule.namespace, index);
    if (host.startsWith('*')) wildcards.push({ pattern: host, rule });
    else exact.set(host, [...(exact.get(host) ?? []), rule]);
  }
  return { exact, wildcards: wildcards.sort((a, b) => b.pattern.length - a.pattern.length) };
}
