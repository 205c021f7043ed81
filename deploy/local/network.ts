// Builds the lab's network: one router namespace, hosts, and pods in a routed CNI's shape (as Calico's): /32 and /128 addresses,
// the host end of the pod's veth answering as 169.254.1.1 and fe80::1. Makes namespaces only; they are removed by instance.ts.
import { inNamespace, run } from './command-line.js';
import { CONTROLLER_ADDRESS, hostAddresses, type Layout, NODES, type Pod, type VirtualService } from './layout.js';
import { serviceTranslation } from './service-translation.js';

const GATEWAY4 = '169.254.1.1';
const GATEWAY6 = 'fe80::1';

/** Duplicate address detection would hold every address back for a second. */
const NO_DETECTION = ['net.ipv6.conf.default.accept_dad=0', 'net.ipv6.conf.default.dad_transmits=0', 'net.ipv6.conf.all.accept_dad=0'];
const FORWARDING = ['net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1'];

export async function buildNetwork(layout: Layout, pods: readonly Pod[], services: readonly VirtualService[]): Promise<void> {
  const routers = [layout.controlNamespace, ...NODES.map(layout.hostNamespace)];
  const podNamespaces = pods.map((pod) => layout.podNamespace(pod.name));
  await run('ip', ['-batch', '-'], lines([...routers, ...podNamespaces].map((name) => `netns add ${name}`)));
  await Promise.all([
    ...routers.map((name) => sysctl(name, [...NO_DETECTION, ...FORWARDING])),
    ...podNamespaces.map((name) => sysctl(name, NO_DETECTION)),
  ]);
  await run('ip', ['-batch', '-'], lines(links(layout, pods)));
  const configured = [...addressing(layout, pods)];
  await Promise.all(configured.map(([name, commands]) => run('ip', ['-n', name, '-batch', '-'], lines(commands))));
  const ruleset = serviceTranslation(services, pods);
  await Promise.all(NODES.map((node) => run('nsenter', inNamespace(layout.hostNamespace(node), ['nft', '-f', '-']), ruleset)));
}

/** One more pod on a host that is there, in the same shape. Its namespace is made too. */
export async function addPod(layout: Layout, pod: Pod): Promise<void> {
  const [inside, outside] = [layout.podNamespace(pod.name), layout.hostNamespace(pod.node)];
  await run('ip', ['netns', 'add', inside]);
  await sysctl(inside, NO_DETECTION);
  await run('ip', ['-batch', '-'], lines([podLink(layout, pod)]));
  await run('ip', ['-n', outside, '-batch', '-'], lines(podHostEnd(pod)));
  await run('ip', ['-n', inside, '-batch', '-'], lines(podEnd(pod)));
}

/** As a CNI does; the namespace itself goes when the kernel has the time. */
export async function removePod(layout: Layout, { name, node }: Pod): Promise<void> {
  await run('ip', ['-n', layout.hostNamespace(node), 'link', 'del', podInterface(name)]);
  await run('ip', ['netns', 'del', layout.podNamespace(name)]);
}

/** The host's end of a pod's veth. */
function podInterface(pod: string): string {
  return `pod-${pod}`.slice(0, 15);
}

function links(layout: Layout, pods: readonly Pod[]): string[] {
  return [
    ...NODES.map(
      (node) => `link add ${node} netns ${layout.controlNamespace} type veth peer name eth0 netns ${layout.hostNamespace(node)}`,
    ),
    ...pods.map((pod) => podLink(layout, pod)),
  ];
}

function podLink(layout: Layout, pod: Pod): string {
  return `link add ${podInterface(pod.name)} netns ${layout.hostNamespace(pod.node)} type veth peer name eth0 netns ${layout.podNamespace(pod.name)}`;
}

/** `ip -batch` lines by namespace. */
function addressing(layout: Layout, pods: readonly Pod[]): Map<string, string[]> {
  const commands = new Map<string, string[]>();
  commands.set(layout.controlNamespace, [`link set lo up`, `address add ${CONTROLLER_ADDRESS}/32 dev lo`, ...NODES.flatMap(fabricEnd)]);
  for (const node of NODES) {
    const host = hostAddresses(node);
    commands.set(layout.hostNamespace(node), [
      'link set lo up',
      'link set eth0 up',
      `address add ${host.v4}/24 dev eth0`,
      `address add ${host.v6}/64 dev eth0 nodad`,
      `route add default via ${host.gateway4}`,
      `route add ::/0 via ${host.gateway6}`,
      ...pods.filter((pod) => pod.node === node).flatMap(podHostEnd),
    ]);
  }
  for (const pod of pods) commands.set(layout.podNamespace(pod.name), podEnd(pod));
  return commands;
}

function fabricEnd(node: (typeof NODES)[number]): string[] {
  const host = hostAddresses(node);
  return [
    `link set ${node} up`,
    `address add ${host.gateway4}/24 dev ${node}`,
    `address add ${host.gateway6}/64 dev ${node} nodad`,
    `route add ${host.podCidr4} via ${host.v4}`,
    `route add ${host.podCidr6} via ${host.v6}`,
  ];
}

function podHostEnd(pod: Pod): string[] {
  const device = podInterface(pod.name);
  return [
    `link set ${device} up`,
    `address add ${GATEWAY4}/32 dev ${device}`,
    `address add ${GATEWAY6}/64 dev ${device} nodad`,
    `route add ${pod.v4} dev ${device}`,
    `route add ${pod.v6} dev ${device}`,
  ];
}

function podEnd(pod: Pod): string[] {
  return [
    'link set lo up',
    `address add ${pod.v4}/32 dev eth0`,
    `address add ${pod.v6}/128 dev eth0 nodad`,
    'link set eth0 up',
    `route add ${GATEWAY4} dev eth0 scope link`,
    `route add default via ${GATEWAY4} dev eth0`,
    `route add ::/0 via ${GATEWAY6} dev eth0`,
  ];
}

async function sysctl(namespace: string, settings: readonly string[]): Promise<void> {
  await run('nsenter', inNamespace(namespace, ['sysctl', '-qw', ...settings]));
}

function lines(commands: readonly string[]): string {
  return `${commands.join('\n')}\n`;
}
