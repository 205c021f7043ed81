// deploy/kubernetes against the code that it starts: flags, ports, paths, capabilities, and what the controller asks the API server for. Whether a cluster
// takes it is for a cluster to say.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import type { Command } from 'commander';
import { parseAllDocuments } from 'yaml';
import { agentCommand } from '../../agent/command.js';
import { proxyCommand } from '../../agent/proxy/command.js';
import { CONTROLLER_NAME } from '../../api/compile/index.js';
import { KINDS, parseManifests } from '../../api/resources/index.js';
import { TOKEN_AUDIENCE } from '../../controller/access/pod-identity.js';
import { controllerCommand } from '../../controller/command.js';
import { REFERENCED_TYPES, RESOURCE_TYPES } from '../../controller/sources/kubernetes/resource-types.js';
import { STATUS_KINDS } from '../../controller/sources/kubernetes/status-writer.js';

interface Probe {
  readonly httpGet?: { readonly path: string; readonly port: number | string };
  readonly exec?: { readonly command: readonly string[] };
}

interface Mount {
  readonly name: string;
  readonly mountPath: string;
  readonly mountPropagation?: string;
}

interface Container {
  readonly name: string;
  readonly image: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
  readonly readinessProbe?: Probe;
  readonly livenessProbe?: Probe;
  readonly securityContext?: {
    readonly privileged?: boolean;
    readonly readOnlyRootFilesystem?: boolean;
    readonly capabilities?: { readonly drop: string[]; readonly add?: string[] };
  };
  readonly volumeMounts?: readonly Mount[];
}

interface Pod {
  readonly serviceAccountName?: string;
  readonly hostNetwork?: boolean;
  readonly hostPID?: boolean;
  readonly terminationGracePeriodSeconds: number;
  readonly initContainers?: readonly Container[];
  readonly containers: readonly Container[];
  readonly volumes?: readonly { readonly name: string; readonly hostPath?: { readonly path: string } }[];
}

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
}

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly rules?: readonly Rule[];
  readonly data?: Readonly<Record<string, string>>;
  readonly spec: {
    readonly selector?: { readonly matchLabels?: object };
    readonly ports?: readonly { readonly port: number; readonly targetPort: string }[];
    readonly controllerName?: string;
    readonly names?: { readonly kind: string; readonly plural: string };
    readonly group?: string;
    readonly versions?: readonly { readonly name: string }[];
    readonly template: { readonly metadata: { readonly labels: object }; readonly spec: Pod };
    readonly updateStrategy?: { readonly rollingUpdate: { readonly maxSurge?: number; readonly maxUnavailable?: number | string } };
  };
}

const folder = join(process.cwd(), 'deploy/kubernetes');
const files = readdirSync(folder).filter((name) => name.endsWith('.yaml'));
const documents = files
  .filter((name) => name !== 'kustomization.yaml')
  .flatMap((name) => parseAllDocuments(readFileSync(join(folder, name), 'utf8')).map((document) => document.toJS() as Manifest));
const kustomization = parseAllDocuments(readFileSync(join(folder, 'kustomization.yaml'), 'utf8'))[0]!.toJS() as {
  readonly resources: string[];
  readonly images: { readonly name: string }[];
};

function find(kind: string, name: string): Manifest {
  const found = documents.find((document) => document.kind === kind && document.metadata.name === name);
  if (found === undefined) throw new Error(`no ${kind} ${name}`);
  return found;
}

const podOf = ({ spec }: Manifest): Pod => spec.template.spec;
const workloads = documents.filter(({ kind }) => kind === 'DaemonSet' || kind === 'Deployment' || kind === 'StatefulSet');
const own = workloads.flatMap((workload) =>
  [...podOf(workload).containers, ...(podOf(workload).initContainers ?? [])]
    .filter(({ image }) => image === 'weft')
    .map((container) => ({ workload, container })),
);
const COMMANDS: Readonly<Record<string, () => Command>> = { controller: controllerCommand, agent: agentCommand, proxy: proxyCommand };

