// Who may speak to a controller: real etcd, a real controller, the real agent and CLI as processes; and attackers with sockets of their own.
import { execFile } from 'node:child_process';
import { generateKeyPairSync, randomBytes, sign, X509Certificate } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import { promisify } from 'node:util';
import { type ClientUnaryCall, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals';
import { Command } from 'commander';
import { pino } from 'pino';
import { addAgentOptions, agentConfig } from '../../agent/config.js';
import { Enrolment } from '../../agent/identity/enrolment.js';
import { type Clock, systemClock } from '../../agent/link/clock.js';
import { type RunningAgent, startAgent } from '../../agent/main.js';
import { CONTROLLER_NAME, parseToken, RENEWAL_CONTEXT, type Token, tokenText } from '../../api/access/names.js';
import { pinnedAuthority, secureChannel } from '../../api/access/secure-channel.js';
import {
  AccessClient,
  type AuditEntry,
  type CreateJoinTokenResponse,
  type CreateOperatorResponse,
  type ListAuditResponse,
  type ListAuthoritiesResponse,
  type NodeCertificate,
  NodeIdentityClient,
  Role,
} from '../../api/gen/mesh/v1/access.js';
import { AdminClient, type ApplyResponse, type ListNodesResponse } from '../../api/gen/mesh/v1/admin.js';
import { DiscoveryClient, RegisterRequest, RegistryClient } from '../../api/gen/mesh/v1/discovery.js';
import { NodeStatusClient, type StatusResponse } from '../../api/gen/mesh/v1/status.js';
import { PROTOCOL } from '../../api/grpc/protocol.js';
import { retryDelayIn } from '../../api/grpc/retry-info.js';
import { controllerConfig, DEFAULT_FLAGS } from '../../controller/config.js';
import { EtcdClient } from '../../controller/store/etcd-client.js';
import { listPrefix } from '../../controller/store/list.js';
import { Certificates } from '../lab/certificates.js';
import { Condition } from '../lab/condition.js';
import { startEtcd, type TestEtcd } from '../lab/etcd.js';
import { KubernetesApi } from '../lab/kubernetes-api.js';
import { serviceYaml, startTestController, type TestController } from './controller-lab.js';

jest.setTimeout(30_000);
const run = promisify(execFile);
const WEFT = join(process.cwd(), 'dist/cli/main.js');
const ec = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });
const spki = (pair: ReturnType<typeof ec>) => pair.publicKey.export({ type: 'spki', format: 'der' });
const pem = (pair: ReturnType<typeof ec>) => pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();

let etcd: TestEtcd;
let folder: string;
let one: TestController;
/** On its unix socket: an administrator. */
let local: { access: AccessClient; admin: AdminClient };
const closing: (() => unknown)[] = [];

beforeEach(async () => {
  folder = mkdtempSync('/dev/shm/wsec-');
  writeFileSync(join(folder, 'sealing'), randomBytes(32).toString('hex'));
  etcd = await startEtcd();
  one = await controller();
  local = { access: new AccessClient(socket(), plain(), {}), admin: new AdminClient(socket(), plain(), {}) };
  closing.push(
    () => local.access.close(),
    () => local.admin.close(),
  );
});

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await etcd.stop();
  rmSync(folder, { recursive: true, force: true });
});

const socket = (): string => `unix:${join(folder, 'controller.sock')}`;

const plain = credentials.createInsecure;

async function controller(flags: Record<string, string | string[]> = {}): Promise<TestController> {
  const own = { listen: ['127.0.0.1:0', socket()], authorityKeyFile: join(folder, 'sealing') };
  const started = await startTestController(etcd.endpoint, { ...own, ...flags });
  closing.push(() => started.stop());
  return started;
}

type Done<Response> = (error: ServiceError | null, response: Response) => void;

function ask<Response>(call: (done: Done<Response>) => ClientUnaryCall): Promise<Response> {
  return new Promise((resolve, reject) => {
    call((error, response) => (error === null ? resolve(response) : reject(error)));
  });
}

/** What a call was refused with. */
async function refusedWith(promise: Promise<unknown>): Promise<ServiceError> {
  const outcome = await promise.then(
    () => null,
    (error: ServiceError) => error,
  );
  if (outcome === null) throw new Error('it was not refused');
  return outcome;
}

function token(node: string, ttlSeconds = 600): Promise<string> {
  return ask<CreateJoinTokenResponse>((done) => local.access.createJoinToken({ node, ttlSeconds }, done)).then((answer) => answer.token);
}

function operator(name: string, role: Role, publicKey = Buffer.alloc(0)): Promise<CreateOperatorResponse> {
  return ask<CreateOperatorResponse>((done) => local.access.createOperator({ name, role, ttlSeconds: 0, publicKey }, done));
}

interface Known {
  readonly certificate?: string;
  readonly key?: string;
  readonly authorities: readonly string[];
}

function client<C extends { close(): void }>(
  Client: new (address: string, credentials: ReturnType<typeof secureChannel>['credentials'], options: object) => C,
  { certificate, key, authorities }: Known,
  address = one.address,
): C {
  const { credentials: proof, options } = secureChannel({ authorities, certificate: certificate ?? null, key: key ?? null });
  const made = new Client(address, proof, { ...options, 'grpc.use_local_subchannel_pool': 1 });
  closing.push(() => made.close());
  return made;
}

