// The command's contract with shells and scripts: exit codes, which stream, no controller needed where none is asked.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { WEFT } from '../../deploy/local/cluster.js';
import { source } from '../../deploy/local/compiled.js';

function weft(args: readonly string[], input = '') {
  const { status, stdout, stderr } = spawnSync(process.execPath, [WEFT, ...args], {
    input,
    encoding: 'utf8',
    env: { ...process.env, WEFT_CONTROLLER: '' },
  });
  return { code: status, stdout, stderr };
}

const SHOP = source('deploy/local/shop/manifests');
const NOWHERE = ['--controller', 'unix:/nonexistent/weft.sock'];

test.each([
  [['frobnicate']],
  [['apply']],
  [['get', 'nonsense']],
  [['delete', 'service']],
  [['apply', '-f', '/nonexistent.yaml']],
  [['status', '-o', 'xml']],
])('bad usage exits 2, with the reason on standard error alone: weft %j', (args) => {
  const { code, stdout, stderr } = weft(args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).not.toBe('');
});

test.each(['controller', 'agent', 'proxy'])('the help of %s fits a terminal of 80 columns', (daemon) => {
  const { stdout } = weft([daemon, '--help']);
  expect(stdout.split('\n').filter((line) => line.length > 80)).toEqual([]);
});

test('without a controller a command fails with 1 and says where it looked and what to do', () => {
  for (const args of [
    ['status', ...NOWHERE],
    [...NOWHERE, 'get', 'services'],
    ['apply', '-f', SHOP, ...NOWHERE],
  ]) {
    const { code, stdout, stderr } = weft(args);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toContain('no controller answers at unix:/nonexistent/weft.sock');
    expect(stderr).toContain('--controller ADDRESS');
  }
});

test('validate needs no controller: the shop is good, and a mistake is placed by line and column', () => {
  expect(weft(['validate', '-f', SHOP])).toEqual({ code: 0, stdout: '11 objects in 3 files: all good\n', stderr: '' });
  const files = readdirSync(SHOP).map((name) => join(SHOP, name));
  expect(weft(['validate', '-f', ...files]).stdout).toBe('11 objects in 3 files: all good\n');
  const { code, stderr } = weft(['validate', '-f', '-'], 'apiVersion: v1\nkind: Service\nmetadata: { name: a }\nspec: { prots: [] }\n');
  expect(code).toBe(1);
  expect(stderr).toMatch(/^<stdin>:4:\d+: spec\.prots: .*ports/m);
});

test('analyze needs no controller for files: findings with place and code, exit 1 on errors alone unless told otherwise', () => {
  const service = 'apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n';
  expect(weft(['analyze', '-f', '-'], service)).toEqual({
    code: 0,
    stdout: expect.stringMatching(
      /^<stdin>:4:\d+: info: Service default\/a: spec\.ports\[0\]\.name: .* \[PortNameIsNotUnderNamingConvention\]$/m,
    ),
    stderr: '',
  });
  expect(weft(['analyze', '-f', '-', '--fail-on', 'info'], service).code).toBe(1);
  expect(weft(['analyze', '-f', '-', '--suppress', 'PortNameIsNotUnderNamingConvention', '-o', 'json'], service).stdout).toBe(
    '{\n  "findings": []\n}\n',
  );
  const dangling = `${service}---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: b}\naddressType: IPv4\n`;
  expect(weft(['analyze', '-f', '-'], dangling)).toMatchObject({
    code: 1,
    stdout: expect.stringContaining('[ReferencedResourceNotFound]'),
  });
});

test('every subcommand has help with what it does', () => {
  const { stdout } = weft(['--help']);
  const names = [...stdout.matchAll(/^ {2}([a-z]+) .*\S/gm)].map(([, name]) => name ?? '').filter((name) => name !== 'help');
  const daemons = ['controller', 'agent', 'proxy'];
  const commands = [
    'up',
    'apply',
    'get',
    'delete',
    'validate',
    'analyze',
    'diff',
    'history',
    'rollback',
    'status',
    'explain',
    'routes',
    'endpoints',
    'clusters',
    'listeners',
    'capture',
  ];
  expect(names).toEqual(expect.arrayContaining([...daemons, ...commands]));
  for (const name of commands) {
    const help = weft([name, '--help']);
    expect({ name, code: help.code, hasExamples: help.stdout.includes('Examples:') }).toEqual({ name, code: 0, hasExamples: true });
  }
});