/** The words that `weft` is given; null: the container runs something else. */
function wordsOf({ command, args = [] }: Container): readonly string[] | null {
  const inShell = /weft (\w+) "\$@"$/.exec(command?.at(-2) ?? '')?.[1];
  if (inShell !== undefined) return [inShell, ...args];
  return command === undefined ? args : null;
}

const daemons = own.flatMap(({ workload, container }) => {
  const [name = '', ...words] = wordsOf(container) ?? [];
  return name in COMMANDS ? [{ workload, container, name, words, command: COMMANDS[name]!() }] : [];
});
const daemon = (container: string) => daemons.find((each) => each.container.name === container)!;

/** A flag's value as the container has it: given, from its environment, or the default. */
function settingOf(container: string, flag: string): string {
  const { words, command, container: spec } = daemon(container);
  const option = command.options.find(({ long }) => long === flag)!;
  const index = words.findIndex((word) => word === flag || word.startsWith(`${flag}=`));
  const given = index < 0 ? undefined : words[index]!.includes('=') ? words[index]!.split('=').slice(1).join('=') : words[index + 1];
  return given ?? spec.env?.find(({ name }) => name === option.envVar)?.value ?? String(option.defaultValue);
}

test('every daemon is there, by its own image', () => {
  expect(daemons.map(({ container, name }) => [container.name, name])).toEqual([
    ['agent', 'agent'],
    ['controller', 'controller'],
    ['proxy', 'proxy'],
    ['uninstall', 'agent'],
  ]);
  expect(kustomization.images.map(({ name }) => name)).toEqual(['weft']);
  for (const name of kustomization.resources) expect(files).toContain(name);
});

test.each(daemons.map((each) => [each.container.name, each] as const))(
  '%s: its flags and variables are those of the command, and valid',
  (_, each) => {
    const { command, words, container } = each;
    for (const word of words.filter((text) => text.startsWith('--'))) {
      expect(command.options.map(({ long }) => long)).toContain(word.split('=')[0]);
    }
    const variables = [...command.options.map(({ envVar }) => envVar), 'HOST_IP'];
    for (const { name } of container.env ?? []) expect(variables).toContain(name);
    command.exitOverride().action(() => undefined);
    command.parse(words as string[], { from: 'user' });
  },
);

test('the settings of the controller are its variables', () => {
  const variables = controllerCommand().options.map(({ envVar }) => envVar);
  for (const name of Object.keys(find('ConfigMap', 'weft-controller').data ?? {})) expect(variables).toContain(name);
});

describe('capabilities', () => {
  const docs = readFileSync(join(process.cwd(), 'docs/agent.md'), 'utf8');
  /** Of a row of the table in docs/agent.md; the third column tells what else there may be. */
  const row = (title: string, columns = 1): string[] => {
    const line = docs.split('\n').find((text) => text.startsWith(`| ${title}`) && text.includes('CAP_')) ?? '';
    const cells = line
      .split('|')
      .slice(2, 2 + columns)
      .join();
    return [...cells.matchAll(/CAP_(\w+)/g)].map(([, name]) => name!);
  };
  const given = (container: string): string[] => (daemon(container).container.securityContext?.capabilities?.add ?? []).sort();

  test('are those that docs/agent.md lists and test/redirect tests', () => {
    expect(given('agent')).toEqual([...row('agent |'), ...row('agent, in its first')].sort());
    expect(given('proxy')).toEqual([...row('proxy |', 2), ...row('proxy, in its first')].sort());
    expect(given('agent')).toContain('SYS_PTRACE');
    expect(given('controller')).toEqual([]);
    const tested = readFileSync(join(process.cwd(), 'test/redirect/kubernetes.test.ts'), 'utf8');
    expect(tested).toContain(`['net_admin', 'bpf', 'perfmon', 'sys_admin', 'setpcap']`);
  });

  test('all others are dropped, and files are read-only, wherever a container is not privileged', () => {
    for (const { container } of own) {
      if (container.securityContext?.privileged === true) continue;
      expect(container.securityContext).toMatchObject({ readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } });
    }
    expect(own.filter(({ container }) => container.securityContext?.privileged === true).map(({ container }) => container.name)).toEqual([
      'mounts',
      'uninstall',
    ]);
  });

  test('mounts are made on the host by privileged containers alone, as Kubernetes demands', () => {
    for (const { container } of own) {
      const isMounting = (container.volumeMounts ?? []).some(({ mountPropagation }) => mountPropagation === 'Bidirectional');
      expect(isMounting).toBe(container.securityContext?.privileged === true);
    }
  });
});

