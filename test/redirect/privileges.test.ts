// Acceptance test 18: agent and proxy work with exactly the capabilities that docs/agent.md lists, and say what is missing with one less.
// Fails where it cannot run.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { HOST, POD_A, REMOTE } from './lab.js';
import { MeshProxy, workloadResource } from './mesh-proxy.js';
import { addressOf, KINDS, Scene } from './scene.js';

const dist = process.env.WEFT_DIST ?? join(process.cwd(), 'dist');
/** Of agent and proxy alike. The kernel takes CAP_SYS_ADMIN, without which no namespace is entered, for CAP_BPF and CAP_PERFMON too. */
const NEEDED = ['net_admin', 'sys_admin'] as const;

/** Of a proxy that is started in the mesh namespace. */
const NEEDED_INSIDE = ['net_admin', 'bpf'] as const;

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
    proxy = await MeshProxy.start(scene.lab, 'proxy', scene.enrolled().map(workloadResource), (command) => confined(NEEDED, command));
    const attempt = scene.lab.connect('a', REMOTE.v4, 8080);
    expect(attempt).toMatchObject({ error: null });
    expect(addressOf(attempt.server?.peer ?? '')).toBe(POD_A.v4);
    expect(attempt.server?.peer).not.toBe(attempt.local);
  }, 20_000);

  test('18: started in the mesh namespace the proxy serves pods without CAP_SYS_ADMIN', async () => {
    await proxy?.kill();
    const inside = (command: readonly string[]) => ['nsenter', `--net=${scene.lab.meshNetns}`, ...confined(NEEDED_INSIDE, command)];
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

  test('18: without CAP_SYS_ADMIN the proxy says so', async () => {
    const failure = MeshProxy.start(scene.lab, 'confined', [], (command) => confined(['net_admin'], command));
    await expect(failure).rejects.toThrow('CAP_SYS_ADMIN');
  });
});
