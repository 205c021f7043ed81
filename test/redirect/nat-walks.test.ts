// Acceptance tests 1 to 10 (README.md) by the fallback: how connections walk through the rules in the pods and the real proxy, by nftables
// and iptables, on both shapes of CNI and on hostile hosts. What it does otherwise than eBPF is said in the tests' names. Fails where it
// cannot run.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Capture } from '../../agent/capture/capture.js';
import { POD_SOCKET } from '../../agent/link/pod-channel.js';
import { Capture as CaptureSpec, Workload } from '../../api/gen/mesh/v1/model.js';
import { eventually } from '../lab/eventually.js';
import { CONDITIONS, impose } from './conditions.js';
import { type Addresses, FAMILIES, HOST, Lab, NODE_PORT, POD_A, POD_B, POD_C, REMOTE, REMOTE_VIP, VIP } from './lab.js';
import { MeshProxy, NODE, workloadResource } from './mesh-proxy.js';
import { addressOf, log } from './scene.js';

const SCENES = (['nftables', 'iptables'] as const).flatMap((mode) => (['routed', 'bridge'] as const).map((shape) => ({ mode, shape })));

describe.each(SCENES)('$mode, $shape', ({ mode, shape }) => {
  const lab = new Lab(`wnw${mode.slice(0, 2)}${shape.slice(0, 2)}-${process.pid}`, shape);
  const location = {
    bpfDir: lab.bpfDir,
    meshNetns: lab.meshNetns,
    hostNetns: lab.path('host'),
    podSocket: join(lab.folder, 'proxy', POD_SOCKET),
  };
  let capture: Capture;
  let proxy: MeshProxy;

  function workload(name: 'a' | 'b', addresses: Addresses, some: Partial<CaptureSpec> = {}): Workload {
    const spec = CaptureSpec.fromPartial({ outbound: true, inbound: true, ...some });
    const networkNamespace = lab.path(name);
    return Workload.fromPartial({
      namespace: 'shop',
      name,
      node: NODE,
      networkNamespace,
      addresses: Object.values(addresses),
      capture: spec,
    });
  }
  const a = workload('a', POD_A);
  const b = workload('b', POD_B);
  const accepted = () => proxy.counter('downstream_accepted');

  async function walk(
    from: string,
    to: string,
    port: number,
  ): Promise<{ error: string | null; server: string; passes: number; local: string }> {
    const before = await accepted();
    const { error, server, local } = lab.connect(from, to, port, 10_000);
    return { error, server: addressOf(server?.peer ?? ''), passes: (await accepted()) - before, local };
  }
  /** The agent is in this process. */
  async function captured(): Promise<void> {
    const isCaptured = async () => {
      const walks = [...FAMILIES.map((family) => ['a', REMOTE[family]]), ...FAMILIES.map((family) => ['remote', POD_B[family]])] as const;
      const passes = [];
      for (const [from, to] of walks) passes.push((await walk(from!, to!, 8080)).passes);
      return passes.every((count) => count === 1);
    };
    expect(await eventually(isCaptured, Boolean)).toBe(true);
  }

  beforeAll(async () => {
    lab.up();
    for (const name of ['a', 'b', 'c', 'remote']) await lab.serve(name, 8080);
    mkdirSync(join(lab.folder, 'proxy'), { recursive: true });
    capture = await Capture.open({ ...location, mode, heartbeatTimeoutMs: 1000, log });
    await capture.reconcile([a, b]);
    proxy = await MeshProxy.start(lab, 'proxy', [a, b].map(workloadResource));
    await captured();
  });
  afterAll(async () => {
    await proxy?.kill();
    await capture?.close();
    await Capture.uninstall(location);
    await lab.down();
  });

  // The rules of both are in the pod, where a host's settings don't reach: the plain host and the worst one are enough for the second.
  const conditions = CONDITIONS[shape].filter((_, i, all) => mode === 'nftables' || i === 0 || i === all.length - 1);
  describe.each(conditions)('$name', (condition) => {
    let lift = () => {};
    beforeAll(() => {
      lift = impose(lab, condition);
    });
    afterAll(() => lift());

    test.each(FAMILIES)(
      '1, 2, 3, 5: %s: outbound the server sees the pod, inbound its own address; a pair of one node takes two passes',
      async (family) => {
        const walks = [
          ['a', REMOTE[family], 8080, POD_A, 1],
          ['a', POD_C[family], 8080, POD_A, 1],
          ['a', REMOTE_VIP[family], 80, POD_A, 1],
          ['a', POD_B[family], 8080, POD_B, 2],
          ['c', POD_B[family], 8080, POD_B, 1],
          ['remote', POD_B[family], 8080, POD_B, 1],
          ['remote', HOST[family], NODE_PORT.transparent, POD_B, 1],
          ['remote', HOST[family], NODE_PORT.masqueraded, POD_B, 1],
          ['c', REMOTE[family], 8080, POD_C, 0],
          ...(condition.hasServicesBetweenPods ? ([['a', VIP[family], 80, POD_B, 2]] as const) : []),
        ] as const;
        for (const [from, to, port, seenAs, passes] of walks) {
          expect({ from, to, port, ...(await walk(from, to, port)) }).toMatchObject({
            from,
            to,
            port,
            error: null,
            server: seenAs[family],
            passes,
          });
        }
      },
    );

    test.each(FAMILIES)('6: %s: UDP passes by, from a connected socket and from another', async (family) => {
      for (const socket of ['connected', 'unconnected'] as const) {
        for (const [address, port] of [
          [REMOTE[family], 8080],
          [POD_B[family], 8080],
          [REMOTE_VIP[family], 53],
        ] as const) {
          const { error, server } = lab.ask('a', address, port, socket);
          expect({ socket, address, error, server }).toMatchObject({
            error: null,
            server: { peer: expect.stringContaining(POD_A[family]) },
          });
        }
      }
    });
  });

  test.each(FAMILIES)(
    "4: %s: who on the host connects is not known in the pod: probes pass the proxy, unless the host's address is excluded",
    async (family) => {
      const probe = await walk('host', POD_B[family], 8080);
      expect(probe).toMatchObject({ error: null, passes: 1 });
      const host = addressOf(probe.local);
      await capture.reconcile([a, workload('b', POD_B, { excludeInboundCidrs: [`${host}/${family === 'v4' ? 32 : 128}`] })]);
      expect(await walk('host', POD_B[family], 8080)).toMatchObject({ error: null, passes: 0, server: host });
      expect(await walk('remote', POD_B[family], 8080)).toMatchObject({ error: null, passes: 1 });
      await capture.reconcile([a, b]);
    },
  );

  test.each(FAMILIES)('8: %s: a client port that the proxy still has in TIME_WAIT can be used again at once', async (family) => {
    const waiting = () => lab.in('a', 'ss', ['-Htn', 'state', 'time-wait', 'sport', '=', ':15001']);
    for (let round = 0; round < 3; round++) {
      const before = await accepted();
      expect(lab.connect('a', REMOTE[family], 8080, 4, { option: 'reuse=45678' })).toMatchObject({ error: null });
      expect(await accepted()).toBe(before + 1);
      expect(waiting()).toContain(':45678');
    }
  });

  test.each(FAMILIES)(
    "9: %s: the path MTU of the proxy's own connections is found by the ICMP that comes to the pod, without probing",
    (family) => {
      const walks = [
        ['a', 'a', REMOTE[family]],
        ['b', 'remote', POD_B[family]],
      ] as const;
      const flush = () => {
        for (const pod of ['a', 'b']) for (const version of ['-4', '-6']) lab.in(pod, 'ip', [version, 'route', 'flush', 'cache']);
      };
      lab.narrowUplink(' mtu lock 1300');
      for (const pod of ['a', 'b']) lab.in(pod, 'sysctl', ['-qw', 'net.ipv4.tcp_mtu_probing=0']);
      try {
        for (const [pod, from, to] of walks) {
          flush();
          expect(lab.connect(from, to, 8080, 500_000)).toMatchObject({ error: null });
          expect(lab.in(pod, 'ip', ['route', 'get', REMOTE[family]])).toContain('mtu 1300');
        }
      } finally {
        lab.narrowUplink('');
        flush();
      }
    },
  );

  test.each(FAMILIES)(
    '10: %s: the proxy takes its ports in the pod itself, so none that is in use; a live direct connection goes on',
    async (family) => {
      await capture.reconcile([b]);
      const live = await lab.stream('a', REMOTE[family], 8080);
      expect(await live.echo('direct')).toBe('direct');
      await capture.reconcile([a, b]);
      await captured();
      for (let i = 0; i < 20; i++)
        expect(await walk('a', REMOTE[family], 8080)).toMatchObject({ error: null, passes: 1, server: POD_A[family] });
      expect(await live.echo('still direct')).toBe('still direct');
      await live.end();
    },
  );
});
