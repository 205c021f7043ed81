// Servers of Istio's Gateways with TLS of mode AUTO_PASSTHROUGH → routes by server name to the services of the mesh, whose TLS ends at their endpoints.
// Proxies of other networks name them so: "outbound_.<port>_.<subset or nothing>_.<host>". One Gateway at a time.
import type { Backend, ConnectionRoute } from '../gen/mesh/v1/model.js';
import { covers } from '../resources/istio-host.js';
import { NO_BACKEND } from './backend.js';
import { type RuleIndex, rulesInForce } from './destination-rules.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import { type IstioGateway, istioGatewayName, type ServerHost, serverHosts } from './istio-gateway.js';
import { hostOf, ownFirst } from './istio-hosts.js';
import { tcpPorts } from './service-ports.js';
import { exportsOf } from './visibility.js';

type PassthroughIndex = RuleIndex & Pick<ObjectIndex, 'namespaces'>;

/** One for each service that a server's hosts cover and its namespace sees; none for those outside of the mesh. */
export function autoPassthroughRoutes(gateway: IstioGateway, index: PassthroughIndex): ConnectionRoute[] {
  const servers = serverHosts(gateway).filter(({ takes }) => takes === 'services');
  if (servers.length === 0) return [];
  const found = [...index.services.values()].flatMap((service) => {
    const parents = servers.filter((server) => isFor(server, service, index));
    const isSeen = exportsOf(service, index)?.includes(gateway.namespace) !== false;
    return parents.length === 0 || !isSeen || isExternal(service, index) ? [] : [{ service, parents }];
  });
  const order = ownFirst(gateway.namespace);
  found.sort((a, b) => order(a.service, b.service));
  const routes = new Map<string, ConnectionRoute>();
  for (const { service, parents } of found)
    for (const route of routesTo(service, gateway, parents, index)) if (!routes.has(route.name)) routes.set(route.name, route);
  return [...routes.values()];
}

function isFor({ hosts, namespaces }: ServerHost, service: Stored<'Service'>, index: PassthroughIndex): boolean {
  const host = hostOf(service, index);
  return (namespaces === null || namespaces.includes(service.namespace)) && hosts.some((each) => covers(each, host));
}

function isExternal(service: Stored<'Service'>, { entryHosts }: PassthroughIndex): boolean {
  const entry = entryHosts.get(nameOf(service))?.entry.manifest.spec;
  return entry !== undefined && entry.location !== 'MESH_INTERNAL';
}

function routesTo(
  service: Stored<'Service'>,
  gateway: IstioGateway,
  servers: readonly ServerHost[],
  index: PassthroughIndex,
): ConnectionRoute[] {
  const { namespace, name, createdAtMs } = gateway;
  const host = hostOf(service, index);
  const subsets = new Map<string, Backend['labels']>([['', {}]]);
  for (const { manifest } of rulesInForce(service, { namespace, labels: {} }, index))
    for (const { name: subset, labels } of manifest.spec.subsets ?? []) if (!subsets.has(subset)) subsets.set(subset, { ...labels });
  const parents = servers.map(({ section, port }) => ({
    parent: { $case: 'gateway', value: istioGatewayName(gateway) } as const,
    port,
    section,
    consumerNamespace: '',
  }));
  return tcpPorts(service).flatMap(({ port }) =>
    [...subsets].map(([subset, labels]): ConnectionRoute => {
      const serverName = `outbound_.${port}_.${subset}_.${host}`.toLowerCase();
      return {
        kind: 'IstioGateway',
        namespace,
        name: `${name}@${serverName}`,
        createdAtMs,
        parents,
        serverNames: [serverName],
        backends: [{ ...NO_BACKEND, service: nameOf(service), port, labels }],
      };
    }),
  );
}
