// Nodes come to a controller with an authority: they join, renew, are revoked and rejoin, by their own hand and as the real agent does.
import { randomBytes, X509Certificate } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { credentials, type ServiceError, status } from '@grpc/grpc-js';
import { expect, test } from '@jest/globals';
import { pino } from 'pino';
import { Enrolment } from '../../agent/identity/enrolment.js';
import { type Clock, systemClock } from '../../agent/link/clock.js';
import { parseToken, subjectOf, type Token, tokenText } from '../../api/access/names.js';
import { pinnedAuthority } from '../../api/access/secure-channel.js';
import { type ListAuthoritiesResponse, type NodeCertificate, NodeIdentityClient, Role } from '../../api/gen/mesh/v1/access.js';
import { AdminClient } from '../../api/gen/mesh/v1/admin.js';
import { DiscoveryClient, RegisterRequest, RegistryClient } from '../../api/gen/mesh/v1/discovery.js';
import { LeaseRequest, QuotasClient } from '../../api/gen/mesh/v1/quota.js';
import { NodeStatusClient, type StatusResponse } from '../../api/gen/mesh/v1/status.js';
import { PROTOCOL } from '../../api/grpc/protocol.js';
import { EtcdClient } from '../../controller/store/etcd-client.js';
import { listPrefix } from '../../controller/store/list.js';
import { Certificates } from '../lab/certificates.js';
import { Condition } from '../lab/condition.js';
import { until } from '../lab/eventually.js';
import { KubernetesApi } from '../lab/kubernetes-api.js';
import { stallableEtcd } from '../lab/stalled-watch.js';
import { WatchedStream } from '../lab/watched-stream.js';
import { ask } from './controller-lab.js';
import {
  bearer,
  ec,
  type Joined,
  type KeyPair,
  type Known,
  pem,
  refusedWith,
  renewalSignature,
  SecuredMesh,
  spki,
} from './secured-mesh.js';

const mesh = new SecuredMesh();

/** Resolves with the error that ends it, or with null when it is served. */
function subscribe(known: Known, node: string): Promise<ServiceError | null> {
  const stream = mesh.client(DiscoveryClient, known).stream();
  mesh.closing.push(() => stream.cancel());
  return new Promise((resolve) => {
    stream.on('error', (error: ServiceError) => resolve(error));
    stream.on('data', () => resolve(null));
    stream.write({
      request: { $case: 'subscribe', value: { node, version: 'test', resume: undefined, protocol: PROTOCOL, packed: false } },
    });
  });
}

/** By a renewal, at that replica. */
async function renewed(known: Joined, address = mesh.one.address) {
  const pair = ec();
  const identity = mesh.client(NodeIdentityClient, { authorities: known.authorities }, address);
  const certificate = new X509Certificate(known.answer.certificate).raw;
  const signature = renewalSignature(spki(pair), known.pair);
  const answer = await ask<NodeCertificate>((done) => identity.renew({ certificate, publicKey: spki(pair), signature }, done));
  const subject = subjectOf(new X509Certificate(answer.certificate).subjectAltName);
  const next: Joined = { certificate: answer.certificate, key: pem(pair), authorities: answer.authorities, answer, pair };
  return { known: next, lineage: subject?.kind === 'node' ? subject.lineage : null };
}

test('a node joins with its token, is served as itself, and as nobody else', async () => {
  const text = await mesh.token('node-a');
  const known = await mesh.joinWith(text, 'node-a');
  const certificate = new X509Certificate(known.answer.certificate);
  expect(certificate.subjectAltName).toBe('URI:weft://node/node-a');
  expect(await subscribe(known, 'node-a')).toBeNull();
  const other = await subscribe(known, 'node-b');
  expect(other).toMatchObject({ code: status.PERMISSION_DENIED });
  expect(other?.details).toContain('this certificate is of node "node-a", it may not speak for node "node-b"');

  const register = mesh.client(RegistryClient, known).register();
  const error = await new Promise<ServiceError>((resolve) => {
    register.on('error', resolve);
    register.write(RegisterRequest.fromPartial({ node: 'node-b' }));
  });
  expect(error).toMatchObject({ code: status.PERMISSION_DENIED });
  // Nor is a node an operator.
  const admin = mesh.client(AdminClient, known);
  const refused = await refusedWith(ask((done) => admin.listNodes({}, done)));
  expect(refused).toMatchObject({ code: status.PERMISSION_DENIED });
  expect(refused.details).toContain('node node-a is no operator');
});

