// Benchmark redirect: what it costs a pod to be captured. One pod calls another on the same node: direct, through our redirection and the
// real proxy, and through the shape that it replaces (TPROXY in the host's namespace) with a threaded relay in C. Needs root.
import { Capture } from '../../agent/capture/capture.js';
import { Capture as CaptureSpec, Workload } from '../../api/gen/mesh/v1/model.js';
import { Lab } from '../redirect/lab.js';
import { MeshProxy, NODE, serviceResources, workloadResource } from '../redirect/mesh-proxy.js';
import { Bed, type BenchOptions, chosen, interleaved, LOAD_CORE, PROXY_CORE } from './bed.js';
import { type Case, compare } from './report.js';

const MIB = 1 << 20;
const CASES = [
  { name: 'round-trip', amount: 5_000 },
  { name: 'stream', amount: 512 * MIB },
  { name: 'connection', amount: 500 },
] as const;

const SERVER = { v4: '10.51.1.20', v6: 'fd51:1::20' };
const SERVICE = '10.96.9.10';
const PORT = 8080;
const RELAY_PORT = 15_001;

interface Path {
  readonly name: string;
  /** The namespace of the pod that calls. */
  readonly client: string;
  readonly address: string;
  readonly port: number;
}
const WEFT: Path = { name: 'weft', client: 'captured', address: SERVICE, port: 80 };
const PEERS: readonly Path[] = [
  { name: 'direct', client: 'direct', address: SERVER.v4, port: PORT },
  { name: 'host-tproxy', client: 'tproxy', address: SERVER.v4, port: PORT },
];

export async function redirect(options: BenchOptions): Promise<Case[]> {
  const cases = options.only === null ? CASES : chosen(CASES, options);
  return Bed.use(async (bed) => {
    const lab = new Lab(`wbench-${process.pid}`);
    const location = { bpfDir: lab.bpfDir, meshNetns: lab.meshNetns, hostNetns: lab.path('host') };
    try {
      connectPods(lab);
      await serving(lab, bed, 'server', ['serve', String(PORT)], PROXY_CORE);
      await interceptOnHost(lab, bed);
      const capture = await Capture.open({ ...location, mode: 'auto', heartbeatTimeoutMs: 1_000, log: { info() {}, warn() {} } });
      const workloads = [workload(lab, 'captured', true), workload(lab, 'server', false)];
      await capture.reconcile(workloads);
      const service = serviceResources('server', [SERVICE], { address: SERVER.v4, port: PORT });
      const proxy = await MeshProxy.start(lab, 'proxy', [...workloads.map(workloadResource), ...service]);
      try {
        return await measured(lab, bed, cases, options);
      } finally {
        await proxy.kill();
        await capture.close();
      }
    } finally {
      await Capture.uninstall(location);
      await lab.down();
    }
  });
}

async function measured(lab: Lab, bed: Bed, cases: readonly (typeof CASES)[number][], options: BenchOptions): Promise<Case[]> {
  const results: Case[] = [];
  for (const one of cases) {
    const measure = async ({ client, address, port }: Path, isWarmUp: boolean): Promise<number> => {
      const amount = Math.ceil(one.amount / (isWarmUp || options.quick ? 4 : 1));
      const command = ['-c', String(LOAD_CORE), bed.tool('redirect-peer'), one.name, address, String(port), String(amount)];
      return Number(lab.in(client, 'taskset', command));
    };
    const rounds = options.quick ? 7 : 15;
    const values = await interleaved([WEFT, ...PEERS], rounds, measure, (text) => options.onProgress(`${one.name} ${text} µs`));
    results.push(...PEERS.map(({ name }) => compare(one.name, name, values.get(WEFT.name)!, values.get(name)!)));
  }
  return results;
}

/** A host without firewall or address translation, and four pods as a routed CNI makes them. */
function connectPods(lab: Lab): void {
  lab.addNamespace('host');
  lab.in('host', 'sysctl', ['-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1']);
  const addresses = [SERVER, ...[10, 11, 12].map((last) => ({ v4: `10.51.1.${last}`, v6: `fd51:1::${last}` }))];
  for (const [index, name] of ['server', 'captured', 'direct', 'tproxy'].entries()) {
    lab.addNamespace(name);
    lab.connectPod(name, addresses[index]!);
  }
}

function workload(lab: Lab, name: string, outbound: boolean): Workload {
  const capture = CaptureSpec.fromPartial({ outbound, inbound: false });
  const addresses = name === 'server' ? [SERVER.v4] : [];
  return Workload.fromPartial({ namespace: 'shop', name, node: NODE, networkNamespace: lab.path(name), addresses, capture });
}

/** The shape of other meshes: the pod's packets are marked on the host's prerouting hook and routed to a transparent socket there. */
async function interceptOnHost(lab: Lab, bed: Bed): Promise<void> {
  const rules = `
    iifname "v-tproxy" ip daddr ${SERVER.v4} tcp dport ${PORT} tproxy ip to :${RELAY_PORT} meta mark set 1 accept
    iifname "v-server" ip protocol tcp socket transparent 1 meta mark set 1 accept`;
  lab.in('host', 'nft', ['-f', '-'], `table ip bench {\nchain pre {\ntype filter hook prerouting priority mangle\n${rules}\n}\n}\n`);
  lab.ip('host', 'rule add fwmark 1 lookup 100\nroute add local default dev lo table 100');
  await serving(lab, bed, 'host', ['relay', String(RELAY_PORT), '2'], null);
}

/** Client and server have a core each, or direct connections are at times between two cores and at times within one; what is between them is free. */
async function serving(lab: Lab, bed: Bed, namespace: string, args: readonly string[], core: number | null): Promise<void> {
  await bed.start(core, ['nsenter', `--net=${lab.path(namespace)}`, bed.tool('redirect-peer'), ...args]).says('ready');
}
