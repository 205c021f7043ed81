// The names by which clients and we speak of a service's port: as clients dial it ("catalog.shop:9080"), and as our resources are called
// ("shop/catalog:9080", the names of clusters that status shows too).
import type { Service, ServicePort } from '../../api/gen/mesh/v1/model.js';

export interface Target {
  readonly service: Service;
  readonly port: ServicePort;
}

type Services = ReadonlyMap<string, Service>;

export function clusterName({ service, port }: Target): string {
  return `${service.namespace}/${service.name}:${port.port}`;
}

/** "shop/catalog:9080 version=v2": those of the endpoints that have the labels. */
export function subsetName(cluster: string, labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  return pairs.length === 0 ? cluster : `${cluster} ${pairs.sort().join(',')}`;
}

/** Of the name of a cluster; empty: all endpoints are of it. */
export function labelsOfCluster(name: string): readonly (readonly [key: string, value: string])[] {
  const space = name.indexOf(' ');
  if (space < 0) return [];
  return name
    .slice(space + 1)
    .split(',')
    .map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)]);
}

/** Null: there is no such service or port. */
export function targetOfCluster(name: string, services: Services): Target | null {
  const [whole = ''] = name.split(' ', 1);
  const service = services.get(serviceOfCluster(whole));
  const port = service?.ports.find((each) => whole.endsWith(`:${each.port}`));
  return service === undefined || port === undefined ? null : { service, port };
}

export function serviceOfCluster(name: string): string {
  const [whole = ''] = name.split(' ', 1);
  return whole.slice(0, Math.max(0, whole.lastIndexOf(':')));
}

/** By hostname; null: several services have it ("catalog", in two namespaces), and a name that may mean either means none. */
export function servicesByHostname(services: Services): ReadonlyMap<string, Service | null> {
  const byHostname = new Map<string, Service | null>();
  for (const service of services.values()) {
    for (const hostname of service.hostnames) byHostname.set(hostname, byHostname.has(hostname) ? null : service);
  }
  return byHostname;
}

const DIALLED = /^([^:/[\]]{1,253}?)\.?(?::([0-9]{1,5}))?$/;

/** What a client dials behind "xds:///". The port may be left out where the service has one alone. */
export function targetOfName(name: string, byHostname: ReadonlyMap<string, Service | null>): Target | null {
  const [, hostname = '', number] = DIALLED.exec(name) ?? [];
  const service = byHostname.get(hostname.toLowerCase());
  if (service === undefined || service === null) return null;
  const port = number === undefined ? onlyOf(service.ports) : service.ports.find((each) => each.port === Number(number));
  return port === undefined ? null : { service, port };
}

function onlyOf<Item>(items: readonly Item[]): Item | undefined {
  return items.length === 1 ? items[0] : undefined;
}