const bearer = (text: string): Metadata => {
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${text}`);
  return metadata;
};

async function authorities(text: string): Promise<string[]> {
  return [await pinnedAuthority(one.address, parseToken(text)?.pin ?? '')];
}

async function joinWith(
  text: string,
  node: string,
  pair = ec(),
  trusted?: readonly string[],
): Promise<Known & { answer: NodeCertificate; pair: ReturnType<typeof ec> }> {
  const identity = client(NodeIdentityClient, { authorities: trusted ?? (await authorities(text)) });
  const answer = await ask<NodeCertificate>((done) => identity.join({ node, publicKey: spki(pair) }, bearer(text), done));
  return { certificate: answer.certificate, key: pem(pair), authorities: answer.authorities, answer, pair };
}

/** Resolves with the error that ends it, or with null when it is served. */
function subscribe(known: Known, node: string): Promise<ServiceError | null> {
  const stream = client(DiscoveryClient, known).stream();
  closing.push(() => stream.cancel());
  return new Promise((resolve) => {
    stream.on('error', (error: ServiceError) => resolve(error));
    stream.on('data', () => resolve(null));
    stream.write({ request: { $case: 'subscribe', value: { node, version: 'test', resume: undefined, protocol: PROTOCOL } } });
  });
}

async function audit(): Promise<AuditEntry[]> {
  const { entries } = await ask<ListAuditResponse>((done) => local.access.listAudit({ limit: 0 }, done));
  return entries;
}

/** Written a moment after the call. */
async function audited(matches: (entry: AuditEntry) => boolean): Promise<AuditEntry> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const found = (await audit()).find(matches);
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`no such entry: ${JSON.stringify(await audit(), null, 1)}`);
}

async function eventually(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let attempt = 0; attempt < 500; attempt++) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`waited in vain for: ${what}`);
}

async function agent(...flags: string[]): Promise<RunningAgent> {
  const command = addAgentOptions(new Command().exitOverride());
  const own = ['--node', 'n1', '--controller', one.address, '--run-dir', folder, '--state-dir', folder, '--capture', 'off'];
  command.parse([...own, '--status-listen', '127.0.0.1:0', '--metrics-listen', '127.0.0.1:0', ...flags], { from: 'user' });
  const running = await startAgent(agentConfig(command), pino({ level: 'silent' }));
  closing.push(() => running.stop());
  return running;
}

async function nodeIsConnected(name: string): Promise<void> {
  for (let attempt = 0; attempt < 500; attempt++) {
    const { nodes } = await ask<ListNodesResponse>((done) => local.admin.listNodes({}, done));
    if (nodes.some((node) => node.name === name && node.connected)) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`node ${name} is not connected`);
}

async function nodeIsRegistered(name: string): Promise<void> {
  await eventually(`node ${name} is registered`, async () => {
    const { nodes } = await ask<ListNodesResponse>((done) => local.admin.listNodes({}, done));
    return nodes.some((node) => node.name === name);
  });
}

async function cli(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const environment = { ...process.env, HOME: folder, XDG_CONFIG_HOME: '', WEFT_TOKEN: '', WEFT_ACTOR: 'root@here' };
  try {
    return { code: 0, ...(await run(process.execPath, [WEFT, ...args], { env: environment })) };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, stdout, stderr };
  }
}

test('a node joins with its token, is served as itself, and as nobody else', async () => {
  const text = await token('node-a');
  const known = await joinWith(text, 'node-a');
  const certificate = new X509Certificate(known.answer.certificate);
  expect(certificate.subjectAltName).toBe('URI:weft://node/node-a');
  expect(await subscribe(known, 'node-a')).toBeNull();
  const other = await subscribe(known, 'node-b');
  expect(other).toMatchObject({ code: status.PERMISSION_DENIED });
  expect(other?.details).toContain('this certificate is of node "node-a", it may not speak for node "node-b"');

  const register = client(RegistryClient, known).register();
  const error = await new Promise<ServiceError>((resolve) => {
    register.on('error', resolve);
    register.write(RegisterRequest.fromPartial({ node: 'node-b' }));
  });
  expect(error).toMatchObject({ code: status.PERMISSION_DENIED });
  // Nor is a node an operator.
  const admin = client(AdminClient, known);
  const refused = await refusedWith(ask((done) => admin.listNodes({}, done)));
  expect(refused).toMatchObject({ code: status.PERMISSION_DENIED });
  expect(refused.details).toContain('node node-a is no operator');
});

test('a join token is good once, for its node, until it ends or is revoked; the same key may ask again', async () => {
  const text = await token('node-a');
  const first = await joinWith(text, 'node-a');
  expect((await joinWith(text, 'node-a', first.pair)).answer.certificate).toContain('BEGIN CERTIFICATE');
  const used = await refusedWith(joinWith(text, 'node-a'));
  expect(used).toMatchObject({ code: status.UNAUTHENTICATED });
  expect(used.details).toContain('was used already, with another key');

  const second = await token('node-b');
  expect((await refusedWith(joinWith(second, 'node-c'))).details).toContain('for node "node-b", not for "node-c"');
  const parsed = parseToken(second);
  if (parsed === null) throw new Error('no token');
  const trusted = await authorities(second);
  const wrong = tokenText({ ...parsed, secret: 'ab'.repeat(32) });
  expect((await refusedWith(joinWith(wrong, 'node-b', ec(), trusted))).details).toContain('not valid');
  expect((await refusedWith(joinWith('nonsense', 'node-b', ec(), trusted))).details).toContain('not valid');
  await ask((done) => local.access.revokeJoinToken({ id: parsed.id }, done));
  expect((await refusedWith(joinWith(second, 'node-b', ec(), trusted))).details).toContain('not valid');

  const short = await token('node-d', 1);
  await new Promise((resolve) => setTimeout(resolve, 1_100));
  expect((await refusedWith(joinWith(short, 'node-d', ec(), trusted))).details).toContain('not valid');
});

test('of two that use a token at the same time one gets a certificate, at any replica', async () => {
  const two = await controller({ listen: ['127.0.0.1:0'] });
  const text = await token('node-a');
  const trusted = await authorities(text);
  const attempts = Array.from({ length: 8 }, async (_, index) => {
    const identity = client(NodeIdentityClient, { authorities: trusted }, index % 2 === 0 ? one.address : two.address);
    return ask<NodeCertificate>((done) => identity.join({ node: 'node-a', publicKey: spki(ec()) }, bearer(text), done));
  });
  const outcomes = await Promise.allSettled(attempts);
  expect(outcomes.filter(({ status: each }) => each === 'fulfilled')).toHaveLength(1);
});

test('replicas that start together agree on one authority, and one that has another sealing key serves nobody', async () => {
  const two = await controller({ listen: ['127.0.0.1:0'] });
  const text = await token('node-a');
  const pin = parseToken(text)?.pin ?? '';
  expect(await pinnedAuthority(two.address, pin)).toBe(await pinnedAuthority(one.address, pin));
  writeFileSync(join(folder, 'other'), randomBytes(32).toString('hex'));
  const three = await controller({ listen: ['127.0.0.1:0'], authorityKeyFile: join(folder, 'other') });
  await three.logged('sealed by another key');
  await expect(pinnedAuthority(three.address, pin, 500)).rejects.toThrow();
});

test('the keys of the authority are nowhere in etcd in the clear', async () => {
  const text = await token('node-a');
  const store = new EtcdClient({ endpoints: [etcd.endpoint] });
  closing.push(() => store.close());
  const { pairs } = await listPrefix(store, '/weft/');
  const values = pairs.map(({ key, value }) => `${key} ${value}`);
  expect(values.some((each) => each.startsWith('/weft/authority '))).toBe(true);
  expect(values.join()).not.toContain('PRIVATE KEY');
  // Nor is what opens anything: of tokens there are hashes.
  expect(values.join()).not.toContain(parseToken(text)?.secret);
});

test('a renewal needs the key of the certificate; a stranger with the certificate alone, or one of another mesh, gets none', async () => {
  const text = await token('node-a');
  const { answer, pair, authorities: trusted } = await joinWith(text, 'node-a');
  const identity = client(NodeIdentityClient, { authorities: trusted });
  const certificate = new X509Certificate(answer.certificate).raw;
  const next = ec();
  const renew = (by: ReturnType<typeof ec>, publicKey: Buffer, of = certificate) =>
    ask<NodeCertificate>((done) => {
      const signature = sign('sha256', Buffer.concat([Buffer.from(RENEWAL_CONTEXT), spki(next)]), by.privateKey);
      return identity.renew({ certificate: of, publicKey, signature }, done);
    });
  const renewed = new X509Certificate((await renew(pair, spki(next))).certificate);
  expect(renewed.checkPrivateKey(next.privateKey)).toBe(true);
  expect(renewed.subjectAltName).toBe('URI:weft://node/node-a');
  expect((await refusedWith(renew(ec(), spki(next)))).details).toContain('not signed by the key of the certificate');
  // The signature is over the key that is asked for: what was overheard is good for nothing else.
  expect((await refusedWith(renew(pair, spki(ec())))).details).toContain('not signed');
  const made = new Certificates();
  closing.push(() => made.remove());
  const foreign = made.issue(made.authority('another mesh'), 'URI:weft://node/node-a');
  expect((await refusedWith(renew(pair, spki(next), new X509Certificate(foreign.cert).raw))).details).toContain('no node of this mesh');
  expect((await refusedWith(renew(pair, spki(next), randomBytes(600)))).details).toContain('no node of this mesh');
  // An operator's is none either.
  const person = ec();
  const { certificate: theirs } = await operator('ann', Role.ADMIN, spki(person));
  expect((await refusedWith(renew(person, spki(next), new X509Certificate(theirs).raw))).details).toContain('no node of this mesh');
});

test('the agent joins, renews by itself, keeps its key in a file of its own, and rejoins after it was down for longer than its certificate', async () => {
  await one.stop();
  one = await controller({ nodeCertificateTtl: '3' });
  writeFileSync(join(folder, 'token'), await token('n1'));
  const first = await agent('--join-token-file', join(folder, 'token'));
  await nodeIsConnected('n1');
  const file = join(folder, 'identity.pem');
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const before = readFileSync(file, 'utf8');
  const joined = (await audit()).filter(({ method }) => method === 'NodeIdentity/Join');
  expect(joined).toMatchObject([{ actor: 'node n1', result: 'OK', by: 'certificate' }]);
  await eventually('another identity on disk', () => readFileSync(file, 'utf8') !== before);
  await first.stop();
  await new Promise((resolve) => setTimeout(resolve, 3_500));
  await expect(agent('--node', 'n2')).rejects.toThrow(/identity of URI:weft:\/\/node\/n1, this agent is of node n2/);
  // Its certificate has ended, its token is used.
  await agent();
  await nodeIsConnected('n1');
});

test('a certificate that ended longer ago than the window renews nothing: the node needs a token, and says so', async () => {
  await one.stop();
  one = await controller({ nodeCertificateTtl: '2', nodeRejoinWindow: '0' });
  const known = await joinWith(await token('node-a'), 'node-a');
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  const identity = client(NodeIdentityClient, { authorities: known.authorities });
  const signature = sign('sha256', Buffer.concat([Buffer.from(RENEWAL_CONTEXT), spki(known.pair)]), known.pair.privateKey);
  const raw = new X509Certificate(known.answer.certificate).raw;
  const refused = await refusedWith(ask((done) => identity.renew({ certificate: raw, publicKey: spki(known.pair), signature }, done)));
  expect(refused.details).toContain('join with a token (weft token create --node node-a)');
});

test('an open stream ends when its certificate does, and at once when the node is revoked', async () => {
  const known = await joinWith(await token('node-a'), 'node-a');
  const stream = client(DiscoveryClient, known).stream();
  const watched = new Condition();
  let error: ServiceError | null = null;
  let isServed = false;
  stream.on('error', (each: ServiceError) => {
    error = each;
    watched.changed();
  });
  stream.on('data', () => {
    isServed = true;
    watched.changed();
  });
  stream.write({ request: { $case: 'subscribe', value: { node: 'node-a', version: 'test', resume: undefined, protocol: PROTOCOL } } });
  await watched.until('the first push', () => isServed);
  await ask((done) => local.access.revokeNode({ node: 'node-a' }, done));
  await watched.until('the end of the stream', () => error !== null);
  expect(error).toMatchObject({ code: status.UNAUTHENTICATED });
  expect((await subscribe(known, 'node-a'))?.details).toContain('were revoked: it needs a new join token');
});

test('tokens from before a node was revoked are worth nothing afterwards, also for the key that one was used with', async () => {
  const [used, unused, another] = [await token('node-a'), await token('node-a'), await token('node-b')];
  const { pair, authorities: trusted } = await joinWith(used, 'node-a');
  await ask((done) => local.access.revokeNode({ node: 'node-a' }, done));
  expect((await refusedWith(joinWith(used, 'node-a', pair, trusted))).details).toContain('not valid');
  expect((await refusedWith(joinWith(unused, 'node-a', ec(), trusted))).details).toContain('not valid');
  expect((await joinWith(another, 'node-b')).answer.certificate).toContain('BEGIN CERTIFICATE');
});

test('a node to whose clock every certificate is old does not ask for one after the other', async () => {
  const tokenFile = join(folder, 'token');
  writeFileSync(tokenFile, await token('n1'));
  const waits: number[] = [];
  const waiting = new Condition();
  const delay: Clock['delay'] = (ms, signal) => {
    waits.push(ms);
    waiting.changed();
    return systemClock.delay(ms, signal);
  };
  const enrolment = new Enrolment({
    ...{ node: 'n1', addresses: [one.address], file: join(folder, 'identity.pem'), authoritiesFile: null, tokenFile },
    ...{ log: pino({ level: 'silent' }), clock: { ...systemClock, delay }, wallClock: () => Date.now() + 20 * 3_600_000 },
  });
  closing.push(() => enrolment.stop());
  await enrolment.start();
  await waiting.until('a pause', () => waits.length > 0);
  expect(waits[0]).toBe(60_000);
  expect(enrolment.fault).toBe('');
});

test('a revoked agent joins anew by the token it is given', async () => {
  const file = join(folder, 'token');
  writeFileSync(file, await token('n1'));
  await agent('--join-token-file', file);
  await nodeIsConnected('n1');
  await ask((done) => local.access.revokeNode({ node: 'n1' }, done));
  await audited(({ method, result }) => method === 'NodeIdentity/Renew' && result === 'UNAUTHENTICATED');
  writeFileSync(file, await token('n1'));
  await audited(({ method, result, atMs }) => method === 'NodeIdentity/Join' && result === 'OK' && atMs > Date.now() - 5_000);
  await nodeIsConnected('n1');
});

test('operators have the roles they were given, by token and by certificate, until they are deleted', async () => {
  const pair = ec();
  const viewer = await operator('vic', Role.VIEWER);
  const changer = await operator('ann', Role.OPERATOR, spki(pair));
  const admin = await operator('ada', Role.ADMIN);
  const trusted = viewer.authorities;
  const by = {
    vic: {
      admin: client(AdminClient, { authorities: trusted }),
      access: client(AccessClient, { authorities: trusted }),
      proof: bearer(viewer.token),
    },
    ann: {
      admin: client(AdminClient, { authorities: trusted, certificate: changer.certificate, key: pem(pair) }),
      access: client(AccessClient, { authorities: trusted, certificate: changer.certificate, key: pem(pair) }),
      proof: new Metadata(),
    },
    ada: {
      admin: client(AdminClient, { authorities: trusted }),
      access: client(AccessClient, { authorities: trusted }),
      proof: bearer(admin.token),
    },
    nobody: {
      admin: client(AdminClient, { authorities: trusted }),
      access: client(AccessClient, { authorities: trusted }),
      proof: new Metadata(),
    },
  };
  const calls = {
    listNodes: (who: (typeof by)['vic']) => ask((done) => who.admin.listNodes({}, who.proof, done)),
    apply: (who: (typeof by)['vic']) =>
      ask<ApplyResponse>((done) =>
        who.admin.apply({ files: [{ name: 'a.yaml', content: serviceYaml('catalog') }], dryRun: false }, who.proof, done),
      ),
    token: (who: (typeof by)['vic']) => ask((done) => who.access.createJoinToken({ node: 'x', ttlSeconds: 60 }, who.proof, done)),
  };
  const outcome = async (promise: Promise<unknown>) =>
    promise.then(
      () => 'OK',
      (error: ServiceError) => status[error.code],
    );
  const table: string[] = [];
  for (const [name, who] of Object.entries(by)) {
    const cells = [];
    for (const call of Object.values(calls)) cells.push(await outcome(call(who)));
    table.push(`${name}: ${cells.join(' ')}`);
  }
  expect(table).toEqual([
    'vic: OK PERMISSION_DENIED PERMISSION_DENIED',
    'ann: OK OK PERMISSION_DENIED',
    'ada: OK OK OK',
    'nobody: UNAUTHENTICATED UNAUTHENTICATED UNAUTHENTICATED',
  ]);
  // The history names who was authenticated, whatever the caller calls itself.
  const { entries } = await ask<{ entries: { actor: string; verified: boolean }[] }>((done) => local.admin.history({ limit: 1 }, done));
  expect(entries).toMatchObject([{ actor: 'ann', verified: true }]);
  const applied = await audited(({ method, actor }) => method === 'Admin/Apply' && actor === 'ann');
  expect(applied).toMatchObject({ result: 'OK', by: 'certificate', detail: 'a.yaml: +Service shop/catalog' });
  expect(applied.peer).toMatch(/^127\.0\.0\.1:\d+$/);
  const denied = await audited(({ method, result }) => method === 'Admin/Apply' && result === 'PERMISSION_DENIED');
  expect(denied).toMatchObject({ actor: 'vic', by: 'token' });
  expect(denied.message).toContain('operator vic has the role viewer: this needs operator');

  await ask((done) => local.access.deleteOperator({ name: 'ann' }, done));
  await ask((done) => local.access.deleteOperator({ name: 'ada' }, done));
  expect(await outcome(calls.listNodes(by.ann))).toBe('UNAUTHENTICATED');
  expect(await outcome(calls.listNodes(by.ada))).toBe('UNAUTHENTICATED');
  // A new operator of the same name is another one.
  await operator('ada', Role.VIEWER);
  expect(await outcome(calls.listNodes(by.ada))).toBe('UNAUTHENTICATED');
});

test('the commands: whoami, an operator by token file, one by certificate, what is refused is said', async () => {
  const at = ['--controller', socket()];
  expect((await cli('whoami', ...at)).stdout).toBe('root@here, admin, by local socket\n');
  const out = join(folder, 'ann.yaml');
  expect(await cli('operator', 'create', 'ann', '--role', 'viewer', '--out', out, ...at)).toMatchObject({ code: 0 });
  expect(statSync(out).mode & 0o777).toBe(0o600);
  const remote = ['--controller', one.address, '--credentials', out];
  expect((await cli('whoami', ...remote)).stdout).toBe('ann, viewer, by token\n');
  expect((await cli('get', 'services', ...remote)).code).toBe(0);
  const refused = await cli('delete', 'service', 'x', '-n', 'shop', ...remote);
  expect(refused.stderr).toContain('operator ann has the role viewer: this needs operator (PERMISSION_DENIED)');
  const certificate = join(folder, 'bob.yaml');
  await cli('operator', 'create', 'bob', '--role', 'admin', '--certificate', '--out', certificate, ...at);
  expect((await cli('whoami', '--controller', one.address, '--credentials', certificate)).stdout).toBe('bob, admin, by certificate\n');
  const { stdout: text } = await cli('token', 'create', '--node', 'node-z', '--controller', one.address, '--credentials', certificate);
  expect(parseToken(text.trim())?.kind).toBe('join');
  expect((await cli('token', 'list', ...at)).stdout).toMatch(/node-z\s+\S+\s+not used\s+bob/);
  expect((await cli('audit', ...at)).stdout).toContain('Access/CreateJoinToken for node node-z');
  expect((await cli('authority', 'list', ...at)).stdout).toContain('signs');
  expect((await cli('whoami', '--controller', '10.0.0.1:15010')).stderr).toContain('no credentials for the controller at 10.0.0.1:15010');
});

test('who stands in between without the authority learns neither token nor anything else', async () => {
  const made = new Certificates();
  closing.push(() => made.remove());
  const fake = made.issue(made.authority('somebody else'), `DNS:${CONTROLLER_NAME}`);
  let heard = '';
  const middle = createTlsServer({ cert: fake.cert, key: fake.key, ALPNProtocols: ['h2'] }, (stream) => {
    stream.on('data', (bytes) => {
      heard += bytes.toString('latin1');
    });
    stream.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => middle.listen(0, '127.0.0.1', resolve));
  closing.push(() => middle.close());
  const port = (middle.address() as { port: number }).port;
  const text = await token('n1');
  writeFileSync(join(folder, 'token'), text);
  await expect(pinnedAuthority(`127.0.0.1:${port}`, parseToken(text)?.pin ?? '')).rejects.toThrow(/somebody in between/);
  const before = one.address;
  one = { ...one, address: `127.0.0.1:${port}` };
  const cheated = await agent('--join-token-file', join(folder, 'token'));
  await cheated.stop();
  // And one that knows the true authority finds a stranger there too.
  const identity = client(NodeIdentityClient, { authorities: [await pinnedAuthority(before, parseToken(text)?.pin ?? '')] });
  await refusedWith(
    ask((done) => identity.join({ node: 'n1', publicKey: spki(ec()) }, bearer(text), { deadline: Date.now() + 2_000 }, done)),
  );
  one = { ...one, address: before };
  expect(heard).not.toContain(parseToken(text)?.secret);
  expect(heard).not.toContain('Bearer');
});

test('a true controller cannot be played by a node that has a certificate of the same authority', async () => {
  const known = await joinWith(await token('node-a'), 'node-a');
  const fake = createTlsServer({ cert: `${known.answer.certificate}${known.authorities[0]}`, key: known.key, ALPNProtocols: ['h2'] });
  fake.on('tlsClientError', () => undefined);
  await new Promise<void>((resolve) => fake.listen(0, '127.0.0.1', resolve));
  closing.push(() => fake.close());
  const identity = client(NodeIdentityClient, known, `127.0.0.1:${(fake.address() as { port: number }).port}`);
  const refused = await refusedWith(
    ask((done) => identity.join({ node: 'n1', publicKey: spki(ec()) }, bearer('secret'), { deadline: Date.now() + 2_000 }, done)),
  );
  expect(refused.details).toMatch(/Hostname\/IP does not match|altnames/);
});

test('a node of the very name of controllers is no controller either', async () => {
  const named = await joinWith(await token(CONTROLLER_NAME), CONTROLLER_NAME);
  const fake = createTlsServer({ cert: `${named.answer.certificate}${named.authorities[0]}`, key: named.key, ALPNProtocols: ['h2'] });
  fake.on('tlsClientError', () => undefined);
  await new Promise<void>((resolve) => fake.listen(0, '127.0.0.1', resolve));
  closing.push(() => fake.close());
  const identity = client(NodeIdentityClient, named, `127.0.0.1:${(fake.address() as { port: number }).port}`);
  const call = (done: Done<unknown>) =>
    identity.join({ node: 'n1', publicKey: spki(ec()) }, bearer('secret'), { deadline: Date.now() + 2_000 }, done);
  expect((await refusedWith(ask(call))).details).toMatch(/Hostname\/IP does not match|altnames|no CN/i);
});

test('a node tells its status to controllers alone; operators ask through one, and a node that names another’s address is found out', async () => {
  writeFileSync(join(folder, 'token'), await token('n1'));
  const { statusAddresses } = await agent('--join-token-file', join(folder, 'token'), '--status-listen', '127.0.0.1:0');
  await nodeIsConnected('n1');
  const address = statusAddresses[0] ?? '';
  const other = await joinWith(await token('n2'), 'n2');
  const trusted = other.authorities.join('');
  const proofs = {
    plaintext: credentials.createInsecure(),
    stranger: credentials.createSsl(Buffer.from(trusted), null, null, { checkServerIdentity: () => undefined }),
    node: credentials.createSsl(Buffer.from(trusted), Buffer.from(other.key ?? ''), Buffer.from(other.answer.certificate), {
      checkServerIdentity: () => undefined,
    }),
  };
  const heard: Record<string, string> = {};
  for (const [name, proof] of Object.entries(proofs)) {
    const asking = new NodeStatusClient(address, proof, { 'grpc.use_local_subchannel_pool': 1, 'grpc.ssl_target_name_override': 'x.test' });
    closing.push(() => asking.close());
    const refused = await refusedWith(ask((done) => asking.get({}, new Metadata(), { deadline: Date.now() + 1_500 }, done)));
    heard[name] = status[refused.code] ?? '';
  }
  expect(heard).toEqual({ plaintext: 'UNAVAILABLE', stranger: 'UNAVAILABLE', node: 'PERMISSION_DENIED' });

  const { token: theirs, authorities: bundle } = await operator('vic', Role.VIEWER);
  const access = client(AccessClient, { authorities: bundle });
  const asked = (node: string) => ask<StatusResponse>((done) => access.nodeStatus({ node }, bearer(theirs), done));
  // The agent has told the address that it was given on its command line, which is port 0: the true one is registered in its name.
  const mine = await joinWith(await token('n1'), 'n1');
  const register = client(RegistryClient, mine).register();
  register.on('error', () => undefined);
  register.write(RegisterRequest.fromPartial({ node: 'n1', statusAddress: address }));
  await eventually('the status by way of the controller', () =>
    asked('n1').then(
      ({ node }) => node === 'n1',
      () => false,
    ),
  );

  const second = client(RegistryClient, other).register();
  second.on('error', () => undefined);
  second.write(RegisterRequest.fromPartial({ node: 'n2', statusAddress: address }));
  await nodeIsRegistered('n2');
  expect((await refusedWith(asked('n2'))).details).toContain('it is not node n2 that answers there, but URI:weft://node/n1');
  second.write(RegisterRequest.fromPartial({ node: 'n2', statusAddress: `unix:${join(folder, 'controller.sock')}` }));
  await eventually('another address', async () => (await refusedWith(asked('n2'))).details.includes('on its own host alone'));
});

test('handshakes that never end are ended, and hold up nobody meanwhile', async () => {
  const text = await token('node-a');
  const { port } = new URL(`http://${one.address}`);
  const stalled = await Promise.all(
    Array.from(
      { length: 200 },
      () =>
        new Promise<Socket>((resolve) => {
          const each = connect(Number(port), '127.0.0.1', () => resolve(each));
          each.on('error', () => undefined);
          // The first half of a TLS record.
          each.write(Buffer.from([0x16, 3, 1, 2, 0, 1]));
        }),
    ),
  );
  closing.push(() => {
    for (const each of stalled) each.destroy();
  });
  const began = performance.now();
  await joinWith(text, 'node-a');
  expect(performance.now() - began).toBeLessThan(3_000);
  await Promise.all(stalled.map((each) => (each.destroyed ? null : new Promise((resolve) => each.once('close', resolve)))));
  expect(performance.now() - began).toBeLessThan(10_000);
});