describe('paths', () => {
  const hostPath = (workload: Manifest, container: Container, path: string): string | undefined => {
    const mount = container.volumeMounts?.find(({ mountPath }) => path === mountPath || path.startsWith(`${mountPath}/`));
    const volume = podOf(workload).volumes?.find(({ name }) => name === mount?.name);
    return volume?.hostPath === undefined || mount === undefined ? undefined : path.replace(mount.mountPath, volume.hostPath.path);
  };

  test('of agent and proxy are the host’s, and one place for both', () => {
    const { workload, container } = daemon('agent');
    for (const flag of ['--run-dir', '--state-dir', '--bpf-dir', '--mesh-netns']) {
      const path = settingOf('agent', flag);
      expect(hostPath(workload, container, path)).toBe(path);
      const uninstall = daemon('uninstall');
      expect(hostPath(uninstall.workload, uninstall.container, path)).toBe(path);
    }
    const proxy = daemon('proxy');
    for (const flag of ['--run-dir', '--bpf-dir', '--mesh-netns']) {
      expect(settingOf('proxy', flag)).toBe(settingOf('agent', flag));
      expect(hostPath(proxy.workload, proxy.container, settingOf('proxy', flag))).toBe(settingOf('agent', flag));
    }
    expect(settingOf('proxy', '--agent')).toBe(`unix:${settingOf('agent', '--run-dir')}/agent.sock`);
    expect(podOf(workload).initContainers?.[0]?.command?.at(-1)).toContain(settingOf('agent', '--mesh-netns'));
  });

  test('of every mount are of a volume, and every volume is mounted', () => {
    for (const workload of workloads.filter(({ kind }) => kind !== 'StatefulSet')) {
      const { containers, initContainers = [], volumes = [] } = podOf(workload);
      const mounted = [...containers, ...initContainers].flatMap(({ volumeMounts = [] }) => volumeMounts.map(({ name }) => name));
      expect([...new Set(mounted)].sort()).toEqual(volumes.map(({ name }) => name).sort());
    }
  });

  test('nothing of the daemons’ is written outside of a volume', () => {
    // The controller's socket: its root is read-only.
    const { workload, container, words } = daemon('controller');
    const sockets = words.flatMap((word) => /^--listen=unix:(.*)$/.exec(word)?.[1] ?? []);
    expect(sockets).toEqual(['/run/weft/controller.sock']);
    const mount = container.volumeMounts?.find(({ mountPath }) => sockets[0]?.startsWith(`${mountPath}/`));
    expect(podOf(workload).volumes?.find(({ name }) => name === mount?.name)).toHaveProperty('emptyDir');
  });
});

