import { existsSync, mkdtempSync, readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { Workload } from '../../api/gen/mesh/v1/model.js';
import { Capture } from './capture.js';

test('with redirection off nothing is captured, the states say so, and workloads whose namespace is there are running', async () => {
  const log = { info() {}, warn() {} };
  const capture = await Capture.open({ bpfDir: '/nowhere', meshNetns: '/nowhere', mode: 'off', heartbeatTimeoutMs: 1000, log });
  const base = { namespace: 'shop', capture: { outbound: true, inbound: true, failClosed: false } };
  let changes = 0;
  capture.onChange(() => changes++);
  await capture.reconcile([
    Workload.fromPartial({ ...base, name: 'here', networkNamespace: '/proc/self/ns/net', addresses: ['10.0.0.1'] }),
    Workload.fromPartial({ ...base, name: 'gone', networkNamespace: '/nowhere/ns' }),
  ]);
  expect(capture.state()).toMatchObject({
    mode: 'off',
    workloads: [
      { workload: 'shop/here', state: 'excluded' },
      { workload: 'shop/gone', state: 'excluded' },
    ],
  });
  expect(capture.running()).toMatchObject([{ workload: { name: 'here' }, addresses: ['10.0.0.1'] }]);
  expect(changes).toBe(1);
  await capture.close();
});

test('with redirection off, what an earlier agent left is not touched, and the log says so', async () => {
  const earlier = mkdtempSync(join(tmpdir(), 'weft-pins-'));
  const said: [object, string][] = [];
  const log = { info() {}, warn: (fields: object, message: string) => void said.push([fields, message]) };
  const off = { meshNetns: '/nowhere', mode: 'off', heartbeatTimeoutMs: 1000, log } as const;
  await (await Capture.open({ ...off, bpfDir: '/nowhere', podSocket: '/nowhere/pod.sock' })).close();
  expect(said).toEqual([]);
  await (await Capture.open({ ...off, bpfDir: earlier })).close();
  expect(said).toEqual([[{ earlier: [earlier] }, expect.stringContaining('weft agent --uninstall')]]);
  expect(existsSync(earlier)).toBe(true);
  rmdirSync(earlier);
});

test('docs/agent.md tells every reason for which a connection is not captured, in the words of the programs', () => {
  const header = readFileSync('bpf/weft_capture.h', 'utf8');
  const reasons = [...header.matchAll(/X\(\w+, "((?:bypass|held|refused|dropped|assign_failed)\w*)", "([^"]+)"\)/g)];
  const told = [
    ...readFileSync('docs/agent.md', 'utf8').matchAll(/^\| `((?:bypass|held|refused|dropped|assign_failed)\w*)` \| (.+) \|$/gm),
  ];
  expect(reasons.length).toBeGreaterThan(10);
  expect(told.map(([, name, meaning]) => [name, meaning])).toEqual(reasons.map(([, name, meaning]) => [name, meaning]));
});

test('a path that cannot be looked at is a namespace that is not there', async () => {
  const log = { info() {}, warn() {} };
  const capture = await Capture.open({ bpfDir: '/nowhere', meshNetns: '/nowhere', mode: 'off', heartbeatTimeoutMs: 1000, log });
  for (const networkNamespace of [`/${'x'.repeat(5_000)}`, '/a\0b']) {
    await capture.reconcile([Workload.fromPartial({ namespace: 'shop', name: 'odd', networkNamespace })]);
    expect(capture.running()).toEqual([]);
  }
  await capture.close();
});
