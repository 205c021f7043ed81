// Attacks on what nodes, operators and controllers say to each other: from in between, in a controller's place, too slow, too large, too many, older
// protocols and plaintext. They learn nothing, and hold up nobody.
import { X509Certificate } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import { type ClientHttp2Session, connect as connectHttp2, type IncomingHttpHeaders } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, createServer as createTlsServer, type SecureContextOptions } from 'node:tls';
import { Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { expect, test } from '@jest/globals';
import { Command } from 'commander';
import { addAgentOptions, agentConfig } from '../../agent/config.js';
import { CONTROLLER_NAME, parseToken } from '../../api/access/names.js';
import { pinnedAuthority } from '../../api/access/secure-channel.js';
import { AccessService, type NodeCertificate, NodeIdentityClient, NodeIdentityService, Role } from '../../api/gen/mesh/v1/access.js';
import { AdminClient, AdminService, type ApplyResponse, type ListNodesResponse, type WaitResponse } from '../../api/gen/mesh/v1/admin.js';
import {
  DiscoveryClient,
  type DiscoveryResponse,
  DiscoveryService,
  RegisterRequest,
  RegistryClient,
  RegistryService,
} from '../../api/gen/mesh/v1/discovery.js';
import { QuotasService } from '../../api/gen/mesh/v1/quota.js';
import { CatalogService } from '../../api/gen/mesh/v1/registry.js';
import { PROTOCOL } from '../../api/grpc/protocol.js';
import { retryDelayIn } from '../../api/grpc/retry-info.js';
import { methodAt } from '../../controller/access/methods.js';
import { type Principal, refusal } from '../../controller/access/principal.js';
import { ROLES } from '../../controller/store/access-records.js';
import { Certificates } from '../lab/certificates.js';
import { ask, serviceYaml, startTestController } from './controller-lab.js';
import { bearer, ec, type Joined, type Known, pem, plain, refusedWith, renewalSignature, SecuredMesh, spki } from './secured-mesh.js';

const mesh = new SecuredMesh();

/** What a caller is refused with that takes a server with the certificate of this node for a controller. */
async function refusedByPretender(node: Joined): Promise<ServiceError> {
  const fake = createTlsServer({ cert: `${node.certificate}${node.authorities[0]}`, key: node.key, ALPNProtocols: ['h2'] });
  fake.on('tlsClientError', () => undefined);
  await new Promise<void>((resolve) => fake.listen(0, '127.0.0.1', resolve));
  mesh.closing.push(() => fake.close());
  const identity = mesh.client(NodeIdentityClient, node, `127.0.0.1:${(fake.address() as { port: number }).port}`);
  return refusedWith(
    ask((done) => identity.join({ node: 'n1', publicKey: spki(ec()) }, bearer('secret'), { deadline: Date.now() + 2_000 }, done)),
  );
}

test('who stands in between without the authority learns neither token nor anything else', async () => {
  const made = new Certificates();
  mesh.closing.push(() => made.remove());
  const fake = made.issue(made.authority('somebody else'), `DNS:${CONTROLLER_NAME}`);
  let heard = '';
  const middle = createTlsServer({ cert: fake.cert, key: fake.key, ALPNProtocols: ['h2'] }, (stream) => {
    stream.on('data', (bytes) => {
      heard += bytes.toString('latin1');
    });
    stream.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => middle.listen(0, '127.0.0.1', resolve));
  mesh.closing.push(() => middle.close());
  const port = (middle.address() as { port: number }).port;
  const text = await mesh.token('n1');
  writeFileSync(join(mesh.folder, 'token'), text);
  await expect(pinnedAuthority(`127.0.0.1:${port}`, parseToken(text)?.pin ?? '')).rejects.toThrow(/somebody in between/);
  const before = mesh.one.address;
  mesh.one = { ...mesh.one, address: `127.0.0.1:${port}` };
  const cheated = await mesh.agent('--join-token-file', join(mesh.folder, 'token'));
  await cheated.stop();
  // And one that knows the true authority finds a stranger there too.
  const identity = mesh.client(NodeIdentityClient, { authorities: [await pinnedAuthority(before, parseToken(text)?.pin ?? '')] });
  await refusedWith(
    ask((done) => identity.join({ node: 'n1', publicKey: spki(ec()) }, bearer(text), { deadline: Date.now() + 2_000 }, done)),
  );
  mesh.one = { ...mesh.one, address: before };
  expect(heard).not.toContain(parseToken(text)?.secret);
  expect(heard).not.toContain('Bearer');
});

test('a true controller cannot be played by a node that has a certificate of the same authority', async () => {
  const known = await mesh.joinWith(await mesh.token('node-a'), 'node-a');
  const refused = await refusedByPretender(known);
  expect(refused.details).toMatch(/Hostname\/IP does not match|altnames/);
});

test('a node of the very name of controllers is no controller either', async () => {
  const named = await mesh.joinWith(await mesh.token(CONTROLLER_NAME), CONTROLLER_NAME);
  expect((await refusedByPretender(named)).details).toMatch(/Hostname\/IP does not match|altnames|no CN/i);
});

test('handshakes that never end are ended, and hold up nobody meanwhile', async () => {
  const text = await mesh.token('node-a');
  const { port } = new URL(`http://${mesh.one.address}`);
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
  mesh.closing.push(() => {
    for (const each of stalled) each.destroy();
  });
  const began = performance.now();
  await mesh.joinWith(text, 'node-a');
  expect(performance.now() - began).toBeLessThan(3_000);
  await Promise.all(stalled.map((each) => (each.destroyed ? null : new Promise((resolve) => each.once('close', resolve)))));
  expect(performance.now() - began).toBeLessThan(10_000);
});

test('older TLS, plaintext and other protocols are turned away', async () => {
  const { port } = new URL(`http://${mesh.one.address}`);
  const old = await new Promise<string>((resolve) => {
    const each = connectTls({ port: Number(port), host: '127.0.0.1', maxVersion: 'TLSv1.2', rejectUnauthorized: false });
    each.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
    each.once('secureConnect', () => resolve('connected'));
  });
  expect(old).toMatch(/PROTOCOL_VERSION|ECONNRESET/);
  const admin = new AdminClient(mesh.one.address, plain(), {});
  mesh.closing.push(() => admin.close());
  expect(await refusedWith(ask((done) => admin.listNodes({}, new Metadata(), { deadline: Date.now() + 2_000 }, done)))).toMatchObject({
    code: expect.any(Number),
  });
});

test('what is too large or too much is refused with RESOURCE_EXHAUSTED, and when to come again', async () => {
  const text = await mesh.token('node-a');
  const trusted = await mesh.authorities(text);
  const identity = mesh.client(NodeIdentityClient, { authorities: trusted });
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
  expect(await mesh.one.metrics()).toMatch(
    /weft_controller_refused_calls_total\{method="NodeIdentity\/Join",reason="(rate|concurrency)"\} \d+/,
  );
  // Whoever has proved who they are is another caller.
  const { token: theirs } = await mesh.operator('ann', Role.VIEWER);
  const admin = mesh.client(AdminClient, { authorities: trusted });
  await ask((done) => admin.listNodes({}, bearer(theirs), done));
});

test('a node that renews is not held up by strangers', async () => {
  const known = await mesh.joinWith(await mesh.token('node-a'), 'node-a');
  const crowd = mesh.client(NodeIdentityClient, { authorities: known.authorities });
  const pressing = Array.from({ length: 200 }, () =>
    refusedWith(ask((done) => crowd.join({ node: 'x', publicKey: Buffer.of(1) }, bearer('nonsense'), done))),
  );
  const renew = (proved: Known) => {
    const publicKey = spki(ec());
    const signature = renewalSignature(publicKey, known.pair);
    const certificate = new X509Certificate(known.answer.certificate).raw;
    return ask<NodeCertificate>((done) => mesh.client(NodeIdentityClient, proved).renew({ certificate, publicKey, signature }, done));
  };
  const many = (proved: Known) => Promise.allSettled(Array.from({ length: 10 }, () => renew(proved)));
  const [proved, nameless, outcomes] = await Promise.all([many(known), many({ authorities: known.authorities }), Promise.all(pressing)]);
  const failed = (results: PromiseSettledResult<unknown>[]) => results.filter((each) => each.status === 'rejected').length;
  expect(outcomes.filter(({ code }) => code === status.RESOURCE_EXHAUSTED).length).toBeGreaterThan(100);
  expect(failed(proved)).toBe(0);
  expect(failed(nameless)).toBeGreaterThan(0);
});

test('plaintext is for this host alone unless --insecure says otherwise, at the controller and at the agent', async () => {
  await expect(startTestController(mesh.etcd.endpoint, { listen: ['0.0.0.0:0'] })).rejects.toThrow(/would be plaintext.*--insecure/);
  const said: string[] = [];
  const command = addAgentOptions(new Command().exitOverride().configureOutput({ writeErr: (text) => said.push(text) }));
  command.parse(['--controller', '10.0.0.1:15010', '--state-dir', join(mesh.folder, 'none')], { from: 'user' });
  expect(() => agentConfig(command)).toThrow(/plaintext: give --join-token-file/);
  expect(existsSync(join(mesh.folder, 'none'))).toBe(false);
});

/** One call without a message, begun and ended or left open: the status it was answered with. */
function askNothing(session: ClientHttp2Session, path: string, authorization: string, ends: boolean): Promise<number> {
  return new Promise((resolve, reject) => {
    const stream = session.request(
      {
        ...{ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' },
        ...(authorization === '' ? {} : { authorization }),
      },
      { endStream: ends },
    );
    const told = (head: IncomingHttpHeaders): void => {
      if (head['grpc-status'] === undefined) return;
      resolve(Number(head['grpc-status']));
      stream.close();
    };
    stream.on('response', told);
    stream.on('trailers', told);
    stream.on('error', reject);
    stream.on('close', () => reject(new Error(`${path}: closed without a status`)));
    stream.resume();
  });
}

test('whoever calls any method and says nothing is answered by role, and ends nothing but the call', async () => {
  const known = await mesh.joinWith(await mesh.token('node-a'), 'node-a');
  const connect = (proof: SecureContextOptions | null) => {
    const session = connectHttp2(`https://${mesh.one.address}`, {
      ca: known.authorities.join('\n'),
      servername: CONTROLLER_NAME,
      ...proof,
    });
    mesh.closing.push(() => session.destroy());
    return session;
  };
  const nameless = connect(null);
  const callers: [Principal, ClientHttp2Session, string][] = [
    [{ kind: 'stranger' }, nameless, ''],
    [
      { kind: 'node', name: 'node-a', lineage: 0, expiresAtMs: 0, issuer: '' },
      connect({ cert: known.answer.certificate, key: pem(known.pair) }),
      '',
    ],
  ];
  for (const role of ROLES) {
    const { token } = await mesh.operator(role, Role[role.toUpperCase() as 'VIEWER']);
    callers.push([{ kind: 'operator', name: role, role, by: 'token', hash: '', issuer: '' }, nameless, `Bearer ${token}`]);
  }
  const services = [AccessService, AdminService, CatalogService, DiscoveryService, NodeIdentityService, QuotasService, RegistryService];
  for (const { path } of services.flatMap((service): { path: string }[] => Object.values(service))) {
    const requirement = methodAt(path)?.requirement;
    for (const [principal, session, authorization] of callers) {
      const code = await askNothing(session, path, authorization, true);
      const isRefused = requirement === undefined || refusal(principal, requirement) !== null;
      const expected = principal.kind === 'stranger' ? status.UNAUTHENTICATED : status.PERMISSION_DENIED;
      const who = principal.kind === 'operator' ? principal.role : principal.kind;
      expect([path, who, code === expected]).toEqual([path, who, isRefused]);
    }
  }
  expect(await askNothing(nameless, NodeIdentityService.join.path, '', false)).toBe(status.DEADLINE_EXCEEDED);
  expect((await mesh.audit()).filter(({ method }) => method === 'NodeIdentity/Join').map(({ result }) => result)).toEqual(['OK']);
});

test('what a caller wrote and an answer repeats is cut so that it can be sent', async () => {
  const known = await mesh.joinWith(await mesh.token('node-a'), 'node-a');
  const registry = mesh.client(RegistryClient, known);
  const refused = (state: Parameters<typeof RegisterRequest.fromPartial>[0]): Promise<ServiceError> =>
    new Promise((resolve) => {
      const stream = registry.register();
      stream.on('error', (error: ServiceError) => resolve(error));
      stream.on('data', () => undefined);
      stream.write(RegisterRequest.fromPartial({ node: 'node-a', ...state }));
    });
  // Cut in the middle of a character.
  const details = (await refused({ instances: [{ service: `${'a'.repeat(129)}😀` }] })).details;
  expect(details).toBe(`"${'a'.repeat(129)}�" is no service: expected "<namespace>/<name>"`);
  const long = await refused({ workloads: [{ name: 'X'.repeat(1 << 20) }] });
  expect([long.code, long.details.slice(0, 10), long.details.length < 10_000]).toEqual([status.INVALID_ARGUMENT, '"XXXXXXXXX', true]);
});

test('what a node says is bounded, however much it says', async () => {
  const known = await mesh.joinWith(await mesh.token('node-a'), 'node-a');
  const registration = mesh.client(RegistryClient, known).register();
  registration.on('error', () => undefined);
  registration.on('data', () => undefined);
  registration.write(RegisterRequest.fromPartial({ node: 'node-a' }));
  await mesh.nodeIsRegistered('node-a');
  const stream = mesh.client(DiscoveryClient, known).stream();
  stream.on('error', () => undefined);
  const value = { node: 'node-a', version: 'test', resume: undefined, protocol: PROTOCOL, packed: false };
  stream.write({ request: { $case: 'subscribe', value } });
  let said = 0;
  stream.on('data', ({ nonce, revision }: DiscoveryResponse) => {
    const rejected = Array.from({ length: 2_000 }, () => ({ type: 1, name: `shop/${said++}`, error: 'x'.repeat(2_000) }));
    stream.write({
      request: { $case: 'ack', value: { nonce, revision, rejected: [...rejected, { type: 1, name: 'y'.repeat(600), error: '' }] } },
    });
  });
  for (const name of ['a', 'b', 'c']) {
    const files = [{ name: 'a.yaml', content: serviceYaml(name) }];
    const { revision } = await ask<ApplyResponse>((done) => mesh.local.admin.apply({ files, dryRun: false, asOf: 0 }, done));
    const { acked } = await ask<WaitResponse>((done) => mesh.local.admin.wait({ revision, timeoutMs: 5_000 }, done));
    expect(acked).toEqual(['node-a']);
  }
  expect(await mesh.one.metrics()).toContain('weft_controller_rejected_resources{node="node-a"} 1000\n');
  const { nodes } = await ask<ListNodesResponse>((done) => mesh.local.admin.listNodes({}, done));
  const [node] = nodes;
  expect(node?.rejected.length).toBeLessThanOrEqual(1_000);
  expect(Math.max(...(node?.rejected ?? []).map(({ name, error }) => name.length + error.length))).toBeLessThan(1_536);
  const registry = mesh.client(RegistryClient, known);
  for (const state of [{ zone: 'z'.repeat(1_000) }, { statusAddress: 'a'.repeat(1_000) }]) {
    const refused = registry.register();
    const error = new Promise<ServiceError>((resolve) => refused.on('error', resolve));
    refused.on('data', () => undefined);
    refused.write(RegisterRequest.fromPartial({ node: 'node-a', ...state }));
    expect(await error).toMatchObject({
      code: status.INVALID_ARGUMENT,
      details: expect.stringContaining('of 1000 characters, at most 512'),
    });
  }
});

test('a call that was answered takes no memory where its caller leaves it open, whatever it asked for', async () => {
  const session = connectHttp2(`https://${mesh.one.address}`, {
    ca: await mesh.authorities(await mesh.token('node-a')),
    servername: CONTROLLER_NAME,
  });
  mesh.closing.push(() => session.destroy());
  const opened = (path: string): Promise<'closed' | 'open'> =>
    new Promise((resolve) => {
      const stream = session.request(
        { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' },
        { endStream: false },
      );
      stream.on('error', () => undefined);
      stream.on('close', () => resolve('closed'));
      stream.on('response', () => setTimeout(() => resolve('open'), 10_000).unref());
      stream.resume();
    });
  // Let in and answered after 5 s, then closed.
  expect(await opened(NodeIdentityService.renew.path)).toBe('closed');
  const refused = await Promise.all(Array.from({ length: 100 }, () => opened(AdminService.get.path)));
  expect(refused.filter((each) => each === 'open')).toEqual([]);
  // What no service has never comes to the guard.
  await new Promise<void>((resolve) =>
    session.remoteSettings.maxConcurrentStreams === undefined ? session.once('remoteSettings', () => resolve()) : resolve(),
  );
  expect(session.remoteSettings.maxConcurrentStreams).toBeLessThanOrEqual(128);
});

test('what a stranger says stands in the audit log as it is, and does nothing to the terminal of who reads it', async () => {
  const identity = mesh.client(NodeIdentityClient, { authorities: await mesh.authorities(await mesh.token('node-a')) });
  const node = '\u001b[2J\u001b]0;x\u0007\nann  Admin/Apply  OK';
  await refusedWith(ask((done) => identity.join({ node, publicKey: Buffer.of(1) }, bearer('nonsense'), done)));
  await mesh.audited(({ method, detail }) => method === 'NodeIdentity/Join' && detail === node);
  const { stdout } = await mesh.cli('audit', '--controller', mesh.socket);
  expect(stdout).toContain('\\x1b[2J\\x1b]0;x\\x07\\x0aann  Admin/Apply');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what is not to be there.
  expect(stdout).not.toMatch(/[\u0007\u001b]|^ann/m);
});
