// Processes of the host itself, captured by cgroup, on this machine's kernel with the real proxy: outbound, inbound, life cycle, removal.
// Fails where it cannot run.
import { existsSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { Capture } from '../../agent/capture/capture.js';
import { Capture as CaptureSpec, Workload } from '../../api/gen/mesh/v1/model.js';
import { hostPort } from '../../api/host-port.js';
import { type Attempt, type ClientOptions, HOST, Lab, more, POD_C, REMOTE, VIP } from './lab.js';
import { MeshProxy, NODE, serviceResources, workloadResource } from './mesh-proxy.js';
import { addressOf } from './scene.js';

const FAMILIES = ['v4', 'v6'] as const;
const PORT = 7070;

const lab = new Lab(`whost-${process.pid}`);
const log = { info() {}, warn() {} };
const location = { bpfDir: lab.bpfDir, meshNetns: lab.meshNetns, hostNetns: lab.path('host') };
const cgroup = lab.addCgroup('cart');
const CGROUP = `/${cgroup.split('/').at(-1)}`;

function workload(capture: Partial<CaptureSpec> = {}, rest: Partial<Workload> = {}): Workload {
  const ports = [{ name: 'tcp', port: PORT }];
  const base = { namespace: 'shop', name: 'cart', node: NODE, cgroup: CGROUP, addresses: [HOST.v4, HOST.v6], ports, ...rest };
  return Workload.fromPartial({ ...base, capture: CaptureSpec.fromPartial({ outbound: true, inbound: true, ...capture }) });
}

const resources = () => [
  workloadResource(workload()),
  ...serviceResources('far', [VIP.v4], { address: REMOTE.v4, port: 8080 }),
  ...serviceResources('far6', [VIP.v6], { address: REMOTE.v6, port: 8080 }),
];

let capture: Capture;
let proxy: MeshProxy;

const open = () => Capture.open({ ...location, mode: 'auto', heartbeatTimeoutMs: 1000, log });
const counterOf = (name: string) => capture.state().workloads[0]?.counters.find((counter) => counter.name === name)?.value ?? 0;
/** As a process of the workload, or of another cgroup (null). */
const connect = (address: string, port = 8080, options: ClientOptions = {}) =>
  lab.connect('host', address, port, 4, { cgroup, ...options });

function expectCaptured(attempt: Attempt, destination: string, source: string): void {
  // The client sees the destination that it asked for; the server a connection of the host that is not the client's own socket.
  expect(attempt).toMatchObject({ error: null, peer: destination });
  expect(addressOf(attempt.server?.peer ?? '')).toBe(source);
  expect(attempt.server?.peer).not.toBe(attempt.local);
}

function expectDirect(attempt: Attempt): void {
  expect(attempt).toMatchObject({ error: null, server: { peer: attempt.local } });
}

const pins = () => lab.links().filter((name) => name.startsWith('host_'));

beforeAll(async () => {
  lab.up();
  await lab.serve('remote', 8080);
  await lab.serve('c', 8080);
  await lab.serve('host', PORT, cgroup);
  capture = await open();
  await capture.reconcile([workload()]);
  proxy = await MeshProxy.start(lab, 'proxy', resources());
});

afterAll(async () => {
  await proxy?.kill();
  await capture?.close();
  await Capture.uninstall(location);
  await lab.down();
});

afterEach(async () => {
  await capture.reconcile([workload()]);
});

describe('15: outbound', () => {
  test.each(FAMILIES)('%s: to a remote node, to a pod of this host, and to a service that only the proxy knows', async (family) => {
    const { connections } = await traffic();
    expectCaptured(connect(REMOTE[family]), hostPort(REMOTE[family], 8080), HOST[family]);
    // The address that the host has on the pod's veth, as for a direct connection.
    expectCaptured(connect(POD_C[family]), hostPort(POD_C[family], 8080), family === 'v4' ? '169.254.1.1' : HOST.v6);
    expectCaptured(connect(VIP[family], 80), hostPort(VIP[family], 80), HOST[family]);
    expect((await traffic()).connections - connections).toBe(3);
    expect((await traffic()).sources).toContain('shop/cart');
  });

  test('an IPv4 address within IPv6 is IPv4', () => {
    expectCaptured(connect(`::ffff:${REMOTE.v4}`), hostPort(REMOTE.v4, 8080), HOST.v4);
  });

  test.each(FAMILIES)('%s: a source address that the process bound is what the server sees', (family) => {
    const own = family === 'v4' ? '10.61.0.77' : 'fd61::77';
    lab.ip('host', `addr add ${own}/${family === 'v4' ? '32 dev up0' : '128 dev up0 nodad'}`);
    lab.ip('remote', `route add ${own} dev up0`);
    expectCaptured(connect(REMOTE[family], 8080, { option: `bind=${own}` }), hostPort(REMOTE[family], 8080), own);
  });

  test('an upstream that refuses is a reset, not a connection that hangs', () => {
    expect(connect(REMOTE.v4, 9)).toMatchObject({ error: 'ECONNRESET' });
  });

  test('the loopback, a socket bound to an interface, and other processes stay direct', () => {
    expectDirect(connect('127.0.0.1', PORT));
    expectDirect(connect('::1', PORT));
    expectDirect(connect(REMOTE.v4, 8080, { option: 'device=up0' }));
    expect(counterOf('bypass_bound_device')).toBe(1);
    expectDirect(connect(REMOTE.v4, 8080, { cgroup: null }));
  });

  test('a multipath TCP socket is captured as well', () => {
    expect(addressOf(connect(REMOTE.v4, 8080, { option: 'mptcp' }).server?.peer ?? '')).toBe(HOST.v4);
    expect(counterOf('captured_outbound')).toBeGreaterThan(0);
  });

  test('UDP is left alone', () => {
    const before = capture.state().workloads[0]?.counters;
    const script = 'echo $$ > "$0/cgroup.procs" && echo hello > "/dev/udp/$1/9"';
    lab.in('host', 'bash', ['-c', script, cgroup, REMOTE.v4]);
    expect(capture.state().workloads[0]?.counters).toEqual(before);
  });

  test('a process of the same cgroup in another network namespace stays direct: the proxy is not there', () => {
    expectDirect(lab.connect('c', REMOTE.v4, 8080, 4, { cgroup }));
  });

  test('a process in a cgroup below is the workload too', () => {
    const child = lab.addCgroup('cart/worker');
    try {
      expectCaptured(connect(REMOTE.v4, 8080, { cgroup: child }), hostPort(REMOTE.v4, 8080), HOST.v4);
    } finally {
      lab.removeCgroup(child);
    }
  });

  test('excluded networks and ports stay direct, a longer included prefix does not, and a workload can opt out', async () => {
    await capture.reconcile([workload({ excludeOutboundCidrs: ['10.51.0.0/16'], includeOutboundCidrs: ['10.51.2.0/24'] })]);
    expectDirect(connect(POD_C.v4));
    expectCaptured(connect(REMOTE.v4), hostPort(REMOTE.v4, 8080), HOST.v4);
    await capture.reconcile([workload({ excludeOutboundPorts: [8080] })]);
    expectDirect(connect(REMOTE.v4));
    await capture.reconcile([workload({ outbound: false })]);
    expectDirect(connect(REMOTE.v4));
    expect(['bypass_excluded_cidr', 'bypass_excluded_port', 'bypass_not_enrolled'].map(counterOf)).toEqual([1, 1, 1]);
  });

  test('nothing is kept of a connection that has ended', async () => {
    for (let i = 0; i < 5; i++) connect(REMOTE.v4);
    // The proxy's FIN ends the last of them.
    const kept = () => lab.mapEntries('host_cookies') + lab.mapEntries('host_flows');
    const deadline = performance.now() + 5000;
    while (kept() > 0 && performance.now() < deadline);
    expect(kept()).toBe(0);
  });
});

describe('16: inbound', () => {
  test.each(FAMILIES)('%s: from a remote node and from a pod, once through the proxy', async (family) => {
    const { connections } = await traffic();
    for (const from of ['remote', 'c']) {
      const attempt = lab.connect(from, HOST[family], PORT);
      expect(attempt.error).toBeNull();
      // The proxy's connection comes from the address that it goes to: that is how it is told from a client's.
      expect(addressOf(attempt.server?.peer ?? '')).toBe(HOST[family]);
    }
    expect((await traffic()).connections - connections).toBe(2);
  });

  test('a process of the workload that calls its own address goes through the proxy once', async () => {
    const { connections } = await traffic();
    expectCaptured(connect(HOST.v4, PORT), hostPort(HOST.v4, PORT), HOST.v4);
    expect((await traffic()).connections - connections).toBe(1);
  });

  test('undeclared ports, excluded ports, excluded clients and an uncaptured direction stay direct', async () => {
    await lab.serve('host', PORT + 1, cgroup);
    expectDirect(lab.connect('remote', HOST.v4, PORT + 1));
    await capture.reconcile([workload({ excludeInboundPorts: [PORT] })]);
    expectDirect(lab.connect('remote', HOST.v4, PORT));
    await capture.reconcile([workload({ excludeInboundCidrs: ['10.51.0.0/16', '10.61.0.0/16'], includeInboundCidrs: ['10.51.1.0/24'] })]);
    expectDirect(lab.connect('remote', HOST.v4, PORT));
    expect(addressOf(lab.connect('c', HOST.v4, PORT).server?.peer ?? '')).toBe(HOST.v4);
    await capture.reconcile([workload({ inbound: false })]);
    expectDirect(lab.connect('remote', HOST.v4, PORT));
  });

  test('a port that another workload of this host has is a failure that says so', async () => {
    const other = lab.addCgroup('other');
    const twin = workload({}, { name: 'twin', cgroup: `/${other.split('/').at(-1)}` });
    await capture.reconcile([workload(), twin]);
    expect(capture.state().workloads[1]).toMatchObject({
      state: 'failed',
      detail: expect.stringContaining(`port ${PORT} belongs to another`),
    });
    expectCaptured(connect(REMOTE.v4), hostPort(REMOTE.v4, 8080), HOST.v4);
  });
});

describe('life cycle', () => {
  test('without a proxy connections are direct, fail-closed ones are refused at once', async () => {
    await proxy.kill();
    expectDirect(connect(REMOTE.v4));
    expectDirect(lab.connect('remote', HOST.v4, PORT));
    await capture.reconcile([workload({ failClosed: true })]);
    expect(connect(REMOTE.v4)).toMatchObject({ error: 'EPERM' });
    expect(lab.connect('remote', HOST.v4, PORT)).toMatchObject({ error: 'ECONNREFUSED' });
    proxy = await MeshProxy.start(lab, 'successor', resources());
    expectCaptured(connect(REMOTE.v4), hostPort(REMOTE.v4, 8080), HOST.v4);
  });

  test.each([
    { failClosed: true, counter: 'refused_no_room' },
    { failClosed: false, counter: 'bypass_no_room' },
  ])('where the kernel will not note the destination: $counter', async ({ failClosed, counter }) => {
    await capture.reconcile([workload({ failClosed })]);
    const restore = lab.fillHostCookies(cgroup);
    try {
      for (const family of FAMILIES) {
        if (failClosed) expect(connect(REMOTE[family])).toMatchObject({ error: 'EPERM' });
        else expectDirect(connect(REMOTE[family]));
      }
      expect(counterOf(counter)).toBe(2);
    } finally {
      restore();
    }
    await capture.close();
    capture = await open();
    await capture.reconcile([workload()]);
    expectCaptured(connect(REMOTE.v4), hostPort(REMOTE.v4, 8080), HOST.v4);
  });

  test('an agent of another version, whose cgroups have no place in this one’s map: fail-closed is refused all the time', async () => {
    await proxy.kill();
    await capture.reconcile([workload({ failClosed: true })]);
    await capture.close();
    lab.pinFormer('cgroups', { keyBytes: 16 });
    lab.pinFormer('host_flows', { valueBytes: 36 });
    capture = await open();
    expect(connect(REMOTE.v4)).toMatchObject({ error: 'EPERM' });
    await capture.reconcile([workload({ failClosed: true })]);
    expect(connect(REMOTE.v4)).toMatchObject({ error: 'EPERM' });
    proxy = await MeshProxy.start(lab, 'upgraded', resources());
    expectCaptured(connect(REMOTE.v4), hostPort(REMOTE.v4, 8080), HOST.v4);
  });

  test('three upgrades under load, with more and with fewer workers: every connection is captured and answered', async () => {
    const sum = (name: RegExp) =>
      (capture.state().workloads[0]?.counters ?? []).reduce((total, counter) => total + (name.test(counter.name) ? counter.value : 0), 0);
    const bypassed = sum(/bypass|refused|dropped/);
    const probers = await Promise.all([
      lab.prober('host', REMOTE.v4, 8080, 5, cgroup),
      lab.prober('host', REMOTE.v6, 8080, 20, cgroup),
      lab.prober('remote', HOST.v4, PORT, 5),
      lab.prober('remote', HOST.v6, PORT, 20),
    ]);
    for (const workers of [3, 1, 2]) {
      const before = proxy;
      proxy = await before.successor(lab, workers, resources());
      await Promise.all(probers.map((prober) => more(prober, 20)));
      expect(await before.exit()).toBe(0);
    }
    for (const prober of probers) {
      const attempts = await prober.stop();
      expect(attempts.filter(({ error }) => error !== null)).toEqual([]);
      expect(attempts.filter(({ local, server }) => server?.peer === local)).toEqual([]);
    }
    expect(sum(/bypass|refused|dropped/)).toBe(bypassed);
  });

  test('an agent restarted twice adopts what is there: one link a hook, and the traffic goes on without it', async () => {
    const before = pins();
    expect(before).toHaveLength(6);
    for (let i = 0; i < 2; i++) {
      await capture.close();
      expectCaptured(connect(REMOTE.v4), hostPort(REMOTE.v4, 8080), HOST.v4);
      capture = await open();
      expectCaptured(connect(REMOTE.v4), hostPort(REMOTE.v4, 8080), HOST.v4);
      await capture.reconcile([workload()]);
    }
    expect(pins()).toEqual(before);
    expect(lab.cgroupPrograms(cgroup)).toHaveLength(5);
  });

  test('a workload without its cgroup is pending and leaves nothing; it is captured when the cgroup comes, also after one that went', async () => {
    const state = () => capture.state().workloads[0]?.state;
    const late = (path: string) => workload({}, { cgroup: `/${path.split('/').at(-1)}`, ports: [] });
    for (let round = 0; round < 2; round++) {
      const path = lab.addCgroup('late');
      await capture.reconcile([late(path)]);
      expect(state()).toBe('captured');
      expectCaptured(connect(REMOTE.v4, 8080, { cgroup: path }), hostPort(REMOTE.v4, 8080), HOST.v4);
      lab.removeCgroup(path);
      await capture.reconcile([late(path)]);
      expect(state()).toBe('pending');
      expect(pins()).toEqual([]);
    }
  });

  test('the agent does not capture itself', async () => {
    const detail = 'the agent itself runs in';
    await capture.reconcile([workload({}, { cgroup: '/.' })]);
    expect(capture.state().workloads[0]).toMatchObject({ state: 'failed', detail: expect.stringContaining(detail) });
  });

  test('a workload that is no longer captured leaves no connection in the maps: its ports will be those of others', async () => {
    const release = await lab.hold('host', REMOTE.v4, 8080, cgroup);
    const kept = () => [lab.mapEntries('host_cookies'), lab.mapEntries('host_flows')];
    expect(kept()).toEqual([1, 1]);
    await capture.reconcile([]);
    expect(kept()).toEqual([0, 0]);
    await release();
  });

  test('a workload that is no longer listed, and an uninstall, leave nothing on cgroup and host', async () => {
    await capture.reconcile([]);
    expect(pins()).toEqual([]);
    expectDirect(connect(REMOTE.v4));
    expectDirect(lab.connect('remote', HOST.v4, PORT));
    await capture.reconcile([workload()]);
    await capture.close();
    await proxy.kill();
    await Capture.uninstall(location);
    expect(existsSync(lab.bpfDir)).toBe(false);
    expect(lab.cgroupPrograms(cgroup)).toEqual([]);
    expectDirect(connect(REMOTE.v4));
    expectDirect(lab.connect('remote', HOST.v4, PORT));
    capture = await open();
  });
});

/** Connections that the proxy accepted, and whose it said they were. */
async function traffic(): Promise<{ connections: number; sources: string[] }> {
  const { traffic, counters } = await proxy.state();
  const connections = counters.find(({ name }) => name === 'downstream_accepted')?.value ?? -1;
  return { connections, sources: traffic.map(({ source }) => source) };
}
