// The command line against a controller over real etcd, as an operator types it.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { WEFT } from '../../deploy/local/cluster.js';
import { startEtcd, type TestEtcd } from '../lab/etcd.js';
import { runWeft } from '../lab/weft-command.js';
import { serviceYaml, startTestController, type TestController } from './controller-lab.js';

let etcd: TestEtcd;
let controller: TestController;

beforeEach(async () => {
  etcd = await startEtcd();
  controller = await startTestController(etcd.endpoint);
});

afterEach(async () => {
  await controller.stop();
  await etcd.stop();
});

function weft(args: readonly string[], input = '') {
  return runWeft(args, { WEFT_CONTROLLER: controller.address, WEFT_ACTOR: 'ann@desk' }, input);
}

test('diff shows what apply would change, history what it changed and who, rollback brings it back', async () => {
  expect((await weft(['apply', '-f', '-'], serviceYaml('catalog'))).stdout).toBe('service shop/catalog created\n');
  expect(await weft(['diff', '-f', '-', '--exit-code'], serviceYaml('catalog'))).toEqual({ code: 0, stdout: '', stderr: '' });
  const differs = await weft(['diff', '-f', '-', '--exit-code'], serviceYaml('catalog', 81));
  expect(differs).toMatchObject({ code: 1, stderr: '1 object would change\n' });
  expect(differs.stdout).toMatch(/^--- service shop\/catalog\n\+\+\+ service shop\/catalog\n@@ .* @@\n/);
  expect(differs.stdout.split('\n').filter((line) => /^[-+] /.test(line))).toEqual(['-      port: 80', '+      port: 81']);
  expect((await weft(['diff', '-f', '-'], serviceYaml('cart'))).stdout).toMatch(
    /^--- \/dev\/null\n\+\+\+ service shop\/cart\n@@ -0,0 \+1,\d+ @@\n/,
  );

  await weft(['apply', '-f', '-'], serviceYaml('catalog', 81));
  const entries = JSON.parse((await weft(['history', '-o', 'json'])).stdout).entries as {
    revision: number;
    actor: string;
    changes: unknown;
  }[];
  expect(entries).toHaveLength(2);
  expect(entries[0]).toMatchObject({ actor: 'ann@desk', command: 'apply', changes: [{ name: 'catalog', action: 'configured' }] });
  const first = String(entries[1]?.revision);
  expect((await weft(['rollback', first, '--dry-run'])).stdout).toBe('service shop/catalog configured (dry run)\n');
  expect((await weft(['rollback', first])).stdout).toBe('service shop/catalog configured\n');
  expect((await weft(['rollback', first])).stdout).toContain('all objects stand as they did after revision');
  expect((await weft(['diff', '-f', '-', '--exit-code'], serviceYaml('catalog'))).code).toBe(0);
  expect((await weft(['history'])).stdout).toMatch(new RegExp(`ann@desk +rollback to ${first} +~service shop/catalog`));
});

test('what get prints can be edited and applied, once: then it was changed meanwhile, which is told with its place', async () => {
  await weft(['apply', '-f', '-'], serviceYaml('catalog'));
  const { stdout: yaml } = await weft(['get', 'service', 'catalog', '-n', 'shop', '-o', 'yaml']);
  expect((await weft(['apply', '-f', '-'], yaml.replace('port: 80', 'port: 81'))).stdout).toBe('service shop/catalog configured\n');
  const late = await weft(['apply', '-f', '-'], yaml.replace('port: 80', 'port: 82'));
  expect(late).toMatchObject({ code: 1, stdout: '' });
  expect(late.stderr).toMatch(/^<stdin>:1:1: metadata\.resourceVersion: changed since it was read: it is at \d+ now/);
});

test('analyze looks at what is stored, alone and below the files', async () => {
  await weft(['apply', '-f', '-'], serviceYaml('catalog'));
  expect(await weft(['analyze'])).toEqual({ code: 0, stdout: 'nothing found\n', stderr: '' });
  const route = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: catalog}]
  rules: [{backendRefs: [{name: catalog, port: 80}, {name: cart, port: 80}]}]
`;
  const found = await weft(['analyze', '--live', '-f', '-'], route);
  expect(found.stdout).toMatch(
    /^<stdin>:6:53: error: HTTPRoute shop\/a: .*Service shop\/cart doesn't exist.* \[ReferencedResourceNotFound\]\n$/,
  );
  expect(found.code).toBe(1);
});

test('what is mistyped is answered by what was expected, and exit code 2', async () => {
  for (const [args, text] of [
    [['get', 'servce'], 'unknown kind "servce"; did you mean service?'],
    [['analyze', '--suppress', 'WX'], '--suppress WX: there are '],
    [['get', 'services', '--controller', 'localhost'], '--controller localhost: expected host:port, [v6]:port or unix:/path'],
    [['get', 'services', '--controller', 'http://10.0.0.1:15010'], '--controller http://10.0.0.1:15010: expected host:port'],
    [['get', 'services', '--controller', '10.0.0.1:65536'], '--controller 10.0.0.1:65536: expected host:port'],
    [['drain', 'n', '--timeout', '1w'], "error: option '--timeout <duration>' argument '1w' is invalid. Expected a duration such as 500ms"],
    [['drain', 'n', '--timeout', '1h'], "error: option '--timeout <duration>' argument '1h' is invalid. Expected at most 10m"],
    [
      ['token', 'create', '--node', 'n', '--ttl', '1500ms'],
      "error: option '--ttl <duration>' argument '1500ms' is invalid. Expected whole s",
    ],
  ] as const) {
    const { code, stderr } = await weft(args);
    expect([code, stderr.slice(0, text.length)]).toEqual([2, text]);
  }
});

test('a reader that has seen enough, as head has, ends the command without a word', async () => {
  const child = spawn(process.execPath, [WEFT, '--help'], { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.destroy();
  const [said, [code]] = await Promise.all([text(child.stderr), once(child, 'close')]);
  expect({ said, code }).toEqual({ said: '', code: 141 });
});
