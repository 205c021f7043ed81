// A host with three pods and a remote node, as network namespaces: their links, addresses, routes and the host's translations. Owns the
// addresses of the lab; starts no process and knows no redirection.

/** How the host's CNI connects pods: each by a route of its own (Calico), or as ports of one bridge (the bridge plugin, flannel). */
export type Shape = 'routed' | 'bridge';
export const FAMILIES = ['v4', 'v6'] as const;
export type Family = (typeof FAMILIES)[number];
export type Addresses = Readonly<Record<Family, string>>;

/** The host's own, towards the remote node. */
export const HOST: Addresses = { v4: '10.61.0.1', v6: 'fd61::1' };
export const POD_A: Addresses = { v4: '10.51.1.10', v6: 'fd51:1::10' };
export const POD_B: Addresses = { v4: '10.51.1.20', v6: 'fd51:1::20' };
/** Not enrolled at the start. */
export const POD_C: Addresses = { v4: '10.51.1.30', v6: 'fd51:1::30' };
export const REMOTE: Addresses = { v4: '10.51.2.30', v6: 'fd51:2::30' };
/** Translated to pod B, port 8080, by the host's nftables, as kube-proxy would; no proxy knows it. */
export const VIP: Addresses = { v4: '10.96.9.9', v6: 'fd96::9' };
/** The same, to the remote node. */
export const REMOTE_VIP: Addresses = { v4: '10.96.9.10', v6: 'fd96::10' };
/** A service whose only endpoint is the pod that calls it, port 8080; the proxy knows it. */
export const SELF_VIP: Addresses = { v4: '10.96.9.11', v6: 'fd96::11' };
export const HAIRPIN: Addresses = { v4: '169.254.77.1', v6: 'fd77::1' };
/** Ports of the host that lead to pod B, port 8080: the client's address stays, or is replaced by the host's (externalTrafficPolicy: Cluster). */
export const NODE_PORT = { transparent: 30_080, masqueraded: 30_081 } as const;
/** What the host puts in a client's place towards its pods. */
export const MASQUERADE: Addresses = { v4: '10.61.0.1', v6: 'fd61::1' };

/** Where it is built. */
export interface Site {
  /** iproute2 commands, one a line, in that namespace. */
  ip(namespace: string, batch: string): void;
  in(namespace: string, command: string, args: readonly string[], input?: string): string;
  addNamespace(name: string): void;
  /** Of the network namespace, as iproute2 calls it. */
  nameOf(namespace: string): string;
}

const BRIDGE: Addresses = { v4: '10.51.1.1', v6: 'fd51:1::1' };

function connectRouted(site: Site, name: string, { v4, v6 }: Addresses): void {
  const outside = `v-${name}`;
  site.ip(name, `addr add ${v4}/32 dev eth0\naddr add ${v6}/128 dev eth0 nodad\nlink set eth0 up`);
  site.ip('host', `link set ${outside} up\naddr add 169.254.1.1/32 dev ${outside}\naddr add fe80::1/64 dev ${outside} nodad`);
  site.ip(
    name,
    'route add 169.254.1.1 dev eth0 scope link\nroute add default via 169.254.1.1 dev eth0\nroute add default via fe80::1 dev eth0',
  );
  site.ip('host', `route add ${v4} dev ${outside}\nroute add ${v6} dev ${outside}`);
}

function connectBridged(site: Site, name: string, { v4, v6 }: Addresses): void {
  site.ip('host', `link set v-${name} master cni0\nlink set v-${name} up`);
  site.ip(name, `addr add ${v4}/24 dev eth0\naddr add ${v6}/64 dev eth0 nodad\nlink set eth0 up`);
  site.ip(name, `route add default via ${BRIDGE.v4} dev eth0\nroute add default via ${BRIDGE.v6} dev eth0`);
}

export function connectPod(site: Site, shape: Shape, name: string, addresses: Addresses): void {
  site.ip('host', `link add v-${name} type veth peer name eth0 netns ${site.nameOf(name)}`);
  if (shape === 'routed') connectRouted(site, name, addresses);
  else connectBridged(site, name, addresses);
}

