// The real proxy of a host replaced by its successor under captured traffic: not one connection goes direct, is refused or is lost
// (acceptance test 13). Over every kind of capture.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Capture } from '../../agent/capture/capture.js';
import { countersByReason, savedCountersByReason } from '../../agent/capture/nat-capture.js';
import { POD_SOCKET } from '../../agent/link/pod-channel.js';
import { loadAddon } from '../../agent/native/addon.js';
import { Capture as CaptureSpec, Workload } from '../../api/gen/mesh/v1/model.js';
import { DiscoveryTestServer } from '../lab/discovery-server.js';
import { eventually } from '../lab/eventually.js';
import { ProxyProcess } from '../lab/proxy-process.js';
import { Lab, more, POD_B, REMOTE } from './lab.js';
import { KINDS, log } from './scene.js';

/** The fallback's two: their counters are read from the rules. */
const NAT = {
  nftables: (lab: Lab, pod: string, reasons: readonly string[]) =>
    countersByReason(lab.in(pod, 'nft', ['-j', 'list', 'counters', 'table', 'inet', 'weft']), reasons),
  iptables: (lab: Lab, pod: string, reasons: readonly string[]) =>
    savedCountersByReason(['', '6'].map((v) => lab.in(pod, `ip${v}tables-save`, ['-c', '-t', 'nat'])).join(''), reasons),
} as const;
const isNat = (kind: string): kind is keyof typeof NAT => kind in NAT;

describe.each([...KINDS, 'nftables', 'iptables'] as const)('%s', (kind) => {
  const lab = new Lab(`whand-${kind}-${process.pid}`);
  const podSocket = isNat(kind) ? join(lab.folder, POD_SOCKET) : null;
  const location = { bpfDir: lab.bpfDir, meshNetns: lab.meshNetns, hostNetns: lab.path('host'), podSocket };
  const proxies: ProxyProcess[] = [];
  let capture: Capture;
  let agent: DiscoveryTestServer;

  function workload(name: string): Workload {
    const spec = CaptureSpec.fromPartial({ outbound: true, inbound: true });
    return Workload.fromPartial({ namespace: 'shop', name, networkNamespace: lab.path(name), capture: spec });
  }

  beforeAll(async () => {
    lab.up();
    for (const name of ['a', 'b', 'remote']) await lab.serve(name, 8080);
    capture = await Capture.open({ ...location, mode: kind, heartbeatTimeoutMs: 1000, log });
    await capture.reconcile([workload('a'), workload('b')]);
    agent = await DiscoveryTestServer.start(`unix:${join(lab.folder, 'agent.sock')}`);
  });

  afterAll(async () => {
    await Promise.all(proxies.map((proxy) => proxy.kill()));
    agent.stop();
    await capture.close();
    await Capture.uninstall(location);
    await lab.down();
  });

  /** Serves captured traffic when it resolves: it knows no service, so everything passes through as it was addressed. */
  async function startProxy(workers: number): Promise<ProxyProcess> {
    const mesh = ['--mesh-netns', lab.meshNetns, '--bpf-dir', lab.bpfDir];
    const proxy = ProxyProcess.startWith(['--agent', agent.address, '--node', 'n1', ...mesh, '--workers', String(workers)], lab.folder);
    const isFirst = proxies.length === 0;
    proxies.push(proxy);
    const stream = await agent.nextStream();
    await stream.next();
    stream.send({ nonce: 1, revision: 1, token: { clusterId: 'c', compiler: 'k', revision: 1 }, full: true, resources: [] });
    await stream.next();
    await proxy.says(isFirst ? 'revision 1 is in force' : 'it accepts no more, and drains');
    return proxy;
  }

  /** One connection that is answered every 10 ms until its standard input ends; then it says how often. */
  function longLived(namespace: string, address: string): ChildProcess {
    const script = `const socket = require('net').connect(8080, ${JSON.stringify(address)});
    let answers = 0;
    socket.on('data', () => { answers++; setTimeout(() => socket.writable && socket.write('x'), 10); });
    socket.on('close', () => { console.log('lost after ' + answers); process.exit(1); });
    socket.on('error', () => {});
    process.stdin.on('end', () => { console.log(answers); process.exit(0); }).resume();`;
    return spawn('nsenter', [`--net=${lab.path(namespace)}`, process.execPath, '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] });
  }

  function counted(name: RegExp): number {
    const { reasons } = loadAddon().captureNames();
    const sum = (values: readonly number[]) => reasons.reduce((total, reason, i) => total + (name.test(reason) ? values[i]! : 0), 0);
    if (isNat(kind)) return sum(NAT[kind](lab, 'a', reasons)) + sum(NAT[kind](lab, 'b', reasons));
    return capture
      .state()
      .workloads.flatMap(({ counters }) => counters)
      .filter((counter) => name.test(counter.name))
      .reduce((sum, { value }) => sum + value, 0);
  }

  test('13: three upgrades under load, with more and with fewer workers: every connection is captured and answered', async () => {
    const first = await startProxy(2);
    if (isNat(kind)) {
      // The agent tells the proxy of the pods in its own time.
      const isCaptured = async () => {
        // Which it does here, in this process, in many turns: what follows holds them up.
        await sleep(100);
        const before = counted(/captured/);
        for (const [from, to] of [
          ['a', REMOTE.v4],
          ['a', REMOTE.v6],
          ['remote', POD_B.v4],
        ] as const)
          lab.connect(from, to, 8080);
        return counted(/captured/) === before + 3;
      };
      expect(await eventually(isCaptured, Boolean)).toBe(true);
    }
    const streams = [longLived('a', REMOTE.v4), longLived('remote', POD_B.v4)];
    const bypassed = counted(/bypass|refused|dropped/);
    const captured = { outbound: counted(/captured_outbound/), inbound: counted(/captured_inbound/) };
    const probers = await Promise.all([
      lab.prober('a', REMOTE.v4, 8080, 5),
      lab.prober('a', REMOTE.v6, 8080, 20),
      lab.prober('remote', POD_B.v4, 8080, 10),
    ]);
    for (const workers of [3, 1, 2]) {
      await startProxy(workers);
      await Promise.all(probers.map((prober) => more(prober, 20)));
    }
    const probes = await Promise.all(probers.map((prober) => prober.stop()));
    for (const attempts of probes) expect(attempts.filter(({ error }) => error !== null)).toEqual([]);
    const [out4, out6, inbound] = probes.map(({ length }) => length) as [number, number, number];
    expect(counted(/bypass|refused|dropped/)).toBe(bypassed);
    expect(counted(/captured_outbound/)).toBeGreaterThanOrEqual(captured.outbound + out4 + out6);
    expect(counted(/captured_inbound/)).toBeGreaterThanOrEqual(captured.inbound + inbound);

    expect(first.child.exitCode).toBeNull();
    for (const stream of streams) {
      const said = once(stream.stdout!, 'data');
      stream.stdin!.end();
      expect(Number(String((await said)[0]))).toBeGreaterThan(50);
    }
    for (const proxy of proxies.slice(0, -1)) expect(await proxy.exit()).toBe(0);
  });
});
