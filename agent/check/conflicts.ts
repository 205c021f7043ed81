// What is on this host that redirection would have to share its place with: another mesh, a CNI's own BPF programs, firewall rules on our
// mark bit, ports and source ports in use.
import { messageOf } from '../../api/message-of.js';
import type { CaptureAddon, HookProgram } from '../native/capture.js';
import { bad, type Check, good, type HostFacts, unknown, warning } from './check.js';
import { linesThatUseMark } from './marks.js';

/** The proxy borrows source ports from here in the mesh namespace; bpf/README.md says why it must not overlap the workloads' range. */
const MESH_PORTS = { first: 20_000, last: 32_000 };
const CNI_FOLDER = '/etc/cni/net.d';
/** Shown of a list; the rest is counted. */
const MAX_SHOWN = 3;

export interface ConflictOptions {
  readonly hostMark: number;
  /** TCP ports that the agent will bind on the host. */
  readonly ports: readonly number[];
  /** Null: not mounted. */
  readonly cgroupRoot: string | null;
}

type HookAddon = Pick<CaptureAddon, 'listHookPrograms' | 'captureNames'>;

export function checkConflicts(facts: HostFacts, addon: HookAddon, options: ConflictOptions): readonly Check[] {
  return [
    checkOtherMeshes(facts),
    ...checkPrograms(addon, options.cgroupRoot),
    checkMarks(facts, options.hostMark),
    checkSourcePorts(facts),
    checkPorts(facts, options.ports),
  ];
}

/** Plugins of every CNI configuration on the host. The container runtime uses the first file by name; an uninstalled mesh leaves its own. */
function checkOtherMeshes(facts: HostFacts): Check {
  const title = 'other meshes';
  const files = facts.list(CNI_FOLDER).filter((name) => /\.conf(list)?$/.test(name));
  const plugins = files.flatMap((name) => pluginsOf(facts.read(`${CNI_FOLDER}/${name}`) ?? ''));
  const rivals = plugins.filter((type) => /^(istio|linkerd|kuma|consul)-cni$/.test(type));
  if (rivals.length > 0) {
    return bad(
      title,
      `${listed(rivals)} in ${CNI_FOLDER}: it redirects the same pods from within, and both proxies would see each connection`,
      'opt the pods out of one of the two: mesh.weft.dev/capture: disabled, or the other mesh’s own label',
    );
  }
  return good(title, plugins.length === 0 ? `no CNI configuration in ${CNI_FOLDER}` : `none among the CNI plugins ${listed(plugins)}`);
}

function pluginsOf(text: string): readonly string[] {
  try {
    const { type, plugins } = JSON.parse(text) as { type?: unknown; plugins?: { type?: unknown }[] };
    return [type, ...(Array.isArray(plugins) ? plugins.map((plugin) => plugin?.type) : [])].filter((value) => typeof value === 'string');
  } catch {
    return [];
  }
}

/** Programs that are not ours. On tcx and clsact each sees what those before it passed; one that redirects hides packets from the rest. */
function checkPrograms(addon: HookAddon, cgroupRoot: string | null): readonly Check[] {
  let all: readonly HookProgram[];
  try {
    all = addon.listHookPrograms(null, cgroupRoot);
  } catch (error) {
    const detail = messageOf(error);
    return [unknown('BPF programs of others', detail, 'run this as root')];
  }
  const ours = new Set(addon.captureNames().programs.map((name) => name.slice(0, 15)));
  const foreign = all.filter(({ program }) => !ours.has(program));
  const onCgroup = foreign.filter(({ hook }) => hook.startsWith('cgroup-'));
  return [checkTraffic(foreign.filter(({ hook }) => !hook.startsWith('cgroup-'))), checkSocketBalancing(onCgroup)];
}

function checkTraffic(programs: readonly HookProgram[]): Check {
  const title = 'BPF programs of others on interfaces';
  if (programs.length === 0) return good(title, 'none');
  const isCilium = programs.some(({ program }) => program.startsWith('cil_'));
  return warning(
    title,
    listed(programs.map(({ hook, place, program }) => `${program || 'unnamed'} on ${place} (${hook})`)),
    isCilium
      ? 'Cilium with bpf.hostLegacyRouting=false passes packets by the host’s side of the veth: set it to true, or keep Weft to host processes'
      : 'nothing if its workloads are captured: see the counters of `weft capture NODE`',
  );
}