test('a join token is good once, for its node, until it ends or is revoked; the same key may ask again', async () => {
  const text = await mesh.token('node-a');
  const first = await mesh.joinWith(text, 'node-a');
  expect((await mesh.joinWith(text, 'node-a', first.pair)).answer.certificate).toContain('BEGIN CERTIFICATE');
  const used = await refusedWith(mesh.joinWith(text, 'node-a'));
  expect(used).toMatchObject({ code: status.UNAUTHENTICATED });
  expect(used.details).toContain('was used already, with another key');

  const second = await mesh.token('node-b');
  expect((await refusedWith(mesh.joinWith(second, 'node-c'))).details).toContain('for node "node-b", not for "node-c"');
  const parsed = parseToken(second);
  if (parsed === null) throw new Error('no token');
  const trusted = await mesh.authorities(second);
  const wrong = tokenText({ ...parsed, secret: 'ab'.repeat(32) });
  expect((await refusedWith(mesh.joinWith(wrong, 'node-b', ec(), trusted))).details).toContain('not valid');
  expect((await refusedWith(mesh.joinWith('nonsense', 'node-b', ec(), trusted))).details).toContain('not valid');
  await ask((done) => mesh.local.access.revokeJoinToken({ id: parsed.id }, done));
  expect((await refusedWith(mesh.joinWith(second, 'node-b', ec(), trusted))).details).toContain('not valid');

  const short = await mesh.token('node-d', 1);
  await new Promise((resolve) => setTimeout(resolve, 1_100));
  expect((await refusedWith(mesh.joinWith(short, 'node-d', ec(), trusted))).details).toContain('not valid');
});

test('of two that use a token at the same time one gets a certificate, at any replica', async () => {
  const two = await mesh.controller({ listen: ['127.0.0.1:0'] });
  const text = await mesh.token('node-a');
  const trusted = await mesh.authorities(text);
  const attempts = Array.from({ length: 8 }, async (_, index) => {
    const identity = mesh.client(NodeIdentityClient, { authorities: trusted }, index % 2 === 0 ? mesh.one.address : two.address);
    return ask<NodeCertificate>((done) => identity.join({ node: 'node-a', publicKey: spki(ec()) }, bearer(text), done));
  });
  const outcomes = await Promise.allSettled(attempts);
  expect(outcomes.filter(({ status: each }) => each === 'fulfilled')).toHaveLength(1);
});

test('replicas that start together agree on one authority, and one that has another sealing key serves nobody', async () => {
  const two = await mesh.controller({ listen: ['127.0.0.1:0'] });
  const text = await mesh.token('node-a');
  const pin = parseToken(text)?.pin ?? '';
  // It listens before it has read the authority, and ends connections until then; agents come again.
  let authority = '';
  await until('its authority', async () => {
    authority = await pinnedAuthority(two.address, pin).catch(() => '');
    return authority !== '';
  });
  expect(authority).toBe(await pinnedAuthority(mesh.one.address, pin));
  writeFileSync(join(mesh.folder, 'other'), randomBytes(32).toString('hex'));
  const three = await mesh.controller({ listen: ['127.0.0.1:0'], authorityKeyFile: join(mesh.folder, 'other') });
  await three.logged('sealed by another key');
  await expect(pinnedAuthority(three.address, pin, 500)).rejects.toThrow();
});

test('the keys of the authority are nowhere in etcd in the clear', async () => {
  const text = await mesh.token('node-a');
  const store = new EtcdClient({ endpoints: [mesh.etcd.endpoint] });
  mesh.closing.push(() => store.close());
  const { pairs } = await listPrefix(store, '/weft/');
  const values = pairs.map(({ key, value }) => `${key} ${value}`);
  expect(values.some((each) => each.startsWith('/weft/authority '))).toBe(true);
  expect(values.join()).not.toContain('PRIVATE KEY');
  // Nor is what opens anything: of tokens there are hashes.
  expect(values.join()).not.toContain(parseToken(text)?.secret);
});

