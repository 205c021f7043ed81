// Acceptance tests 1 to 8 and 10 (README.md): how connections walk through the redirection, for every kind of capture, both shapes of
// CNI and both families, on a plain host and on hostile ones. Fails where it cannot run.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import {
  FAMILIES,
  HAIRPIN,
  HOST,
  MASQUERADE,
  NODE_PORT,
  POD_A,
  POD_B,
  POD_C,
  REMOTE,
  REMOTE_VIP,
  SELF_VIP,
  type Shape,
  VIP,
} from './lab.js';
import { hostPort, KINDS, Scene } from './scene.js';

/** What a host may have set that has broken redirections. */
interface Condition {
  readonly name: string;
  readonly sysctls?: Readonly<Record<string, number>>;
  /** Rules of an nftables table. */
  readonly firewall?: string;
  /** Without it the kernel does not translate back what a pod answers another on the same bridge, mesh or not: no service between two pods of it. */
  readonly hasServicesBetweenPods: boolean;
}

// What the host itself needs: neighbour discovery, and answers to its own connections.
const INPUT_DROP =
  'chain in {\ntype filter hook input priority filter; policy drop; meta l4proto ipv6-icmp accept; ct state established accept\n}';
const INVALID_DROP = ['input', 'forward', 'output']
  .map((hook) => `chain invalid_${hook} {\ntype filter hook ${hook} priority filter - 1\nct state invalid counter drop\n}`)
  .join('\n');
const REVERSE_PATH = {
  'net.ipv4.conf.all.rp_filter': 1,
  'net.ipv4.conf.v-a.rp_filter': 1,
  'net.ipv4.conf.v-b.rp_filter': 1,
  'net.ipv4.conf.all.src_valid_mark': 1,
};
// A stream whose beginning conntrack did not see is invalid too.
const STRICT = { ...REVERSE_PATH, 'net.netfilter.nf_conntrack_tcp_loose': 0 };

function bridgeFilter(value: number): Readonly<Record<string, number>> {
  return { 'net.bridge.bridge-nf-call-iptables': value, 'net.bridge.bridge-nf-call-ip6tables': value };
}

const CONDITIONS: Readonly<Record<Shape, readonly Condition[]>> = {
  routed: [
    { name: 'a plain host', hasServicesBetweenPods: true },
    { name: '7: INPUT policy DROP', firewall: INPUT_DROP, hasServicesBetweenPods: true },
    { name: '7: conntrack drops INVALID', firewall: INVALID_DROP, hasServicesBetweenPods: true },
    { name: '7: rp_filter=1 and src_valid_mark=1', sysctls: REVERSE_PATH, hasServicesBetweenPods: true },
    { name: '7: all of it', sysctls: STRICT, firewall: `${INPUT_DROP}\n${INVALID_DROP}`, hasServicesBetweenPods: true },
  ],
  bridge: [
    { name: '7: bridge-nf-call-iptables=0', sysctls: bridgeFilter(0), hasServicesBetweenPods: false },
    { name: '7: bridge-nf-call-iptables=1', sysctls: bridgeFilter(1), hasServicesBetweenPods: true },
    {
      name: '7: bridge-nf-call-iptables=0, INPUT DROP, INVALID drop, rp_filter, src_valid_mark',
      sysctls: { ...STRICT, ...bridgeFilter(0) },
      firewall: `${INPUT_DROP}\n${INVALID_DROP}`,
      hasServicesBetweenPods: false,
    },
    {
      name: '7: bridge-nf-call-iptables=1, INPUT DROP, INVALID drop, rp_filter, src_valid_mark',
      sysctls: { ...STRICT, ...bridgeFilter(1) },
      firewall: `${INPUT_DROP}\n${INVALID_DROP}`,
      hasServicesBetweenPods: true,
    },
  ],
};

function impose({ lab }: Scene, { sysctls = {}, firewall }: Condition): () => void {
  const names = Object.keys(sysctls);
  const before = names.map((name) => `${name}=${lab.in('host', 'sysctl', ['-n', name]).trim()}`);
  if (names.length > 0) lab.in('host', 'sysctl', ['-qw', ...names.map((name) => `${name}=${sysctls[name]}`)]);
  if (firewall !== undefined) lab.in('host', 'nft', ['-f', '-'], `table inet hostile {\n${firewall}\n}\n`);
  return () => {
    if (names.length > 0) lab.in('host', 'sysctl', ['-qw', ...before]);
    if (firewall !== undefined) lab.in('host', 'nft', ['delete', 'table', 'inet', 'hostile']);
  };
}

const SCENES = KINDS.flatMap((kind) => (['routed', 'bridge'] as const).map((shape) => ({ kind, shape })));

describe.each(SCENES)('$kind, $shape', ({ kind, shape }) => {
  const scene = new Scene(`wwalk-${kind}-${shape}`, shape);
  const probes = scene.lab.addCgroup('kubelet');

  beforeAll(async () => {
    await scene.up();
    await scene.open(kind, { probes: [probes] });
    await scene.capture.reconcile(scene.enrolled());
    scene.proxy = await scene.lab.proxy();
  }, 20_000);
  afterAll(() => scene.down(), 20_000);

  describe.each(CONDITIONS[shape])('$name', (condition) => {
    let lift = () => {};
    beforeAll(() => {
      lift = impose(scene, condition);
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

  test.each(FAMILIES)('8: %s: a client port that the proxy still has in TIME_WAIT can be used again at once', (family) => {
    const waiting = () => scene.lab.in('mesh', 'ss', ['-Htn', 'state', 'time-wait', 'src', hostPort(REMOTE[family], 8080)]).trim();
    for (let round = 0; round < 3; round++) {
      scene.expectOnePass('a', POD_A[family], REMOTE[family], 8080, 'outbound', { options: { option: 'reuse=45678' } });
      expect(waiting()).toContain(hostPort(POD_A[family], 45_678));
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
