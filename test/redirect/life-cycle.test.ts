// Acceptance tests 11, 12, 19 and 20: what becomes of captured pods when the proxy, the agent, a pod or the redirection itself goes. Over
// every kind of capture. Fails where it cannot run.
import { execFileSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Capture } from '../../agent/capture/capture.js';
import { standingAt } from '../../agent/capture/inode.js';
import { hostPort } from '../../api/host-port.js';
import { FAMILIES, more, POD_A, POD_B, REMOTE } from './lab.js';
import { KINDS, log, portOf, Scene } from './scene.js';

describe.each(KINDS)('%s', (kind) => {
  const scene = new Scene(`wlife-${kind}`);
  const { lab } = scene;
  const otherHost = { bpfDir: `${lab.bpfDir}-other`, meshNetns: `${lab.meshNetns}-other`, hostNetns: lab.path('remote') };
  const expectCaptured = () => scene.expectOnePass('a', POD_A.v4, POD_B.v4, 8080, 'outbound');

  beforeAll(() => scene.begin(kind));
  afterAll(async () => {
    await Capture.uninstall(otherHost);
    await scene.down();
  });

  test('11: a killed proxy: connections go direct within 50 ms, and through its successor again', async () => {
    const { at, attempts } = await lab.probe('a', POD_B.v4, 1000, 10, () => scene.proxy.signal('SIGKILL'));
    const before = attempts.filter(({ began, totalMs }) => began + totalMs < at - 20);
    const after = attempts.filter(({ began }) => began > at + 50);
    expect(before.length).toBeGreaterThan(5);
    expect(after.length).toBeGreaterThan(20);
    for (const attempt of before) expect(attempt).toMatchObject({ error: null });
    for (const { error, local, server } of after) expect({ error, peer: server?.peer }).toEqual({ error: null, peer: local });
    scene.proxy = await lab.proxy();
    expectCaptured();
    expect(scene.workloadCounter('a', 'bypass_no_listener')).toBeGreaterThan(0);
  });

  test('11: a hung proxy: connections go direct within the heartbeat timeout and 100 ms, and through it again when it goes on', async () => {
    const { at, attempts } = await lab.probe('a', POD_B.v4, 2000, 1500, () => scene.proxy.signal('SIGSTOP'));
    const late = attempts.find(({ began }) => began > at + 1000);
    expect(late?.began).toBeLessThan(at + 1000 + 100 + 20);
    expect(late).toMatchObject({ error: null });
    expect(late?.server?.peer).toBe(late?.local);
    expect(scene.workloadCounter('a', 'bypass_stale_worker')).toBeGreaterThan(0);
    scene.proxy.signal('SIGCONT');
    await scene.proxy.kill();
    scene.proxy = await lab.proxy();
    expectCaptured();
  });

  test.each(FAMILIES)('12: %s: fail-closed without a proxy is refused within 100 ms, in both directions', async (family) => {
    await scene.proxy.kill();
    await scene.capture.reconcile([scene.workload('a', { failClosed: true }), scene.workload('b', { failClosed: true })]);
    for (const [from, to] of [
      ['a', REMOTE[family]],
      ['remote', POD_B[family]],
    ] as const) {
      const refused = lab.connect(from, to, 8080);
      expect(refused).toMatchObject({ error: 'ECONNREFUSED' });
      expect(refused.connectMs).toBeLessThan(100);
    }
    expect(scene.workloadCounter('a', 'refused_no_listener')).toBeGreaterThan(0);
    await scene.capture.reconcile(scene.enrolled());
    scene.proxy = await lab.proxy();
    scene.expectOnePass('a', POD_A[family], REMOTE[family], 8080, 'outbound');
  });

  test('12: fail-closed with a hung proxy is refused too', async () => {
    await scene.capture.reconcile([scene.workload('a', { failClosed: true })]);
    const { at, attempts } = await lab.probe('a', REMOTE.v4, 2000, 1600, () => scene.proxy.signal('SIGSTOP'));
    const late = attempts.find(({ began }) => began > at + 1000);
    expect(late).toMatchObject({ error: 'ECONNREFUSED' });
    expect(late?.connectMs).toBeLessThan(100);
    expect(scene.workloadCounter('a', 'refused_stale_worker')).toBe(1);
    await scene.proxy.kill();
    scene.proxy = await lab.proxy();
    await scene.capture.reconcile(scene.enrolled());
  });

  test('every worker gets connections, and a proxy that comes back with fewer gets them all', async () => {
    await scene.proxy.kill();
    scene.proxy = await lab.proxy(4);
    const workers = new Set<number | undefined>();
    // A fair hash misses one of four in 64 draws once in 25 million runs.
    for (let i = 0; i < 64; i++) workers.add(scene.connect('a', POD_B.v4).passes[0]?.worker);
    expect([...workers].sort()).toEqual([0, 1, 2, 3]);
    await scene.proxy.kill();
    scene.proxy = await lab.proxy(1);
    for (let i = 0; i < 8; i++) expectCaptured();
  });

  test.each(FAMILIES)('11: %s: a killed proxy leaves sockets in TIME_WAIT, and direct connections have the same ports', async (family) => {
    scene.expectOnePass('remote', REMOTE[family], POD_B[family], 8080, 'inbound', { options: { option: 'reuse=45678' } });
    const borrowed = portOf(scene.lab.connect('remote', POD_B[family], 8080).server!.peer);
    await scene.proxy.kill();
    const remains = lab.in('mesh', 'ss', ['-Htn', 'state', 'time-wait']);
    expect(remains).toContain(hostPort(REMOTE[family], 45_678));
    expect(remains).toContain(hostPort(REMOTE[family], borrowed));
    // The remains of what the proxy accepted, and of what it dialled.
    const noted = lab.mapEntries('direct_flows');
    for (const port of [45_678, borrowed]) scene.expectDirect('remote', REMOTE[family], POD_B[family], 8080, { option: `reuse=${port}` });
    expect(lab.mapEntries('direct_flows')).toBe(noted + 2);

    scene.proxy = await lab.proxy();
    scene.expectOnePass('remote', REMOTE[family], POD_B[family], 8080, 'inbound', { options: { option: 'reuse=45678' } });
    expect(lab.mapEntries('direct_flows')).toBe(noted + 1);
  });

  test("another host's agent on the same machine comes and goes without a trace", async () => {
    const second = await Capture.open({ ...otherHost, mode: kind, heartbeatTimeoutMs: 1000, log });
    expectCaptured();
    expect(second.state().counters).toEqual([]);
    await second.close();
    await Capture.uninstall(otherHost);
    expectCaptured();
  });

  test('20: an agent restarted twice adopts what is there: one link per hook, and traffic goes on without it', async () => {
    const before = [lab.links(), lab.hookPrograms()];
    for (let i = 0; i < 2; i++) {
      await scene.capture.close();
      expect(scene.lab.connect('a', POD_B.v4, 8080).error).toBeNull();
      await scene.open(kind);
      expectCaptured();
      await scene.capture.reconcile(scene.enrolled());
    }
    expect([lab.links(), lab.hookPrograms()]).toEqual(before);
    expectCaptured();
  });

  describe('an agent of another version, whose maps have other layouts', () => {
    const former = () => {
      lab.pinFormer('workloads', { valueBytes: 16 });
      lab.pinFormer('addresses', { valueBytes: 16, entries: 64 });
      lab.pinFormer('config', { valueBytes: 48 });
      lab.pinFormer('counters', { entries: 10 });
      lab.pinFormer('workload_counters', { valueBytes: 40 });
    };
    const upgrade = async () => {
      const said: object[] = [];
      const warn = (fields: object) => said.push(fields);
      scene.capture = await Capture.open({ ...scene.location, mode: kind, heartbeatTimeoutMs: 1000, log: { info() {}, warn } });
      return said;
    };

    test('is told which, and no connection goes past the proxy, nor is one lost', async () => {
      const pinned = [lab.links(), lab.hookPrograms()];
      const prober = await lab.prober('a', REMOTE.v4, 8080, 5);
      await scene.capture.close();
      former();
      const said = await upgrade();
      // Nobody has said yet which workloads there are.
      await more(prober, 20);
      await scene.capture.reconcile(scene.enrolled());
      await more(prober, 20);
      const attempts = await prober.stop();
      expect(said).toEqual([{ maps: expect.arrayContaining(['workloads', 'addresses', 'config', 'counters', 'workload_counters']) }]);
      expect(attempts.filter(({ error, local, server }) => error !== null || server?.peer === local)).toEqual([]);
      expect([lab.links(), lab.hookPrograms()]).toEqual(pinned);
      expectCaptured();
    });

    test('without a proxy: fail-closed is refused all the time, others go direct', async () => {
      await scene.proxy.kill();
      await scene.capture.reconcile([scene.workload('a', { failClosed: true }), scene.workload('b')]);
      const probers = [await lab.prober('a', REMOTE.v4, 8080, 5), await lab.prober('b', REMOTE.v4, 8080, 5)];
      await scene.capture.close();
      former();
      await upgrade();
      await Promise.all(probers.map((prober) => more(prober, 20)));
      const [closed = [], open = []] = await Promise.all(probers.map((prober) => prober.stop()));
      expect(new Set(closed.map(({ error }) => error))).toEqual(new Set(['ECONNREFUSED']));
      expect(open.filter(({ error }) => error !== null)).toEqual([]);
      await scene.capture.reconcile(scene.enrolled());
      scene.proxy = await lab.proxy();
      expectCaptured();
    });

    test('where entries have no place in the new map: former programs go on until the workload is written again', async () => {
      const shy = [scene.workload('a', { failClosed: true, excludeOutboundPorts: [8080] }), scene.workload('b', { failClosed: true })];
      await scene.proxy.kill();
      await scene.capture.reconcile(shy);
      await scene.capture.close();
      lab.pinFormer('excluded_ports', { keyBytes: 12 });
      expect(await upgrade()).toEqual([{ maps: ['excluded_ports'] }]);
      for (let round = 0; round < 2; round++) {
        expect(lab.connect('a', REMOTE.v4, 8080)).toMatchObject({ error: null });
        expect(lab.connect('b', REMOTE.v4, 8080)).toMatchObject({ error: 'ECONNREFUSED' });
        await scene.capture.reconcile(shy);
      }
      await scene.capture.reconcile(scene.enrolled());
      scene.proxy = await lab.proxy();
      expectCaptured();
    });

    test('where the listeners have no place: as without a proxy, until it is restarted', async () => {
      await scene.capture.reconcile([scene.workload('a', { failClosed: true }), scene.workload('b')]);
      await scene.capture.close();
      lab.pinFormer('listeners', { entries: 64 });
      expect(await upgrade()).toEqual([{ maps: ['listeners'] }]);
      expect(lab.connect('a', REMOTE.v4, 8080)).toMatchObject({ error: 'ECONNREFUSED' });
      scene.expectDirect('b', POD_B.v4, REMOTE.v4);
      await scene.proxy.kill();
      scene.proxy = await lab.proxy();
      await scene.capture.reconcile(scene.enrolled());
      expectCaptured();
    });
  });

  test('a workload is pending until its namespace appears, and forgotten when it goes', async () => {
    const pod = { v4: '10.51.1.40', v6: 'fd51:1::40' };
    const stateOf = () => scene.capture.state().workloads.find(({ workload: name }) => name === 'shop/d')?.state;
    await scene.capture.reconcile([...scene.enrolled(), scene.workload('d')]);
    expect(stateOf()).toBe('pending');
    expect(scene.capture.running().map(({ workload: { name } }) => name)).toEqual(['a', 'b']);

    const before = [lab.links(), lab.mapEntries('workloads')];
    lab.addNamespace('d');
    lab.connectPod('d', pod);
    await scene.changed(() => stateOf() === 'captured');
    expect(scene.capture.running().find(({ workload: { name } }) => name === 'd')?.addresses).toEqual([pod.v4, pod.v6]);
    scene.expectOnePass('d', pod.v4, REMOTE.v4, 8080, 'outbound');

    lab.removeNamespace('d');
    await scene.changed(() => stateOf() === 'pending');
    expect([lab.links(), lab.mapEntries('workloads')]).toEqual(before);
    await scene.capture.reconcile(scene.enrolled());
  });

  test('a namespace in the place of another, of the same name and number, is seen to be another', () => {
    const path = lab.path('n');
    lab.addNamespace('n');
    const before = [statSync(path).ino, standingAt(path, null)];
    expect(standingAt(path, null)).toBe(before[1]);
    const found = Array.from({ length: 8 }, () => {
      lab.removeNamespace('n');
      // Numbers come back when the kernel has cleaned up, a moment later.
      execFileSync('sleep', ['0.1']);
      lab.addNamespace('n');
      return [statSync(path).ino, standingAt(path, null)];
    });
    lab.removeNamespace('n');
    const alike = found.filter(([ino], at) => ino === (found[at - 1] ?? before)[0]);
    expect(alike.length).toBeGreaterThan(0);
    expect(new Set([before, ...found].map(([, standing]) => standing)).size).toBe(found.length + 1);
  });

  test('an address that a captured pod gets a moment later is its own at the next look', async () => {
    const pod = { v4: '10.51.1.45', v6: 'fd51:1::45' };
    const addresses = () => scene.capture.running().find(({ workload: { name } }) => name === 'l')?.addresses ?? [];
    await scene.capture.reconcile([...scene.enrolled(), scene.workload('l')]);
    lab.addNamespace('l');
    lab.connectPod('l', pod);
    lab.in('l', 'ip', ['addr', 'del', `${pod.v6}/128`, 'dev', 'eth0']);
    await scene.changed(() => addresses().length > 0);
    expect(addresses()).toEqual([pod.v4]);
    // As the controller then tells every node, this one too.
    await scene.capture.reconcile([...scene.enrolled(), { ...scene.workload('l'), addresses: [pod.v4], addressesFound: true }]);
    const began = performance.now();
    lab.in('l', 'ip', ['addr', 'add', `${pod.v6}/128`, 'dev', 'eth0', 'nodad']);
    await scene.changed(() => addresses().length > 1);
    // Not at the look at everything, every 5 s.
    expect(performance.now() - began).toBeLessThan(2_000);
    scene.expectOnePass('l', pod.v6, REMOTE.v6, 8080, 'outbound');

    // An address beside what is declared is not the workload's.
    await lab.serve('l', 8080);
    await scene.capture.reconcile([...scene.enrolled(), { ...scene.workload('l'), addresses: [pod.v4] }]);
    scene.expectDirect('remote', REMOTE.v6, pod.v6);
    expect(scene.workloadCounter('l', 'bypass_foreign_destination')).toBe(1);
    scene.expectOnePass('remote', REMOTE.v4, pod.v4, 8080, 'inbound');
    lab.removeNamespace('l');
    await scene.capture.reconcile(scene.enrolled());
  });

  test('a workload that vanishes while the agent is away is forgotten, and its address can be used again', async () => {
    const pod = { v4: '10.51.1.50', v6: 'fd51:1::50' };
    const listed = [...scene.enrolled(), scene.workload('e')];
    const before = [lab.links(), lab.mapEntries('workloads')];
    for (let round = 0; round < 2; round++) {
      lab.addNamespace('e');
      lab.connectPod('e', pod);
      await scene.capture.reconcile(listed);
      scene.expectOnePass('e', pod.v4, REMOTE.v4, 8080, 'outbound');
      await scene.capture.close();
      lab.removeNamespace('e');
      await scene.open(kind);
    }
    await scene.capture.reconcile(scene.enrolled());
    expect([lab.links(), lab.mapEntries('workloads')]).toEqual(before);
  });

  test('two workloads in one namespace, and a bad exclusion, are failures that say what is wrong; the others go on', async () => {
    const twin = { ...scene.workload('b'), name: 'twin' };
    await scene.capture.reconcile([...scene.enrolled(), twin, scene.workload('c', { excludeOutboundCidrs: ['10.0.0.0/99'] })]);
    expect(scene.capture.state().workloads).toMatchObject([
      { workload: 'shop/a', state: 'captured', detail: '' },
      { workload: 'shop/b', state: 'captured' },
      { workload: 'shop/twin', state: 'failed', detail: expect.stringContaining('already captured as shop/b') },
      { workload: 'shop/c', state: 'failed', detail: expect.stringContaining('"10.0.0.0/99" is not a CIDR') },
    ]);
    expect(scene.capture.running().map(({ workload: { name } }) => name)).toEqual(['a', 'b', 'c']);
    expectCaptured();
    await scene.capture.reconcile(scene.enrolled());
  });

  test('a workload that is no longer listed is direct again, also after a restart of the agent', async () => {
    await scene.capture.close();
    await scene.open(kind);
    await scene.capture.reconcile([scene.workload('b')]);
    scene.expectDirect('a', POD_A.v4, REMOTE.v4);
    await scene.capture.reconcile(scene.enrolled());
    scene.expectOnePass('a', POD_A.v4, REMOTE.v4, 8080, 'outbound');
  });

  test('19: uninstall leaves the host as it was: links, routes, rules, qdiscs, programs, maps, pins, cgroups, sysctls, firewall', async () => {
    await scene.proxy.kill();
    await scene.capture.close();
    await Capture.uninstall(scene.location);
    const before = lab.snapshot();
    await scene.open(kind);
    await scene.capture.reconcile(scene.enrolled());
    const during = lab.snapshot();
    const changed = Object.keys(before).filter((part) => during[part] !== before[part]);
    expect(changed).toEqual(expect.arrayContaining(['links', 'pins', 'sysctls', 'namespaces', 'mounts']));
    // Of the host's network nothing changes but that one link is there.
    const others = (text = '') => text.split('\n').filter((line) => !line.includes('weft-mesh0'));
    for (const part of ['routes', 'routes6', 'rules', 'rules6', 'firewall', 'iptables', 'ip6tables', 'cgroups']) {
      expect(others(during[part])).toEqual(others(before[part]));
    }
    const objects = lab.kernelObjects();
    expect(objects.length).toBeGreaterThan(10);
    await scene.capture.close();
    await Capture.uninstall(scene.location);
    expect(lab.snapshot()).toEqual(before);
    // The kernel frees maps and programs a moment (one RCU period) after the last reference.
    const deadline = Date.now() + 5000;
    let left = objects;
    while (left.length > 0 && Date.now() < deadline) left = left.filter((object) => lab.kernelHas(object));
    expect(left).toEqual([]);
  });
});
