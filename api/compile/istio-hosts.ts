// What a host of Istio's kinds means in a namespace, and which services it names. Pure.
import { covers, fullHost, SERVICE_DOMAIN } from '../resources/istio-host.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';

/** As fullHost(), and "reviews.shop" where that is a Service. */
export function knownHost(host: string, namespace: string, { services }: HostIndex): string {
  const [name, of, ...more] = host.split('.');
  return of !== undefined && more.length === 0 && services.has(`${of}/${name}`) ? `${host}.${SERVICE_DOMAIN}` : fullHost(host, namespace);
}

export type HostIndex = Pick<ObjectIndex, 'services' | 'entryHosts'>;

/** Of a Service, or of a host that a ServiceEntry adds. */
export function hostOf(service: Stored<'Service'>, { entryHosts }: HostIndex): string {
  return entryHosts.has(nameOf(service)) ? service.name : `${service.name}.${service.namespace}.${SERVICE_DOMAIN}`;
}

/** Those of its own namespace first, where several have one name. */
export function servicesOf(host: string, namespace: string, index: HostIndex): Stored<'Service'>[] {
  const wanted = knownHost(host, namespace, index);
  const own = wanted.endsWith(`.${SERVICE_DOMAIN}`) ? wanted.slice(0, -SERVICE_DOMAIN.length - 1).split('.') : [];
  const direct = own.length === 2 ? index.services.get(`${own[1]}/${own[0]}`) : undefined;
  if (direct !== undefined && !index.entryHosts.has(nameOf(direct))) return [direct];
  return [...index.services.values()]
    .filter((service) => covers(wanted, hostOf(service, index)))
    .sort((a, b) => Number(b.namespace === namespace) - Number(a.namespace === namespace));
}
