// Agent and proxy as deploy/systemd runs them: as a user of their own, whose capabilities are ambient. Real processes capture a pod, by eBPF and by the
// fallback. Fails where it cannot run.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Capture } from '../../agent/capture/capture.js';
import { POD_SOCKET } from '../../agent/link/pod-channel.js';
import { DiscoveryTestServer } from '../lab/discovery-server.js';
import { eventually } from '../lab/eventually.js';
import { namespaceServers, POD_A, REMOTE } from './lab.js';
import { workloadResource } from './mesh-proxy.js';
import { addressOf, Scene } from './scene.js';

const dist = process.env.WEFT_DIST ?? join(process.cwd(), 'dist');
/** nobody's: has no file on the machine. */
const USER = 65_534;
const units = join(process.cwd(), 'deploy/systemd');

function capabilitiesOf(unit: string): string[] {
  const [, names = ''] = /^AmbientCapabilities=(.*)$/m.exec(readFileSync(join(units, unit), 'utf8')) ?? [];
  return names.split(' ').map((name) => name.replace('CAP_', '').toLowerCase());
}

describe.each(['ebpf-tcx', 'nftables'] as const)('%s', (mode) => {
  const scene = new Scene(`wown-${mode}`);
  const { lab } = scene;
  const runDir = join(lab.folder, 'run');
  const bpffs = join(lab.folder, 'bpf');
  const place = [
    '--run-dir',
    runDir,
    '--bpf-dir',
    join(bpffs, 'weft'),
    '--mesh-netns',
    lab.meshNetns,
    '--node',
    'n1',
    '--log-level',
    'info',
  ];
  const children: ChildProcess[] = [];
  let controller: DiscoveryTestServer;
  let said = '';

  function start(unit: string, words: readonly string[]): ChildProcess {
    const list = capabilitiesOf(unit)
      .map((name) => `,+${name}`)
      .join('');
    const sets = ['--inh-caps', '--ambient-caps', '--bounding-set'].map((set) => `${set}=-all${list}`);
    const user = [`--reuid=${USER}`, `--regid=${USER}`, '--clear-groups', ...sets, '--no-new-privs'];
    const command = [`--net=${lab.path('host')}`, 'setpriv', ...user, process.execPath, join(dist, 'cli/main.js'), ...words, ...place];
    const child = spawn('nsenter', command, { stdio: ['ignore', 'ignore', 'pipe'] });
    child.stderr?.on('data', (chunk: Buffer) => {
      said += chunk.toString();
    });
    children.push(child);
    return child;
  }

  beforeAll(async () => {
    await scene.up();
    // As the units' ExecStartPre= and RuntimeDirectory= do.
    chmodSync(lab.folder, 0o755);
    for (const folder of [runDir, bpffs]) mkdirSync(folder);
    execFileSync('mount', ['-t', 'bpf', '-o', 'mode=0700', 'bpf', bpffs]);
    for (const folder of [runDir, bpffs]) chownSync(folder, USER, USER);
    writeFileSync(lab.meshNetns, '');
    const socket = join(lab.folder, 'controller.sock');
    controller = await DiscoveryTestServer.start(`unix:${socket}`);
    chmodSync(socket, 0o777);
  });
  afterAll(async () => {
    for (const child of children) {
      child.kill('SIGKILL');
      await once(child, 'exit').catch(() => undefined);
    }
    controller?.stop();
    await Capture.uninstall({ ...scene.location, bpfDir: join(bpffs, 'weft'), podSocket: join(runDir, POD_SOCKET) });
    execFileSync('umount', [bpffs]);
    await scene.down();
  });

  test('18: agent, proxy and both weft-netns run as that user, and a pod is captured', async () => {
    const listen = ['--status-listen', '127.0.0.1:0', '--metrics-listen', '127.0.0.1:0', '--state-dir', runDir, '--capture', mode];
    const agent = start('weft-agent.service', ['agent', '--controller', `unix:${join(lab.folder, 'controller.sock')}`, ...listen]);
    const stream = await controller.nextStream();
    await stream.next();
    const workload = { ...scene.workload('a'), node: 'n1', addresses: [POD_A.v4, POD_A.v6] };
    stream.send({
      nonce: 1,
      revision: 1,
      token: { clusterId: 'c', compiler: 'k', revision: 1 },
      full: true,
      resources: [workloadResource(workload)],
    });
    await stream.next();
    const proxy = start('weft-proxy@.service', ['proxy', '--agent', `unix:${join(runDir, 'agent.sock')}`, '--workers', '1']);
    const isCaptured = async () => {
      const { error, local, server } = lab.connect('a', REMOTE.v4, 8080);
      return error === null && server?.peer !== local && addressOf(server?.peer ?? '') === POD_A.v4;
    };
    await eventually(isCaptured, Boolean, () => said);
    for (const pid of [agent.pid, proxy.pid, ...namespaceServers(runDir)]) {
      const status = readFileSync(`/proc/${pid}/status`, 'utf8');
      expect(/^Uid:\s+(.*)$/m.exec(status)?.[1]).toBe([USER, USER, USER, USER].join('\t'));
    }
    expect(statSync(join(runDir, 'agent.sock')).mode & 0o777).toBe(0o600);
    expect(namespaceServers(runDir)).toHaveLength(2);
  });
});
