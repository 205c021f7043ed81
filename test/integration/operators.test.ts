// Operators of a controller with an authority: what their roles let them do, by gRPC, the CLI and the registry over HTTP, and whom the records name.
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { expect, test } from '@jest/globals';
import { CONTROLLER_NAME, parseToken } from '../../api/access/names.js';
import { AccessClient, Role } from '../../api/gen/mesh/v1/access.js';
import { AdminClient, type ApplyResponse } from '../../api/gen/mesh/v1/admin.js';
import { RegisterRequest, RegistryClient } from '../../api/gen/mesh/v1/discovery.js';
import { CatalogClient, ListEndpointsRequest } from '../../api/gen/mesh/v1/registry.js';
import { NodeStatusClient, type StatusResponse } from '../../api/gen/mesh/v1/status.js';
import { controllerConfig, DEFAULT_FLAGS } from '../../controller/config.js';
import { until } from '../lab/eventually.js';
import { WatchedStream } from '../lab/watched-stream.js';
import { ask, serviceYaml } from './controller-lab.js';
import { bearer, ec, pem, refusedWith, SecuredMesh, spki } from './secured-mesh.js';

const mesh = new SecuredMesh();

test('operators have the roles they were given, by token and by certificate, until they are deleted', async () => {
  const pair = ec();
  const viewer = await mesh.operator('vic', Role.VIEWER);
  const changer = await mesh.operator('ann', Role.OPERATOR, spki(pair));
  const admin = await mesh.operator('ada', Role.ADMIN);
  const trusted = viewer.authorities;
  const by = {
    vic: {
      admin: mesh.client(AdminClient, { authorities: trusted }),
      access: mesh.client(AccessClient, { authorities: trusted }),
      proof: bearer(viewer.token),
    },
    ann: {
      admin: mesh.client(AdminClient, { authorities: trusted, certificate: changer.certificate, key: pem(pair) }),
      access: mesh.client(AccessClient, { authorities: trusted, certificate: changer.certificate, key: pem(pair) }),
      proof: new Metadata(),
    },
    ada: {
      admin: mesh.client(AdminClient, { authorities: trusted }),
      access: mesh.client(AccessClient, { authorities: trusted }),
      proof: bearer(admin.token),
    },
    nobody: {
      admin: mesh.client(AdminClient, { authorities: trusted }),
      access: mesh.client(AccessClient, { authorities: trusted }),
      proof: new Metadata(),
    },
  };
  const calls = {
    listNodes: (who: (typeof by)['vic']) => ask((done) => who.admin.listNodes({}, who.proof, done)),
    apply: (who: (typeof by)['vic']) =>
      ask<ApplyResponse>((done) =>
        who.admin.apply({ files: [{ name: 'a.yaml', content: serviceYaml('catalog') }], dryRun: false, asOf: 0 }, who.proof, done),
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
  const { entries } = await ask<{ entries: { actor: string; verified: boolean }[] }>((done) =>
    mesh.local.admin.history({ limit: 1 }, done),
  );
  expect(entries).toMatchObject([{ actor: 'ann', verified: true }]);
  const applied = await mesh.audited(({ method, actor }) => method === 'Admin/Apply' && actor === 'ann');
  expect(applied).toMatchObject({ result: 'OK', by: 'certificate', detail: 'a.yaml: +Service shop/catalog' });
  expect(applied.peer).toMatch(/^127\.0\.0\.1:\d+$/);
  const denied = await mesh.audited(({ method, result }) => method === 'Admin/Apply' && result === 'PERMISSION_DENIED');
  expect(denied).toMatchObject({ actor: 'vic', by: 'token' });
  expect(denied.message).toContain('operator vic has the role viewer: this needs operator');

  await ask((done) => mesh.local.access.deleteOperator({ name: 'ann' }, done));
  await ask((done) => mesh.local.access.deleteOperator({ name: 'ada' }, done));
  expect(await outcome(calls.listNodes(by.ann))).toBe('UNAUTHENTICATED');
  expect(await outcome(calls.listNodes(by.ada))).toBe('UNAUTHENTICATED');
  // A new operator of the same name is another one.
  await mesh.operator('ada', Role.VIEWER);
  expect(await outcome(calls.listNodes(by.ada))).toBe('UNAUTHENTICATED');
});

test('a watch of an operator ends when the operator is deleted, also where another one has the name since', async () => {
  await ask((done) =>
    mesh.local.admin.apply({ files: [{ name: 'a.yaml', content: serviceYaml('catalog') }], dryRun: false, asOf: 0 }, done),
  );
  const viewer = await mesh.operator('vic', Role.VIEWER);
  const catalog = mesh.client(CatalogClient, { authorities: viewer.authorities });
  const asked = { namespace: 'shop', service: 'catalog' };
  // Compiled a moment after it was applied.
  const listed = () => ask((done) => catalog.listEndpoints(ListEndpointsRequest.fromPartial(asked), bearer(viewer.token), done));
  await until('the service', () =>
    listed().then(
      () => true,
      () => false,
    ),
  );
  const watch = catalog.watchEndpoints(ListEndpointsRequest.fromPartial(asked), bearer(viewer.token));
  const watched = new WatchedStream(watch);
  await watched.served();
  await ask((done) => mesh.local.access.deleteOperator({ name: 'vic' }, done));
  await mesh.operator('vic', Role.VIEWER);
  expect(await watched.ended()).toMatchObject({ code: status.UNAUTHENTICATED });
});

test('the commands: whoami, an operator by token file, one by certificate, what is refused is said', async () => {
  const at = ['--controller', mesh.socket];
  expect((await mesh.cli('whoami', ...at)).stdout).toBe('root@here, admin, by local socket\n');
  const out = join(mesh.folder, 'ann.yaml');
  expect(await mesh.cli('operator', 'create', 'ann', '--role', 'viewer', '--out', out, ...at)).toMatchObject({ code: 0 });
  expect(statSync(out).mode & 0o777).toBe(0o600);
  // A token is told once: without a place for it none is made, and a place for one that was not made goes.
  const there = await mesh.cli('operator', 'create', 'zoe', '--role', 'viewer', '--out', out, ...at);
  expect(there).toMatchObject({ code: 2, stderr: expect.stringContaining('expected the path of a new file; nothing was made') });
  expect((await mesh.cli('operator', 'list', ...at)).stdout).not.toContain('zoe');
  const second = join(mesh.folder, 'second.yaml');
  expect(await mesh.cli('operator', 'create', 'ann', '--role', 'viewer', '--out', second, ...at)).toMatchObject({ code: 1 });
  expect(existsSync(second)).toBe(false);
  const remote = ['--controller', mesh.one.address, '--credentials', out];
  expect((await mesh.cli('whoami', ...remote)).stdout).toBe('ann, viewer, by token\n');
  expect((await mesh.cli('get', 'services', ...remote)).code).toBe(0);
  const refused = await mesh.cli('delete', 'service', 'x', '-n', 'shop', ...remote);
  expect(refused.stderr).toContain('operator ann has the role viewer: this needs operator (PERMISSION_DENIED)');
  const certificate = join(mesh.folder, 'bob.yaml');
  await mesh.cli('operator', 'create', 'bob', '--role', 'admin', '--certificate', '--out', certificate, ...at);
  expect((await mesh.cli('whoami', '--controller', mesh.one.address, '--credentials', certificate)).stdout).toBe(
    'bob, admin, by certificate\n',
  );
  const { stdout: text } = await mesh.cli(
    'token',
    'create',
    '--node',
    'node-z',
    '--controller',
    mesh.one.address,
    '--credentials',
    certificate,
  );
  expect(parseToken(text.trim())?.kind).toBe('join');
  expect((await mesh.cli('token', 'list', ...at)).stdout).toMatch(/node-z\s+\S+\s+not used\s+bob/);
  expect((await mesh.cli('audit', ...at)).stdout).toContain('Access/CreateJoinToken for node node-z');
  expect((await mesh.cli('authority', 'list', ...at)).stdout).toContain('signs');
  expect((await mesh.cli('whoami', '--controller', '10.0.0.1:15010')).stderr).toContain(
    'no credentials for the controller at 10.0.0.1:15010',
  );
});

test('a node tells its status to controllers alone; operators ask through one, and a node that names another’s address is found out', async () => {
  writeFileSync(join(mesh.folder, 'token'), await mesh.token('n1'));
  const { statusAddresses } = await mesh.agent('--join-token-file', join(mesh.folder, 'token'), '--status-listen', '127.0.0.1:0');
  await mesh.nodeIsConnected('n1');
  const address = statusAddresses[0] ?? '';
  const other = await mesh.joinWith(await mesh.token('n2'), 'n2');
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
    mesh.closing.push(() => asking.close());
    const refused = await refusedWith(ask((done) => asking.get({}, new Metadata(), { deadline: Date.now() + 1_500 }, done)));
    heard[name] = status[refused.code] ?? '';
  }
  expect(heard).toEqual({ plaintext: 'UNAVAILABLE', stranger: 'UNAVAILABLE', node: 'PERMISSION_DENIED' });

  const { token: theirs, authorities: bundle } = await mesh.operator('vic', Role.VIEWER);
  const access = mesh.client(AccessClient, { authorities: bundle });
  const asked = (node: string) => ask<StatusResponse>((done) => access.nodeStatus({ node }, bearer(theirs), done));
  // The agent has told the address that it was given on its command line, which is port 0: the true one is registered in its name.
  const mine = await mesh.joinWith(await mesh.token('n1'), 'n1');
  const register = mesh.client(RegistryClient, mine).register();
  register.on('error', () => undefined);
  register.write(RegisterRequest.fromPartial({ node: 'n1', statusAddress: address }));
  await until('the status by way of the controller', () =>
    asked('n1').then(
      ({ node }) => node === 'n1',
      () => false,
    ),
  );

  const second = mesh.client(RegistryClient, other).register();
  second.on('error', () => undefined);
  second.write(RegisterRequest.fromPartial({ node: 'n2', statusAddress: address }));
  await mesh.nodeIsRegistered('n2');
  expect((await refusedWith(asked('n2'))).details).toContain('it is not node n2 that answers there, but URI:weft://node/n1');
  second.write(RegisterRequest.fromPartial({ node: 'n2', statusAddress: `unix:${join(mesh.folder, 'controller.sock')}` }));
  await until('another address', async () => (await refusedWith(asked('n2'))).details.includes('on its own host alone'));
  second.write(RegisterRequest.fromPartial({ node: 'n2', statusAddress: 'unix-abstract:somebody' }));
  await until('no address', async () =>
    (await refusedWith(asked('n2'))).details.includes('told "unix-abstract:somebody" as its status address'),
  );
});

test('an operator’s own name in a header, or a forged certificate header, changes nothing', async () => {
  const { token: theirs, authorities: trusted } = await mesh.operator('vic', Role.VIEWER);
  const metadata = bearer(theirs);
  metadata.set('weft-actor', 'ada');
  metadata.set('x-forwarded-client-cert', 'URI=weft://operator/ada');
  const access = mesh.client(AccessClient, { authorities: trusted });
  expect(await ask((done) => access.whoAmI({}, metadata, done))).toEqual({ name: 'vic', role: Role.VIEWER, by: 'token' });
});

test('the registry over HTTP has TLS where there is an authority, and answers viewers alone', async () => {
  const secure = await mesh.controller({ listen: ['127.0.0.1:0'], registryListen: '127.0.0.1:0' });
  const viewer = await mesh.operator('vera', Role.VIEWER);
  const ca = await mesh.authorities(viewer.token);
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
  await until('the operator is known there', async () => (await get({ authorization: `Bearer ${viewer.token}` })).status === 200);
  await mesh.audited(({ method, result }) => method === 'Catalog/ListEndpoints' && result === 'UNAUTHENTICATED');
  const plainText = await fetch(`http://${secure.controller.registryAddress}/v1/services`).then(
    () => 'answered',
    () => 'closed',
  );
  expect(plainText).toBe('closed');
  await ask((done) => mesh.local.access.deleteOperator({ name: 'vera' }, done));
  await until('the operator is gone there', async () => (await get({ authorization: `Bearer ${viewer.token}` })).status === 401);
  // Without one it is for this host alone.
  const flags = { ...DEFAULT_FLAGS, listen: ['127.0.0.1:0'], registryListen: '0.0.0.0:15022' };
  expect(() => controllerConfig(flags)).toThrow('--registry-listen 0.0.0.0:15022: without an authority it would be plaintext');
});
