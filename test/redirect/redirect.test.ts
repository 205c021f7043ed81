// The redirection on this machine's kernel, in network namespaces: capture, addresses, life cycle, removal. Fails where it cannot run.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Capture } from '../../agent/capture/capture.js';
import { loadAddon } from '../../agent/native/addon.js';
import { Capture as CaptureSpec, Workload } from '../../api/gen/mesh/v1/model.js';
import { HAIRPIN, Lab, type LabProxy, type Pass, POD_A, POD_B, POD_C, REMOTE, SELF_VIP, VIP } from './lab.js';

const FAMILIES = ['v4', 'v6'] as const;
type Family = (typeof FAMILIES)[number];

const lab = new Lab(`wcap-${process.pid}`);
const silent = { info() {}, warn() {} };
const log = process.env.WEFT_TEST_LOG === undefined ? silent : { info: console.error, warn: console.error };
const location = { bpfDir: lab.bpfDir, meshNetns: lab.meshNetns, hostNetns: lab.path('host') };
const otherHost = { bpfDir: `${lab.bpfDir}-other`, meshNetns: `${lab.meshNetns}-other`, hostNetns: lab.path('remote') };

function open(mode: 'auto' | 'ebpf-tcx' | 'ebpf-clsact'): Promise<Capture> {
  return Capture.open({ ...location, mode, heartbeatTimeoutMs: 1000, log });
}

function workload(name: string, capture: Partial<CaptureSpec>): Workload {
  const spec = CaptureSpec.fromPartial({ outbound: true, inbound: true, ...capture });
  return Workload.fromPartial({ namespace: 'shop', name, networkNamespace: lab.path(name), capture: spec });
}

const enrolled = () => [workload('a', {}), workload('b', {})];

function host(address: string, port: number | string): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

/** The address without the port. */
function addressOf(text: string): string {
  return text.slice(0, text.lastIndexOf(':')).replace(/^\[|\]$/g, '');
}

let proxy: LabProxy;
let capture: Capture;

/** Why connections went direct, so that a failure names its cause. */
function bypasses(): unknown {
  return capture.state().counters.filter(({ name }) => /[.](bypass|refused|assign_failed|dropped)/.test(name));
}

/** The passes through the proxy that one connection made. */
function connect(
  from: string,
  to: string,
  port = 8080,
): { server: string; local: string; error: string | null; passes: Pass[]; connectMs: number } {
  const before = proxy.passes().length;
  const { server, local, error, connectMs } = lab.connect(from, to, port);
  return { server: server === null ? '' : addressOf(server.peer), local, error, passes: proxy.passes().slice(before), connectMs };
}

function expectOnePass(from: string, source: string, to: string, port: number, direction: Pass['direction']): void {
  const before = bypasses();
  const result = connect(from, to, port);
  // Where there is none, this shows why: how the workloads stood, and what was counted.
  const workloads = capture.state().workloads.map(({ workload, state, detail }) => `${workload} ${state} ${detail}`);
  expect({ result, passes: result.passes.length, bypasses: bypasses(), workloads }).toMatchObject({
    result: { error: null, server: source },
    passes: 1,
    bypasses: before,
  });
  const pass = { direction, source: result.local, destination: host(to, port), mark: direction === 'outbound' ? 1 : 2 };
  expect(result.passes[0]).toMatchObject(pass);
}

function expectDirect(from: string, source: string, to: string, port = 8080): void {
  expect(connect(from, to, port)).toMatchObject({ error: null, server: source, passes: [] });
}

async function changed(capture: Capture, isDone: () => boolean): Promise<void> {
  while (!isDone()) {
    await new Promise<void>((resolve) => {
      const unsubscribe = capture.onChange(() => {
        unsubscribe();
        resolve();
      });
    });
  }
}

beforeAll(async () => {
  lab.up();
  for (const name of ['a', 'b', 'c', 'remote']) await lab.serve(name, 8080);
}, 20_000);

