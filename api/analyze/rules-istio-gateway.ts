// What is wrong with Istio's Gateways among the other objects: workloads, ports of Services and certificates that are not there, and two for one
// port and host. As Istio's analysis has it.
import { certificateTimes, type FieldPath, isHidden, keyPairFault, ROOT_NAMESPACE } from '../resources/index.js';
import { textOf, type Unchecked } from '../resources/schema.js';
import { conflictsOf } from './conflicts.js';
import {
  type AnalysedObject,
  includes,
  itemsIn,
  type LabelledWorkload,
  nameOf,
  type Report,
  recordIn,
  texts,
  textsIn,
  type World,
} from './world.js';

const TYPE = 'Gateway.networking.istio.io';
/** Of Istio's own gateway, which is not here: every node opens what the Gateway says. */
const DEFAULT_SELECTOR = JSON.stringify({ istio: 'ingressgateway' });

function selectorOf({ spec }: AnalysedObject): Readonly<Record<string, string>> {
  return texts(spec.selector);
}

function isDefault(gateway: AnalysedObject): boolean {
  return JSON.stringify(selectorOf(gateway)) === DEFAULT_SELECTOR;
}

function workloadsOf(world: World, gateway: AnalysedObject): readonly LabelledWorkload[] {
  const selector = selectorOf(gateway);
  return world.workloads.filter(({ labels }) => includes(labels, selector));
}

/** Where Weft runs it, which has no workloads of its own for gateways. */
function isOfNodes(world: World, gateway: AnalysedObject): boolean {
  return world.all('Node').some(({ value }) => includes(texts(recordIn(value, 'metadata').labels), selectorOf(gateway)));
}

/** A port that no Service of the gateway's workloads has, or leads to, is never asked. */
export function ports(world: World, report: Report): void {
  for (const gateway of world.all(TYPE)) {
    const workloads = workloadsOf(world, gateway);
    if (isOfNodes(world, gateway)) continue;
    if (workloads.length === 0) {
      if (!isDefault(gateway))
        report(
          gateway,
          'ReferencedResourceNotFound',
          ['spec', 'selector'],
          `no node and no workload has the labels ${JSON.stringify(selectorOf(gateway))}: it runs on every node`,
        );
      continue;
    }
    const open = portsOf(world, workloads);
    for (const [index, server] of itemsIn(gateway.spec, 'servers')) {
      const { number } = recordIn(server, 'port');
      if (typeof number !== 'number' || open.includes(number)) continue;
      const has = open.length === 0 ? 'none' : open.join(', ');
      report(
        gateway,
        'GatewayPortNotDefinedOnService',
        ['spec', 'servers', index, 'port', 'number'],
        `no Service of its workloads has port ${number} (they have ${has})`,
      );
    }
  }
}

function portsOf(world: World, workloads: readonly LabelledWorkload[]): readonly number[] {
  const services = world.all('Service').filter(({ namespace, spec }) => {
    const selector = texts(spec.selector);
    if (Object.keys(selector).length === 0) return false;
    return workloads.some((workload) => workload.namespace === namespace && includes(workload.labels, selector));
  });
  return services.flatMap(({ spec }) =>
    itemsIn(spec, 'ports').flatMap(([, { port, targetPort }]) => [port, targetPort].filter((each) => typeof each === 'number')),
  );
}

interface Credential {
  readonly gateway: AnalysedObject;
  readonly path: FieldPath;
  readonly name: string;
}

function credentialsOf(gateway: AnalysedObject): readonly Credential[] {
  return itemsIn(gateway.spec, 'servers').flatMap(([index, server]) => {
    const name = textOf(recordIn(server, 'tls'), 'credentialName') ?? '';
    return name === '' ? [] : [{ gateway, path: ['spec', 'servers', index, 'tls', 'credentialName'], name }];
  });
}

/** Where its Secret is: beside it, else with its workloads (Istio). Null: it has none. */
function namespaceOf(world: World, gateway: AnalysedObject, secret: string): string | null {
  if (world.find('Secret', gateway.namespace, secret) !== undefined) return gateway.namespace;
  const [first] = workloadsOf(world, gateway);
  return first?.namespace ?? (isDefault(gateway) ? ROOT_NAMESPACE : null);
}

export function credentials(world: World, report: Report): void {
  for (const gateway of world.all(TYPE)) {
    for (const { path, name } of credentialsOf(gateway)) {
      const namespace = namespaceOf(world, gateway, name);
      const secret = namespace === null ? undefined : world.find('Secret', namespace, name);
      if (namespace === null) {
        report(
          gateway,
          'ReferencedResourceNotFound',
          ['spec', 'selector'],
          `no workload has the labels ${JSON.stringify(selectorOf(gateway))}, in whose namespace Secret ${name} would be`,
        );
      } else if (secret === undefined) {
        report(gateway, 'ReferencedResourceNotFound', path, `Secret ${namespace}/${name} doesn't exist`);
      } else {
        const fault = secretFault(secret.value, world.nowMs);
        if (fault !== null) report(gateway, 'InvalidGatewayCredential', path, `Secret ${namespace}/${name}: ${fault}`);
      }
    }
  }
}

