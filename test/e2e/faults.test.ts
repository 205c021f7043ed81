// Crashes and changes under traffic, in a real cluster: what the data plane does without its proxy, controller and store, and what
// `weft apply` promises.
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Cluster, until, WEFT } from '../../deploy/local/cluster.js';
import { compiled } from '../../deploy/local/compiled.js';
import type { LabProcess } from '../../deploy/local/process.js';
import { monotonicMs, type ProbeLine } from './probe.js';

const INSTANCE = 'wlab-e2e-faults';
const FAIL_OPEN_MS = 50;

let cluster: Cluster;

beforeAll(async () => {
  cluster = await Cluster.create({ instance: INSTANCE, workersPerProxy: 1 }, () => undefined);
  await cluster.start();
});

afterAll(async () => {
  await cluster?.lab.close();
});

function weft(args: readonly string[], input = ''): { readonly code: number | null; readonly stdout: string; readonly stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [WEFT, ...args], {
    ...{ input, encoding: 'utf8' as const, timeout: 60_000 },
    env: { ...process.env, WEFT_CONTROLLER: cluster.lab.controllerAddress },
  });
  return { code: status, stdout, stderr };
}

/** The canary route with these weights, as an operator would pipe it in. */
function applyWeights(v1: number, v2: number) {
  const route = readFileSync(`${cluster.manifests()}/catalog-route.yaml`, 'utf8');
  const weights = [v1, v2];
  return weft(
    ['apply', '-f', '-', '--wait'],
    route.replace(/weight: \d+/g, () => `weight: ${weights.shift()}`),
  );
}

class Probe {
  private constructor(readonly process: LabProcess) {}

  static async start(name: string, mode: 'new' | 'kept', intervalMs: number): Promise<Probe> {
    const command = [process.execPath, compiled('test/e2e/probe.js'), 'catalog', mode, String(intervalMs)];
    const probe = new Probe(await cluster.lab.startInPod('web', `pod-${name}`, command));
    await probe.after(0, 1);
    return probe;
  }

  lines(): ProbeLine[] {
    const text = readFileSync(this.process.spec.logFile, 'utf8');
    return text
      .slice(0, text.lastIndexOf('\n') + 1)
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as ProbeLine);
  }

  /** The calls begun after that moment, once there are `count` of them. */
  after(momentMs: number, count: number): Promise<ProbeLine[]> {
    return until(
      async () => {
        const lines = this.lines().filter((line) => line.beganMs >= momentMs);
        return lines.length >= count ? lines : null;
      },
      () => `the probe made too few calls. Its last words:\n${this.process.lastLines()}`,
    );
  }

  async stop(): Promise<void> {
    await this.process.stop(1_000);
  }
}

test('kill -9 of a proxy under load: new connections go direct within 50 ms, and are captured again when it is back', async () => {
  const probe = await Probe.start('failopen', 'new', 1);
  expect((await probe.after(0, 20)).every((line) => !line.direct && line.error === '')).toBe(true);
  const proxy = cluster.lab.process('proxy-node-a');
  const killedMs = monotonicMs();
  proxy.signal('SIGKILL');
  await proxy.exited;
  const afterwards = await probe.after(killedMs, 100);
  const firstDirect = afterwards.find((line) => line.direct);
  expect((firstDirect?.endedMs ?? Number.POSITIVE_INFINITY) - killedMs).toBeLessThan(FAIL_OPEN_MS);
  const late = afterwards.filter((line) => line.beganMs - killedMs > FAIL_OPEN_MS);
  expect(late.filter((line) => line.error !== '')).toEqual([]);
  await cluster.lab.restart('proxy-node-a');
  await cluster.captured();
  const backMs = monotonicMs();
  await until(
    async () => ((await probe.after(backMs, 1)).at(-1)?.direct === false ? true : null),
    () => 'still direct after the proxy came back',
  );
  await probe.stop();
  expect(probe.lines().filter((line) => line.beganMs > backMs && line.error !== '')).toEqual([]);
});

test('kill -9 of the controller and of etcd: traffic does not notice, and after their return a changed route is applied', async () => {
  const probe = await Probe.start('headless', 'new', 2);
  const dead = ['controller', 'etcd'].map((name) => cluster.lab.process(name));
  for (const each of dead) each.signal('SIGKILL');
  await Promise.all(dead.map((each) => each.exited));
  const killedMs = monotonicMs();
  const without = await probe.after(killedMs, 200);
  expect(without.filter((line) => line.error !== '' || line.direct)).toEqual([]);
  await cluster.lab.restart('etcd');
  await cluster.lab.restart('controller');
  await until(
    async () => {
      const { nodes } = JSON.parse(weft(['status', '-o', 'json']).stdout) as { nodes: { connected: boolean }[] };
      return nodes.length === 2 && nodes.every((node) => node.connected) ? true : null;
    },
    () => 'the nodes did not come back to the controller',
  );
  expect(applyWeights(0, 100)).toMatchObject({ code: 0, stderr: '' });
  const changed = await probe.after(monotonicMs(), 50);
  expect(changed.every((line) => line.workload === 'catalog-v2')).toBe(true);
  await probe.stop();
  expect(probe.lines().filter((line) => line.error !== '')).toEqual([]);
  expect(applyWeights(90, 10).code).toBe(0);
});

test('apply of a file with three mistakes prints all three with line and column and changes nothing', () => {
  const before = weft(['get', 'httproutes', '-o', 'json']).stdout;
  const file = `${cluster.lab.layout.runDir}/mistakes.yaml`;
  writeFileSync(
    file,
    `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: catalog, namespace: shop }
spec:
  parentRefs: [{ group: '', kind: Service, name: catalog, port: eighty }]
  rules:
    - backendRefs:
        - { name: catalog-v1, port: 80, wieght: 50 }
        - { name: catalog-v2, port: 80, weight: -1 }
`,
  );
  const { code, stderr, stdout } = weft(['apply', '-f', file]);
  const positions = [...stderr.matchAll(/mistakes\.yaml:(\d+):(\d+): (\S+): /g)].map(([, line, column, path]) => [
    Number(line),
    Number(column) > 0,
    path,
  ]);
  expect({ code, stdout, positions }).toEqual({
    ...{ code: 1, stdout: '' },
    positions: [
      [5, true, 'spec.parentRefs[0].port'],
      [8, true, 'spec.rules[0].backendRefs[0].wieght'],
      [9, true, 'spec.rules[0].backendRefs[1].weight'],
    ],
  });
  expect(weft(['get', 'httproutes', '-o', 'json']).stdout).toBe(before);
});

test('apply --wait: the new split is in force for the next request, and open connections live on', async () => {
  const kept = await Probe.start('kept', 'kept', 2);
  await kept.after(0, 20);
  for (const [v1, v2, expected] of [
    [0, 100, 'catalog-v2'],
    [100, 0, 'catalog-v1'],
  ] as const) {
    const applied = applyWeights(v1, v2);
    const appliedMs = monotonicMs();
    expect(applied).toMatchObject({ code: 0, stdout: expect.stringContaining('in force on node-a, node-b') });
    const next = await kept.after(appliedMs, 50);
    const stale = next.filter((line) => line.workload !== expected).map((line) => ({ ...line, sinceAppliedMs: line.beganMs - appliedMs }));
    expect(stale).toEqual([]);
  }
  await kept.stop();
  const lines = kept.lines();
  expect(lines.filter((line) => line.error !== '')).toEqual([]);
  expect(new Set(lines.map((line) => line.localPort)).size).toBe(1);
  expect(applyWeights(90, 10).code).toBe(0);
});