test('older TLS, plaintext and other protocols are turned away', async () => {
  const { port } = new URL(`http://${one.address}`);
  const old = await new Promise<string>((resolve) => {
    const each = connectTls({ port: Number(port), host: '127.0.0.1', maxVersion: 'TLSv1.2', rejectUnauthorized: false });
    each.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
    each.once('secureConnect', () => resolve('connected'));
  });
  expect(old).toMatch(/PROTOCOL_VERSION|ECONNRESET/);
  const admin = new AdminClient(one.address, plain(), {});
  closing.push(() => admin.close());
  expect(await refusedWith(ask((done) => admin.listNodes({}, new Metadata(), { deadline: Date.now() + 2_000 }, done)))).toMatchObject({
    code: expect.any(Number),
  });
});

test('what is too large or too much is refused with RESOURCE_EXHAUSTED, and when to come again', async () => {
  const text = await token('node-a');
  const trusted = await authorities(text);
  const identity = client(NodeIdentityClient, { authorities: trusted });
  const large = await refusedWith(
    ask((done) =>
      identity.join({ node: 'node-a', publicKey: Buffer.alloc(10 << 20) }, bearer(text), { deadline: Date.now() + 10_000 }, done),
    ),
  );
  expect(large).toMatchObject({ code: status.RESOURCE_EXHAUSTED });
  const metadata = bearer(text);
  for (let at = 0; at < 10; at++) metadata.set(`x-${at}`, 'y'.repeat(1_000));
  const headers = await refusedWith(ask((done) => identity.join({ node: 'node-a', publicKey: spki(ec()) }, metadata, done)));
  expect(headers.details).toContain('metadata of more than 8192 bytes');
  const outcomes = await Promise.all(
    Array.from({ length: 100 }, () =>
      refusedWith(ask((done) => identity.join({ node: 'node-a', publicKey: Buffer.of(1) }, bearer(text), done))),
    ),
  );
  const limited = outcomes.filter(({ code }) => code === status.RESOURCE_EXHAUSTED);
  expect(limited.length).toBeGreaterThan(20);
  expect(retryDelayIn((limited.find(({ details }) => details.includes('too many calls')) as ServiceError).metadata)).toBeGreaterThan(0);
  const metrics = await (await fetch(`http://${one.controller.metricsAddress}/metrics`)).text();
  expect(metrics).toMatch(/weft_controller_refused_calls_total\{method="NodeIdentity\/Join",reason="(rate|concurrency)"\} \d+/);
  // Whoever has proved who they are is another caller.
  const { token: theirs } = await operator('ann', Role.VIEWER);
  const admin = client(AdminClient, { authorities: trusted });
  await ask((done) => admin.listNodes({}, bearer(theirs), done));
});