afterAll(async () => {
  for (const host of [location, otherHost]) await Capture.uninstall(host);
  await lab.down();
}, 20_000);

describe.each(['ebpf-tcx', 'ebpf-clsact'] as const)('with %s', (mode) => {
  beforeAll(async () => {
    capture = await open(mode);
    await capture.reconcile(enrolled());
    proxy = await lab.proxy();
  }, 20_000);
  afterAll(async () => {
    await proxy.kill();
    await capture.close();
    await Capture.uninstall(location);
  }, 20_000);

  function coreWalks(family: Family): void {
    expectOnePass('a', POD_A[family], POD_B[family], 8080, 'outbound');
    expectOnePass('a', POD_A[family], VIP[family], 80, 'outbound');
    expectOnePass('a', POD_A[family], REMOTE[family], 8080, 'outbound');
    expectOnePass('remote', REMOTE[family], POD_B[family], 8080, 'inbound');
    expectOnePass('c', POD_C[family], POD_B[family], 8080, 'inbound');
  }

  test('the mode is the one asked for, and both pods are captured on their veths', () => {
    expect(capture.state()).toMatchObject({
      mode,
      workloads: [
        { workload: 'shop/a', state: 'captured', interface: 'v-a', addresses: [POD_A.v4, POD_A.v6] },
        { workload: 'shop/b', state: 'captured', interface: 'v-b', addresses: [POD_B.v4, POD_B.v6] },
      ],
    });
  });

  test('the programs are told by hook and interface, as `weft check` shows those of others', () => {
    const kind = mode === 'ebpf-tcx' ? 'tcx' : 'clsact';
    const programs = loadAddon().listHookPrograms(lab.path('host'), null);
    for (const place of ['v-a', 'v-b']) {
      expect(programs.filter((each) => each.place === place)).toEqual([
        { hook: `${kind}-ingress`, place, program: 'from_pod' },
        { hook: `${kind}-egress`, place, program: 'to_pod' },
      ]);
    }
  });

  test.each(FAMILIES)(
    '%s: pod to pod, to a virtual address, to a remote node, and inbound: one pass, original destination, and the server sees its client',
    (family) => {
      coreWalks(family);
    },
  );

  test.each(FAMILIES)('%s: a pod that is the only endpoint of a service reaches itself through it', (family) => {
    const result = connect('a', SELF_VIP[family], 80);
    expect(result).toMatchObject({ error: null, server: HAIRPIN[family] });
    expect(result.passes).toMatchObject([{ direction: 'outbound', destination: host(SELF_VIP[family], 80) }]);
  });

  test('a connection that nobody answers is refused, not lost', () => {
    expect(connect('a', POD_B.v4, 81).error).not.toBeNull();
    expect(connect('a', POD_B.v4, 81).connectMs).toBeLessThan(1000);
  });

  test('a pod that is not enrolled connects to one that is not without the proxy', () => {
    expectDirect('c', POD_C.v4, REMOTE.v4);
  });

  test('an INPUT policy of DROP and strict reverse path filtering on the host change nothing', () => {
    const settings = [
      'net.ipv4.conf.all.rp_filter=1',
      'net.ipv4.conf.v-a.rp_filter=1',
      'net.ipv4.conf.v-b.rp_filter=1',
      'net.ipv4.conf.all.src_valid_mark=1',
    ];
    // Neighbour discovery is the host's own traffic, not the mesh's.
    const policy = 'type filter hook input priority filter; policy drop; meta l4proto ipv6-icmp accept';
    lab.in('host', 'nft', ['-f', '-'], `table inet closed {\nchain in {\n${policy}\n}\n}\n`);
    lab.in('host', 'sysctl', ['-qw', ...settings]);
    try {
      for (const family of FAMILIES) coreWalks(family);
    } finally {
      lab.in('host', 'sysctl', ['-qw', ...settings.map((setting) => setting.replace('=1', '=0'))]);
      lab.in('host', 'nft', ['delete', 'table', 'inet', 'closed']);
    }
  });

  test('excluded networks and ports stay direct, and a longer included prefix does not', async () => {
    const excluded = {
      excludeOutboundCidrs: ['10.51.0.0/16', 'fd51::/16'],
      includeOutboundCidrs: ['10.51.2.0/24'],
      excludeInboundPorts: [8080],
    };
    await capture.reconcile([workload('a', excluded), workload('b', { excludeInboundPorts: [8080] })]);
    expectDirect('a', POD_A.v4, POD_B.v4);
    expectDirect('a', POD_A.v6, POD_B.v6);
    expectOnePass('a', POD_A.v4, REMOTE.v4, 8080, 'outbound');
    await capture.reconcile(enrolled());
    expectOnePass('a', POD_A.v4, POD_B.v4, 8080, 'outbound');
  });

  test("a source address that is not the pod's is not captured in its name", async () => {
    const foreign = '10.51.1.99';
    lab.ip('a', `addr add ${foreign}/32 dev eth0\nroute add ${REMOTE.v4} via 169.254.1.1 dev eth0 src ${foreign}`);
    lab.ip('host', `route add ${foreign} dev v-a`);
    await capture.reconcile([{ ...workload('a', {}), addresses: [POD_A.v4, POD_A.v6] }, workload('b', {})]);
    expectDirect('a', foreign, REMOTE.v4);
    const counters = capture.state().workloads[0]?.counters ?? [];
    expect(counters.find(({ name }) => name === 'bypass_foreign_source')?.value).toBeGreaterThan(0);
    lab.ip('a', `route del ${REMOTE.v4}\naddr del ${foreign}/32 dev eth0`);
    lab.ip('host', `route del ${foreign}`);
    await capture.reconcile(enrolled());
    expectOnePass('a', POD_A.v4, REMOTE.v4, 8080, 'outbound');
  });

  test('what was captured and what was not is counted by workload and by program', () => {
    const state = capture.state();
    const names = state.workloads.flatMap(({ counters }) => counters.map(({ name }) => name));
    expect(names).toEqual(
      expect.arrayContaining(['captured_outbound', 'captured_inbound', 'bypass_excluded_cidr', 'bypass_excluded_port']),
    );
    const value = (name: string) => state.counters.find((counter) => counter.name === name)?.value ?? 0;
    expect(value('mesh_lookup.assigned')).toBe(value('from_pod.captured_outbound') + value('to_pod.captured_inbound'));
    expect(value('mesh0_in.dropped_no_workload')).toBe(0);
  });
});

