// What the nodes report beside the objects: who they are, which instances registered themselves, which endpoints fail their checks. Reads
// only. The inner maps are replaced, never changed: that a service's map is the same object says that nothing of it has changed.
import type { InstanceState } from '../gen/mesh/v1/discovery.js';
import { INSTANCES_LABEL } from '../resources/capture-label.js';
import { type StoredObject, validateObject } from '../resources/index.js';
import { compareText } from './route-order.js';

export interface LiveNode {
  readonly zone: string;
  readonly region: string;
  /** Its agent can check endpoints; one of an older version can't. */
  readonly checks: boolean;
}

export interface RegisteredInstance {
  /** The node on whose lease it lives. */
  readonly node: string;
  readonly state: InstanceState;
}

export interface FailingCheck {
  /** Who says so. */
  readonly node: string;
  readonly detail: string;
}

export interface RegistryReports {
  /** By name. */
  readonly nodes: ReadonlyMap<string, LiveNode>;
  /** By service, then by anything unique. */
  readonly instances: ReadonlyMap<string, ReadonlyMap<string, RegisteredInstance>>;
  /** By service, then by id of the endpoint. */
  readonly failing: ReadonlyMap<string, ReadonlyMap<string, readonly FailingCheck[]>>;
  /** Nodes whose endpoints get nothing new, because somebody says so. Another set when that changes. */
  readonly drained: ReadonlySet<string>;
  /** By node: of its CPUs, percent that nobody uses. Those alone that say so. */
  readonly idlePercent: ReadonlyMap<string, number>;
}

export const NO_REPORTS: RegistryReports = {
  nodes: new Map(),
  instances: new Map(),
  failing: new Map(),
  drained: new Set(),
  idlePercent: new Map(),
};

type Service = Extract<StoredObject, { kind: 'Service' }>;

/** Made once of the same instances: who remembers what was made of a service goes by its identity. */
const implied = new WeakMap<ReadonlyMap<string, RegisteredInstance>, Service | null>();

/** The services that nobody declared, as their instances say they are. */
export function impliedServices({ instances }: RegistryReports, isDeclared: (service: string) => boolean): Service[] {
  const services: Service[] = [];
  for (const [name, ofService] of instances) {
    if (ofService.size === 0 || isDeclared(name)) continue;
    let service = implied.get(ofService);
    if (service === undefined) {
      service = implyService(name, ofService);
      implied.set(ofService, service);
    }
    if (service !== null) services.push(service);
  }
  return services;
}

/** Headless. Of instances that name a port differently, the first by node and id is right. */
function implyService(qualified: string, instances: ReadonlyMap<string, RegisteredInstance>): Service | null {
  const [namespace = '', name = ''] = qualified.split('/');
  const ports = new Map<string, object>();
  const numbers = new Set<number>();
  for (const [, { state }] of [...instances].sort(([a], [b]) => compareText(a, b))) {
    for (const { name: portName, port, servicePort, protocol } of state.ports) {
      const number = servicePort || port;
      if (ports.has(portName) || numbers.has(number)) continue;
      numbers.add(number);
      ports.set(portName, {
        ...(portName === '' ? {} : { name: portName }),
        port: number,
        ...(protocol === '' ? {} : { appProtocol: protocol }),
      });
    }
  }
  const result = validateObject({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace, labels: { [INSTANCES_LABEL]: 'enabled' } },
    spec: { clusterIP: 'None', ports: [...ports.values()] },
  });
  return result.ok && result.object.kind === 'Service' ? { ...result.object, createdAtMs: 0 } : null;
}