test('an operator’s own name in a header, or a forged certificate header, changes nothing', async () => {
  const { token: theirs, authorities: trusted } = await operator('vic', Role.VIEWER);
  const metadata = bearer(theirs);
  metadata.set('weft-actor', 'ada');
  metadata.set('x-forwarded-client-cert', 'URI=weft://operator/ada');
  const access = client(AccessClient, { authorities: trusted });
  expect(await ask((done) => access.whoAmI({}, metadata, done))).toEqual({ name: 'vic', role: Role.VIEWER, by: 'token' });
});

test('a node that renews is not held up by strangers', async () => {
  const known = await joinWith(await token('node-a'), 'node-a');
  const crowd = client(NodeIdentityClient, { authorities: known.authorities });
  const pressing = Array.from({ length: 200 }, () =>
    refusedWith(ask((done) => crowd.join({ node: 'x', publicKey: Buffer.of(1) }, bearer('nonsense'), done))),
  );
  const renew = (proved: Known) => {
    const publicKey = spki(ec());
    const signature = sign('sha256', Buffer.concat([Buffer.from(RENEWAL_CONTEXT), publicKey]), known.pair.privateKey);
    const certificate = new X509Certificate(known.answer.certificate).raw;
    return ask<NodeCertificate>((done) => client(NodeIdentityClient, proved).renew({ certificate, publicKey, signature }, done));
  };
  const many = (proved: Known) => Promise.allSettled(Array.from({ length: 10 }, () => renew(proved)));
  const [proved, nameless, outcomes] = await Promise.all([many(known), many({ authorities: known.authorities }), Promise.all(pressing)]);
  const failed = (results: PromiseSettledResult<unknown>[]) => results.filter((each) => each.status === 'rejected').length;
  expect(outcomes.filter(({ code }) => code === status.RESOURCE_EXHAUSTED).length).toBeGreaterThan(100);
  expect(failed(proved)).toBe(0);
  expect(failed(nameless)).toBeGreaterThan(0);
});

