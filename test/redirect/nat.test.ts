// The fallback from end to end: the real proxy and the agent's redirection by nftables or iptables in pods' own namespaces. What it can't do
// is listed in docs/agent.md. Fails where it cannot run.
import { once } from 'node:events';
import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Capture } from '../../agent/capture/capture.js';
import { countersByReason, savedCountersByReason } from '../../agent/capture/nat-capture.js';
import { POD_SOCKET } from '../../agent/link/pod-channel.js';
import { loadAddon } from '../../agent/native/addon.js';
import type { NamespaceCommand } from '../../agent/native/capture.js';
import { Capture as CaptureSpec, Workload } from '../../api/gen/mesh/v1/model.js';
import { eventually } from '../lab/eventually.js';
import { Lab, namespaceServers, POD_A, POD_B, POD_C, REMOTE, VIP } from './lab.js';
import { MeshProxy, NODE, serviceResources, workloadResource } from './mesh-proxy.js';

const silent = { info() {}, warn() {} };
const HEARTBEAT_MS = 1_000;
const addon = loadAddon();

describe.each(['nftables', 'iptables'] as const)('%s', (mode) => {
  const lab = new Lab(`wnat${mode.slice(0, 2)}-${process.pid}`);
  const podSocket = join(lab.folder, 'proxy', POD_SOCKET);
  const location = { bpfDir: lab.bpfDir, meshNetns: lab.meshNetns, hostNetns: lab.path('host'), podSocket };
  let capture: Capture;
  let proxy: MeshProxy;

  const workload = (name: 'a' | 'b' | 'c', { v4, v6 }: { v4: string; v6: string }, some: Partial<CaptureSpec> = {}): Workload => {
    const spec = CaptureSpec.fromPartial({ outbound: true, inbound: true, ...some });
    return Workload.fromPartial({
      namespace: 'shop',
      name,
      node: NODE,
      networkNamespace: lab.path(name),
      addresses: [v4, v6],
      capture: spec,
    });
  };
  const a = workload('a', POD_A);
  const b = workload('b', POD_B);
  const openCapture = () => Capture.open({ ...location, mode, heartbeatTimeoutMs: HEARTBEAT_MS, log: silent });
  const resources = [a, b].map(workloadResource);
  const startProxy = () =>
    MeshProxy.start(lab, 'proxy', [...resources, ...serviceResources('b', [VIP.v4, VIP.v6], { address: POD_B.v4, port: 8080 })]);
  const accepted = () => proxy.counter('downstream_accepted');
  const connect = (from: string, to: string, port = 8080, bytes = 4) => lab.connect(from, to, port, bytes);
  /** Connects from a to the remote node until both families are captured; each has a beat of its own. */
  const captured = () =>
    eventually(
      async () => {
        const before = await accepted();
        const errors = [REMOTE.v4, REMOTE.v6].map((address) => connect('a', address).error);
        return errors.every((error) => error === null) && (await accepted()) === before + 2;
      },
      (isCaptured) => isCaptured,
    );

  /** As the agent reads it every 10 s; what is counted, by reason. */
  const seen = async (name: string): Promise<Record<string, number>> => {
    const { reasons } = addon.captureNames();
    const said = async (command: NamespaceCommand) => (await addon.runInNamespaceAside(lab.path(name), command)).output;
    const counts =
      mode === 'nftables'
        ? countersByReason(await said('nft -j list counters table inet weft'), reasons)
        : savedCountersByReason((await said('iptables-save -c')) + (await said('ip6tables-save -c')), reasons);
    return Object.fromEntries(reasons.map((reason, at) => [reason, counts[at] ?? 0] as const).filter(([, count]) => count > 0));
  };
  /** More than before. */
  const seenMeanwhile = async (name: string, during: () => unknown): Promise<Record<string, number>> => {
    const before = await seen(name);
    await during();
    const more = Object.entries(await seen(name)).map(([reason, count]) => [reason, count - (before[reason] ?? 0)] as const);
    return Object.fromEntries(more.filter(([, count]) => count > 0));
  };

  /** nsenter has become the proxy. */
  const proxyProcess = () => proxy.child.pid;

  beforeAll(async () => {
    lab.up();
    for (const name of ['a', 'b', 'c', 'remote']) await lab.serve(name, 8080);
    mkdirSync(join(lab.folder, 'proxy'), { recursive: true });
    capture = await openCapture();
    await capture.reconcile([a, b]);
    proxy = await startProxy();
    expect(await captured()).toBe(true);
  });

  afterAll(async () => {
    await proxy?.kill();
    await capture?.close();
    await Capture.uninstall(location);
    await lab.down();
  });

  test.each(['v4', 'v6'] as const)('17: %s: outbound is captured and leaves with the address of the pod', async (v) => {
    const before = await accepted();
    const attempt = connect('a', REMOTE[v], 8080, 100_000);
    expect(attempt.error).toBeNull();
    expect(attempt.server?.peer).toContain(POD_A[v]);
    expect(await accepted()).toBe(before + 1);
  });

  test.each(['v4', 'v6'] as const)('17: %s: inbound is captured, and its server sees the pod itself', async (v) => {
    const before = await accepted();
    const attempt = connect('remote', POD_B[v], 8080, 100_000);
    expect(attempt.error).toBeNull();
    expect(attempt.server?.peer).toContain(POD_B[v]);
    expect(await accepted()).toBe(before + 1);
  });

  test('a service is resolved by the proxy, and both ends of a pair on one node are passed', async () => {
    const before = await accepted();
    const attempt = connect('a', VIP.v4, 80);
    expect(attempt.error).toBeNull();
    expect(attempt.server?.local).toContain(POD_B.v4);
    expect(await accepted()).toBe(before + 2);
  });

  test('3: a pod that is its own endpoint is served, and what it sends to its own address is direct', async () => {
    const before = await accepted();
    expect(connect('b', VIP.v4, 80).server?.peer).toContain(POD_B.v4);
    expect(await accepted()).toBe(before + 1);
    expect(connect('b', POD_B.v4).error).toBeNull();
    expect(await accepted()).toBe(before + 1);
  });

  test.each([
    ['outbound', 'a', '127.0.0.1', 15001],
    ['inbound', 'remote', POD_B.v4, 15006],
  ] as const)('a connection to the %s listener itself is closed, and not sent to itself for ever', async (_, from, address, port) => {
    const before = await accepted();
    expect(connect(from, address, port).server).toBeNull();
    expect(await accepted()).toBe(before);
    expect(await proxy.counter('accept_errors')).toBeGreaterThan(0);
  });

  test('14: what changes in the spec is in force at once, and open connections go on', async () => {
    const close = await lab.hold('a', REMOTE.v4, 8080);
    await capture.reconcile([workload('a', POD_A, { excludeOutboundPorts: [8080] }), b]);
    const before = await accepted();
    expect(connect('a', REMOTE.v4).error).toBeNull();
    expect(await accepted()).toBe(before);
    expect(await proxy.counter('downstream_open')).toBe(1);
    await capture.reconcile([a, b]);
    expect(connect('a', REMOTE.v4).error).toBeNull();
    expect(await accepted()).toBe(before + 1);
    await close();
  });

  test('20: an agent that starts again adopts the rules as they are, and traffic notices neither its end nor its return', async () => {
    const rules = () => lab.in('a', 'nft', ['-a', 'list', 'ruleset']).replaceAll(/expires \S+|packets \d+ bytes \d+/g, '');
    const before = rules();
    await capture.close();
    const passed = await accepted();
    expect(connect('a', REMOTE.v4).error).toBeNull();
    expect(await accepted()).toBe(passed + 1);
    capture = await openCapture();
    await capture.reconcile([a, b]);
    expect(rules()).toBe(before);
    expect(await captured()).toBe(true);
  });

  test('a pod that came while the agent was away is captured, one that is no longer listed is not', async () => {
    await capture.close();
    capture = await openCapture();
    await capture.reconcile([a]);
    const before = await accepted();
    expect(connect('remote', POD_B.v4).error).toBeNull();
    expect(await accepted()).toBe(before);
    expect(lab.in('b', 'nft', ['list', 'ruleset']).toLowerCase()).not.toContain('weft');
    await capture.reconcile([a, b]);
    expect(capture.state().workloads).toMatchObject([{ state: 'captured' }, { state: 'captured' }]);
    await eventually(
      async () => {
        connect('remote', POD_B.v4);
        return accepted();
      },
      (count) => count > before,
    );
  });

  test('11: a proxy that is killed: connections go direct within 50 ms, and are captured again by the next', async () => {
    const { at, attempts } = await lab.probe('a', REMOTE.v4, 1_500, 5, () => proxy.child.kill('SIGKILL'));
    const after = attempts.filter(({ began, error }) => began > at && error === null);
    expect(after.length).toBeGreaterThan(50);
    expect(after[0]!.began - at).toBeLessThan(50);
    expect(attempts.filter(({ began, error }) => began > at + 50 && error !== null)).toEqual([]);
    await proxy.kill();
    proxy = await startProxy();
    expect(await captured()).toBe(true);
  });

  test('a proxy that is asked to end: no connection is refused on the way to direct', async () => {
    const { attempts } = await lab.probe('a', REMOTE.v4, 1_500, 5, () => proxy.child.kill('SIGTERM'));
    expect(attempts.length).toBeGreaterThan(100);
    expect(attempts.filter(({ error }) => error !== null)).toEqual([]);
    await proxy.kill();
    proxy = await startProxy();
    expect(await captured()).toBe(true);
  });

  test('11, 17: a proxy that hangs: connections go direct when its last beat is too long ago', async () => {
    const { at, attempts } = await lab.probe('a', REMOTE.v4, 2_500, 50, () => proxy.child.kill('SIGSTOP'));
    proxy.child.kill('SIGCONT');
    const direct = attempts.filter(({ began, error }) => began > at && error === null);
    expect(direct.length).toBeGreaterThan(5);
    expect(await captured()).toBe(true);
  });

  test('17: the redirection lives on for as long as the proxy beats', async () => {
    const { attempts } = await lab.probe('a', REMOTE.v6, 1.5 * HEARTBEAT_MS, 50, () => undefined);
    const before = await accepted();
    expect(connect('a', REMOTE.v6).error).toBeNull();
    expect(await accepted()).toBe(before + 1);
    expect(before).toBeGreaterThanOrEqual(attempts.length);
  });

  test('many connections at once, more than sockets are at hand for, are all served', async () => {
    const before = await accepted();
    const script = `
      const { connect } = require('node:net');
      let left = 300;
      for (let i = 0; i < 300; i++) connect(8080, '${REMOTE.v4}').once('data', function () { this.destroy(); if (--left === 0) console.log('all'); });`;
    expect(lab.in('a', 'timeout', ['10', process.execPath, '-e', script])).toBe('all\n');
    expect(await accepted()).toBe(before + 300);
    expect(await proxy.counter('upstream_connect_failures')).toBe(0);
  });

  test('without weft-netns the proxy ends rather than refuse: connections go direct', async () => {
    const ended = once(proxy.child, 'exit');
    const servers = namespaceServers(join(lab.folder, 'proxy'));
    expect(servers).toHaveLength(1);
    process.kill(servers[0]!, 'SIGKILL');
    expect(await ended).toEqual([1, null]);
    expect(connect('a', REMOTE.v4).error).toBeNull();
    await proxy.kill();
    proxy = await startProxy();
    expect(await captured()).toBe(true);
  });

  test('12: without a proxy a fail-closed pod is refused, both ways', async () => {
    await capture.reconcile([a, b, workload('c', POD_C, { failClosed: true })]);
    await proxy.kill();
    // As the relay says when a proxy is current, or none is there.
    capture.release();
    for (const [from, to] of [
      ['c', REMOTE.v4],
      ['remote', POD_C.v6],
    ] as const) {
      const attempt = connect(from, to);
      expect(attempt.error).toBe('ECONNREFUSED');
      expect(attempt.totalMs).toBeLessThan(100);
    }
    proxy = await startProxy();
    await eventually(
      async () => connect('c', REMOTE.v4).error,
      (error) => error === null,
    );
    await capture.reconcile([a, b]);
    expect(connect('c', REMOTE.v4).error).toBeNull();
  });

  test("a new fail-closed pod's first connections, both ways, are held until the proxy listens there", async () => {
    await proxy.kill();
    await capture.reconcile([a, b, workload('c', POD_C, { failClosed: true })]);
    const begun = [lab.hold('c', REMOTE.v4, 8080), lab.hold('remote', POD_C.v6, 8080)];
    proxy = await startProxy();
    capture.release();
    const closers = await Promise.all(begun);
    expect(await proxy.counter('downstream_open')).toBe(2);
    expect((await seen('c')).held).toBeGreaterThanOrEqual(2);
    for (const close of closers) await close();
    await capture.reconcile([a, b]);
    expect(await captured()).toBe(true);
  });

  test('N connections made are N counted, by direction, and what is excluded or finds no proxy by its reason', async () => {
    const thrice = (from: string, to: string) => () => Array.from({ length: 3 }, () => expect(connect(from, to).error).toBeNull());
    expect(await seenMeanwhile('a', thrice('a', REMOTE.v4))).toEqual({ captured_outbound: 3 });
    expect(await seenMeanwhile('b', thrice('remote', POD_B.v6))).toEqual({ captured_inbound: 3 });
    await capture.reconcile([workload('a', POD_A, { excludeOutboundPorts: [8080] }), b]);
    expect(await seenMeanwhile('a', thrice('a', REMOTE.v6))).toEqual({ bypass_excluded_port: 3 });
    await capture.reconcile([a, workload('b', POD_B, { excludeInboundCidrs: [`${REMOTE.v4}/32`] })]);
    expect(await seenMeanwhile('b', thrice('remote', POD_B.v4))).toEqual({ bypass_excluded_cidr: 3 });
    await capture.reconcile([a, b]);
    await proxy.kill();
    await eventually(
      async () => connect('a', REMOTE.v4).error,
      (error) => error === null,
    );
    expect(await seenMeanwhile('a', thrice('a', REMOTE.v4))).toEqual({ bypass_stale_worker: 3 });
    proxy = await startProxy();
    expect(await captured()).toBe(true);
  });

  test('a pod that is no longer captured is let go: its connections end, the proxy holds nothing of its namespace', async () => {
    await capture.reconcile([a, b, workload('c', POD_C)]);
    const { ino } = statSync(lab.path('c'));
    const held = () => {
      const folder = `/proc/${proxyProcess()}/fd`;
      return readdirSync(folder).filter((name) => statSync(join(folder, name), { throwIfNoEntry: false })?.ino === ino).length;
    };
    const close = await eventually(
      async () => {
        const end = await lab.hold('c', REMOTE.v4, 8080);
        if ((await proxy.counter('downstream_open')) === 1) return end;
        await end();
        return null;
      },
      (end) => end !== null,
    );
    expect(held()).toBeGreaterThan(0);
    await capture.reconcile([a, b]);
    expect(
      await eventually(
        async () => [held(), await proxy.counter('downstream_open')],
        ([some, open]) => some === 0 && open === 0,
      ),
    ).toEqual([0, 0]);
    expect(connect('c', REMOTE.v4).error).toBeNull();
    await close?.();
  });

  test('another agent of this kernel leaves them alone', async () => {
    const other = join(lab.folder, 'other.sock');
    const second = await Capture.open({ ...location, podSocket: other, mode, heartbeatTimeoutMs: HEARTBEAT_MS, log: silent });
    await second.reconcile([]);
    await second.close();
    await Capture.uninstall({ ...location, podSocket: other });
    expect(await captured()).toBe(true);
  });

  test('a pod in which a port of ours is taken goes direct, and the status of the proxy says why', async () => {
    await lab.serve('c', 15001);
    await capture.reconcile([a, b, workload('c', POD_C)]);
    const { faults } = await eventually(
      () => proxy.state(),
      (state) => state.faults.length > 0,
    );
    expect(faults).toEqual([expect.stringMatching(new RegExp(`can't listen in ${lab.path('c')}.*EADDRINUSE|${lab.path('c')}.*in use`))]);
    expect(connect('c', REMOTE.v4)).toMatchObject({ error: null });
    await capture.reconcile([a, b]);
    expect(
      (
        await eventually(
          () => proxy.state(),
          (state) => state.faults.length === 0,
        )
      ).faults,
    ).toEqual([]);
  });

  test('19: the host itself has nothing of it, and after an uninstall no pod has', async () => {
    expect(lab.in('host', 'nft', ['list', 'ruleset'])).not.toMatch(/weft/i);
    await capture.close();
    await Capture.uninstall(location);
    for (const pod of ['a', 'b', 'c']) expect(lab.in(pod, 'nft', ['list', 'ruleset'])).not.toMatch(/weft/i);
    expect(connect('a', REMOTE.v4).error).toBeNull();
    capture = await openCapture();
    await capture.reconcile([a, b]);
    expect(await captured()).toBe(true);
  });
});
