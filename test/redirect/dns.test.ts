// DNS capture: names of services are answered by the proxy as if by the resolver that was asked, everything else comes to that resolver as
// the pod has sent it, and its answer to the pod as it is. With a real resolver behind, c-ares (node:dns) and glibc (getent) before.
import { type ChildProcess, spawn } from 'node:child_process';
import { openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Capture as CaptureSpec, Workload } from '../../api/gen/mesh/v1/model.js';
import { FAMILIES, POD_A, POD_B, REMOTE, REMOTE_VIP, VIP } from './lab.js';
import { MeshProxy, NODE, serviceResources, workloadResource } from './mesh-proxy.js';
import { KINDS, Scene } from './scene.js';

const NAME = 'catalog.shop.svc.cluster.local';

interface Received {
  readonly by: 'udp' | 'tcp';
  readonly from: string;
  readonly bytes: string;
}

describe.each(KINDS)('%s', (kind) => {
  const scene = new Scene(`wdns-${kind}`);
  const { lab } = scene;
  const output = join(lab.folder, 'resolver.jsonl');
  let resolver: ChildProcess;
  let proxy: MeshProxy;

  const workload = (name: 'a' | 'b', { v4, v6 }: { v4: string; v6: string }, dns: boolean): Workload =>
    Workload.fromPartial({
      namespace: 'shop',
      name,
      node: NODE,
      networkNamespace: lab.path(name),
      addresses: [v4, v6],
      capture: CaptureSpec.fromPartial({ outbound: true, inbound: true, dns }),
    });
  const workloads = [workload('a', POD_A, true), workload('b', POD_B, false)];
  const resources = [
    ...workloads.map(workloadResource),
    ...serviceResources('catalog', [VIP.v4, VIP.v6], { address: POD_B.v4, port: 8080 }),
  ];
  const received = () =>
    readFileSync(output, 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Received);
  /** What a script in the pod prints, as JSON; `dns` is a resolver of c-ares that asks there. */
  function inPod(pod: string, server: string, body: string): unknown {
    const script = `const { Resolver } = require('node:dns').promises;
      const dns = new Resolver({ timeout: 2000, tries: 1 });
      dns.setServers([${JSON.stringify(server.includes(':') ? `[${server}]` : server)}]);
      const say = (value) => console.log(JSON.stringify(value));
      (async () => { ${body} })().catch((error) => say(error.code));`;
    return JSON.parse(lab.in(pod, process.execPath, ['-e', script]));
  }
  /** A datagram from the pod's port 5353, and what comes back. */
  const datagram = (server: string, hex: string) =>
    inPod(
      'a',
      server,
      `const socket = require('node:dgram').createSocket('${server.includes(':') ? 'udp6' : 'udp4'}');
      socket.on('message', (bytes, { address, port }) => { say({ hex: bytes.toString('hex'), from: address, port }); socket.close(); });
      socket.bind(5353, () => socket.send(Buffer.from('${hex}', 'hex'), 53, '${server}'));
      setTimeout(() => { say(null); process.exit(); }, 1500).unref();`,
    );

  beforeAll(async () => {
    await scene.up();
    resolver = spawn('nsenter', [`--net=${lab.path('remote')}`, process.execPath, join(process.cwd(), 'test/redirect/dns-server.mjs')], {
      stdio: ['ignore', openSync(output, 'a'), 'pipe'],
    });
    await new Promise((resolve) => resolver.stderr?.once('data', resolve));
    await scene.open(kind);
    await scene.capture.reconcile(workloads);
    proxy = await MeshProxy.start(lab, 'proxy', resources);
  });
  afterAll(async () => {
    resolver?.kill();
    await proxy?.kill();
    await scene.down();
  });

  test.each(FAMILIES)('%s: a name of a service is answered with its addresses, and the resolver hears nothing of it', async (family) => {
    const before = received().length;
    const found = inPod('a', REMOTE[family], `say([await dns.resolve4('${NAME}'), await dns.resolve6('${NAME.toUpperCase()}')]);`);
    expect(found).toEqual([[VIP.v4], [VIP.v6]]);
    expect(received()).toHaveLength(before);
    expect(await proxy.counter('dns_answered')).toBeGreaterThanOrEqual(2);
  });

  test('glibc finds it too, both families at once, and other names as before', () => {
    const file = join(lab.folder, 'resolv.conf');
    writeFileSync(file, `nameserver ${REMOTE.v4}\nsearch shop.svc.cluster.local\noptions timeout:2 attempts:1\n`);
    const getent = (name: string) =>
      lab.in('a', 'unshare', [
        '-m',
        'sh',
        '-c',
        `mount --bind ${file} /etc/resolv.conf && getent ahosts ${name} | cut -d' ' -f1 | sort -u`,
      ]);
    expect(getent('catalog').trim().split('\n').sort()).toEqual([VIP.v4, VIP.v6].sort());
    expect(getent('example.org').trim().split('\n').sort()).toEqual(['192.0.2.7', '2001:db8::7']);
  });

  test.each(FAMILIES)('%s: other names, and other types of ours, are answered by the resolver that was asked', async (family) => {
    const before = await proxy.counter('dns_forwarded');
    const body = `say([await dns.resolve4('example.org'), await dns.resolveSrv('${NAME}'), await dns.resolveTxt('${NAME}')]);`;
    expect(inPod('a', REMOTE[family], body)).toEqual([
      ['192.0.2.7'],
      [expect.objectContaining({ port: 443, name: 'a.example' })],
      [['hello']],
    ]);
    expect(await proxy.counter('dns_forwarded')).toBe(before + 3);
  });

  test.each(FAMILIES)('%s: what is passed on is what was sent, from the pod and its port, and so is what comes back', (family) => {
    const question = '07636174616c6f670473686f7003737663';
    for (const [what, hex] of [
      ['a type nobody knows', `123401000001000000000000${question}00ff000001`],
      ['EDNS with options of its own', `123501200001000000000001${question}00ff00000100002910000000800000080001000400deadbe`],
      ['EDNS of a later version', `123601000001000000000001${question}00000100010000291000000100000000`],
      ['two questions', `123701000002000000000000${question}0000010001${question}0000010001`],
      ['no DNS at all', '00'],
      ['more than DNS is', 'ab'.repeat(1400)],
      ['an update', `123828000001000000000000${question}0000060001`],
    ] as const) {
      const before = received().length;
      const answer = datagram(REMOTE[family], hex);
      const [query, ...others] = received().slice(before);
      expect({ what, query, others }).toEqual({ what, query: { by: 'udp', from: `${POD_A[family]}:5353`, bytes: hex }, others: [] });
      expect({ what, answer }).toMatchObject({ what, answer: { from: REMOTE[family], port: 53 } });
    }
  });

  test('a truncated answer comes as it is, and the same question over TCP goes to the resolver like any connection', async () => {
    const before = received().length;
    expect(inPod('a', REMOTE.v4, `say(await dns.resolve4('cut.example.org'));`)).toEqual(['192.0.2.7']);
    expect(
      received()
        .slice(before)
        .map(({ by }) => by),
    ).toEqual(['udp', 'tcp']);
  });

  test('a resolver behind an address that the host translates is reached, and answers from that address', () => {
    expect(lab.ask('a', REMOTE_VIP.v4, 53, 'connected')).toMatchObject({
      error: null,
      server: { peer: expect.stringContaining(POD_A.v4) },
    });
    expect(lab.ask('a', REMOTE_VIP.v6, 53, 'unconnected')).toMatchObject({
      error: null,
      server: { peer: expect.stringContaining(POD_A.v6) },
    });
  });

  test('other ports of UDP, and a pod that has not asked for it, are left alone', async () => {
    const before = await proxy.counter('dns_queries');
    expect(lab.ask('a', REMOTE.v4, 8080, 'connected')).toMatchObject({ error: null });
    expect(inPod('b', REMOTE.v4, `say(await dns.resolve4('${NAME}'));`)).toEqual(['192.0.2.7']);
    expect(await proxy.counter('dns_queries')).toBe(before);
  });

  test('without a proxy the resolver is asked directly, and a proxy that returns answers again', async () => {
    await proxy.kill();
    const ask = () => inPod('a', REMOTE.v4, `say(await dns.resolve4('${NAME}'));`);
    expect(ask()).toEqual(['192.0.2.7']);
    proxy = await MeshProxy.start(lab, 'proxy', resources);
    expect(ask()).toEqual([VIP.v4]);
  });
});
