// Acceptance test 14 and the anti-spoof check: which connections of a captured pod are taken, and how the others are counted. Over every
// kind of capture. Fails where it cannot run.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { FAMILIES, POD_A, POD_B, POD_C, REMOTE } from './lab.js';
import { KINDS, Scene } from './scene.js';

describe.each(KINDS)('%s', (kind) => {
  const scene = new Scene(`wpolicy-${kind}`);
  const { lab } = scene;

  beforeAll(() => scene.begin(kind));
  afterAll(() => scene.down());
  afterEach(() => scene.capture.reconcile(scene.enrolled()));

  test('the mode is the one asked for, and both pods are captured on their veths', () => {
    expect(scene.capture.state()).toMatchObject({
      mode: kind,
      workloads: [
        { workload: 'shop/a', state: 'captured', interface: 'v-a', addresses: [POD_A.v4, POD_A.v6] },
        { workload: 'shop/b', state: 'captured', interface: 'v-b', addresses: [POD_B.v4, POD_B.v6] },
      ],
    });
    // As `weft check` shows those of others.
    const hook = kind.replace('ebpf-', '');
    for (const place of ['v-a', 'v-b']) {
      const own = lab.hookPrograms().filter((line) => line.startsWith(`${place} `));
      expect(own).toEqual([`${place} ${hook}-egress to_pod`, `${place} ${hook}-ingress from_pod`]);
    }
  });

  test('14: excluded networks and ports stay direct, outbound and inbound, and a longer included prefix does not', async () => {
    const outbound = { excludeOutboundCidrs: ['10.51.0.0/16', 'fd51::/16'], includeOutboundCidrs: ['10.51.2.0/24'] };
    const inbound = { excludeInboundCidrs: ['10.51.0.0/16', 'fd51::/16'], includeInboundCidrs: ['fd51:2::/64'] };
    await scene.capture.reconcile([scene.workload('a', outbound), scene.workload('b', inbound)]);
    scene.expectDirect('a', POD_A.v4, POD_B.v4);
    scene.expectDirect('a', POD_A.v6, POD_B.v6);
    scene.expectOnePass('a', POD_A.v4, REMOTE.v4, 8080, 'outbound');
    scene.expectDirect('remote', REMOTE.v4, POD_B.v4);
    scene.expectOnePass('remote', REMOTE.v6, POD_B.v6, 8080, 'inbound');
    await scene.capture.reconcile([
      scene.workload('a', { excludeOutboundPorts: [8080] }),
      scene.workload('b', { excludeInboundPorts: [8080] }),
    ]);
    scene.expectDirect('a', POD_A.v4, REMOTE.v4);
    scene.expectDirect('remote', REMOTE.v6, POD_B.v6);
    expect(['bypass_excluded_cidr', 'bypass_excluded_port'].map((name) => scene.workloadCounter('b', name))).toEqual([3, 1]);
  });

  test('an agent that is out of descriptors lets nothing go, and forgets no pod', async () => {
    const workloads = [scene.workload('a', { failClosed: true }), scene.workload('b')];
    await scene.capture.reconcile(workloads);
    const hooks = lab.hookPrograms();
    const soft = /Max open files +(\d+)/.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
    // In another process: this one can start none while it has no descriptor left.
    const limit = (count: number | string) => `prlimit --pid ${process.pid} --nofile=${count}:`;
    const limiter = spawn('sh', ['-c', `${limit(3)} && echo low && read -r go; ${limit(soft!)}`], { stdio: ['pipe', 'pipe', 'inherit'] });
    await once(limiter.stdout, 'data');
    const seen = await scene.capture.reconcile(workloads).then(() => [scene.capture.state().workloads, scene.capture.running()] as const);
    limiter.stdin.end('go\n');
    await once(limiter, 'exit');
    expect(lab.hookPrograms()).toEqual(hooks);
    expect(seen[0]).toMatchObject([{ state: 'failed', detail: expect.stringMatching(/open files/) }, { state: 'failed' }]);
    expect(seen[1]).toHaveLength(2);
    await scene.changed(() => scene.capture.state().workloads.every(({ state }) => state === 'captured'));
  });

  test('14: a pod that opts out is direct, in one direction or in both', async () => {
    await scene.capture.reconcile([scene.workload('a', { outbound: false }), scene.workload('b', { inbound: false })]);
    scene.expectDirect('a', POD_A.v4, REMOTE.v4);
    scene.expectDirect('remote', REMOTE.v4, POD_B.v4);
    scene.expectOnePass('remote', REMOTE.v4, POD_A.v4, 8080, 'inbound');
    await scene.capture.reconcile([scene.workload('a', { outbound: false, inbound: false })]);
    scene.expectDirect('remote', REMOTE.v4, POD_A.v4);
    expect(scene.capture.state().workloads).toMatchObject([{ workload: 'shop/a', state: 'excluded' }]);
  });

  test.each([false, true])(
    "a source address that is not the pod's is not captured in its name; fail-closed (%s) it does not get out",
    async (failClosed) => {
      const foreign = '10.51.1.99';
      lab.ip('a', `addr add ${foreign}/32 dev eth0\nroute add ${REMOTE.v4} via 169.254.1.1 dev eth0 src ${foreign}`);
      lab.ip('host', `route add ${foreign} dev v-a`);
      const reason = failClosed ? 'dropped_foreign_source' : 'bypass_foreign_source';
      try {
        const addresses = [POD_A.v4, POD_A.v6];
        await scene.capture.reconcile([{ ...scene.workload('a', { failClosed }), addresses }, scene.workload('b')]);
        if (failClosed) expect(scene.connect('a', REMOTE.v4, 8080, { timeoutMs: 300 })).toMatchObject({ error: 'ETIMEDOUT', passes: [] });
        else scene.expectDirect('a', foreign, REMOTE.v4);
        expect(scene.workloadCounter('a', reason)).toBeGreaterThan(0);
      } finally {
        lab.ip('a', `route del ${REMOTE.v4}\naddr del ${foreign}/32 dev eth0`);
        lab.ip('host', `route del ${foreign}`);
      }
      await scene.capture.reconcile(scene.enrolled());
      scene.expectOnePass('a', POD_A.v4, REMOTE.v4, 8080, 'outbound');
    },
  );

  test.each(FAMILIES)('a pod of one family, %s, is captured in it, outbound and inbound', async (family) => {
    // Names and addresses of its own: its server keeps the namespace until the end.
    const pod = { v4: `10.51.1.6${family[1]}`, v6: `fd51:1::6${family[1]}` };
    const name = `only-${family}`;
    lab.addNamespace(name);
    lab.connectPod(name, pod);
    lab.ip(name, family === 'v4' ? `addr del ${pod.v6}/128 dev eth0` : `addr del ${pod.v4}/32 dev eth0`);
    await scene.capture.reconcile([...scene.enrolled(), scene.workload(name)]);
    expect(scene.capture.running().find(({ workload }) => workload.name === name)?.addresses).toEqual([pod[family]]);
    scene.expectOnePass(name, pod[family], REMOTE[family], 8080, 'outbound');
    await lab.serve(name, 8080);
    scene.expectOnePass('remote', REMOTE[family], pod[family], 8080, 'inbound');
    await scene.capture.reconcile(scene.enrolled());
  });

  describe('a fail-closed pod that is new', () => {
    const listed = () => [...scene.enrolled(), scene.workload('c', { failClosed: true })];
    /** The one connection that begins now; `during` runs 100 ms later. */
    const first = async (from: string, to: string, during: () => void) => (await lab.probe(from, to, 500, 1000, during)).attempts[0];

    test.each([
      ['outbound', 'c', REMOTE.v4],
      ['inbound', 'remote', POD_C.v6],
      ['inbound by the proxy, from a pod of the same host', 'a', POD_C.v4],
    ])('%s: its first connection waits until the proxy has its configuration', async (_, from, to) => {
      await scene.capture.reconcile(listed());
      const passes = scene.proxy.passes().length;
      const attempt = await first(from, to, () => scene.capture.release());
      // When the client's TCP sends its SYN again.
      expect(attempt?.totalMs).toBeGreaterThan(900);
      expect(attempt).toMatchObject({ error: null });
      expect(scene.proxy.passes()).toHaveLength(passes + 1);
      expect(scene.workloadCounter('c', 'held')).toBe(1);
      expect(scene.connect(from, to).connectMs).toBeLessThan(500);
    });

    test('it waits no longer than the bound, and neither does one whose agent has gone', async () => {
      await scene.capture.close();
      await scene.open(kind, { holdMs: 300 });
      await scene.capture.reconcile(listed());
      const attempt = await first('c', REMOTE.v4, () => void scene.capture.close());
      expect(attempt).toMatchObject({ error: null });
      await scene.open(kind);
      await scene.capture.reconcile(listed());
      expect(scene.connect('c', REMOTE.v4)).toMatchObject({ error: null });
      expect(scene.workloadCounter('c', 'held')).toBe(1);
    });

    test('one that was captured before does not wait, nor one that fails open', async () => {
      await scene.capture.reconcile([...scene.enrolled(), scene.workload('c')]);
      expect(scene.connect('c', REMOTE.v4)).toMatchObject({ error: null });
      await scene.capture.reconcile(listed());
      expect(scene.connect('c', REMOTE.v4)).toMatchObject({ error: null });
      expect(scene.workloadCounter('c', 'held')).toBe(0);
    });
  });

  test('a connection that nobody answers is refused, not lost', () => {
    const result = scene.connect('a', POD_B.v4, 81);
    expect(result.error).not.toBeNull();
    expect(result.connectMs).toBeLessThan(1000);
  });

  test('what was captured is counted by workload and by program, and every connection captured was given to a listener', () => {
    const before = [scene.workloadCounter('a', 'captured_outbound'), scene.workloadCounter('b', 'captured_inbound')] as const;
    scene.expectOnePass('a', POD_A.v6, POD_B.v6, 8080, 'outbound');
    scene.expectOnePass('remote', REMOTE.v4, POD_B.v4, 8080, 'inbound');
    expect([scene.workloadCounter('a', 'captured_outbound'), scene.workloadCounter('b', 'captured_inbound')]).toEqual(
      before.map((value) => value + 1),
    );
    expect(scene.counter('mesh_lookup.assigned')).toBe(
      scene.counter('from_pod.captured_outbound') + scene.counter('to_pod.captured_inbound'),
    );
  });
});