/** PEM, from tls.crt and tls.key, or cert and key (Istio's older names). */
function pairIn(secret: Unchecked): { readonly chain: string; readonly key: string } | null {
  const data = texts(secret.data);
  const plain = texts(secret.stringData);
  const read = (key: string): string | undefined =>
    plain[key] ?? (data[key] === undefined ? undefined : Buffer.from(data[key], 'base64').toString());
  const [chain, key] = [read('tls.crt') ?? read('cert'), read('tls.key') ?? read('key')];
  return chain === undefined || key === undefined ? null : { chain, key };
}

function secretFault(secret: Unchecked, nowMs: number): string | null {
  if (isHidden(secret)) return null;
  const pair = pairIn(secret);
  if (pair === null) return 'expected the keys tls.crt and tls.key';
  const fault = keyPairFault(pair.chain, pair.key);
  if (fault?.part === 'chain') return fault.message;
  const times = certificateTimes(pair.chain);
  return times !== null && nowMs >= times.toMs ? `its certificate expired at ${new Date(times.toMs).toISOString()}` : null;
}

/** Beside what Istio looks at: that the private key is the certificate's. */
export function privateKeys(world: World, report: Report): void {
  for (const gateway of world.all(TYPE))
    for (const { path, name } of credentialsOf(gateway)) {
      const namespace = namespaceOf(world, gateway, name);
      const secret = (namespace === null ? undefined : world.find('Secret', namespace, name)?.value) ?? {};
      const pair = isHidden(secret) ? null : pairIn(secret);
      const fault = pair === null ? null : keyPairFault(pair.chain, pair.key);
      if (fault?.part === 'key') report(gateway, 'InvalidGatewayCredential', path, `Secret ${namespace}/${name}: ${fault.message}`);
    }
}

/** Browsers reuse a connection for every host that its certificate is for: it may reach the other gateway. */
export function sharedCertificates(world: World, report: Report): void {
  const all = world.all(TYPE).flatMap((gateway) =>
    credentialsOf(gateway).map((credential) => ({
      ...credential,
      secret: `${namespaceOf(world, gateway, credential.name)}/${credential.name}`,
    })),
  );
  for (const { gateway, path, secret } of all) {
    const others = all.filter(
      (other) => other.gateway !== gateway && other.secret === secret && includes(selectorOf(other.gateway), selectorOf(gateway)),
    );
    if (others.length === 0) continue;
    const names = [...new Set(others.map((other) => nameOf(other.gateway)))].join(', ');
    report(
      gateway,
      'GatewayDuplicateCertificate',
      path,
      `Gateway ${names} serves Secret ${secret} too: a client may reuse its connection for the other one's hosts, and get 404`,
    );
  }
}

interface Server {
  readonly object: AnalysedObject;
  readonly index: number;
  readonly port: number;
  readonly bind: string;
  readonly hosts: readonly string[];
}

/** Two for the same workloads, port and host: which of them holds is not defined. */
export function conflicts(world: World, report: Report): void {
  const servers = world.all(TYPE).flatMap((object) =>
    itemsIn(object.spec, 'servers').flatMap(([index, server]): Server[] => {
      const { number } = recordIn(server, 'port');
      if (typeof number !== 'number') return [];
      return [{ object, index, port: number, bind: textOf(server, 'bind') ?? '', hosts: textsIn(server, 'hosts') }];
    }),
  );
  const found = conflictsOf(servers, (one, other) => isSamePlace(one, other) && shareWorkloads(world, one.object, other.object));
  for (const { one, names } of found) {
    report(
      one.object,
      'ConflictingGateways',
      ['spec', 'servers', one.index],
      `Gateway ${names} has port ${one.port} for the same hosts and workloads (${one.hosts.join(', ')})`,
    );
  }
}

function isSamePlace(one: Server, other: Server): boolean {
  return one.port === other.port && one.bind === other.bind && one.hosts.some((host) => other.hosts.includes(host));
}

function shareWorkloads(world: World, one: AnalysedObject, other: AnalysedObject): boolean {
  if (JSON.stringify(selectorOf(one)) === JSON.stringify(selectorOf(other))) return true;
  const theirs = new Set(workloadsOf(world, other));
  return workloadsOf(world, one).some((workload) => theirs.has(workload));
}