describe('probes and ports', () => {
  const portOf = (address: string): number => Number(address.split(':').at(-1));
  const probed = ({ container }: { container: Container }) =>
    [container.readinessProbe, container.livenessProbe].map((probe) => {
      const { path, port } = probe?.httpGet ?? { path: '', port: 0 };
      return [path, container.ports?.find(({ name }) => name === port)?.containerPort ?? port];
    });

  test('ask where the daemons answer', () => {
    for (const name of ['agent', 'controller']) {
      const port = portOf(settingOf(name, '--metrics-listen'));
      expect(probed(daemon(name))).toEqual([
        ['/readyz', port],
        ['/healthz', port],
      ]);
    }
    expect(daemon('proxy').container.readinessProbe?.exec?.command).toEqual(['test', '-e', settingOf('proxy', '--ready-file')]);
  });

  test('the agents reach the controller’s service where it listens, and others the agents', () => {
    const { spec } = find('Service', 'weft-controller');
    const grpc = portOf(settingOf('controller', '--listen'));
    expect(daemon('controller').container.ports?.find(({ name }) => name === spec.ports?.[0]?.targetPort)?.containerPort).toBe(grpc);
    expect(settingOf('agent', '--controller')).toBe(`weft-controller.weft-system:${spec.ports?.[0]?.port}`);
    expect(portOf(settingOf('agent', '--status-advertise'))).toBe(15_011);
  });
});

