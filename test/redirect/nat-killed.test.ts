// What an agent that is killed while iptables captures a pod, or lets it go, leaves there, and what the next one makes of it. Fails where it
// cannot run.
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Capture } from '../../agent/capture/capture.js';
import { POD_SOCKET } from '../../agent/link/pod-channel.js';
import { Capture as CaptureSpec, Workload } from '../../api/gen/mesh/v1/model.js';
import { until } from '../lab/eventually.js';
import { Lab } from './lab.js';

const silent = { info() {}, warn() {} };
const lab = new Lab(`cap-kill-${process.pid}`);
const podSocket = join(lab.folder, POD_SOCKET);
const location = { bpfDir: lab.bpfDir, meshNetns: lab.meshNetns, hostNetns: lab.path('host'), podSocket };
const pod = Workload.fromPartial({
  namespace: 'shop',
  name: 'c',
  networkNamespace: lab.path('c'),
  capture: CaptureSpec.fromPartial({ outbound: true, inbound: true, failClosed: true }),
});

/** Every transaction of an installation, the last one first: each takes back what that one made. */
const undo = (['ip6tables', 'iptables'] as const).flatMap((command) => [
  ...['nat', 'raw'].map((table) => () => {
    lab.in('c', command, ['-t', table, '-D', 'OUTPUT', '-p', 'tcp', '-j', 'WEFT-OUTBOUND']);
    lab.in('c', command, ['-t', table, '-D', 'PREROUTING', '-p', 'tcp', '-j', 'WEFT-INBOUND']);
  }),
  ...['raw', 'nat'].map((table) => () => {
    for (const chain of ['WEFT-OUTBOUND', 'WEFT-INBOUND'])
      for (const word of ['-F', '-X']) lab.in('c', command, ['-t', table, word, chain]);
  }),
]);
const points = undo.slice(0, -1).map((_, at) => at + 1);

const rules = () =>
  ['iptables', 'ip6tables'].map((command) => lab.in('c', `${command}-save`, []).replace(/^#.*\n|\[\d+:\d+\]/gm, '')).join('');

async function captured(): Promise<string> {
  const capture = await Capture.open({ ...location, mode: 'iptables', heartbeatTimeoutMs: 1_000, log: silent });
  await capture.reconcile([pod]);
  const { state, detail } = capture.state().workloads[0]!;
  await capture.close();
  return `${state}${detail}`;
}

beforeAll(() => lab.up());
afterAll(() => lab.down());

test.each(points)(
  'killed %i transactions before the end of capturing: the next agent captures the pod as if nothing had been there',
  async (at) => {
    expect(await captured()).toBe('captured');
    const whole = rules();
    for (const each of undo.slice(0, at)) each();
    expect(rules()).not.toBe(whole);
    expect(await captured()).toBe('captured');
    expect(rules()).toBe(whole);
    await Capture.uninstall(location);
    expect(rules()).not.toMatch(/weft/i);
  },
);

test.each(points)('killed %i transactions before the end of capturing: an uninstall leaves nothing', async (at) => {
  expect(await captured()).toBe('captured');
  for (const each of undo.slice(0, at)) each();
  await Capture.uninstall(location);
  expect(rules()).not.toMatch(/weft/i);
});

test('a pod that can’t be let go holds up nobody else, and is let go when it can be', async () => {
  const other = { ...pod, name: 'b', networkNamespace: lab.path('b') };
  const capture = await Capture.open({ ...location, mode: 'iptables', heartbeatTimeoutMs: 1_000, log: silent });
  try {
    await capture.reconcile([pod]);
    // As when the pod goes at this very moment: the command fails.
    const keep = (word: string) => lab.in('c', 'iptables', ['-t', 'raw', word, 'OUTPUT', '-d', '192.0.2.1', '-j', 'WEFT-INBOUND']);
    keep('-A');
    await capture.reconcile([other]);
    expect(capture.state().workloads).toMatchObject([{ workload: 'shop/b', state: 'captured' }]);
    expect(rules()).toMatch(/weft/i);
    keep('-D');
    await until('its rules are gone', () => !/weft/i.test(rules()));
  } finally {
    await capture.close();
    await Capture.uninstall(location);
  }
});