test('a renewal needs the key of the certificate; a stranger with the certificate alone, or one of another mesh, gets none', async () => {
  const text = await mesh.token('node-a');
  const { answer, pair, authorities: trusted } = await mesh.joinWith(text, 'node-a');
  const identity = mesh.client(NodeIdentityClient, { authorities: trusted });
  const certificate = new X509Certificate(answer.certificate).raw;
  const next = ec();
  const renew = (by: KeyPair, publicKey: Buffer, of = certificate) =>
    ask<NodeCertificate>((done) => {
      const signature = renewalSignature(spki(next), by);
      return identity.renew({ certificate: of, publicKey, signature }, done);
    });
  const renewed = new X509Certificate((await renew(pair, spki(next))).certificate);
  expect(renewed.checkPrivateKey(next.privateKey)).toBe(true);
  expect(renewed.subjectAltName).toBe('URI:weft://node/node-a');
  expect((await refusedWith(renew(ec(), spki(next)))).details).toContain('not signed by the key of the certificate');
  // The signature is over the key that is asked for: what was overheard is good for nothing else.
  expect((await refusedWith(renew(pair, spki(ec())))).details).toContain('not signed');
  const made = new Certificates();
  mesh.closing.push(() => made.remove());
  const foreign = made.issue(made.authority('another mesh'), 'URI:weft://node/node-a');
  expect((await refusedWith(renew(pair, spki(next), new X509Certificate(foreign.cert).raw))).details).toContain('no node of this mesh');
  expect((await refusedWith(renew(pair, spki(next), randomBytes(600)))).details).toContain('no node of this mesh');
  // An operator's is none either.
  const person = ec();
  const { certificate: theirs } = await mesh.operator('ann', Role.ADMIN, spki(person));
  expect((await refusedWith(renew(person, spki(next), new X509Certificate(theirs).raw))).details).toContain('no node of this mesh');
});

test('the agent joins, renews by itself, keeps its key in a file of its own, and rejoins after it was down for longer than its certificate', async () => {
  await mesh.one.stop();
  mesh.one = await mesh.controller({ nodeCertificateTtl: '3' });
  writeFileSync(join(mesh.folder, 'token'), await mesh.token('n1'));
  const first = await mesh.agent('--join-token-file', join(mesh.folder, 'token'));
  await mesh.nodeIsConnected('n1');
  const file = join(mesh.folder, 'identity.pem');
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const before = readFileSync(file, 'utf8');
  const joined = await mesh.audited(({ method }) => method === 'NodeIdentity/Join');
  expect(joined).toMatchObject({ actor: 'node n1', result: 'OK', by: 'certificate' });
  await until('another identity on disk', () => readFileSync(file, 'utf8') !== before);
  await first.stop();
  await new Promise((resolve) => setTimeout(resolve, 3_500));
  await expect(mesh.agent('--node', 'n2')).rejects.toThrow(/identity of URI:weft:\/\/node\/n1, this agent is of node n2/);
  // Its certificate has ended, its token is used.
  await mesh.agent();
  await mesh.nodeIsConnected('n1');
});

test('what an agent says to its controller travels on one connection', async () => {
  writeFileSync(join(mesh.folder, 'token'), await mesh.token('n1'));
  await mesh.agent('--join-token-file', join(mesh.folder, 'token'));
  const proxy = new QuotasClient(`unix:${join(mesh.folder, 'agent.sock')}`, credentials.createInsecure(), {});
  mesh.closing.push(() => proxy.close());
  const shares = proxy.lease();
  mesh.closing.push(() => shares.cancel());
  shares.on('error', () => {});
  let isAnswered = false;
  shares.on('data', () => {
    isAnswered = true;
  });
  await until('the controller has answered a proxy', () => {
    shares.write(LeaseRequest.fromPartial({ node: 'n1', holder: 'proxy' }));
    return isAnswered;
  });
  await mesh.nodeIsConnected('n1');
  const controller = Number(mesh.one.address.split(':')[1]).toString(16).toUpperCase().padStart(4, '0');
  const established = readFileSync('/proc/self/net/tcp', 'latin1').match(
    new RegExp(`[0-9A-F]{8}:[0-9A-F]{4} 0100007F:${controller} 01 `, 'g'),
  );
  expect(established).toHaveLength(1);
});