function addBridge(site: Site): void {
  // Its address is set, as the bridge plugin does: otherwise it is that of some port, and changes as pods come and go.
  site.ip('host', 'link add cni0 address 02:00:00:51:01:01 type bridge forward_delay 0 mcast_snooping 0');
  site.ip('host', `addr add ${BRIDGE.v4}/24 dev cni0\naddr add ${BRIDGE.v6}/64 dev cni0 nodad\nlink set cni0 up`);
}

/** What kube-proxy does. Connections that are masqueraded are marked first, as there. */
function translations(): string {
  const families = [
    { family: 'ip', endpoint: (address: string, port: number) => `${address}:${port}`, of: (addresses: Addresses) => addresses.v4 },
    { family: 'ip6', endpoint: (address: string, port: number) => `[${address}]:${port}`, of: (addresses: Addresses) => addresses.v6 },
  ];
  const prerouting = families.flatMap(({ family, endpoint, of }) => [
    `${family} daddr ${of(VIP)} meta l4proto { tcp, udp } th dport { 80, 53 } dnat ${family} to ${endpoint(of(POD_B), 8080)}`,
    `${family} daddr ${of(REMOTE_VIP)} meta l4proto { tcp, udp } th dport { 80, 53 } dnat ${family} to ${endpoint(of(REMOTE), 8080)}`,
    `${family} daddr ${of(HOST)} tcp dport ${NODE_PORT.transparent} dnat ${family} to ${endpoint(of(POD_B), 8080)}`,
    `${family} daddr ${of(HOST)} tcp dport ${NODE_PORT.masqueraded} ct mark set 0x4000 dnat ${family} to ${endpoint(of(POD_B), 8080)}`,
  ]);
  const postrouting = families.map(
    ({ family, of }) => `meta nfproto ${family === 'ip' ? 'ipv4' : 'ipv6'} ct mark 0x4000 snat ${family} to ${of(MASQUERADE)}`,
  );
  return `table inet lab {
chain pre {\ntype nat hook prerouting priority dstnat\n${prerouting.join('\n')}\n}
chain post {\ntype nat hook postrouting priority srcnat\n${postrouting.join('\n')}\n}
}\n`;
}

export function buildTopology(site: Site, shape: Shape): void {
  for (const name of ['host', 'a', 'b', 'c', 'remote']) site.addNamespace(name);
  if (shape === 'bridge') addBridge(site);
  connectPod(site, shape, 'a', POD_A);
  connectPod(site, shape, 'b', POD_B);
  connectPod(site, shape, 'c', POD_C);
  site.ip('host', `link add up0 type veth peer name up0 netns ${site.nameOf('remote')}`);
  site.ip('host', `addr add ${HOST.v4}/24 dev up0\naddr add ${HOST.v6}/64 dev up0 nodad\nlink set up0 up`);
  site.ip(
    'remote',
    `addr add 10.61.0.2/24 dev up0\naddr add fd61::2/64 dev up0 nodad\naddr add ${REMOTE.v4}/32 dev lo\naddr add ${REMOTE.v6}/128 dev lo nodad\nlink set up0 up`,
  );
  site.ip('remote', `route add 10.51.1.0/24 via ${HOST.v4} src ${REMOTE.v4}\nroute add fd51:1::/64 via ${HOST.v6} src ${REMOTE.v6}`);
  // Node ports are called from the address that pods are called from.
  site.ip('remote', `route replace ${HOST.v4} dev up0 src ${REMOTE.v4}\nroute replace ${HOST.v6} dev up0 src ${REMOTE.v6}`);
  routeToRemote(site, '');
  site.in('host', 'sysctl', ['-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1']);
  site.in('host', 'nft', ['-f', '-'], translations());
}

/** `options`: of the host's routes to the remote node, such as its MTU. */
export function routeToRemote(site: Site, options: string): void {
  site.ip('host', `route replace 10.51.2.0/24 via 10.61.0.2${options}\nroute replace fd51:2::/64 via fd61::2${options}`);
}
