// An agent that is started with some capabilities alone, by way of weft-netns as the real one: for the tests of which it takes.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { netnsProgram } from '../../agent/native/addon.js';
import type { Workload } from '../../api/gen/mesh/v1/model.js';
import type { Scene } from './scene.js';

const dist = process.env.WEFT_DIST ?? join(process.cwd(), 'dist');

/** The command, with these capabilities and no way to others. */
export function confined(capabilities: readonly string[], command: readonly string[]): readonly string[] {
  return [
    'setpriv',
    '--inh-caps=-all',
    `--bounding-set=-all${capabilities.map((name) => `,+${name}`).join('')}`,
    '--no-new-privs',
    ...command,
  ];
}

export interface Said {
  readonly mode: string;
  readonly states: readonly string[];
  readonly details: readonly string[];
  readonly error: string;
  /** Of the agent and of its weft-netns: /proc/PID/status. */
  readonly held: string;
  readonly helper: string;
}

/** What an agent that is started with these capabilities alone makes of the workloads; and what it and its weft-netns then hold. */
export function startedAgent(scene: Scene, mode: string, capabilities: readonly string[], workloads: readonly Workload[]): Said {
  const place = { ...scene.location, heartbeatTimeoutMs: 1000, podSocket: join(scene.lab.folder, 'pods.sock') };
  const mesh = `--agent=${scene.lab.meshNetns}`;
  const script = `
    import { readdirSync, readFileSync } from 'node:fs';
    import { Capture } from ${JSON.stringify(join(dist, 'agent/capture/capture.js'))};
    import { loadAddon } from ${JSON.stringify(join(dist, 'agent/native/addon.js'))};
    import { takeNamespaces } from ${JSON.stringify(join(dist, 'agent/native/netns.js'))};
    const log = { info() {}, warn() {} };
    const read = (pid, file) => { try { return readFileSync('/proc/' + pid + '/' + file, 'utf8'); } catch { return ''; } };
    const netns = readdirSync('/proc').find((pid) => read(pid, 'comm') === 'weft-netns\\n' && read(pid, 'cmdline').includes(${JSON.stringify(mesh)}));
    const said = { mode: '', states: [], details: [], error: '', held: read('self', 'status'), helper: read(netns, 'status') };
    loadAddon().useNetns(takeNamespaces(process.env).channel);
    try {
      const capture = await Capture.open({ ...${JSON.stringify(place)}, mode: '${mode}', log });
      await capture.reconcile(${JSON.stringify(workloads)});
      const { mode, workloads } = capture.state();
      Object.assign(said, { mode, states: workloads.map(({ state }) => state), details: workloads.map(({ detail }) => detail) });
      await capture.close();
    } catch (error) {
      said.error = error.message;
    }
    console.log(JSON.stringify(said));`;
  const [command, ...words] = confined(capabilities, [netnsProgram(), mesh, process.execPath, '--input-type=module', '-e', script]);
  return JSON.parse(execFileSync(command!, words, { encoding: 'utf8' })) as Said;
}
