// Where everything of one lab instance lies: names, addresses, paths. Pure; the only place that knows the scheme.

export const NODES = ['node-a', 'node-b'] as const;
export type NodeName = (typeof NODES)[number];

/** A pod: a process in a network namespace of its own, with one address of each family. */
export interface Pod {
  readonly name: string;
  readonly node: NodeName;
  readonly v4: string;
  readonly v6: string;
}

/** A service as the pods' hosts files and the fallback translation know it. */
export interface VirtualService {
  readonly namespace: string;
  readonly name: string;
  readonly v4: string;
  readonly v6: string;
  readonly port: number;
  readonly targetPort: number;
  /** Names of the pods behind it. */
  readonly pods: readonly string[];
}

export interface HostAddresses {
  /** On the host. */
  readonly v4: string;
  readonly v6: string;
  /** The fabric's router, on the same link. */
  readonly gateway4: string;
  readonly gateway6: string;
  /** What the host's pods are addressed from. */
  readonly podCidr4: string;
  readonly podCidr6: string;
}

export function hostAddresses(node: NodeName): HostAddresses {
  const n = NODES.indexOf(node) + 1;
  return {
    v4: `10.240.${n}.2`,
    v6: `fd40:0:0:${n}::2`,
    gateway4: `10.240.${n}.1`,
    gateway6: `fd40:0:0:${n}::1`,
    podCidr4: `10.244.${n}.0/24`,
    podCidr6: `fd44:0:0:${n}::/64`,
  };
}

/** The controller's address in the fabric: on the control namespace's loopback, so that it is the same from every host. */
export const CONTROLLER_ADDRESS = '10.240.0.1';
export const CONTROLLER_PORT = 15010;

/** Interface names have at most 15 bytes, and an instance name begins every namespace's name. */
const INSTANCE = /^[a-z][a-z0-9-]{0,19}$/;

export interface Layout {
  readonly instance: string;
  readonly runDir: string;
  readonly recordFile: string;
  readonly controllerSocket: string;
  readonly etcdDir: string;
  readonly logDir: string;
  /** A bpffs of this instance alone: unmounting it removes every pin. */
  readonly bpfMount: string;
  readonly controlNamespace: string;
  hostNamespace(node: NodeName): string;
  meshNamespace(node: NodeName): string;
  podNamespace(pod: string): string;
  nodeRunDir(node: NodeName): string;
  nodeStateDir(node: NodeName): string;
  nodeBpfDir(node: NodeName): string;
  podHostsFile(pod: string): string;
  /** Where the pod's process answers its lab: outside every network. */
  podControlSocket(pod: string): string;
}

export function isInstanceName(text: string): boolean {
  return INSTANCE.test(text);
}

/** Throws on a name that can't be part of file and namespace names. */
export function layout(instance: string): Layout {
  if (!isInstanceName(instance)) throw new Error(`instance name "${instance}": expected a letter, then up to 19 of a-z, 0-9 and "-"`);
  const runDir = `/run/${instance}`;
  return Object.freeze({
    instance,
    runDir,
    recordFile: `${runDir}/lab.json`,
    controllerSocket: `${runDir}/controller.sock`,
    etcdDir: `/dev/shm/${instance}-etcd`,
    logDir: `${runDir}/log`,
    bpfMount: `${runDir}/bpf`,
    controlNamespace: `${instance}-ctl`,
    hostNamespace: (node: NodeName) => `${instance}-host-${node.slice('node-'.length)}`,
    meshNamespace: (node: NodeName) => `${instance}-mesh-${node.slice('node-'.length)}`,
    podNamespace: (pod: string) => `${instance}-pod-${pod}`,
    nodeRunDir: (node: NodeName) => `${runDir}/${node}`,
    nodeStateDir: (node: NodeName) => `${runDir}/${node}/state`,
    nodeBpfDir: (node: NodeName) => `${runDir}/bpf/${node}`,
    podHostsFile: (pod: string) => `${runDir}/pods/${pod}.hosts`,
    podControlSocket: (pod: string) => `${runDir}/pods/${pod}.sock`,
  });
}
