// What is seen of the redirection: how many connections of a workload were captured, and of every other what became of it, by each reason that
// bpf/weft_capture.h counts. Over both modes of eBPF; of the fallback in nat.test.ts. Fails where it cannot run.
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { loadAddon } from '../../agent/native/addon.js';
import { Capture as CaptureSpec, Workload } from '../../api/gen/mesh/v1/model.js';
import { HOST, POD_A, POD_B, REMOTE } from './lab.js';
import { KINDS, Scene } from './scene.js';

/** Of packets, whose number nobody can foretell. */
const PACKETS = new Set(['flow', 'delivered', 'injected', 'icmp_steered']);
/** Provoked in host.test.ts: only processes of the host meet them, behind a proxy that listens in the host's namespace. */
const ELSEWHERE = ['bypass_no_room', 'refused_no_room'];

describe.each(KINDS)('%s', (kind) => {
  const scene = new Scene(`wseen-${kind}`);
  const { lab } = scene;
  const probes = lab.addCgroup('kubelet');
  const cgroup = lab.addCgroup('cart');
  const provoked = new Set<string>();

  const hostProcess = () =>
    Workload.fromPartial({
      namespace: 'shop',
      name: 'cart',
      cgroup: `/${cgroup.split('/').at(-1)}`,
      addresses: [HOST.v4],
      capture: CaptureSpec.fromPartial({ outbound: true, inbound: true }),
    });
  const connect = (from: string, to: string, options = {}) => lab.connect(from, to, 8080, 4, options);

  /** By "<workload> <reason>"; of programs that know no workload by "<program>.<reason>". */
  function totals(): Map<string, number> {
    const { workloads, counters } = scene.capture.state();
    const own = workloads.flatMap(({ workload, counters: of }) => of.map(({ name, value }) => [`${workload} ${name}`, value] as const));
    const shared = counters.filter(({ name }) => /^mesh/.test(name)).map(({ name, value }) => [name, value] as const);
    return new Map([...own, ...shared]);
  }

  /** What was counted meanwhile. */
  async function counted(during: () => unknown): Promise<Record<string, number>> {
    const before = totals();
    await during();
    const grown = [...totals()].map(([name, value]) => [name, value - (before.get(name) ?? 0)] as const).filter(([, more]) => more > 0);
    for (const [name] of grown) provoked.add(name.split(/[ .]/).at(-1)!);
    return Object.fromEntries(grown.filter(([name]) => !PACKETS.has(name.split(/[ .]/).at(-1)!)));
  }

  beforeAll(async () => {
    await scene.up();
    await scene.open(kind, { probes: [probes] });
    await scene.capture.reconcile(scene.enrolled());
    scene.proxy = await lab.proxy();
  });
  afterAll(() => scene.down());
  afterEach(() => scene.capture.reconcile(scene.enrolled()));

  test('N connections made are N counted, by workload and direction, and each was given to a listener', async () => {
    expect(await counted(() => Array.from({ length: 7 }, () => connect('a', REMOTE.v4)))).toEqual({
      'shop/a captured_outbound': 7,
      'mesh_lookup.assigned': 7,
    });
    expect(await counted(() => Array.from({ length: 5 }, () => connect('remote', POD_B.v6)))).toEqual({
      'shop/b captured_inbound': 5,
      'mesh_lookup.assigned': 5,
    });
    // One pass, on the way out.
    expect(await counted(() => connect('a', POD_B.v4))).toEqual({ 'shop/a captured_outbound': 1, 'mesh_lookup.assigned': 1 });
  });

  test.each<[reason: string, workload: Partial<CaptureSpec>]>([
    ['bypass_not_enrolled', { outbound: false }],
    ['bypass_excluded_cidr', { excludeOutboundCidrs: ['10.51.2.0/24'] }],
    ['bypass_excluded_port', { excludeOutboundPorts: [8080] }],
  ])('%s is counted for the connection that the spec leaves out', async (reason, spec) => {
    await scene.capture.reconcile([scene.workload('a', spec), scene.workload('b')]);
    expect(await counted(() => expect(connect('a', REMOTE.v4).error).toBeNull())).toEqual({ [`shop/a ${reason}`]: 1 });
  });

  test('bypass_exempt_cgroup: a probe of the host', async () => {
    expect(await counted(() => connect('host', POD_B.v4, { cgroup: probes }))).toEqual({ 'shop/b bypass_exempt_cgroup': 1 });
  });

  test('bypass_bound_device: a host process whose socket is bound to an interface', async () => {
    await scene.capture.reconcile([hostProcess()]);
    expect(await counted(() => connect('host', REMOTE.v4, { cgroup, option: 'device=up0' }))).toEqual({
      'shop/cart bypass_bound_device': 1,
    });
  });

  test('bypass_foreign_source, dropped_foreign_source, bypass_foreign_destination: an address of the pod that is not the workload’s', async () => {
    const onlyV6 = (spec: Partial<CaptureSpec>) => [{ ...scene.workload('a', spec), addresses: [POD_A.v6] }, scene.workload('b')];
    await scene.capture.reconcile(onlyV6({}));
    expect(Object.keys(await counted(() => connect('a', REMOTE.v4)))).toEqual(['shop/a bypass_foreign_source']);
    expect(await counted(() => connect('remote', POD_A.v4))).toMatchObject({ 'shop/a bypass_foreign_destination': 1 });
    await scene.capture.reconcile(onlyV6({ failClosed: true }));
    const seen = await counted(() => expect(connect('a', REMOTE.v4, { timeoutMs: 300 }).error).toBe('ETIMEDOUT'));
    expect(Object.keys(seen)).toEqual(['shop/a dropped_foreign_source']);
  });

  test('held: the first connection of a fail-closed pod that is new', async () => {
    await scene.capture.reconcile([...scene.enrolled(), scene.workload('c', { failClosed: true })]);
    const seen = await counted(() => lab.probe('c', REMOTE.v4, 500, 1000, () => scene.capture.release()));
    expect(seen).toEqual({ 'shop/c held': 1, 'shop/c captured_outbound': 1, 'mesh_lookup.assigned': 1 });
  });

  test('icmp_steered, flow, delivered, injected: packets of what is captured', async () => {
    lab.narrowUplink(' mtu lock 1300');
    lab.in('mesh', 'sysctl', ['-qw', 'net.ipv4.tcp_mtu_probing=0']);
    try {
      await counted(() => expect(lab.connect('a', REMOTE.v4, 8080, 500_000)).toMatchObject({ error: null }));
    } finally {
      lab.narrowUplink('');
      lab.in('mesh', 'sysctl', ['-qw', 'net.ipv4.tcp_mtu_probing=1']);
      lab.in('mesh', 'ip', ['-4', 'route', 'flush', 'cache']);
    }
    for (const { name, value } of scene.capture.state().counters)
      if (/\.(icmp_steered|flow|delivered|injected)$/.test(name)) {
        expect(value).toBeGreaterThan(0);
        provoked.add(name.split('.').at(-1)!);
      }
  });

  test('dropped_unparsed: the mesh namespace sends what is neither TCP nor UDP', async () => {
    expect(await counted(() => lab.ping('mesh', POD_A.v4))).toEqual({ 'mesh0_in.dropped_unparsed': 1 });
  });

  test('dropped_unreadable: a TCP header that is cut in two', async () => {
    const addresses = [POD_A.v4, REMOTE.v4].flatMap((address) => address.split('.').map(Number));
    // The first of two fragments, with 8 bytes of TCP in it: to port 8080.
    const packet = Buffer.from([0x45, 0, 0, 28, 0, 7, 0x20, 0, 64, 6, 0, 0, ...addresses, 0xee, 0x48, 0x1f, 0x90, 0, 0, 0, 1]);
    expect(await counted(() => lab.sendRaw('a', REMOTE.v4, packet))).toEqual({ 'shop/a dropped_unreadable': 1 });
  });

  test('dropped_no_workload: packets of the proxy for a workload that has gone', async () => {
    const end = await lab.hold('a', REMOTE.v4, 8080);
    await scene.capture.reconcile([scene.workload('b')]);
    const seen = await counted(() => scene.proxy.kill());
    expect(Object.keys(seen)).toEqual(['mesh0_in.dropped_no_workload']);
    await end();
  });

  // From here on there is no proxy.
  test('bypass_no_listener, refused_no_listener: no proxy', async () => {
    expect(await counted(() => expect(connect('a', REMOTE.v4).error).toBeNull())).toEqual({ 'shop/a bypass_no_listener': 1 });
    await scene.capture.reconcile([scene.workload('a', { failClosed: true })]);
    const seen = await counted(() => expect(connect('a', REMOTE.v4).error).toBe('ECONNREFUSED'));
    expect(seen).toEqual({ 'shop/a refused_no_listener': 1, 'mesh_lookup.refused_no_listener': 1 });
  });

  test('bypass_stale_worker, refused_stale_worker: a proxy that listens and does not beat', async () => {
    const silent = await lab.oddProxy('silent');
    expect(await counted(() => expect(connect('a', REMOTE.v4).error).toBeNull())).toEqual({ 'shop/a bypass_stale_worker': 1 });
    await scene.capture.reconcile([scene.workload('a', { failClosed: true })]);
    const seen = await counted(() => expect(connect('a', REMOTE.v4).error).toBe('ECONNREFUSED'));
    expect(seen).toEqual({ 'shop/a refused_stale_worker': 1, 'mesh_lookup.refused_stale_worker': 1 });
    await silent.kill();
  });

  test('assign_failed: a listener of the other IP version', async () => {
    const misfiled = await lab.oddProxy('misfiled');
    const seen = await counted(() => expect(connect('a', REMOTE.v4, { timeoutMs: 300 }).error).not.toBeNull());
    expect(seen).toMatchObject({ 'mesh_lookup.assign_failed': expect.any(Number) });
    await misfiled.kill();
  });

  test('that was every reason that there is', () => {
    expect([...provoked, ...ELSEWHERE].sort()).toEqual([...loadAddon().captureNames().reasons].sort());
  });
});
