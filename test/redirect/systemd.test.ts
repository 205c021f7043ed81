// The units of deploy/systemd started by a real systemd, as PID 1 of namespaces of its own (test/lab/boot-systemd.sh): boot, restart, crash, upgrade, stop.
// Fails where it cannot run.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { until } from '../lab/eventually.js';

const UNITS = ['weft-controller', 'weft-agent', 'weft-proxy@a'];
const unified = /^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 /m.exec(readFileSync('/proc/self/mountinfo', 'utf8'))?.[1] ?? '/sys/fs/cgroup';
const cgroup = join(unified, `weft-systemd-${process.pid}`);
const root = mkdtempSync('/tmp/wsystemd-');
let booting: ChildProcess;
let init = 0;

/** In the namespaces of that systemd. */
function inside(...command: string[]): string {
  const spaces = ['-m', '-p', '-n', '-i', '-u', '-C', '-r', '-w'];
  const path = 'PATH=/usr/sbin:/usr/bin:/sbin:/bin';
  return execFileSync('nsenter', ['-t', String(init), ...spaces, 'env', '-i', path, ...command], { encoding: 'utf8', stdio: 'pipe' });
}

/** What it shows of a unit; of one that is not active, too. */
function shown(unit: string): Record<string, string> {
  const lines = inside('systemctl', 'show', unit).split('\n');
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
}

const weft = (...args: string[]) => inside('node', '/opt/weft/dist/cli/main.js', ...args, '--controller', 'unix:/run/weft/controller.sock');

/** Whole, as `weft status` shows it. */
function serves(): boolean {
  const { nodes } = JSON.parse(weft('status', '-o', 'json')) as {
    nodes: { connected: boolean; status: { capture?: { mode: string }; proxy?: object; appliedRevision: number } | null }[];
  };
  const [node] = nodes;
  return node?.connected === true && node.status?.proxy !== undefined && node.status.capture?.mode.startsWith('ebpf') === true;
}

beforeAll(async () => {
  mkdirSync(cgroup);
  const script = join(process.cwd(), 'test/lab/boot-systemd.sh');
  const modules = realpathSync(join(process.cwd(), 'node_modules'));
  booting = spawn(script, [root, process.cwd(), modules, cgroup], { stdio: 'ignore' });
  await until('a systemd', () => {
    init = Number(readFileSync(join(cgroup, 'init.scope/cgroup.procs'), 'utf8').split('\n')[0]);
    return init > 0;
  });
});

afterAll(async () => {
  const ended = new Promise((resolve) => booting.once('exit', resolve));
  if (init > 0) process.kill(init, 'SIGKILL');
  booting.kill('SIGKILL');
  await ended;
  await until('an empty cgroup', () => {
    removeCgroup(cgroup);
    return !existsSync(cgroup);
  });
  rmSync(root, { recursive: true, force: true });
});

function removeCgroup(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) if (entry.isDirectory()) removeCgroup(join(folder, entry.name));
  rmdirSync(folder);
}

test('a host boots into a mesh: all units run as weft, the agent before what is to be captured', async () => {
  await until('the node serves', serves);
  for (const unit of UNITS) {
    const { ActiveState, MainPID, NRestarts } = shown(unit);
    // The controller may find that etcd is not there yet: it waits for it, and does not end.
    expect([unit, ActiveState, NRestarts]).toEqual([unit, 'active', '0']);
    expect(inside('stat', '-c', '%U', `/proc/${MainPID}`).trim()).toBe('weft');
  }
  const began = (unit: string) => Number(shown(unit).ExecMainStartTimestampMonotonic);
  expect(began('weft-agent')).toBeLessThan(began('kubelet'));
  expect(began('weft-agent')).toBeLessThan(began('weft-proxy@a'));
  expect(began('etcd')).toBeLessThan(began('weft-controller'));
});

test('the agent is restarted, the proxy crashes: redirection and sockets outlive the one, systemd starts the other', async () => {
  const mesh = inside('stat', '-c', '%i', '/run/netns/weft-mesh');
  const [agent, proxy] = [shown('weft-agent').MainPID, shown('weft-proxy@a').MainPID];
  inside('systemctl', 'restart', 'weft-agent');
  await until('the node serves again', serves);
  expect(shown('weft-agent').MainPID).not.toBe(agent);
  expect(shown('weft-proxy@a').MainPID).toBe(proxy);
  expect(inside('stat', '-c', '%i', '/run/netns/weft-mesh')).toBe(mesh);
  inside('kill', '-9', proxy ?? '');
  await until('another proxy', () => shown('weft-proxy@a').NRestarts === '1' && serves());
});

test('the proxy is upgraded by its second unit, and the first one ends well by itself', async () => {
  inside('systemctl', 'start', 'weft-proxy@b');
  await until('the end of the first', () => shown('weft-proxy@a').ActiveState === 'inactive');
  expect(shown('weft-proxy@a')).toMatchObject({ Result: 'success', ExecMainStatus: '0', NRestarts: '1' });
  await until('the second serves', serves);
});

test('all are stopped in time and well, and the agent takes its redirection down when it is asked to', () => {
  inside('systemctl', 'stop', 'weft-proxy@b', 'weft-agent', 'weft-controller');
  for (const unit of ['weft-proxy@b', 'weft-agent', 'weft-controller'])
    expect([unit, shown(unit).ActiveState, shown(unit).Result]).toEqual([unit, 'inactive', 'success']);
  inside('node', '/opt/weft/dist/cli/main.js', 'agent', '--uninstall', '--bpf-dir', '/run/weft/bpf/weft');
  expect(inside('find', '/run/weft/bpf', '-mindepth', '1', '-not', '-name', '*.debug')).toBe('');
});
