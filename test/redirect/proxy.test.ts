// The real `weft proxy` on both shapes of CNI, under a hostile firewall: what walks.test.ts proves with the proxy of peer.c holds for the
// engine. Fails where it cannot run.
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { FAMILIES, HOST, NODE_PORT, POD_A, POD_B, POD_C, REMOTE, REMOTE_VIP } from './lab.js';
import { MeshProxy, serviceResources, workloadResource } from './mesh-proxy.js';
import { addressOf, portOf, Scene } from './scene.js';

const FIREWALL = `table inet hostile {
chain in {\ntype filter hook input priority filter; policy drop; meta l4proto ipv6-icmp accept\n}
chain forward {\ntype filter hook forward priority filter\nct state invalid drop\n}
}\n`;

/** The server sees the caller's address of its own version; the caller itself, what the proxy calls from then (HAIRPIN in worker.ts). */
const CROSSED = [
  { name: 'v6-to-v4-local', vip: 'fd96::40', endpoint: POD_B.v4, seenAs: POD_A.v4 },
  { name: 'v4-to-v6-local', vip: '10.96.9.40', endpoint: POD_B.v6, seenAs: POD_A.v6 },
  { name: 'v6-to-v4-remote', vip: 'fd96::41', endpoint: REMOTE.v4, seenAs: POD_A.v4 },
  { name: 'v4-to-v6-remote', vip: '10.96.9.41', endpoint: REMOTE.v6, seenAs: POD_A.v6 },
  { name: 'v6-to-v4-itself', vip: 'fd96::42', endpoint: POD_A.v4, seenAs: '169.254.7.8' },
  { name: 'v4-to-v6-itself', vip: '10.96.9.42', endpoint: POD_A.v6, seenAs: 'fd77:6566:7400::78' },
] as const;

describe.each(['routed', 'bridge'] as const)('%s', (shape) => {
  const scene = new Scene(`wproxy-${shape}`, shape);
  let proxy: MeshProxy | null = null;

  beforeAll(async () => {
    await scene.up();
    scene.lab.in('host', 'nft', ['-f', '-'], FIREWALL);
    if (shape === 'bridge') {
      scene.lab.in('host', 'sysctl', ['-qw', 'net.bridge.bridge-nf-call-iptables=0', 'net.bridge.bridge-nf-call-ip6tables=0']);
    }
    await scene.open('auto');
    await scene.capture.reconcile(scene.enrolled());
    const workloads = [
      { ...scene.workload('a'), addresses: [POD_A.v4, POD_A.v6] },
      { ...scene.workload('b'), addresses: [POD_B.v4, POD_B.v6] },
    ];
    proxy = await MeshProxy.start(scene.lab, 'proxy', [
      ...workloads.map((workload) => workloadResource({ ...workload, node: 'n1' })),
      ...CROSSED.flatMap(({ name, vip, endpoint }) => serviceResources(name, [vip], { address: endpoint, port: 8080 })),
    ]);
  });
  afterAll(async () => {
    await proxy?.kill();
    await scene.down();
  });

  test.each(FAMILIES)('%s: every walk passes it once, and the server sees the client', async (family) => {
    const walks = [
      ['a', POD_B[family], 8080, POD_A],
      ['a', REMOTE[family], 8080, POD_A],
      ['a', REMOTE_VIP[family], 80, POD_A],
      ['a', POD_C[family], 8080, POD_A],
      ['c', POD_B[family], 8080, POD_C],
      ['remote', POD_B[family], 8080, REMOTE],
      ['remote', HOST[family], NODE_PORT.transparent, REMOTE],
    ] as const;
    for (const [from, to, port, seenAs] of walks) {
      const before = await proxy!.counter('downstream_accepted');
      const { error, server } = scene.lab.connect(from, to, port, 100_000);
      expect({ from, to, port, error, server: addressOf(server?.peer ?? '') }).toEqual({
        from,
        to,
        port,
        error: null,
        server: seenAs[family],
      });
      expect((await proxy!.counter('downstream_accepted')) - before).toBe(1);
    }
  });

  test.each(FAMILIES)('%s: a pod that it has not been told of (yet) is served all the same, both ways', async (family) => {
    await scene.capture.reconcile([...scene.enrolled(), scene.workload('c')]);
    try {
      for (const [from, to, seenAs] of [
        ['c', REMOTE[family], POD_C],
        ['remote', POD_C[family], REMOTE],
      ] as const) {
        const before = await proxy!.counter('downstream_accepted');
        const { error, server } = scene.lab.connect(from, to, 8080, 100_000);
        expect({ error, server: addressOf(server?.peer ?? '') }).toEqual({ error: null, server: seenAs[family] });
        const accepted = (await proxy!.counter('downstream_accepted')) - before;
        expect({ accepted, workloads: scene.capture.state().workloads.map(({ detail }) => detail) }).toEqual({
          accepted: 1,
          workloads: ['', '', ''],
        });
      }
    } finally {
      await scene.capture.reconcile(scene.enrolled());
    }
  });

  test.each(CROSSED)('a service whose only endpoint has an address of the other IP version: $name', ({ vip, endpoint, seenAs }) => {
    for (let i = 0; i < 3; i++) {
      const { error, server } = scene.lab.connect('a', vip, 80, 100_000);
      const [peer, local] = [server?.peer ?? '', server?.local ?? ''].map(addressOf);
      expect({ error, peer, local }).toEqual({ error: null, peer: seenAs, local: endpoint });
    }
  });

  test.each(FAMILIES)(
    '%s: it borrows other ports to deliver than to inject: what two hosts borrow from one client never meets',
    (family) => {
      for (let i = 0; i < 20; i++) {
        const injected = portOf(scene.lab.connect('a', REMOTE[family], 8080).server!.peer);
        const delivered = portOf(scene.lab.connect('remote', POD_B[family], 8080).server!.peer);
        expect({ injected, isIn: injected >= 20_000 && injected < 26_000 }).toMatchObject({ isIn: true });
        expect({ delivered, isIn: delivered >= 26_000 && delivered < 32_000 }).toMatchObject({ isIn: true });
      }
    },
  );
});
