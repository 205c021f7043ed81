// What is wrong with Services, ServiceEntries and DestinationRules among the other objects. As Istio's analysis has it.
import { groupBy } from '../group-by.js';
import { protocolNamed } from '../resources/index.js';
import { fullHost } from '../resources/istio-host.js';
import { textOf } from '../resources/schema.js';
import { HostIndex, knownHosts, meet, visibleIn } from './hosts.js';
import { includes, itemsIn, nameOf, type Report, recordIn, texts, textsIn, type World } from './world.js';

const SERVICE_ENTRY = 'ServiceEntry.networking.istio.io';
const DESTINATION_RULE = 'DestinationRule.networking.istio.io';
const SYSTEM_NAMESPACES = new Set(['kube-system', 'kube-public', 'kube-node-lease', 'istio-system']);

function isConventional(name: string): boolean {
  const prefix = name.startsWith('grpc-web') ? 'grpc' : (name.split('-')[0] ?? '');
  return prefix === 'udp' || protocolNamed(prefix) !== undefined;
}

/** What a port speaks is said by its name or appProtocol; detected otherwise, which takes the first bytes of each connection. */
export function portNames(world: World, report: Report): void {
  for (const object of world.all('Service')) {
    const { namespace, spec, value } = object;
    const isManaged = texts(recordIn(value, 'metadata').labels)['gateway.istio.io/managed'] !== undefined;
    if (SYSTEM_NAMESPACES.has(namespace) || isManaged) continue;
    for (const [index, port] of itemsIn(spec, 'ports')) {
      const name = textOf(port, 'name') ?? '';
      const path = ['spec', 'ports', index, 'name'];
      if (spec.type === 'ExternalName') {
        if (!isConventional(name) || name.startsWith('tcp') || name.startsWith('udp'))
          report(
            object,
            'ExternalNameServiceTypeInvalidPortName',
            path,
            `an ExternalName's port ${port.port} says by its name what it speaks, such as http or https; found ${JSON.stringify(name)}`,
          );
      } else if (port.appProtocol === undefined && port.protocol !== 'UDP' && port.protocol !== 'SCTP' && !isConventional(name)) {
        report(
          object,
          'PortNameIsNotUnderNamingConvention',
          path,
          `port ${port.port} doesn't say what it speaks: expected appProtocol, or a name that begins with it, such as http-${name || 'web'}`,
        );
      }
    }
  }
}

/** Bytes are told apart by address alone. */
export function entryAddresses(world: World, report: Report): void {
  for (const object of world.all(SERVICE_ENTRY)) {
    const { spec, value } = object;
    if (textsIn(spec, 'addresses').length > 0 || itemsIn(recordIn(value, 'status'), 'addresses').length > 0) continue;
    const found = itemsIn(spec, 'ports').find(([, port]) => ['', 'TCP'].includes((textOf(port, 'protocol') ?? '').toUpperCase()));
    if (found === undefined) continue;
    const [index, port] = found;
    report(
      object,
      'ServiceEntryAddressesRequired',
      ['spec', 'ports', index],
      `port ${port.number} speaks TCP, or doesn't say what: it takes addresses to know connections to ${textsIn(spec, 'hosts').join(', ')}`,
    );
  }
}

export function entryProtocols(world: World, report: Report): void {
  const entries = world.all(SERVICE_ENTRY).flatMap((object) =>
    textsIn(object.spec, 'hosts').flatMap((host) =>
      itemsIn(object.spec, 'ports').map(([index, port]) => ({
        object,
        index,
        place: `${host}:${port.number}`,
        protocol: (textOf(port, 'protocol') ?? '').toUpperCase(),
        scope: visibleIn(textsIn(object.spec, 'exportTo'), object.namespace),
      })),
    ),
  );
  const byPlace = groupBy(entries, ({ place }) => place);
  for (const one of entries) {
    const other = byPlace
      .get(one.place)
      ?.find((each) => each.protocol !== one.protocol && each.object !== one.object && meet(each.scope, one.scope));
    if (other === undefined) continue;
    report(
      one.object,
      'ConflictingServiceEntryProtocol',
      ['spec', 'ports', one.index, 'protocol'],
      `ServiceEntry ${nameOf(other.object)} says ${other.protocol} of ${one.place}, this one ${one.protocol}`,
    );
  }
}

export function ruleHosts(world: World, report: Report): void {
  const hosts = new HostIndex(knownHosts(world));
  for (const object of world.all(DESTINATION_RULE)) {
    const host = textOf(object.spec, 'host') ?? '';
    if (host.startsWith('*') || hosts.find(host, object.namespace, [object.namespace]) !== undefined) continue;
    report(
      object,
      'UnknownDestinationRuleHost',
      ['spec', 'host'],
      `no Service or ServiceEntry has the host ${fullHost(host, object.namespace)}: the rule has no effect`,
    );
  }
}

/** Subsets of a Service without any workload are empty. */
export function ruleSubsets(world: World, report: Report): void {
  for (const object of world.all(DESTINATION_RULE)) {
    const host = fullHost(textOf(object.spec, 'host') ?? '', object.namespace);
    const service = world
      .all('Service')
      .find(({ name, namespace }) => [`${name}.${namespace}.svc.cluster.local`, `${name}.${namespace}`].includes(host));
    if (service === undefined) continue;
    const selector = texts(service.spec.selector);
    const behind = world.workloads.filter(({ namespace, labels }) => namespace === service.namespace && includes(labels, selector));
    for (const [index, subset] of itemsIn(object.spec, 'subsets')) {
      const labels = texts(subset.labels);
      if (behind.some((workload) => includes(workload.labels, labels))) continue;
      report(
        object,
        'DestinationRuleSubsetNotSelectPods',
        ['spec', 'subsets', index, 'labels'],
        `no workload of Service ${nameOf(service)} has the labels ${JSON.stringify(labels)}: subset ${textOf(subset, 'name')} is empty`,
      );
    }
  }
}
