// The hosts on which the redirection is tried (acceptance test 7): plain ones, and those that have broken redirections.
import type { Lab, Shape } from './lab.js';

/** What a host may have set that has broken redirections. */
export interface Condition {
  readonly name: string;
  readonly sysctls?: Readonly<Record<string, number>>;
  /** Rules of an nftables table. */
  readonly firewall?: string;
  /** Without it the kernel does not translate back what a pod answers another on the same bridge, mesh or not: no service between two pods of it. */
  readonly hasServicesBetweenPods: boolean;
}

// What the host itself needs: neighbour discovery, and answers to its own connections.
const INPUT_DROP =
  'chain in {\ntype filter hook input priority filter; policy drop; meta l4proto ipv6-icmp accept; ct state established accept\n}';
const INVALID_DROP = ['input', 'forward', 'output']
  .map((hook) => `chain invalid_${hook} {\ntype filter hook ${hook} priority filter - 1\nct state invalid counter drop\n}`)
  .join('\n');
const REVERSE_PATH = {
  'net.ipv4.conf.all.rp_filter': 1,
  'net.ipv4.conf.v-a.rp_filter': 1,
  'net.ipv4.conf.v-b.rp_filter': 1,
  'net.ipv4.conf.all.src_valid_mark': 1,
};
// A stream whose beginning conntrack did not see is invalid too.
const STRICT = { ...REVERSE_PATH, 'net.netfilter.nf_conntrack_tcp_loose': 0 };

function bridgeFilter(value: number): Readonly<Record<string, number>> {
  return { 'net.bridge.bridge-nf-call-iptables': value, 'net.bridge.bridge-nf-call-ip6tables': value };
}

export const CONDITIONS: Readonly<Record<Shape, readonly Condition[]>> = {
  routed: [
    { name: 'a plain host', hasServicesBetweenPods: true },
    { name: '7: INPUT policy DROP', firewall: INPUT_DROP, hasServicesBetweenPods: true },
    { name: '7: conntrack drops INVALID', firewall: INVALID_DROP, hasServicesBetweenPods: true },
    { name: '7: rp_filter=1 and src_valid_mark=1', sysctls: REVERSE_PATH, hasServicesBetweenPods: true },
    { name: '7: all of it', sysctls: STRICT, firewall: `${INPUT_DROP}\n${INVALID_DROP}`, hasServicesBetweenPods: true },
  ],
  bridge: [
    { name: '7: bridge-nf-call-iptables=0', sysctls: bridgeFilter(0), hasServicesBetweenPods: false },
    { name: '7: bridge-nf-call-iptables=1', sysctls: bridgeFilter(1), hasServicesBetweenPods: true },
    {
      name: '7: bridge-nf-call-iptables=0, INPUT DROP, INVALID drop, rp_filter, src_valid_mark',
      sysctls: { ...STRICT, ...bridgeFilter(0) },
      firewall: `${INPUT_DROP}\n${INVALID_DROP}`,
      hasServicesBetweenPods: false,
    },
    {
      name: '7: bridge-nf-call-iptables=1, INPUT DROP, INVALID drop, rp_filter, src_valid_mark',
      sysctls: { ...STRICT, ...bridgeFilter(1) },
      firewall: `${INPUT_DROP}\n${INVALID_DROP}`,
      hasServicesBetweenPods: true,
    },
  ],
};

/** Returns how to lift it. */
export function impose(lab: Lab, { sysctls = {}, firewall }: Condition): () => void {
  const names = Object.keys(sysctls);
  const before = names.map((name) => `${name}=${lab.in('host', 'sysctl', ['-n', name]).trim()}`);
  if (names.length > 0) lab.in('host', 'sysctl', ['-qw', ...names.map((name) => `${name}=${sysctls[name]}`)]);
  if (firewall !== undefined) lab.in('host', 'nft', ['-f', '-'], `table inet hostile {\n${firewall}\n}\n`);
  return () => {
    if (names.length > 0) lab.in('host', 'sysctl', ['-qw', ...before]);
    if (firewall !== undefined) lab.in('host', 'nft', ['delete', 'table', 'inet', 'hostile']);
  };
}