describe('life cycle', () => {
  beforeAll(async () => {
    capture = await open('auto');
    await capture.reconcile(enrolled());
    proxy = await lab.proxy();
  }, 20_000);
  afterAll(() => capture.close());

  test('a killed proxy: connections go direct within 50 ms, and through its successor again', async () => {
    const { at, attempts } = await lab.probe('a', POD_B.v4, 1000, 10, () => proxy.signal('SIGKILL'));
    const before = attempts.filter(({ began, totalMs }) => began + totalMs < at - 20);
    const after = attempts.filter(({ began }) => began > at + 50);
    expect(before.length).toBeGreaterThan(5);
    expect(after.length).toBeGreaterThan(20);
    for (const attempt of before) expect(attempt).toMatchObject({ error: null });
    for (const { error, local, server } of after) expect({ error, peer: server?.peer }).toEqual({ error: null, peer: local });
    proxy = await lab.proxy();
    expectOnePass('a', POD_A.v4, POD_B.v4, 8080, 'outbound');
    expect(capture.state().workloads[0]?.counters.find(({ name }) => name === 'bypass_no_listener')?.value).toBeGreaterThan(0);
  }, 15_000);

  test('a hung proxy: connections go direct after the heartbeat timeout, and through it again when it goes on', async () => {
    const { at, attempts } = await lab.probe('a', POD_B.v4, 2000, 1500, () => proxy.signal('SIGSTOP'));
    const late = attempts.find(({ began }) => began > at + 1050);
    expect(late).toMatchObject({ error: null });
    expect(late?.server?.peer).toBe(late?.local);
    proxy.signal('SIGCONT');
    await proxy.kill();
    proxy = await lab.proxy();
    expectOnePass('a', POD_A.v4, POD_B.v4, 8080, 'outbound');
  }, 15_000);

  test.each(FAMILIES)('%s: fail-closed without a proxy is refused at once, in both directions', async (family) => {
    await proxy.kill();
    await capture.reconcile([workload('a', { failClosed: true }), workload('b', { failClosed: true })]);
    for (const [from, to] of [
      ['a', REMOTE[family]],
      ['remote', POD_B[family]],
    ] as const) {
      const refused = lab.connect(from, to, 8080);
      expect(refused).toMatchObject({ error: 'ECONNREFUSED' });
      expect(refused.connectMs).toBeLessThan(100);
    }
    await capture.reconcile(enrolled());
    proxy = await lab.proxy();
    expectOnePass('a', POD_A[family], REMOTE[family], 8080, 'outbound');
  });

  test('every worker gets connections, and a proxy that comes back with fewer gets them all', async () => {
    await proxy.kill();
    proxy = await lab.proxy(4);
    const workers = new Set<number | undefined>();
    // A fair hash misses one of four in 64 draws once in 25 million runs.
    for (let i = 0; i < 64; i++) workers.add(connect('a', POD_B.v4).passes[0]?.worker);
    expect([...workers].sort()).toEqual([0, 1, 2, 3]);
    await proxy.kill();
    proxy = await lab.proxy(1);
    for (let i = 0; i < 8; i++) expectOnePass('a', POD_A.v4, POD_B.v4, 8080, 'outbound');
  });

  test.each(FAMILIES)("%s: the path MTU of the proxy's own connections is found, though its ICMP is addressed to the pod", (family) => {
    lab.narrowUplink(' mtu lock 1300');
    try {
      const steered = () => capture.state().counters.find(({ name }) => name === 'to_pod.icmp_steered')?.value ?? 0;
      const before = steered();
      expect(lab.connect('a', REMOTE[family], 8080, 500_000)).toMatchObject({ error: null });
      expect(steered()).toBeGreaterThan(before);
    } finally {
      lab.narrowUplink('');
    }
  });

  test("another host's agent on the same machine comes and goes without a trace", async () => {
    const second = await Capture.open({ ...otherHost, mode: 'auto', heartbeatTimeoutMs: 1000, log });
    expectOnePass('a', POD_A.v4, POD_B.v4, 8080, 'outbound');
    expect(second.state().counters).toEqual([]);
    await second.close();
    await Capture.uninstall(otherHost);
    expectOnePass('a', POD_A.v4, POD_B.v4, 8080, 'outbound');
  });

  test('an agent restarted twice adopts what is there: one link per hook, and traffic goes on without it', async () => {
    const before = lab.links();
    for (let i = 0; i < 2; i++) {
      await capture.close();
      expect(connect('a', POD_B.v4).passes).toHaveLength(1);
      capture = await open('auto');
      expectOnePass('a', POD_A.v4, POD_B.v4, 8080, 'outbound');
      await capture.reconcile(enrolled());
    }
    expect(lab.links()).toEqual(before);
    expectOnePass('a', POD_A.v4, POD_B.v4, 8080, 'outbound');
  });

  test('a workload is pending until its namespace appears, and forgotten when it goes', async () => {
    const pod = { v4: '10.51.1.40', v6: 'fd51:1::40' };
    const stateOf = () => capture.state().workloads.find(({ workload: name }) => name === 'shop/d')?.state;
    await capture.reconcile([...enrolled(), workload('d', {})]);
    expect(stateOf()).toBe('pending');
    expect(capture.running().map(({ workload: { name } }) => name)).toEqual(['a', 'b']);

    lab.addNamespace('d');
    lab.connectPod('d', pod);
    await changed(capture, () => stateOf() === 'captured');
    expect(capture.running().find(({ workload: { name } }) => name === 'd')?.addresses).toEqual([pod.v4, pod.v6]);
    expectOnePass('d', pod.v4, REMOTE.v4, 8080, 'outbound');

    const count = lab.links().length;
    lab.removeNamespace('d');
    await changed(capture, () => stateOf() === 'pending');
    expect(lab.links()).toHaveLength(count - 2);
    await capture.reconcile(enrolled());
  }, 15_000);

  test('a workload that vanishes while the agent is away is forgotten, and its address can be used again', async () => {
    const pod = { v4: '10.51.1.50', v6: 'fd51:1::50' };
    const listed = [...enrolled(), workload('e', {})];
    for (let round = 0; round < 2; round++) {
      lab.addNamespace('e');
      lab.connectPod('e', pod);
      await capture.reconcile(listed);
      expectOnePass('e', pod.v4, REMOTE.v4, 8080, 'outbound');
      await capture.close();
      lab.removeNamespace('e');
      capture = await open('auto');
    }
    await capture.reconcile(enrolled());
    expect(lab.links()).toHaveLength(8);
  }, 15_000);

  test('two workloads in one namespace, and a bad exclusion, are failures that say what is wrong; the others go on', async () => {
    const twin = { ...workload('b', {}), name: 'twin' };
    await capture.reconcile([...enrolled(), twin, workload('c', { excludeOutboundCidrs: ['10.0.0.0/99'] })]);
    expect(capture.state().workloads).toMatchObject([
      { workload: 'shop/a', state: 'captured', detail: '' },
      { workload: 'shop/b', state: 'captured' },
      { workload: 'shop/twin', state: 'failed', detail: expect.stringContaining('already captured as shop/b') },
      { workload: 'shop/c', state: 'failed', detail: expect.stringContaining('"10.0.0.0/99" is not a CIDR') },
    ]);
    expect(capture.running().map(({ workload: { name } }) => name)).toEqual(['a', 'b', 'c']);
    expectOnePass('a', POD_A.v4, POD_B.v4, 8080, 'outbound');
    await capture.reconcile(enrolled());
  });

  test('a workload that is no longer listed is direct again, also after a restart of the agent', async () => {
    await capture.close();
    capture = await open('auto');
    await capture.reconcile([workload('b', {})]);
    expectDirect('a', POD_A.v4, REMOTE.v4);
    await capture.reconcile(enrolled());
    expectOnePass('a', POD_A.v4, REMOTE.v4, 8080, 'outbound');
  });
});

describe('removal', () => {
  test.each(['ebpf-tcx', 'ebpf-clsact'] as const)(
    '%s: uninstall leaves the host as it was',
    async (mode) => {
      await Capture.uninstall(location);
      const before = lab.snapshot();
      const capture = await open(mode);
      await capture.reconcile(enrolled());
      const during = lab.snapshot();
      for (const part of ['links', 'pins', 'sysctls']) expect(during[part]).not.toBe(before[part]);
      const objects = lab.kernelObjects();
      expect(objects.length).toBeGreaterThan(10);
      await capture.close();
      await Capture.uninstall(location);
      expect(lab.snapshot()).toEqual(before);
      // The kernel frees maps and programs a moment (one RCU period) after the last reference.
      const deadline = Date.now() + 5000;
      let left = objects;
      while (left.length > 0 && Date.now() < deadline) left = left.filter((object) => lab.kernelHas(object));
      expect(left).toEqual([]);
    },
    20_000,
  );
});
