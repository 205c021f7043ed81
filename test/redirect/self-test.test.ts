// The choice of the mode: what the self-test finds on this kernel, and on one that lets the agent do less. Fails where it cannot run.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { Capture } from '../../agent/capture/capture.js';
import { loadAddon } from '../../agent/native/addon.js';
import { Lab } from './lab.js';

const dist = process.env.WEFT_DIST ?? join(process.cwd(), 'dist');
const NAME = `wself-${process.pid}`;
const BPF_DIR = `/sys/fs/bpf/${NAME}`;

const leftovers = () => ['/sys/fs/bpf', '/run/netns'].flatMap((folder) => readdirSync(folder)).filter((name) => name.startsWith(NAME));

test.each(['ebpf-tcx', 'ebpf-clsact'] as const)('%s carries a connection each way on this kernel, and the test leaves nothing', (mode) => {
  loadAddon().testCapture(mode, BPF_DIR);
  expect(leftovers()).toEqual([]);
  expect(existsSync(BPF_DIR)).toBe(false);
});

test('a test that was killed is cleaned up by the next', () => {
  execFileSync('mkdir', ['-p', `${BPF_DIR}-test/maps`, `${BPF_DIR}-test/links`]);
  loadAddon().testCapture('ebpf-tcx', BPF_DIR);
  expect(leftovers()).toEqual([]);
});

test('auto takes what passed and says so', async () => {
  const lab = new Lab(NAME);
  const location = { bpfDir: lab.bpfDir, meshNetns: lab.meshNetns, hostNetns: lab.path('host') };
  try {
    lab.addNamespace('host');
    const capture = await Capture.open({ ...location, mode: 'auto', heartbeatTimeoutMs: 1000, log: { info() {}, warn() {} } });
    expect(capture.state()).toMatchObject({ mode: 'ebpf-tcx', reason: 'ebpf-tcx passed the self-test' });
    await capture.close();
  } finally {
    await Capture.uninstall(location);
    await lab.down();
  }
});

test('without the capabilities auto is off and ebpf ends, each with the reason of every mode', () => {
  const script = `
    import { Capture } from ${JSON.stringify(join(dist, 'agent/capture/capture.js'))};
    const log = { info() {}, warn() {} };
    const options = { bpfDir: '${BPF_DIR}', meshNetns: '/run/netns/${NAME}', heartbeatTimeoutMs: 1000, log };
    const capture = await Capture.open({ ...options, mode: 'auto' });
    const state = capture.state();
    await capture.close();
    const error = await Capture.open({ ...options, mode: 'ebpf' }).then(() => '', ({ message }) => message);
    console.log(JSON.stringify({ state, error }));`;
  const less = ['--inh-caps=-all', '--bounding-set=-bpf,-sys_admin'];
  const said = execFileSync('setpriv', [...less, process.execPath, '--input-type=module', '-e', script], { encoding: 'utf8' });
  const { state, error } = JSON.parse(said) as { state: { mode: string; reason: string }; error: string };
  expect(state.mode).toBe('off');
  for (const text of [state.reason, error]) {
    expect(text).toMatch(/no way to redirect passed the self-test: ebpf-tcx: .*CAP_SYS_ADMIN.*; ebpf-clsact: .*CAP_SYS_ADMIN/);
  }
  expect(leftovers()).toEqual([]);
});

const without = (reason: string) => new RegExp(`^ebpf-tcx: .*; ebpf-clsact: .*; ${reason}$`);

test.each([
  ['without eBPF auto takes nftables', [], 'nftables', without('nftables passed the self-test')],
  ['without nft it takes iptables', ['nft'], 'iptables', without('nftables: .*; iptables passed the self-test')],
  ['without both it is off', ['nft', 'iptables-restore'], 'off', /nftables: .*; iptables: /],
] as const)('%s, and says why', (_, missing, mode, reason) => {
  const folder = mkdtempSync(join(tmpdir(), NAME));
  const tools = ['nsenter', 'cat', 'nft', 'iptables', 'iptables-save', 'iptables-restore', 'ip6tables-save', 'ip6tables-restore'];
  for (const tool of tools.filter((name) => !missing.some((other) => other === name))) {
    symlinkSync(execFileSync('which', [tool], { encoding: 'utf8' }).trim(), join(folder, tool));
  }
  const script = `
    import { Capture } from ${JSON.stringify(join(dist, 'agent/capture/capture.js'))};
    const log = { info() {}, warn() {} };
    const places = { bpfDir: '${folder}/bpf', meshNetns: '/run/netns/${NAME}', podSocket: '${folder}/pods.sock' };
    const capture = await Capture.open({ ...places, mode: 'auto', heartbeatTimeoutMs: 1000, log });
    console.log(JSON.stringify(capture.state()));
    await capture.close();`;
  const env = { ...process.env, PATH: folder };
  const said = execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', env });
  expect(JSON.parse(said)).toMatchObject({ mode, reason: expect.stringMatching(reason) });
  rmSync(folder, { recursive: true });
});
