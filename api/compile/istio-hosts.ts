// What a host of Istio's kinds means in a namespace, and which services it names. Pure.
import { nameOf, type ObjectIndex, type Stored } from './input.js';

const DOMAIN = 'svc.cluster.local';

/** "reviews", "reviews.shop", "reviews.shop.svc" → the full name; others, wildcards too, stay. */
export function fullHost(host: string, namespace: string, index: HostIndex): string {
  const labels = host.split('.');
  if (host === '' || host.includes('*')) return host;
  if (labels.length === 1) return `${host}.${namespace}.${DOMAIN}`;
  if (labels.length === 3 && labels[2] === 'svc') return `${host}.cluster.local`;
  return labels.length === 2 && index.services.has(`${labels[1]}/${labels[0]}`) ? `${host}.${DOMAIN}` : host;
}

export type HostIndex = Pick<ObjectIndex, 'services' | 'entryHosts'>;

/** Of a Service, or of a host that a ServiceEntry adds. */
export function hostOf(service: Stored<'Service'>, { entryHosts }: HostIndex): string {
  return entryHosts.has(nameOf(service)) ? service.name : `${service.name}.${service.namespace}.${DOMAIN}`;
}

/** Those of its own namespace first, where several have one name. */
export function servicesOf(host: string, namespace: string, index: HostIndex): Stored<'Service'>[] {
  const wanted = fullHost(host, namespace, index);
  const own = wanted.endsWith(`.${DOMAIN}`) ? wanted.slice(0, -DOMAIN.length - 1).split('.') : [];
  const direct = own.length === 2 ? index.services.get(`${own[1]}/${own[0]}`) : undefined;
  if (direct !== undefined && !index.entryHosts.has(nameOf(direct))) return [direct];
  const covers = (name: string): boolean => (wanted.startsWith('*') ? name.endsWith(wanted.slice(1)) : name === wanted);
  return [...index.services.values()]
    .filter((service) => covers(hostOf(service, index)))
    .sort((a, b) => Number(b.namespace === namespace) - Number(a.namespace === namespace));
}