test('a new authority is taken up step by step: old and new nodes are served all the while', async () => {
  await one.stop();
  one = await controller({ nodeCertificateTtl: '2' });
  writeFileSync(join(folder, 'token'), await token('n1'));
  await agent('--join-token-file', join(folder, 'token'));
  await nodeIsConnected('n1');
  const pins = async () =>
    (await ask<{ authorities: { pin: string; state: string }[] }>((done) => local.access.listAuthorities({}, done))).authorities;
  const [first] = await pins();
  const rotated = await ask<ListAuthoritiesResponse>((done) => local.access.rotateAuthority({ immediately: false }, done));
  expect(rotated.authorities).toMatchObject([{ pin: first?.pin, state: 'signs' }, { state: 'trusted, signs later' }]);
  const stateOf = async (wanted: string): Promise<void> => {
    for (let attempt = 0; attempt < 500; attempt++) {
      if ((await pins()).map(({ state }) => state).join(' | ') === wanted) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(JSON.stringify(await pins()));
  };
  await stateOf('signs | trusted, signs later');
  await stateOf('trusted, signed before | signs');
  await nodeIsConnected('n1');
  await stateOf('signs');
  expect((await pins())[0]?.pin).not.toBe(first?.pin);
  await nodeIsConnected('n1');
});

test('who rotates the authority at once is told of the new one alone', async () => {
  const { pin } = parseToken(await token('n1')) as Token;
  const rotated = await ask<ListAuthoritiesResponse>((done) => local.access.rotateAuthority({ immediately: true }, done));
  expect(rotated.authorities).toMatchObject([{ pin: expect.not.stringMatching(pin), state: 'signs' }]);
});

test('plaintext is for this host alone unless --insecure says otherwise, at the controller and at the agent', async () => {
  await expect(startTestController(etcd.endpoint, { listen: ['0.0.0.0:0'] })).rejects.toThrow(/would be plaintext.*--insecure/);
  const said: string[] = [];
  const command = addAgentOptions(new Command().exitOverride().configureOutput({ writeErr: (text) => said.push(text) }));
  command.parse(['--controller', '10.0.0.1:15010', '--state-dir', join(folder, 'none')], { from: 'user' });
  expect(() => agentConfig(command)).toThrow(/plaintext: give --join-token-file/);
  expect(existsSync(join(folder, 'none'))).toBe(false);
});

test('in Kubernetes the agent joins by its service account’s token: as the node of its pod, whom it trusts is published', async () => {
  const api = await KubernetesApi.start({ tokens: ['controller-token'] });
  closing.push(() => api.stop());
  const kubeconfig = join(folder, 'kubeconfig');
  const cluster = { name: 'c', cluster: { server: api.url } };
  const user = { name: 'u', user: { token: 'controller-token' } };
  const context = { name: 'x', context: { cluster: 'c', user: 'u' } };
  writeFileSync(kubeconfig, JSON.stringify({ 'current-context': 'x', clusters: [cluster], users: [user], contexts: [context] }));
  await one.stop();
  one = await controller({ kubernetes: kubeconfig, publishAuthorities: 'weft-system/weft-authorities' });
  const pod = (name: string, uid: string, nodeName: string) =>
    api.put('v1/pods', {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { namespace: 'weft-system', name, uid },
      spec: { nodeName, containers: [] },
    });
  pod('weft-agent-1', 'uid-1', 'n1');
  pod('weft-agent-2', 'uid-2', 'n2');
  const issue = (token: string, podName: string, uid: string, username = 'weft-agent', audience = 'weft-controller') => {
    const extra = { 'authentication.kubernetes.io/pod-name': [podName], 'authentication.kubernetes.io/pod-uid': [uid] };
    api.accounts.set(token, { user: { username: `system:serviceaccount:weft-system:${username}`, extra }, audiences: [audience] });
  };
  issue('a.b.1', 'weft-agent-1', 'uid-1');
  issue('a.b.2', 'weft-agent-2', 'uid-2');
  issue('a.b.other', 'weft-agent-1', 'uid-1', 'default');
  issue('a.b.api', 'weft-agent-1', 'uid-1', 'weft-agent', 'https://kubernetes.default');
  issue('a.b.gone', 'weft-agent-1', 'another uid');
  await api.until('the published authorities', () => api.get('v1/configmaps', 'weft-system/weft-authorities') !== undefined);
  const { data } = api.get('v1/configmaps', 'weft-system/weft-authorities') as { data?: Record<string, string> };
  const published = data?.['ca.crt'] ?? '';

  const joinBy = (text: string, node: string) => joinWith(text, node, ec(), [published]);
  expect((await refusedWith(joinBy('a.b.2', 'n1'))).details).toContain('of a pod on node "n2", not on "n1"');
  expect((await refusedWith(joinBy('a.b.other', 'n1'))).details).toContain('agents run as system:serviceaccount:weft-system:weft-agent');
  expect((await refusedWith(joinBy('a.b.api', 'n1'))).details).toContain('for the audience weft-controller');
  expect((await refusedWith(joinBy('a.b.gone', 'n1'))).details).toContain('is gone');
  expect((await refusedWith(joinBy('a.b.made-up', 'n1'))).details).toContain('invalid bearer token');
  expect((await audit()).filter(({ result }) => result === 'OK').filter(({ method }) => method === 'NodeIdentity/Join')).toEqual([]);

  writeFileSync(join(folder, 'token'), 'a.b.1');
  writeFileSync(join(folder, 'ca.crt'), published);
  await agent('--service-account-token-file', join(folder, 'token'), '--controller-ca', join(folder, 'ca.crt'));
  await nodeIsConnected('n1');
});

test('the registry over HTTP has TLS where there is an authority, and answers viewers alone', async () => {
  const secure = await controller({ listen: ['127.0.0.1:0'], registryListen: '127.0.0.1:0' });
  const viewer = await operator('vera', Role.VIEWER);
  const ca = await authorities(viewer.token);
  await secure.logged('model compiled');
  const get = (headers: Record<string, string>, path = '/v1/services'): Promise<{ status: number; body: string }> =>
    new Promise((done, fail) => {
      const [host, port] = (secure.controller.registryAddress ?? '').split(':');
      const sent = httpsRequest({ host, port, path, ca, servername: CONTROLLER_NAME, headers, agent: false }, (response) => {
        text(response).then((body) => done({ status: response.statusCode ?? 0, body }), fail);
      });
      sent.on('error', fail).end();
    });
  expect(await get({})).toMatchObject({ status: 401, body: expect.stringContaining('weft operator create') });
  expect(await get({ authorization: 'Bearer nonsense' })).toMatchObject({ status: 401 });
  expect(await get({ authorization: '\xff\xfe' })).toMatchObject({ status: 401 });
  await eventually('the operator is known there', async () => (await get({ authorization: `Bearer ${viewer.token}` })).status === 200);
  await audited(({ method, result }) => method === 'Catalog/ListEndpoints' && result === 'UNAUTHENTICATED');
  const plainText = await fetch(`http://${secure.controller.registryAddress}/v1/services`).then(
    () => 'answered',
    () => 'closed',
  );
  expect(plainText).toBe('closed');
  await ask((done) => local.access.deleteOperator({ name: 'vera' }, done));
  await eventually('the operator is gone there', async () => (await get({ authorization: `Bearer ${viewer.token}` })).status === 401);
  // Without one it is for this host alone.
  const flags = { ...DEFAULT_FLAGS, listen: ['127.0.0.1:0'], registryListen: '0.0.0.0:15022' };
  expect(() => controllerConfig(flags)).toThrow('--registry-listen 0.0.0.0:15022: without an authority it would be plaintext');
});
