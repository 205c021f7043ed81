// Pods of Kubernetes, known by their UID alone: the agent finds their network namespaces by the cgroups of their processes. Real namespaces, cgroups and
// processes, as kubelet and a runtime make them. Fails where it cannot run.
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Workload } from '../../api/gen/mesh/v1/model.js';
import { Condition } from '../lab/condition.js';
import { startedAgent } from './confined-agent.js';
import { POD_A, POD_B, REMOTE } from './lab.js';
import { startSandbox } from './sandbox.js';
import { Scene } from './scene.js';

const UID = '1c6b5d5e-8a3f-4c1e-9b1a-0123456789ab';
const scene = new Scene('wkube');
const { lab } = scene;
const closing: (() => Promise<void>)[] = [];

async function sandbox(namespace: string): Promise<() => Promise<void>> {
  const end = await startSandbox(lab, namespace, UID);
  closing.push(end);
  return end;
}

const pod = (addresses: string[] = [], fields: Partial<Workload> = {}): Workload =>
  Workload.fromPartial({ ...scene.workload('a'), networkNamespace: '', podUid: UID, addresses, ...fields });

const stateOf = () => scene.capture.state().workloads[0];
const changes = new Condition();

const until = (state: string) => changes.until(`${state} (now ${JSON.stringify(stateOf())})`, () => stateOf()?.state === state);

beforeAll(async () => {
  await scene.up();
  const capture = await scene.open('auto');
  capture.onChange(() => changes.changed());
  scene.proxy = await lab.proxy();
});

afterAll(async () => {
  for (const close of closing) await close();
  await scene.down();
});

test('a pod is captured when its sandbox has come, and where its next sandbox is', async () => {
  await scene.capture.reconcile([pod()]);
  expect(stateOf()).toMatchObject({ state: 'pending', detail: expect.stringContaining(UID) });
  const first = await sandbox('a');
  await until('captured');
  expect(stateOf()?.addresses).toEqual(expect.arrayContaining([POD_A.v4]));
  scene.expectOnePass('a', POD_A.v4, REMOTE.v4, 8080, 'outbound');

  await first();
  await until('pending');
  scene.expectDirect('a', POD_A.v4, REMOTE.v4);
  await sandbox('b');
  await until('captured');
  scene.expectOnePass('b', POD_B.v4, REMOTE.v4, 8080, 'outbound');
  scene.expectDirect('a', POD_A.v4, REMOTE.v4);
});

test('an agent that comes later finds it again, and its addresses may be known before or not', async () => {
  await scene.capture.close();
  const capture = await scene.open('auto');
  capture.onChange(() => changes.changed());
  await capture.reconcile([pod([POD_B.v4, POD_B.v6])]);
  expect(stateOf()).toMatchObject({ state: 'captured', addresses: [POD_B.v4, POD_B.v6] });
  scene.expectOnePass('b', POD_B.v4, REMOTE.v4, 8080, 'outbound');
  await capture.reconcile([]);
  scene.expectDirect('b', POD_B.v4, REMOTE.v4);
});

test('the namespaces of others’ processes take CAP_SYS_PTRACE besides what an agent is started with: weft-netns looks there', () => {
  const needed = ['net_admin', 'bpf', 'perfmon', 'sys_admin', 'setpcap'];
  const agent = (capabilities: readonly string[]) => startedAgent(scene, 'auto', capabilities, [pod()]);
  expect(agent([...needed, 'sys_ptrace'])).toMatchObject({ states: ['captured'], details: [''], error: '' });
  expect(agent(needed)).toMatchObject({ states: ['failed'], details: [expect.stringContaining('CAP_SYS_PTRACE')], error: '' });
});