/** A program on the root cgroup rewrites a service's address before the pod's packet exists: Cilium's socket load balancer does. */
function checkSocketBalancing(programs: readonly HookProgram[]): Check {
  const title = 'BPF programs of others on the root cgroup';
  const connecting = programs.filter(({ hook }) => hook.startsWith('cgroup-connect'));
  if (connecting.length === 0)
    return good(title, programs.length === 0 ? 'none' : `none on connect; ${listed(programs.map(({ program }) => program))}`);
  return warning(
    title,
    `${listed(connecting.map(({ hook, program }) => `${program || 'unnamed'} (${hook})`))}: if it translates service addresses, the proxy sees an endpoint’s address in their place and routes by none`,
    'Cilium: socketLB.hostNamespaceOnly=true',
  );
}

function checkMarks(facts: HostFacts, hostMark: number): Check {
  const title = `packet mark bit 0x${hostMark.toString(16)}`;
  const texts = [
    facts.run('nft', 'list', 'ruleset'),
    facts.run('iptables-save'),
    facts.run('ip6tables-save'),
    facts.run('ip', 'rule'),
    facts.run('ip', '-6', 'rule'),
  ].filter((text) => text !== null);
  if (texts.length === 0) return unknown(title, 'none of nft, iptables-save and ip could be asked', 'run this as root on the host');
  // iptables-nft's rules stand in both listings.
  const lines = [...new Set(texts.flatMap((text) => linesThatUseMark(text, hostMark)))];
  if (lines.length === 0) return good(title, 'no firewall rule or routing policy uses it');
  return warning(
    title,
    `also used by: ${listed(lines)}`,
    'make that rule leave the bit alone (a mask), or Weft’s own packets may be captured a second time or routed by it',
  );
}

function checkSourcePorts(facts: HostFacts): Check {
  const title = 'source ports';
  const text = facts.read('/proc/sys/net/ipv4/ip_local_port_range')?.trim();
  const [first, last] = (text ?? '').split(/\s+/).map(Number);
  if (first === undefined || last === undefined || Number.isNaN(first))
    return unknown(title, 'ip_local_port_range is not readable', 'is /proc mounted?');
  const range = `${first}-${last}`;
  const mesh = `${MESH_PORTS.first}-${MESH_PORTS.last}`;
  if (last < MESH_PORTS.first || first > MESH_PORTS.last) return good(title, `${range}; the proxy borrows from ${mesh}`);
  return warning(
    title,
    `${range} overlaps ${mesh}, from which the proxy borrows: now and then a connection meets one of the same ports and is tried again`,
    'sysctl -w net.ipv4.ip_local_port_range="32768 60999", in pods too where they set it',
  );
}

function checkPorts(facts: HostFacts, ports: readonly number[]): Check {
  const title = `TCP ports ${ports.join(', ')}`;
  const listening = new Set(['/proc/net/tcp', '/proc/net/tcp6'].flatMap((path) => listeningPorts(facts.read(path) ?? '')));
  const taken = ports.filter((port) => listening.has(port));
  if (taken.length === 0) return good(title, 'free');
  return warning(
    title,
    `in use: ${taken.join(', ')}`,
    'nothing if an agent runs here; else --status-listen and --metrics-listen choose others',
  );
}

/** proc_net_tcp(5): "sl local_address rem_address st …", state 0A is LISTEN. */
function listeningPorts(text: string): readonly number[] {
  return text
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[3] === '0A')
    .map((fields) => Number.parseInt(fields[1]?.split(':')[1] ?? '', 16));
}

function listed(items: readonly string[]): string {
  const distinct = [...new Set(items)];
  const more = distinct.length - MAX_SHOWN;
  return distinct.slice(0, MAX_SHOWN).join(', ') + (more > 0 ? ` and ${more} more` : '');
}
