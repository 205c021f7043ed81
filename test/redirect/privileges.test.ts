// Acceptance test 18: agent and proxy work with exactly the capabilities that docs/agent.md lists, and say what is missing with one less.
// Fails where it cannot run.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Capture } from '../../agent/capture/capture.js';
import { eventually } from '../lab/eventually.js';
import { confined, startedAgent } from './confined-agent.js';
import { HOST, namespaceServers, POD_A, REMOTE } from './lab.js';
import { MeshProxy, workloadResource } from './mesh-proxy.js';
import { addressOf, KINDS, Scene } from './scene.js';

const dist = process.env.WEFT_DIST ?? join(process.cwd(), 'dist');
/** What the agent is started with, to leave weft-netns behind and to give up what that takes; all that it works with; and what weft-netns keeps. */
const NEEDED_BY_AGENT_AT_START = ['net_admin', 'bpf', 'perfmon', 'sys_admin', 'setpcap'] as const;
const NEEDED_BY_AGENT = ['net_admin', 'bpf', 'perfmon'] as const;
const KEPT_BY_NETNS = ['net_admin', 'sys_admin'] as const;

/** What the proxy is started with, to enter the mesh namespace and to give up what that takes; and all that it serves with. */
const NEEDED_AT_START = ['net_admin', 'bpf', 'sys_admin', 'setpcap'] as const;
const NEEDED_BY_PROXY = ['net_admin', 'bpf'] as const;
const BITS = { net_admin: 12n, sys_admin: 21n, perfmon: 38n, bpf: 39n } as const;

function bits(names: readonly (keyof typeof BITS)[]): bigint {
  return names.reduce((held, name) => held | (1n << BITS[name]), 0n);
}

