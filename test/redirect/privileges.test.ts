// Acceptance test 18: agent and proxy work with exactly the capabilities that docs/agent.md lists, and say what is missing with one less.
// Fails where it cannot run.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { HOST, POD_A, REMOTE } from './lab.js';
import { MeshProxy, workloadResource } from './mesh-proxy.js';
import { addressOf, KINDS, Scene } from './scene.js';

const dist = process.env.WEFT_DIST ?? join(process.cwd(), 'dist');
/** Of the agent. The kernel takes CAP_SYS_ADMIN, without which no namespace is entered, for CAP_BPF and CAP_PERFMON too. */
const NEEDED = ['net_admin', 'sys_admin'] as const;

/** What the proxy is started with, to enter the mesh namespace and to give up what that takes; and all that it serves with. */
const NEEDED_AT_START = ['net_admin', 'bpf', 'sys_admin', 'setpcap'] as const;
const NEEDED_BY_PROXY = ['net_admin', 'bpf'] as const;
const BITS = { net_admin: 12n, bpf: 39n } as const;

/** The command, with these capabilities and no way to others. */
function confined(capabilities: readonly string[], command: readonly string[]): readonly string[] {
  return [
    'setpriv',
    '--inh-caps=-all',
    `--bounding-set=-all${capabilities.map((name) => `,+${name}`).join('')}`,
    '--no-new-privs',
    ...command,
  ];
}

/** What it may use now, and could come by. */
function heldBy(pid: number | undefined): bigint {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const sets = ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'].map(
    (set) => new RegExp(`^${set}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1],
  );
  return sets.reduce((held, set) => held | BigInt(`0x${set}`), 0n);
}

describe.each(KINDS)('%s', (kind) => {
  const scene = new Scene(`wpriv-${kind}`);
  const cgroup = scene.lab.addCgroup('cart');
  const place = { ...scene.location, heartbeatTimeoutMs: 1000 };
  let proxy: MeshProxy | null = null;

  /** What an agent with these capabilities makes of pods A and B, and of a process of the host. */
  function agent(
    capabilities: readonly string[],
    withHostProcess = false,
  ): { mode: string; states: string[]; details: string[]; error: string } {
    const hostProcess = { ...scene.workload('cart'), networkNamespace: '', cgroup: `/${cgroup.split('/').at(-1)}`, addresses: [HOST.v4] };
    const script = `
      import { Capture } from ${JSON.stringify(join(dist, 'agent/capture/capture.js'))};
      const log = { info() {}, warn() {} };
      const said = { mode: '', states: [], details: [], error: '' };
      try {
        const capture = await Capture.open({ ...${JSON.stringify(place)}, mode: '${kind}', log });
        await capture.reconcile(${JSON.stringify(withHostProcess ? [hostProcess] : scene.enrolled())});
        const { mode, workloads } = capture.state();
        Object.assign(said, { mode, states: workloads.map(({ state }) => state), details: workloads.map(({ detail }) => detail) });
        await capture.close();
      } catch (error) {
        said.error = error.message;
      }
      console.log(JSON.stringify(said));`;
    const [command, ...words] = confined(capabilities, [process.execPath, '--input-type=module', '-e', script]);
    return JSON.parse(execFileSync(command!, words, { encoding: 'utf8' })) as ReturnType<typeof agent>;
  }

  beforeAll(() => scene.up(), 20_000);
  afterAll(async () => {
    await proxy?.kill();
    await scene.down();
  }, 20_000);

  test('18: with its capabilities the agent captures pods, and the proxy serves', async () => {
    expect(agent(NEEDED)).toMatchObject({ mode: kind, states: ['captured', 'captured'], error: '' });
    proxy = await MeshProxy.start(scene.lab, 'proxy', scene.enrolled().map(workloadResource), (command) =>
      confined(NEEDED_AT_START, command),
    );
    expect(heldBy(proxy.child.pid)).toBe(NEEDED_BY_PROXY.reduce((held, name) => held | (1n << BITS[name]), 0n));
    const attempt = scene.lab.connect('a', REMOTE.v4, 8080);
    expect(attempt).toMatchObject({ error: null });
    expect(addressOf(attempt.server?.peer ?? '')).toBe(POD_A.v4);
    expect(attempt.server?.peer).not.toBe(attempt.local);
  }, 20_000);

  test('18: started in the mesh namespace the proxy serves pods without CAP_SYS_ADMIN', async () => {
    await proxy?.kill();
    const inside = (command: readonly string[]) => ['nsenter', `--net=${scene.lab.meshNetns}`, ...confined(NEEDED_BY_PROXY, command)];
    proxy = await MeshProxy.start(scene.lab, 'inside', scene.enrolled().map(workloadResource), inside);
    const attempt = scene.lab.connect('a', REMOTE.v4, 8080);
    expect(attempt).toMatchObject({ error: null });
    expect(addressOf(attempt.server?.peer ?? '')).toBe(POD_A.v4);
    expect(attempt.server?.peer).not.toBe(attempt.local);
    await proxy.kill();
  }, 20_000);

  test('18: with the same it captures a process of the host', () => {
    expect(agent(NEEDED, true)).toMatchObject({ states: ['captured'], error: '' });
  });

  test.each(NEEDED)('18: without CAP_%s the agent says so', (missing) => {
    expect(agent(NEEDED.filter((name) => name !== missing)).error).toContain(`CAP_${missing.toUpperCase()}`);
  });

  test.each(['sys_admin', 'setpcap'] as const)('18: without CAP_%s the proxy says so and serves nothing', async (missing) => {
    const held = NEEDED_AT_START.filter((name) => name !== missing);
    const failure = MeshProxy.start(scene.lab, 'confined', [], (command) => confined(held, command));
    await expect(failure).rejects.toThrow(`CAP_${missing.toUpperCase()}`);
  });
});