test('a certificate that ended longer ago than the window renews nothing: the node needs a token, and says so', async () => {
  await mesh.one.stop();
  mesh.one = await mesh.controller({ nodeCertificateTtl: '2', nodeRejoinWindow: '0' });
  const known = await mesh.joinWith(await mesh.token('node-a'), 'node-a');
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  const identity = mesh.client(NodeIdentityClient, { authorities: known.authorities });
  const signature = renewalSignature(spki(known.pair), known.pair);
  const raw = new X509Certificate(known.answer.certificate).raw;
  const refused = await refusedWith(ask((done) => identity.renew({ certificate: raw, publicKey: spki(known.pair), signature }, done)));
  expect(refused.details).toContain('join with a token (weft token create --node node-a)');
});

test('an open stream ends when its certificate does, and at once when the node is revoked', async () => {
  const known = await mesh.joinWith(await mesh.token('node-a'), 'node-a');
  const stream = mesh.client(DiscoveryClient, known).stream();
  const watched = new WatchedStream(stream);
  stream.write({
    request: { $case: 'subscribe', value: { node: 'node-a', version: 'test', resume: undefined, protocol: PROTOCOL, packed: false } },
  });
  await watched.served();
  await ask((done) => mesh.local.access.revokeNode({ node: 'node-a', away: false }, done));
  expect(await watched.ended()).toMatchObject({ code: status.UNAUTHENTICATED });
  expect((await subscribe(known, 'node-a'))?.details).toContain('were revoked: it needs a new join token');
});

test('tokens from before a node was revoked are worth nothing afterwards, also for the key that one was used with', async () => {
  const [used, unused, another] = [await mesh.token('node-a'), await mesh.token('node-a'), await mesh.token('node-b')];
  const { pair, authorities: trusted } = await mesh.joinWith(used, 'node-a');
  await ask((done) => mesh.local.access.revokeNode({ node: 'node-a', away: false }, done));
  expect((await refusedWith(mesh.joinWith(used, 'node-a', pair, trusted))).details).toContain('not valid');
  expect((await refusedWith(mesh.joinWith(unused, 'node-a', ec(), trusted))).details).toContain('not valid');
  expect((await mesh.joinWith(another, 'node-b')).answer.certificate).toContain('BEGIN CERTIFICATE');
});

test('a certificate that a replica renews from a revoked one, of which it has not heard, is worth nothing', async () => {
  const etcd = await stallableEtcd(mesh.etcd.endpoint);
  mesh.closing.push(() => etcd.close());
  const behind = await mesh.controller({ listen: ['127.0.0.1:0'], etcd: [etcd.endpoint] });
  const known = await mesh.joinWith(await mesh.token('node-a'), 'node-a');
  // Both know the authority, and the node by its certificate.
  await until('a renewal', async () => (await renewed(known, behind.address).catch(() => null))?.lineage === 0);
  etcd.stall();
  await ask((done) => mesh.local.access.revokeNode({ node: 'node-a', away: false }, done));
  expect((await refusedWith(renewed(known))).details).toContain('were revoked');
  const late = await renewed(known, behind.address);
  expect((await subscribe(late.known, 'node-a'))?.details).toContain('were revoked: it needs a new join token');
  expect((await refusedWith(renewed(late.known))).details).toContain('were revoked');
  // What it gets by a token is of the next lineage, and is passed on by renewals.
  const again = await mesh.joinWith(await mesh.token('node-a'), 'node-a');
  expect(new X509Certificate(again.answer.certificate).subjectAltName).toBe('URI:weft://node/node-a, URI:weft://lineage/1');
  const next = await renewed(again);
  expect(next.lineage).toBe(1);
  expect(await subscribe(next.known, 'node-a')).toBeNull();
});