test('a node has one name: Kubernetes’, since its pods are told by that', () => {
  for (const name of ['agent', 'proxy']) {
    const node = daemon(name).container.env?.find((variable) => variable.name === 'WEFT_NODE');
    expect(node).toEqual({ name: 'WEFT_NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } });
  }
});

test('the agent sees the host’s processes and network, the proxy has the host’s network to come from', () => {
  expect(podOf(daemon('agent').workload)).toMatchObject({ hostNetwork: true, hostPID: true });
  expect(podOf(daemon('proxy').workload)).toMatchObject({ hostNetwork: true });
});

test('a proxy is replaced by one that stands beside it, waits to be ended, and has the time to drain', () => {
  const { workload } = daemon('proxy');
  expect(workload.spec.updateStrategy?.rollingUpdate).toEqual({ maxSurge: 1, maxUnavailable: 0 });
  expect(settingOf('proxy', '--after-handover')).toBe('wait');
  expect(podOf(workload).terminationGracePeriodSeconds * 1_000).toBeGreaterThan(Number(settingOf('proxy', '--shutdown-timeout')));
  expect(daemon('proxy').container.livenessProbe).toBeUndefined();
});

describe('the controller’s rights', () => {
  const rules = find('ClusterRole', 'weft-controller').rules ?? [];
  const may = (verb: string, group: string, resource: string, among = rules): boolean =>
    among.some(
      ({ apiGroups, resources, verbs }) =>
        apiGroups.includes(group) &&
        verbs.includes(verb) &&
        (resources.includes(resource) || (resources.includes('*') && !resource.includes('/'))),
    );

  test.each(RESOURCE_TYPES.map(({ group, plural }) => [group || 'core', plural, group] as const))(
    '%s %s may be listed and watched',
    (_, plural, group) => {
      expect(['list', 'watch'].filter((verb) => !may(verb, group, plural))).toEqual([]);
    },
  );

  test('what Weft says may be written into the status, and nothing else anywhere', () => {
    for (const { kind, group, plural } of RESOURCE_TYPES) {
      expect({ kind, may: may('patch', group, `${plural}/status`) }).toEqual({ kind, may: STATUS_KINDS.includes(kind) });
    }
    expect(
      new Set(
        rules
          .filter(({ resources }) => !resources.every((name) => name.endsWith('/status') || name === 'tokenreviews'))
          .flatMap(({ verbs }) => verbs),
      ),
    ).toEqual(new Set(['list', 'watch', 'get']));
    expect(rules.filter(({ verbs }) => verbs.includes('get')).flatMap(({ resources }) => resources)).toEqual(['pods']);
  });

  test('Secrets and ConfigMaps are not among them: they are of a role that is bound where Gateways are', () => {
    const references = find('ClusterRole', 'weft-gateway-references').rules ?? [];
    for (const { plural } of Object.values(REFERENCED_TYPES)) {
      expect(may('list', '', plural)).toBe(false);
      expect(may('list', '', plural, references) && may('watch', '', plural, references)).toBe(true);
    }
    expect(documents.filter(({ kind }) => kind.endsWith('Binding')).map(({ metadata }) => metadata.name)).toEqual([
      'weft-controller',
      'weft-controller',
    ]);
  });
});

describe('who speaks to whom', () => {
  const mounted = (name: string, path: string) => {
    const { workload, container } = daemon(name);
    const mount = container.volumeMounts?.find(({ mountPath }) => path.startsWith(`${mountPath}/`));
    return podOf(workload).volumes?.find((volume) => volume.name === mount?.name);
  };

  test('agents join by a projected token of the audience and account that the controller takes', () => {
    const sources = [{ serviceAccountToken: { path: 'token', audience: TOKEN_AUDIENCE, expirationSeconds: 3_600 } }];
    expect(mounted('agent', settingOf('agent', '--service-account-token-file'))).toMatchObject({ projected: { sources } });
    const account = `weft-system/${podOf(daemon('agent').workload).serviceAccountName}`;
    expect(settingOf('controller', '--node-service-account')).toBe(account);
    const rules = find('ClusterRole', 'weft-controller').rules ?? [];
    expect(rules).toContainEqual({ apiGroups: ['authentication.k8s.io'], resources: ['tokenreviews'], verbs: ['create'] });
  });

  test('agents trust what the controller publishes, and the controller may publish that alone', () => {
    const [namespace, name] = settingOf('controller', '--publish-authorities').split('/');
    expect(namespace).toBe('weft-system');
    expect(mounted('agent', settingOf('agent', '--controller-ca'))).toMatchObject({ configMap: { name } });
    expect(find('Role', 'weft-controller').rules).toEqual([
      { apiGroups: [''], resources: ['configmaps'], verbs: ['create'] },
      { apiGroups: [''], resources: ['configmaps'], resourceNames: [name], verbs: ['patch'] },
    ]);
  });

  test('the authority’s sealing key is a Secret that the documentation makes', () => {
    expect(mounted('controller', settingOf('controller', '--authority-key-file'))).toMatchObject({
      secret: { secretName: 'weft-authority-key' },
    });
    expect(readFileSync(join(process.cwd(), 'docs/kubernetes.md'), 'utf8')).toContain(
      'create secret generic weft-authority-key --from-literal=key=',
    );
  });
});

test('labels, accounts and namespaces fit each other', () => {
  const namespaced = documents.filter(
    ({ kind }) => !/^(Namespace|ClusterRole|ClusterRoleBinding|CustomResourceDefinition|GatewayClass)$/.test(kind),
  );
  expect(new Set(namespaced.map(({ metadata }) => metadata.namespace))).toEqual(new Set(['weft-system']));
  for (const workload of workloads) {
    expect(workload.spec.template.metadata.labels).toEqual(workload.spec.selector?.matchLabels);
    const account = podOf(workload).serviceAccountName;
    if (account !== undefined) find('ServiceAccount', account);
  }
});

test('custom resources and the class are what the controller reads', () => {
  const ours = KINDS.filter(({ kind, apiVersion }) => apiVersion.startsWith('mesh.weft.dev/') && kind !== 'Workload');
  const defined = documents.filter(({ kind }) => kind === 'CustomResourceDefinition').map(({ spec }) => spec);
  expect(defined.map(({ names, group, versions }) => [names?.kind, names?.plural, `${group}/${versions?.[0]?.name}`])).toEqual(
    ours.map(({ kind, plural, apiVersion }) => [kind, plural, apiVersion]),
  );
  const content = readFileSync(join(folder, 'gateway-class.yaml'), 'utf8');
  expect(parseManifests([{ name: 'gateway-class.yaml', content }]).findings).toEqual([]);
  expect(find('GatewayClass', 'weft').spec.controllerName).toBe(CONTROLLER_NAME);
});
