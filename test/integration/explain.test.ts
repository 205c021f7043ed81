// `weft explain` as operators run it: a real controller over a real etcd, an agent and the real proxy; what it says is held against what the proxy does.
import { createServer } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { startEtcd, type TestEtcd } from '../lab/etcd.js';
import { eventually } from '../lab/eventually.js';
import { freePort } from '../lab/ports.js';
import { accessLog, gatewayManifest, serviceManifest } from '../lab/proxy-process.js';
import { ProxyScope } from '../lab/proxy-scope.js';
import { runWeft, type WeftEnded } from '../lab/weft-command.js';
import { startTestAgent } from './agent-lab.js';
import { apply, startTestController } from './controller-lab.js';

const scope = new ProxyScope();
let etcd: TestEtcd;
beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());

const route = (rules: string): string => `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec: {parentRefs: [{name: edge}], rules: [${rules}]}
`;
const RULES = `
  {matches: [{path: {value: /a}, headers: [{name: x-user, value: ann}]}], backendRefs: [{name: v2, port: 80}]},
  {matches: [{path: {value: /a}}], backendRefs: [{name: v1, port: 80}]}`;
/** Counts in a variable of its own: whoever asks it changes what it says. */
const FILTERED = `, {matches: [{path: {value: /f}}], backendRefs: [{name: v1, port: 80}],
  filters: [{type: ExtensionRef, extensionRef: {group: mesh.weft.dev, kind: Filter, name: counts}}]}`;
const FILTER = `
---
apiVersion: mesh.weft.dev/v1
kind: Filter
metadata: {name: counts}
spec: {module: "let calls = 0; export const onRequest = () => ({respond: {status: 402, body: 'call ' + ++calls}});"}
`;

test('what a node answers is what its proxy does, and a line of its access log is enough to ask', async () => {
  const controller = await startTestController(etcd.endpoint, { listen: [`unix:${join(scope.folder, 'controller.sock')}`] });
  scope.closing.push(() => controller.stop());
  const socket = `unix:${join(scope.folder, 'agent.sock')}`;
  const state = ['--run-dir', scope.folder, '--state-dir', join(scope.folder, 'state'), '--status-advertise', socket];
  const agent = await startTestAgent('--node', 'n1', '--controller', controller.address, ...state);
  scope.closing.push(() => agent.stop());
  const port = await freePort();
  const backend = async (name: string) => serviceManifest(name, await scope.listen(createServer((_, response) => response.end(name))));
  const manifests = [await backend('v1'), await backend('v2'), gatewayManifest(`{name: http, port: ${port}, protocol: HTTP}`)].join('');
  await apply(controller, `${manifests}${route(`${RULES}${FILTERED}`)}${FILTER}`);
  const log = join(scope.folder, 'access.log');
  const proxy = scope.launchWith(...['--agent', socket, '--node', 'n1', '--access-log', 'all', '--access-log-file', log]);
  await proxy.says('"ready"');
  const weft = (args: readonly string[], input = ''): Promise<WeftEnded> => runWeft(args, { WEFT_CONTROLLER: controller.address }, input);
  const url = `http://127.0.0.1:${port}`;

  for (const [path, headers, expected] of [
    ['/a', { 'x-user': 'ann' }, 'default/v2:80'],
    ['/a/b', {}, 'default/v1:80'],
  ] as const) {
    const flags = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}:${value}`]);
    // The node registers beside the first configuration.
    const { stdout } = await eventually(
      () => weft(['explain', 'GET', `${url}${path}`, ...flags, '-o', 'json']),
      ({ code }) => code === 0,
    );
    const { backends, outcome } = JSON.parse(stdout) as { backends: { service: string; chosen: boolean }[]; outcome: string };
    expect({ outcome, backends }).toMatchObject({ outcome: 'forwarded', backends: [{ service: expected, chosen: true }] });
    expect(`default/${await (await fetch(`${url}${path}`, { headers })).text()}:80`).toBe(expected);
  }

  // Run, and not by the process that answers requests: its variables are the module's as it is loaded, every time.
  for (let time = 0; time < 2; time++) {
    const { stdout } = await weft(['explain', 'GET', `${url}/f`]);
    expect(stdout).toContain('is answered 402 by the filter default/counts.');
    expect(stdout).toMatch(/default\/counts +answers .*answers 402\n.*body "call 1"/);
  }
  expect(await (await fetch(`${url}/f`)).text()).toBe('call 1');

  expect((await fetch(`${url}/nowhere?q=1`)).status).toBe(404);
  const lines = await eventually(
    async () => accessLog(log),
    ({ length }) => length === 4,
  );
  const explained = await weft(['explain', '--log', '-'], `${JSON.stringify(lines.find(({ status }) => status === 404))}\n`);
  expect(explained).toMatchObject({ code: 0, stderr: '' });
  expect(explained.stdout).toContain(
    `Now it comes in at gateway default/edge:${port} and is answered 404: no route matches this request (NR).`,
  );
  expect(explained.stdout).toMatch(/✗ +default\/shop rule 1 +\* +PathPrefix \/a +the path is another/);

  expect(await weft(['explain', '--from', 'shop/nobody', 'GET', 'http://v1/'])).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('no workload "shop/nobody" is known here'),
  });
  expect(await weft(['explain', 'GET'])).toMatchObject({ code: 2, stderr: expect.stringContaining('explain needs METHOD and URL') });
  expect(await weft(['explain', '--log', 'no JSON'])).toMatchObject({ code: 2, stderr: expect.stringContaining('which is JSON') });
});

test('files are explained without a controller, and their mistakes told where they stand', async () => {
  const files = [
    serviceManifest('v1', 8081),
    gatewayManifest('{name: http, port: 8080, protocol: HTTP}'),
    route(RULES.split('},\n')[1]!),
  ].join('');
  const nobody = { WEFT_CONTROLLER: '127.0.0.1:1' };
  const good = await runWeft(['explain', '-f', '-', 'GET', 'http://any.test:8080/a'], nobody, files);
  expect(good).toMatchObject({ code: 0, stdout: expect.stringContaining('goes to 127.0.0.1:8081') });
  const bad = await runWeft(['explain', '-f', '-', 'GET', 'http://any.test:8080/a'], nobody, files.replace('backendRefs', 'backends'));
  expect(bad).toMatchObject({ code: 1, stderr: expect.stringMatching(/^<stdin>:\d+:\d+: spec\.rules\[0\]\.backends: unknown field/) });
});