test('a node that nobody knows is not revoked, unless it is said to be away', async () => {
  const at = ['--controller', mesh.socket];
  const typo = await mesh.cli('node', 'revoke', 'node-q', ...at);
  expect(typo).toMatchObject({ code: 1, stdout: '' });
  expect(typo.stderr).toContain('no node "node-q" is registered, and there is no join token for it');
  expect(await mesh.cli('node', 'revoke', 'node-q', '--away', ...at)).toMatchObject({
    code: 0,
    stdout: 'certificates of node node-q revoked\n',
  });
  await mesh.token('node-r');
  expect(await mesh.cli('node', 'revoke', 'node-r', ...at)).toMatchObject({ code: 0 });
});

test('a node to whose clock every certificate is old does not ask for one after the other', async () => {
  const tokenFile = join(mesh.folder, 'token');
  writeFileSync(tokenFile, await mesh.token('n1'));
  const waits: number[] = [];
  const waiting = new Condition();
  const delay: Clock['delay'] = (ms, signal) => {
    waits.push(ms);
    waiting.changed();
    return systemClock.delay(ms, signal);
  };
  const enrolment = new Enrolment({
    ...{ node: 'n1', addresses: [mesh.one.address], file: join(mesh.folder, 'identity.pem'), authoritiesFile: null, tokenFile },
    ...{ log: pino({ level: 'silent' }), clock: { ...systemClock, delay }, wallClock: () => Date.now() + 20 * 3_600_000 },
  });
  mesh.closing.push(() => enrolment.stop());
  await enrolment.start();
  await waiting.until('a pause', () => waits.length > 0);
  expect(waits[0]).toBe(60_000);
  expect(enrolment.fault).toBe('');
});

test('a file that holds no join token is named as such, before anybody is asked', async () => {
  const file = join(mesh.folder, 'token');
  writeFileSync(file, (await mesh.token('n1')).slice(0, 40));
  await mesh.agent('--join-token-file', file);
  const client = new NodeStatusClient(`unix:${mesh.folder}/agent.sock`, credentials.createInsecure());
  mesh.closing.push(() => client.close());
  await until('the reason', async () => {
    const { controller } = await ask<StatusResponse>((done) => client.get({}, done));
    return controller?.error.includes(`${file} holds no join token`) === true;
  });
});

test('a revoked agent joins anew by the token it is given', async () => {
  const file = join(mesh.folder, 'token');
  writeFileSync(file, await mesh.token('n1'));
  await mesh.agent('--join-token-file', file);
  await mesh.nodeIsConnected('n1');
  await ask((done) => mesh.local.access.revokeNode({ node: 'n1', away: false }, done));
  await mesh.audited(({ method, result }) => method === 'NodeIdentity/Renew' && result === 'UNAUTHENTICATED');
  writeFileSync(file, await mesh.token('n1'));
  await mesh.audited(({ method, result, atMs }) => method === 'NodeIdentity/Join' && result === 'OK' && atMs > Date.now() - 5_000);
  await mesh.nodeIsConnected('n1');
});

test('a new authority is taken up step by step: old and new nodes are served all the while', async () => {
  await mesh.one.stop();
  mesh.one = await mesh.controller({ nodeCertificateTtl: '2' });
  writeFileSync(join(mesh.folder, 'token'), await mesh.token('n1'));
  await mesh.agent('--join-token-file', join(mesh.folder, 'token'));
  await mesh.nodeIsConnected('n1');
  const pins = async () =>
    (await ask<{ authorities: { pin: string; state: string }[] }>((done) => mesh.local.access.listAuthorities({}, done))).authorities;
  const [first] = await pins();
  const rotated = await ask<ListAuthoritiesResponse>((done) => mesh.local.access.rotateAuthority({ immediately: false }, done));
  expect(rotated.authorities).toMatchObject([{ pin: first?.pin, state: 'signs' }, { state: 'trusted, signs later' }]);
  const stateOf = (wanted: string) => until(wanted, async () => (await pins()).map(({ state }) => state).join(' | ') === wanted);
  await stateOf('signs | trusted, signs later');
  await stateOf('trusted, signed before | signs');
  await mesh.nodeIsConnected('n1');
  await stateOf('signs');
  expect((await pins())[0]?.pin).not.toBe(first?.pin);
  await mesh.nodeIsConnected('n1');
});

