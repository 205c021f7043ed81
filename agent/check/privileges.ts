// Whether this process has what `weft agent` needs of the kernel: capabilities(7) and descriptors. Run it as the agent runs.
import { bad, type Check, good, type HostFacts, unknown, warning } from './check.js';

interface Capability {
  readonly name: string;
  /** <linux/capability.h> */
  readonly bit: number;
  readonly use: string;
}

/** docs/agent.md#capabilities. CAP_SYS_ADMIN does for none of the others: it is given up at the start. */
const CAPABILITIES: readonly Capability[] = [
  { name: 'CAP_BPF', bit: 39, use: 'load programs, make maps' },
  { name: 'CAP_PERFMON', bit: 38, use: 'load programs' },
  { name: 'CAP_NET_ADMIN', bit: 12, use: 'attach programs, the mesh namespace, transparent sockets' },
  { name: 'CAP_SYS_ADMIN', bit: 21, use: 'enter network namespaces, mount bpffs and the mesh namespace: weft-netns alone' },
  { name: 'CAP_SETPCAP', bit: 8, use: 'give up what weft-netns alone needs' },
];

/** Sockets: two a connection. Below this a busy node runs out. */
const ENOUGH_DESCRIPTORS = 65_536;

export function checkPrivileges(facts: HostFacts): readonly Check[] {
  return [...checkCapabilities(facts), checkDescriptors(facts)];
}

function checkCapabilities(facts: HostFacts): readonly Check[] {
  const text = /^CapEff:\s*([0-9a-f]+)$/m.exec(facts.read('/proc/self/status') ?? '')?.[1];
  if (text === undefined) return [unknown('capabilities', '/proc/self/status has no CapEff', 'is /proc mounted?')];
  const held = BigInt(`0x${text}`);
  return CAPABILITIES.map(({ name, bit, use }) =>
    ((held >> BigInt(bit)) & 1n) === 1n
      ? good(name, use)
      : bad(name, `missing: ${use}`, 'run as root, or give it: systemd AmbientCapabilities=, Kubernetes securityContext.capabilities.add'),
  );
}

function checkDescriptors(facts: HostFacts): Check {
  const title = 'open files';
  const limit = /^Max open files\s+\S+\s+(\S+)/m.exec(facts.read('/proc/self/limits') ?? '')?.[1];
  if (limit === undefined) return unknown(title, '/proc/self/limits does not say', 'is /proc mounted?');
  if (limit === 'unlimited' || Number(limit) >= ENOUGH_DESCRIPTORS) return good(title, `${limit} at most`);
  return warning(
    title,
    `${limit} at most: the proxy needs two a connection`,
    `systemd LimitNOFILE=1048576, or ulimit -Hn before it starts`,
  );
}