/** What the process with that status may use now, and could come by. */
function heldIn(status: string): bigint {
  const sets = ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'].map(
    (set) => new RegExp(`^${set}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1],
  );
  return sets.reduce((held, set) => held | BigInt(`0x${set}`), 0n);
}

describe.each(KINDS)('%s', (kind) => {
  const scene = new Scene(`wpriv-${kind}`);
  const cgroup = scene.lab.addCgroup('cart');
  let proxy: MeshProxy | null = null;

  const agent = (capabilities: readonly string[], workloads = scene.enrolled()) => startedAgent(scene, kind, capabilities, workloads);

  beforeAll(() => scene.up());
  afterAll(async () => {
    await proxy?.kill();
    await scene.down();
  });

  test('18: with its capabilities, none of them CAP_SYS_ADMIN, the agent captures pods, and the proxy serves', async () => {
    const said = agent(NEEDED_BY_AGENT_AT_START);
    expect(said).toMatchObject({ mode: kind, states: ['captured', 'captured'], error: '' });
    expect(heldIn(said.held)).toBe(bits(NEEDED_BY_AGENT));
    expect(heldIn(said.helper)).toBe(bits(KEPT_BY_NETNS));
    proxy = await MeshProxy.start(scene.lab, 'proxy', scene.enrolled().map(workloadResource), (command) =>
      confined(NEEDED_AT_START, command),
    );
    expect(heldIn(readFileSync(`/proc/${proxy.child.pid}/status`, 'utf8'))).toBe(bits(NEEDED_BY_PROXY));
    const attempt = scene.lab.connect('a', REMOTE.v4, 8080);
    expect(attempt).toMatchObject({ error: null });
    expect(addressOf(attempt.server?.peer ?? '')).toBe(POD_A.v4);
    expect(attempt.server?.peer).not.toBe(attempt.local);
  });

  test('18: started in the mesh namespace the proxy serves pods without CAP_SYS_ADMIN', async () => {
    await proxy?.kill();
    const inside = (command: readonly string[]) => ['nsenter', `--net=${scene.lab.meshNetns}`, ...confined(NEEDED_BY_PROXY, command)];
    proxy = await MeshProxy.start(scene.lab, 'inside', scene.enrolled().map(workloadResource), inside);
    const attempt = scene.lab.connect('a', REMOTE.v4, 8080);
    expect(attempt).toMatchObject({ error: null });
    expect(addressOf(attempt.server?.peer ?? '')).toBe(POD_A.v4);
    expect(attempt.server?.peer).not.toBe(attempt.local);
    await proxy.kill();
  });

  test('18: with the same it captures a process of the host', () => {
    const hostProcess = { ...scene.workload('cart'), networkNamespace: '', cgroup: `/${cgroup.split('/').at(-1)}`, addresses: [HOST.v4] };
    expect(agent(NEEDED_BY_AGENT_AT_START, [hostProcess])).toMatchObject({ states: ['captured'], error: '' });
  });

  test.each(['net_admin', 'bpf'] as const)('18: without CAP_%s the agent says so', (missing) => {
    expect(agent(NEEDED_BY_AGENT_AT_START.filter((name) => name !== missing)).error).toContain(`CAP_${missing.toUpperCase()}`);
  });

  test.each(['sys_admin', 'setpcap'] as const)('18: without CAP_%s weft-netns says so, and there is no agent', (missing) => {
    expect(() => agent(NEEDED_BY_AGENT_AT_START.filter((name) => name !== missing))).toThrow(`CAP_${missing.toUpperCase()}`);
  });

  test('18: `weft agent` itself gives up CAP_SYS_ADMIN before it does anything else, and ends with its weft-netns', async () => {
    const runDir = join(scene.lab.folder, 'agent');
    const flags = ['--controller', '127.0.0.1:1', '--node', 'n1', '--run-dir', runDir, '--state-dir', runDir, '--capture', kind];
    const listen = ['--status-listen', '127.0.0.1:0', '--metrics-listen', '127.0.0.1:0', '--log-level', 'silent'];
    const places = ['--bpf-dir', scene.lab.bpfDir, '--mesh-netns', scene.lab.meshNetns];
    const start = confined(NEEDED_BY_AGENT_AT_START, [
      process.execPath,
      join(dist, 'cli', 'main.js'),
      'agent',
      ...flags,
      ...listen,
      ...places,
    ]);
    const child = spawn('nsenter', [`--net=${scene.lab.path('host')}`, ...start], { stdio: ['ignore', 'ignore', 'inherit'] });
    const ended = once(child, 'exit');
    const status = () => readFileSync(`/proc/${child.pid}/status`, 'utf8');
    try {
      expect(await eventually(async () => existsSync(join(runDir, 'agent.sock')), Boolean)).toBe(true);
      expect(heldIn(status())).toBe(bits(NEEDED_BY_AGENT));
      const [server] = namespaceServers(runDir).filter((pid) => pid !== child.pid);
      expect(heldIn(readFileSync(`/proc/${server}/status`, 'utf8'))).toBe(bits(KEPT_BY_NETNS));
      process.kill(server!, 'SIGKILL');
      expect((await ended)[0]).toBe(1);
    } finally {
      child.kill('SIGKILL');
    }
  });

  test.each(['sys_admin', 'setpcap'] as const)('18: without CAP_%s the proxy says so and serves nothing', async (missing) => {
    const held = NEEDED_AT_START.filter((name) => name !== missing);
    const failure = MeshProxy.start(scene.lab, 'confined', [], (command) => confined(held, command));
    await expect(failure).rejects.toThrow(`CAP_${missing.toUpperCase()}`);
  });
});

describe.each(['nftables', 'iptables'] as const)('%s', (mode) => {
  const scene = new Scene(`wpriv-${mode}`);
  beforeAll(() => scene.up());
  afterAll(async () => {
    await Capture.uninstall({ ...scene.location, podSocket: join(scene.lab.folder, 'pods.sock') });
    await scene.down();
  });

  test('18: with its capabilities, none of them CAP_SYS_ADMIN, the agent captures pods', () => {
    const said = startedAgent(scene, mode, NEEDED_BY_AGENT_AT_START, scene.enrolled());
    expect(said).toMatchObject({ mode, states: ['captured', 'captured'], details: ['', ''], error: '' });
    expect(heldIn(said.held)).toBe(bits(NEEDED_BY_AGENT));
    expect(heldIn(said.helper)).toBe(bits(KEPT_BY_NETNS));
    const rules = mode === 'nftables' ? ['nft', ['list', 'tables']] : ['iptables-save', ['-t', 'nat']];
    expect(scene.lab.in('b', ...(rules as [string, string[]]))).toMatch(/weft/i);
  });
});