test('an open stream ends when the authority of its certificate is no longer trusted', async () => {
  const known = await mesh.joinWith(await mesh.token('node-a'), 'node-a');
  const stream = mesh.client(RegistryClient, known).register();
  const watched = new WatchedStream(stream);
  stream.write(RegisterRequest.fromPartial({ node: 'node-a' }));
  await watched.served();
  await ask((done) => mesh.local.access.rotateAuthority({ immediately: true }, done));
  expect(await watched.ended()).toMatchObject({ code: status.UNAUTHENTICATED, details: expect.stringContaining('is no longer trusted') });
});

test('who rotates the authority at once is told of the new one alone', async () => {
  const { pin } = parseToken(await mesh.token('n1')) as Token;
  const rotated = await ask<ListAuthoritiesResponse>((done) => mesh.local.access.rotateAuthority({ immediately: true }, done));
  expect(rotated.authorities).toMatchObject([{ pin: expect.not.stringMatching(pin), state: 'signs' }]);
});

test('in Kubernetes the agent joins by its service account’s token: as the node of its pod, whom it trusts is published', async () => {
  const api = await KubernetesApi.start({ tokens: ['controller-token'] });
  mesh.closing.push(() => api.stop());
  const kubeconfig = join(mesh.folder, 'kubeconfig');
  const cluster = { name: 'c', cluster: { server: api.url } };
  const user = { name: 'u', user: { token: 'controller-token' } };
  const context = { name: 'x', context: { cluster: 'c', user: 'u' } };
  writeFileSync(kubeconfig, JSON.stringify({ 'current-context': 'x', clusters: [cluster], users: [user], contexts: [context] }));
  await mesh.one.stop();
  mesh.one = await mesh.controller({ kubernetes: kubeconfig, publishAuthorities: 'weft-system/weft-authorities' });
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

  const joinBy = (text: string, node: string) => mesh.joinWith(text, node, ec(), [published]);
  expect((await refusedWith(joinBy('a.b.2', 'n1'))).details).toContain('of a pod on node "n2", not on "n1"');
  expect((await refusedWith(joinBy('a.b.other', 'n1'))).details).toContain('agents run as system:serviceaccount:weft-system:weft-agent');
  expect((await refusedWith(joinBy('a.b.api', 'n1'))).details).toContain('for the audience weft-controller');
  expect((await refusedWith(joinBy('a.b.gone', 'n1'))).details).toContain('is gone');
  expect((await refusedWith(joinBy('a.b.made-up', 'n1'))).details).toContain('invalid bearer token');
  // What was recorded before it stands there by then.
  await mesh.audited(({ message }) => message.includes('invalid bearer token'));
  expect((await mesh.audit()).filter(({ result }) => result === 'OK').filter(({ method }) => method === 'NodeIdentity/Join')).toEqual([]);

  writeFileSync(join(mesh.folder, 'token'), 'a.b.1');
  writeFileSync(join(mesh.folder, 'ca.crt'), published);
  await mesh.agent('--service-account-token-file', join(mesh.folder, 'token'), '--controller-ca', join(mesh.folder, 'ca.crt'));
  await mesh.nodeIsConnected('n1');

  // Revoked is revoked: its pods have their tokens still, and any other pod there would get one too.
  const at = ['--controller', mesh.socket];
  expect(await mesh.cli('node', 'revoke', 'n1', ...at)).toMatchObject({ code: 0 });
  await mesh.audited(({ method, result }) => method === 'NodeIdentity/Join' && result === 'PERMISSION_DENIED');
  expect((await refusedWith(joinBy('a.b.1', 'n1'))).details).toContain('node n1 was revoked: weft node admit n1 lets its pods join again');
  expect((await mesh.cli('node', 'revoked', ...at)).stdout).toMatch(/^n1 .* join token$/m);
  expect((await joinBy('a.b.2', 'n2')).answer.certificate).toContain('BEGIN CERTIFICATE');
  expect((await mesh.cli('node', 'admit', 'n9', ...at)).stderr).toContain('node "n9" was never revoked');
  expect(await mesh.cli('node', 'admit', 'n1', ...at)).toMatchObject({ code: 0, stdout: 'node n1 admitted\n' });
  await mesh.nodeIsConnected('n1');
  expect((await mesh.cli('node', 'revoked', ...at)).stdout).toMatch(/^n1 .* join token or pod$/m);
});
