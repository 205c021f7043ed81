import { mkdirSync, mkdtempSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type ClusterAccess, type Found, inClusterAccess, kubeconfigAccess } from './cluster-access.js';

let folder: string;
let nowMs = 0;
const now = (): number => nowMs;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'wacc-'));
  nowMs = 0;
});

afterEach(() => rmSync(folder, { recursive: true }));

function accessOf(found: Found): ClusterAccess {
  if (found.kind === 'fault') throw new Error(found.message);
  return found.access;
}

function kubeconfig(text: string): string {
  const path = join(folder, 'config');
  writeFileSync(path, text);
  return path;
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');

function config({ cluster = '', user = '', context = 'user: u', current = 'a' } = {}): string {
  return kubeconfig(`
current-context: ${current}
clusters: [{name: c, cluster: {server: "https://h:6443/k8s/", ${cluster}}}]
users: [{name: u, user: {${user}}}]
contexts: [{name: a, context: {cluster: c, ${context}}}, {name: b, context: {cluster: elsewhere}}]
`);
}

describe('in a cluster', () => {
  function account(): string {
    const path = join(folder, 'account');
    mkdirSync(path);
    writeFileSync(join(path, 'token'), 'first\n');
    writeFileSync(join(path, 'ca.crt'), 'CA');
    return path;
  }

  test('server, authority and token are those of the pod', () => {
    const access = accessOf(inClusterAccess('10.96.0.1', '443', now, account()));
    expect(access).toMatchObject({ server: 'https://10.96.0.1:443', serverName: null, isVerified: true });
    expect(access.credentials(false)).toEqual({ ca: 'CA', cert: null, key: null, token: 'first' });
    rmSync(join(folder, 'account'), { recursive: true });
    expect(accessOf(inClusterAccess('fd00::1', '443', now, account())).server).toBe('https://[fd00::1]:443');
  });

  test('the token is read again after a minute, and at once when it was refused; while it can’t be read the last one stays', () => {
    const path = account();
    const access = accessOf(inClusterAccess('h', '443', now, path));
    writeFileSync(join(path, 'token'), 'second');
    expect(access.credentials(false).token).toBe('first');
    expect(access.credentials(true).token).toBe('second');
    writeFileSync(join(path, 'token'), 'third');
    nowMs = 60_000;
    expect(access.credentials(false).token).toBe('third');
    unlinkSync(join(path, 'token'));
    expect(access.credentials(true).token).toBe('third');
  });

  test('outside of a pod, or without its account, it says so', () => {
    expect(inClusterAccess(undefined, undefined, now)).toMatchObject({ kind: 'fault', message: expect.stringContaining('this is no pod') });
    expect(inClusterAccess('h', '443', now, join(folder, 'none'))).toMatchObject({ message: expect.stringContaining('ENOENT') });
  });
});

describe('a kubeconfig', () => {
  test('gives server, authority, names and credentials, as data or by files beside it', () => {
    writeFileSync(join(folder, 'key.pem'), 'KEY');
    const cluster = `certificate-authority-data: ${base64('CA')}, tls-server-name: kubernetes`;
    const access = accessOf(
      kubeconfigAccess(config({ cluster, user: `client-certificate-data: ${base64('CERT')}, client-key: key.pem` }), null, now),
    );
    expect(access).toMatchObject({ server: 'https://h:6443/k8s', serverName: 'kubernetes', isVerified: true });
    expect(access.credentials(false)).toEqual({ ca: 'CA', cert: 'CERT', key: 'KEY', token: null });
  });

  test('may have a token, a file of one, or none; the file goes first', () => {
    writeFileSync(join(folder, 't'), 'of the file');
    const tokenOf = (user: string) => accessOf(kubeconfigAccess(config({ user }), null, now)).credentials(false).token;
    expect(tokenOf('token: abc')).toBe('abc');
    expect(() => tokenOf('token: abc, tokenFile: t')).toThrow('no token');
    writeFileSync(join(folder, 't'), 'of-the-file');
    expect(tokenOf('token: abc, tokenFile: t')).toBe('of-the-file');
    expect(tokenOf('')).toBeNull();
  });

  test.each([
    ['user: {exec: {command: aws}}', { user: 'exec: {command: aws}' }, 'exec or auth-provider are not supported'],
    ['auth-provider', { user: 'auth-provider: {name: gcp}' }, 'kubectl create token'],
    ['a password', { user: 'username: admin, password: x' }, 'use a token'],
    ['a proxy', { cluster: 'proxy-url: "http://p"' }, 'proxy-url is not supported'],
    ['an unknown context', { current: 'z' }, 'no context "z" in it (it has a, b): name one by --kubernetes-context'],
    ['an unknown cluster', { current: 'b' }, 'names cluster "elsewhere", which the file has not'],
    ['an unknown user', { context: 'user: nobody' }, 'names user "nobody", which the file has not'],
    ['a missing file', { user: 'client-certificate: gone.pem' }, 'gone.pem'],
    ['a field of another type', { cluster: 'insecure-skip-tls-verify: maybe' }, 'clusters.0.cluster.insecure-skip-tls-verify'],
  ])('with %s is refused in words', (_, parts, message) => {
    expect(kubeconfigAccess(config(parts), null, now)).toMatchObject({ kind: 'fault', message: expect.stringContaining(message) });
  });

  test('that is no YAML or not there is refused in words', () => {
    expect(kubeconfigAccess(join(folder, 'none'), null, now)).toMatchObject({ message: expect.stringContaining('ENOENT') });
    expect(kubeconfigAccess(kubeconfig('{'), null, now)).toMatchObject({ kind: 'fault' });
    expect(kubeconfigAccess(kubeconfig('- a'), null, now)).toMatchObject({ message: expect.stringContaining('no kubeconfig') });
  });

  test('of another context is chosen by name', () => {
    expect(accessOf(kubeconfigAccess(config({ current: 'b' }), 'a', now)).server).toBe('https://h:6443/k8s');
  });
});
