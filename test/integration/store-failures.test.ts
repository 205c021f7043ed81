// The store layer over a cluster of three etcds, over TLS with a login, and its backups.
import { execFile } from 'node:child_process';
import { copyFileSync, lstatSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { type AddressInfo, isIP } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { systemClock } from '../../controller/clock.js';
import { BackupFailure, backUp, restore } from '../../controller/store/backup.js';
import { EtcdClient } from '../../controller/store/etcd-client.js';
import { secretsOf } from '../../controller/store/etcd-secrets.js';
import { Keyspace } from '../../controller/store/keys.js';
import { Leases } from '../../controller/store/lease.js';
import { type CommitResult, commit } from '../../controller/store/transaction.js';
import { Certificates } from '../lab/certificates.js';
import { closesAfterEach } from '../lab/closing.js';
import { startEtcd, startEtcdCluster, type TestCluster, type TestEtcd } from '../lab/etcd.js';
import { apply, serviceYaml, startTestController, TestNode } from './controller-lab.js';
import { StoreRecorder } from './store-recorder.js';

const run = promisify(execFile);
const WEFT = join(process.env.WEFT_DIST ?? join(process.cwd(), 'dist'), 'cli/main.js');

const closing = closesAfterEach();

function record(client: EtcdClient): StoreRecorder {
  const recorder = new StoreRecorder(client);
  closing.push(() => recorder.stop());
  return recorder;
}

function put(client: EtcdClient, key: string, value = key): Promise<CommitResult> {
  return commit(client, { expect: new Map(), writes: [{ key: `/t/${key}`, value, lease: null }] });
}

/** Tries until it is written. */
async function writeThrough(client: EtcdClient, key: string): Promise<void> {
  const deadline = performance.now() + 15_000;
  while ((await put(client, key)).kind !== 'committed') if (performance.now() > deadline) throw new Error(`${key} was never written`);
}

describe('three members', () => {
  let cluster: TestCluster;
  beforeAll(async () => {
    cluster = await startEtcdCluster();
    await cluster.leader();
  });
  afterEach(async () => {
    for (const member of cluster.members) member.resume();
    await cluster.leader();
  });
  afterAll(() => cluster.stop());

  /** Its calls go to the member `first`. */
  function connect(first = 0): EtcdClient {
    const client = new EtcdClient({ endpoints: cluster.members.map(({ endpoint }) => endpoint), random: () => first / 3 });
    closing.push(() => client.close());
    return client;
  }

  test('the leader is killed: writes go on at another member within seconds, and the watch has them all, each once', async () => {
    const leader = await cluster.leader();
    const client = connect(leader);
    const watched = record(client);
    await writeThrough(client, 'k-before');
    await watched.has('k-before');
    await cluster.members[leader]!.kill();
    const began = performance.now();
    await writeThrough(client, 'k-after');
    expect(performance.now() - began).toBeLessThan(5_000);
    await watched.has('k-after');
    await cluster.members[leader]!.restart();
    const keys = watched.batches.flatMap(({ changes }) => changes.map(({ key }) => key));
    expect(keys.filter((key) => key.startsWith('/t/k-')).sort()).toEqual(['/t/k-after', '/t/k-before']);
  });

  test('a member that is silent is left: the calls that follow, the watch and the leases go on at another', async () => {
    const silent = ((await cluster.leader()) + 1) % 3;
    const client = connect(silent);
    const leases = new Leases(client, systemClock);
    closing.push(() => leases.close());
    const watched = record(client);
    await writeThrough(client, 's-before');
    await watched.has('s-before');
    expect(await leases.acquire('4711', 20_000)).toBe('granted');
    cluster.members[silent]!.pause();
    const began = performance.now();
    await writeThrough(client, 's-after');
    await watched.has('s-after');
    expect(performance.now() - began).toBeLessThan(5_000);
    expect(await leases.keepAlive('4711')).toBe(true);
  });

  test('the quorum is lost: the watch says so though its member lives, writes fail in words, and all goes on when it is back', async () => {
    const leader = await cluster.leader();
    const others = [0, 1, 2].filter((index) => index !== leader);
    const client = connect(leader);
    const watched = record(client);
    await writeThrough(client, 'q-before');
    await watched.has('q-before');
    for (const index of others) await cluster.members[index]!.kill();
    await watched.until('down', () => watched.states.at(-1)?.kind === 'down');
    const began = performance.now();
    const refused = await put(client, 'q-lost');
    expect(performance.now() - began).toBeLessThan(3_000);
    expect(refused).toMatchObject({ kind: 'unavailable', message: expect.stringContaining('check that it runs, has a quorum') });
    // A first member alone is no quorum: it does not serve before the second one is there.
    await Promise.all(others.map((index) => cluster.members[index]!.restart()));
    await writeThrough(client, 'q-after');
    await watched.has('q-after');
    expect(watched.states.at(-1)?.kind).toBe('up');
  });
});

describe('TLS and a login', () => {
  const certificates = new Certificates();
  const authority = certificates.authority('etcd');
  const server = certificates.issue(authority, 'IP:127.0.0.1', 'DNS:localhost');
  const folder = mkdtempSync(join(tmpdir(), 'weft-secrets-'));
  const passwordFile = join(folder, 'password');
  const files = { ca: authority.certFile, cert: join(folder, 'crt'), key: join(folder, 'key'), user: 'weft', passwordFile };
  let etcd: TestEtcd;

  function rotate(): void {
    const pair = certificates.issue(authority, 'DNS:weft');
    copyFileSync(pair.certFile, files.cert);
    copyFileSync(pair.keyFile, files.key);
  }

  function etcdctl(...args: readonly string[]) {
    const access = ['--endpoints', etcd.endpoint, '--cacert', files.ca, '--cert', files.cert, '--key', files.key];
    return run('etcdctl', [...access, ...args], { env: { ...process.env, ETCDCTL_API: '3' } });
  }

  beforeAll(async () => {
    rotate();
    writeFileSync(passwordFile, 'open sesame\n');
    etcd = await startEtcd({ ca: authority.certFile, cert: server.certFile, key: server.keyFile });
    await etcdctl('user', 'add', 'root:r');
    await etcdctl('user', 'grant-role', 'root', 'root');
    await etcdctl('role', 'add', 'weft');
    await etcdctl('role', 'grant-permission', '--prefix=true', 'weft', 'readwrite', '/t/');
    await etcdctl('user', 'add', 'weft:open sesame');
    await etcdctl('user', 'grant-role', 'weft', 'weft');
  });
  afterAll(async () => {
    await etcd.stop();
    certificates.remove();
    rmSync(folder, { recursive: true });
  });

  function connect(more: Partial<typeof files> | { user: null; passwordFile: null } = {}): EtcdClient {
    const client = new EtcdClient({ endpoints: [etcd.endpoint], secrets: secretsOf({ ...files, ...more }) });
    closing.push(() => client.close());
    return client;
  }

  test('a login is of no harm while nobody asks for it; when it is switched on, and over a restart, the store goes on', async () => {
    const client = connect();
    const stranger = connect({ user: null, passwordFile: null });
    const watched = record(client);
    await writeThrough(client, 'open');
    await watched.has('open');
    await etcdctl('auth', 'enable');
    await writeThrough(client, 'locked');
    await watched.has('locked');
    expect(await put(stranger, 'x')).toMatchObject({
      kind: 'unavailable',
      isKnown: true,
      message: expect.stringMatching(/refuses this controller .*--etcd-user/),
    });
    // Tokens are forgotten with the process that gave them.
    await etcd.restart();
    await writeThrough(client, 'restarted');
    await watched.has('restarted');
    // A change of users makes every token old.
    await etcdctl('--user', 'root:r', 'user', 'add', 'other:o');
    await writeThrough(client, 'old token');
    await watched.has('old token');
  });

  test('a wrong password and a key outside the role are refused in words that name the flag', async () => {
    writeFileSync(join(folder, 'wrong'), 'no\n');
    const wrong = connect({ passwordFile: join(folder, 'wrong') });
    expect(await put(wrong, 'x')).toMatchObject({
      kind: 'unavailable',
      isKnown: true,
      message: expect.stringMatching(/login as weft: .*--etcd-password-file/),
    });
    const outside = await commit(connect(), { expect: new Map(), writes: [{ key: '/other', value: 'x', lease: null }] });
    expect(outside).toMatchObject({ kind: 'unavailable', isKnown: true, message: expect.stringContaining('permission denied') });
  });

  test('etcd at an address is told no address as its name, and its certificate has to be of that address', async () => {
    const told: (string | false)[] = [];
    const isOf = (name: string) => {
      const { certFile, keyFile } = certificates.issue(authority, name);
      const decoy = createServer({ cert: readFileSync(certFile), key: readFileSync(keyFile), ALPNProtocols: ['h2'] });
      decoy.on('secureConnection', (socket) => {
        told.push((socket as TLSSocket & { servername: string | false }).servername);
        closing.push(() => void socket.destroy());
      });
      decoy.on('tlsClientError', () => {});
      closing.push(() => void decoy.close());
      return new Promise<string>((resolve) =>
        decoy.listen(0, '127.0.0.1', () => resolve(`https://127.0.0.1:${(decoy.address() as AddressInfo).port}`)),
      );
    };
    const asked = async (endpoint: string) => {
      const client = new EtcdClient({ endpoints: [endpoint], secrets: secretsOf({ ...files, user: null, passwordFile: null }) });
      closing.push(() => client.close());
      return put(client, 'x');
    };
    await asked(await isOf('IP:127.0.0.1'));
    expect(told).not.toEqual([]);
    for (const name of told) expect(isIP(name || '')).toBe(0);
    expect(await asked(await isOf('IP:127.0.0.2'))).toMatchObject({ message: expect.stringContaining('not in the cert') });
  });

  test('a rotated certificate is used for the next connection', async () => {
    const client = connect();
    await writeThrough(client, 'first');
    const other = certificates.authority('unknown to etcd');
    const foreign = certificates.issue(other, 'DNS:weft');
    copyFileSync(foreign.certFile, files.cert);
    copyFileSync(foreign.keyFile, files.key);
    client.reconnect();
    expect(await put(client, 'x')).toMatchObject({ kind: 'unavailable' });
    rotate();
    client.reconnect();
    await writeThrough(client, 'rotated');
  });

  test('without the authority of etcd’s certificate nothing is sent', async () => {
    const foreign = certificates.authority('foreign');
    expect(await put(connect({ ca: foreign.certFile }), 'x')).toMatchObject({ kind: 'unavailable', isKnown: true });
  });
});

describe('backup and restore', () => {
  const keys = new Keyspace('/weft');
  const folder = mkdtempSync(join(tmpdir(), 'weft-backup-'));
  const file = join(folder, 'backup');
  let etcd: TestEtcd;
  beforeAll(async () => {
    etcd = await startEtcd();
  });
  afterAll(async () => {
    await etcd.stop();
    rmSync(folder, { recursive: true });
  });

  function connect(): EtcdClient {
    const client = new EtcdClient({ endpoints: [etcd.endpoint] });
    closing.push(() => client.close());
    return client;
  }

  async function standing(client: EtcdClient): Promise<Map<string, string>> {
    const { kvs } = await client.range({ key: Buffer.from('/weft/'), range_end: Buffer.from('/weft0') });
    return new Map(kvs.map(({ key, value }) => [key.toString(), value.toString('hex')]));
  }

  test('what was backed up stands after a restore into an empty etcd, byte by byte; nodes’ and leaders’ keys do not come back', async () => {
    const client = connect();
    const leases = new Leases(client, systemClock);
    closing.push(() => leases.close());
    await leases.acquire('77', 60_000);
    const objects = Array.from({ length: 250 }, (_, index) => ({
      key: keys.object({ kind: 'Service', namespace: 'n', name: `s${index}` }),
      value: `{"n":${index}}`,
      lease: null,
    }));
    for (let from = 0; from < objects.length; from += 100)
      await commit(client, { expect: new Map(), writes: objects.slice(from, from + 100) });
    const large = { key: keys.object({ kind: 'Secret', namespace: 'n', name: 'l' }), value: Buffer.alloc(1_200_000, 0xff), lease: null };
    await commit(client, { expect: new Map(), writes: [large] });
    await commit(client, {
      expect: new Map(),
      writes: [
        { key: keys.node('a'), value: '{}', lease: '77' },
        { key: keys.leader('k'), value: '{}', lease: '77' },
      ],
    });
    // Laid out by somebody who waits for it.
    const decoy = join(folder, 'decoy');
    writeFileSync(decoy, '', { mode: 0o666 });
    symlinkSync(decoy, `${file}.tmp`);
    const { stdout } = await run(process.execPath, [WEFT, 'controller', 'backup', file, '--etcd', etcd.endpoint]);
    expect(stdout).toMatch(/251 keys as of revision \d+/);
    expect(lstatSync(file).mode & 0o777).toBe(0o600);
    expect(readFileSync(decoy, 'utf8')).toBe('');
    const before = await standing(client);
    await etcd.wipe();
    await run(process.execPath, [WEFT, 'controller', 'restore', file, '--etcd', etcd.endpoint]);
    before.delete(keys.node('a'));
    before.delete(keys.leader('k'));
    expect(await standing(client)).toEqual(before);
  });

  test('a torn or changed file is refused before anything is written', async () => {
    const client = connect();
    const whole = readFileSync(file);
    const before = await standing(client);
    const bad = join(folder, 'bad');
    for (const content of [
      whole.subarray(0, whole.length / 2),
      whole.toString().replace('objects/Service/n/s0', 'objects/Service/n/s9'),
      '{}\n',
      '',
    ]) {
      writeFileSync(bad, content);
      await expect(restore(client, keys, bad, true)).rejects.toThrow(/nothing was restored/);
    }
    expect(await standing(client)).toEqual(before);
  });

  test('over other objects it refuses, and with --replace makes the store what the file holds', async () => {
    const client = connect();
    const before = await standing(client);
    const stranger = keys.object({ kind: 'Service', namespace: 'n', name: 'new' });
    const changed = keys.object({ kind: 'Service', namespace: 'n', name: 's1' });
    await commit(client, {
      expect: new Map(),
      writes: [
        { key: stranger, value: '{}', lease: null },
        { key: changed, value: '{}', lease: null },
      ],
    });
    const refused = await run(process.execPath, [WEFT, 'controller', 'restore', file, '--etcd', etcd.endpoint]).catch(
      (error: unknown) => error,
    );
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('--replace has 1 deleted') });
    expect(await restore(client, keys, file, true)).toEqual({ written: 1, deleted: 1, unchanged: 250 });
    expect(await standing(client)).toEqual(before);
  });

  test('what was done and who was revoked since outlives it', async () => {
    const client = connect();
    const kept = [keys.revoked('node-a'), keys.audit('audit', 1, 'x'), keys.audit('refusals', 1, 'x')];
    await commit(client, { expect: new Map(), writes: kept.map((key) => ({ key, value: '{}', lease: null })) });
    expect(await restore(client, keys, file, true)).toMatchObject({ deleted: 0 });
    for (const key of kept) expect((await client.range({ key: Buffer.from(key) })).kvs).toHaveLength(1);
    await commit(client, { expect: new Map(), writes: kept.map((key) => ({ key, value: null, lease: null })) });
  });

  test('nodes never hear of half a restore: one that stopped halfway holds everything back until the next has finished it', async () => {
    await etcd.wipe();
    const client = connect();
    const controller = await startTestController(etcd.endpoint);
    closing.push(() => controller.stop());
    const applied = await apply(controller, [serviceYaml('a'), serviceYaml('b')].join('---\n'));
    const saved = join(folder, 'two');
    await backUp(client, keys, saved, 0);
    await apply(controller, serviceYaml('a', 81));
    const node = new TestNode(controller.address, 'n');
    closing.push(() => node.close());
    await node.until('its first model', () => node.revision > applied.revision);
    const heard = node.responses.length;
    // As restore() begins, and is killed behind its first step.
    await commit(client, { expect: new Map(), writes: [{ key: keys.restoring, value: 'x', lease: null }] });
    const half = await commit(client, {
      expect: new Map(),
      writes: [{ key: keys.object({ kind: 'Service', namespace: 'shop', name: 'b' }), value: null, lease: null }],
    });
    expect(half.kind).toBe('committed');
    await expect(apply(controller, serviceYaml('c'))).rejects.toThrow(/a backup is being restored/);
    await expect(backUp(client, keys, saved, 0)).rejects.toThrow(BackupFailure);
    await restore(client, keys, saved, false);
    await node.until('the restored model', () => node.responses.length > heard);
    expect(node.responses.slice(heard).flatMap(({ removed }) => removed)).toEqual([]);
    expect(node.named(1).sort()).toEqual(['shop/a', 'shop/b']);
    await apply(controller, serviceYaml('c'));
    await node.until('a change', () => node.named(1).length === 3);
  });
});
