// Acceptance tests 1 to 8 and 10 (README.md): how connections walk through the redirection, for every kind of capture, both shapes of
// CNI and both families, on a plain host and on hostile ones. Fails where it cannot run.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { hostPort } from '../../api/host-port.js';
import { CONDITIONS, impose } from './conditions.js';
import { FAMILIES, HAIRPIN, HOST, MASQUERADE, NODE_PORT, POD_A, POD_B, POD_C, REMOTE, REMOTE_VIP, SELF_VIP, VIP } from './lab.js';
import { KINDS, Scene } from './scene.js';

const SCENES = KINDS.flatMap((kind) => (['routed', 'bridge'] as const).map((shape) => ({ kind, shape })));

describe.each(SCENES)('$kind, $shape', ({ kind, shape }) => {
  const scene = new Scene(`wwalk-${kind}-${shape}`, shape);
  const probes = scene.lab.addCgroup('kubelet');

  beforeAll(async () => {
    await scene.up();
    await scene.open(kind, { probes: [probes] });
    await scene.capture.reconcile(scene.enrolled());
    scene.proxy = await scene.lab.proxy();
  });
  afterAll(() => scene.down());

  describe.each(CONDITIONS[shape])('$name', (condition) => {
    let lift = () => {};
    beforeAll(() => {
      lift = impose(scene.lab, condition);
    });
    afterAll(() => lift());

    test.each(FAMILIES)(
      '1: %s: to a pod and to a remote node: once through the proxy, which sees the original destination; the server sees the pod',
      (family) => {
        scene.expectOnePass('a', POD_A[family], POD_B[family], 8080, 'outbound');
        scene.expectOnePass('a', POD_A[family], REMOTE[family], 8080, 'outbound');
      },
    );

    test.each(FAMILIES)('2: %s: inbound from a remote node and by a node port, masqueraded or not', (family) => {
      const pod = hostPort(POD_B[family], 8080);
      scene.expectOnePass('remote', REMOTE[family], POD_B[family], 8080, 'inbound');
      scene.expectOnePass('remote', REMOTE[family], HOST[family], NODE_PORT.transparent, 'inbound', { destination: pod });
      const source = MASQUERADE[family];
      scene.expectOnePass('remote', source, HOST[family], NODE_PORT.masqueraded, 'inbound', { destination: pod, source });
    });

    test.each(FAMILIES)('3: %s: a pod reaches itself by a service; a pod that is not enrolled is seen inbound, and reached', (family) => {
      const { passes, ...result } = scene.connect('a', SELF_VIP[family], 80);
      expect(result).toMatchObject({ error: null, server: HAIRPIN[family] });
      expect(passes).toMatchObject([{ direction: 'outbound', destination: hostPort(SELF_VIP[family], 80) }]);
      scene.expectOnePass('c', POD_C[family], POD_B[family], 8080, 'inbound');
      scene.expectOnePass('a', POD_A[family], POD_C[family], 8080, 'outbound');
      scene.expectDirect('c', POD_C[family], REMOTE[family]);
    });

    test.each(FAMILIES)("4: %s: the kubelet's probes go direct, another process of the host does not", (family) => {
      const attempt = scene.lab.connect('host', POD_B[family], 8080, 4, { cgroup: probes });
      expect(attempt).toMatchObject({ error: null, server: { peer: attempt.local } });
      const result = scene.connect('host', POD_B[family]);
      expect(result).toMatchObject({ error: null, passes: [{ direction: 'inbound', source: result.local }] });
    });

    test.each(FAMILIES)('5: %s: a virtual address that the proxy does not know is translated by the host', (family) => {
      scene.expectOnePass('a', POD_A[family], REMOTE_VIP[family], 80, 'outbound');
      if (condition.hasServicesBetweenPods) scene.expectOnePass('a', POD_A[family], VIP[family], 80, 'outbound');
    });

    test.each(FAMILIES)('6: %s: UDP passes by, from a connected socket and from another', (family) => {
      for (const socket of ['connected', 'unconnected'] as const) {
        for (const [address, port] of [
          [REMOTE[family], 8080],
          [POD_B[family], 8080],
          [REMOTE_VIP[family], 53],
        ] as const) {
          const { error, server } = scene.lab.ask('a', address, port, socket);
          expect({ socket, address, error, server }).toMatchObject({
            error: null,
            server: { peer: expect.stringContaining(POD_A[family]) },
          });
        }
      }
    });
  });

  test.each(FAMILIES)(
    "9: %s: the path MTU of the proxy's own connections is found by the ICMP that is addressed to the pod, without probing",
    (family) => {
      const { lab } = scene;
      lab.narrowUplink(' mtu lock 1300');
      lab.in('mesh', 'sysctl', ['-qw', 'net.ipv4.tcp_mtu_probing=0']);
      const flush = () => {
        for (const version of ['-4', '-6']) lab.in('mesh', 'ip', [version, 'route', 'flush', 'cache']);
      };
      try {
        for (const [from, to] of [
          ['a', REMOTE[family]],
          ['remote', POD_B[family]],
        ] as const) {
          flush();
          const before = scene.counter('to_pod.icmp_steered');
          expect(lab.connect(from, to, 8080, 500_000)).toMatchObject({ error: null });
          expect(scene.counter('to_pod.icmp_steered')).toBeGreaterThan(before);
        }
      } finally {
        lab.narrowUplink('');
        lab.in('mesh', 'sysctl', ['-qw', 'net.ipv4.tcp_mtu_probing=1']);
        flush();
      }
    },
  );

  test('4: a probe unit that was started again, so has another cgroup, is found again', async () => {
    const { lab } = scene;
    lab.removeCgroup(probes);
    lab.addCgroup('kubelet');
    await scene.capture.reconcile(scene.enrolled());
    const before = scene.workloadCounter('b', 'bypass_exempt_cgroup');
    expect(lab.connect('host', POD_B.v4, 8080, 4, { cgroup: probes }).error).toBeNull();
    expect(scene.workloadCounter('b', 'bypass_exempt_cgroup')).toBe(before + 1);
  });

  // A port that no connection of the pod is given by chance.
  test.each(FAMILIES)('8: %s: a client port that the proxy still has in TIME_WAIT can be used again at once', (family) => {
    const waiting = () => scene.lab.in('mesh', 'ss', ['-Htn', 'state', 'time-wait', 'src', hostPort(REMOTE[family], 8080)]).trim();
    for (let round = 0; round < 3; round++) {
      scene.expectOnePass('a', POD_A[family], REMOTE[family], 8080, 'outbound', { options: { option: 'reuse=61678' } });
      expect(waiting()).toContain(hostPort(POD_A[family], 61_678));
    }
  });

  test.each(FAMILIES)('10: %s: the ports that the proxy borrows are none of which the pod takes by itself', async (family) => {
    const range = (namespace: string) =>
      scene.lab.in(namespace, 'sysctl', ['-n', 'net.ipv4.ip_local_port_range']).trim().split(/\s+/).map(Number) as [number, number];
    const [borrowed, own] = [range('mesh'), range('a')];
    expect(borrowed[1]).toBeLessThan(own[0]);
    await scene.capture.reconcile([scene.workload('b')]);
    const live = await scene.lab.stream('a', REMOTE[family], 8080);
    await scene.capture.reconcile(scene.enrolled());
    for (let i = 0; i < 20; i++) scene.expectOnePass('a', POD_A[family], REMOTE[family], 8080, 'outbound');
    expect(await live.echo('still direct')).toBe('still direct');
    const passedThrough = scene.proxy.passes().filter(({ source }) => source === live.local);
    expect(passedThrough).toEqual([]);
    await live.end();
  });
});
