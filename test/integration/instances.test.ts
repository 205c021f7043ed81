// An instance that registers itself by the command line at a real agent, becomes an endpoint at a real controller over a real etcd, is checked,
// drained, and goes.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { beforeEach, expect, test } from '@jest/globals';
import type { RunningAgent } from '../../agent/main.js';
import { type Endpoint, EndpointHealth } from '../../api/gen/mesh/v1/model.js';
import { CatalogClient, ListEndpointsRequest, type ListEndpointsResponse } from '../../api/gen/mesh/v1/registry.js';
import { WEFT } from '../../deploy/local/cluster.js';
import { closesAfterEach } from '../lab/closing.js';
import { Condition } from '../lab/condition.js';
import { startEtcd } from '../lab/etcd.js';
import { runWeft } from '../lab/weft-command.js';
import { startTestAgent } from './agent-lab.js';
import { startTestController, type TestController } from './controller-lab.js';

let controller: TestController;
let folder: string;
let agent: RunningAgent;
const closing = closesAfterEach();

beforeEach(async () => {
  folder = mkdtempSync('/dev/shm/winst-');
  closing.push(() => rmSync(folder, { recursive: true, force: true }));
  const etcd = await startEtcd();
  closing.push(() => etcd.stop());
  controller = await startTestController(etcd.endpoint);
  closing.push(() => controller.stop());
  agent = await startNode();
  closing.push(() => agent.stop());
});

function startNode(): Promise<RunningAgent> {
  const places = [
    '--run-dir',
    folder,
    '--state-dir',
    join(folder, 'state'),
    '--instances-listen',
    `unix:${join(folder, 'instances.sock')}`,
  ];
  const reached = ['--controller', controller.address, '--status-advertise', `unix:${join(folder, 'agent.sock')}`];
  return startTestAgent('--node', 'n1', '--zone', 'z1', ...places, ...reached);
}

const environment = () => ({ WEFT_CONTROLLER: controller.address, WEFT_AGENT: `unix:${join(folder, 'instances.sock')}` });

/** One that goes on. */
function start(...args: string[]): ChildProcess {
  const child = spawn(process.execPath, [WEFT, ...args], { env: { ...process.env, ...environment() }, stdio: 'ignore' });
  closing.push(() => child.kill('SIGKILL'));
  return child;
}

const weft = (...args: string[]) => runWeft(args, environment());

/** The endpoints of shop/api, as a watch tells them. */
class Watched extends Condition {
  endpoints: readonly Endpoint[] = [];
  readonly #catalog = new CatalogClient(controller.address, credentials.createInsecure());

  constructor() {
    super();
    const call = this.#catalog.watchEndpoints(ListEndpointsRequest.fromPartial({ namespace: 'shop', service: 'api' }));
    call.on('data', ({ endpoints }: ListEndpointsResponse) => this.#told(endpoints));
    // The service goes with its last instance.
    call.on('error', () => this.#told([]));
    closing.push(() => {
      call.cancel();
      this.#catalog.close();
    });
  }

  #told(endpoints: readonly Endpoint[]): void {
    this.endpoints = endpoints;
    this.changed();
  }
}

/** When the registry answers of it: the command that registered it has only told its agent. */
async function known(): Promise<Watched> {
  for (;;) {
    const { stdout } = await weft('registry', 'services', '-o', 'json');
    if (stdout.includes('"api"')) return new Watched();
  }
}

const REGISTER = ['instance', 'register', 'api', '-n', 'shop', '--address', '127.0.0.1', '--version', 'v2', '--label', 'tier=gold'];

test('an instance is registered, found by its version, checked, drained and deregistered from the command line', async () => {
  let status = 200;
  const server = createServer((_, response) => void response.writeHead(status).end());
  closing.push(() => server.close());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const check = ['--check', 'http:/healthz', '--check-interval', '100ms'];
  expect(await weft(...REGISTER, '--id', 'a', '--port', `http=80:${port}`, ...check)).toEqual({
    code: 0,
    stdout: 'instance a of shop/api registered\n',
    stderr: '',
  });
  const watched = await known();
  const shown = await weft('registry', 'endpoints', 'api', '-n', 'shop', '--version', 'v2', '-l', 'tier=gold');
  expect(shown.stdout).toMatch(new RegExp(`127.0.0.1 +http:${port} +v2 +ready +n1 +z1`));
  expect((await weft('registry', 'endpoints', 'api', '-n', 'shop', '--version', 'v1')).stderr).toBe('no such endpoint of shop/api\n');
  expect((await weft('registry', 'services', '-n', 'shop')).stdout).toMatch(/shop +api +http:80 +1\/1 +v2 1\/1/);
  status = 500;
  await watched.until('it fails', () => watched.endpoints[0]?.health === EndpointHealth.UNHEALTHY);
  expect((await weft('registry', 'endpoints', 'api', '-n', 'shop')).stdout).toContain('check by n1: HTTP 500 from /healthz');
  expect((await weft('status', 'n1')).stdout).toContain('shop/api/127.0.0.1 fails its health check (http');
  status = 200;
  await watched.until('it passes', () => watched.endpoints[0]?.health === EndpointHealth.READY);
  await weft('instance', 'drain', 'api', '-n', 'shop', '--id', 'a');
  await watched.until('it drains', () => watched.endpoints[0]?.health === EndpointHealth.DRAINING);
  expect((await weft('instance', 'drain', 'api', '-n', 'shop', '--id', 'a', '--end')).stdout).toContain('gets new work again');
  await watched.until('it is ready', () => watched.endpoints[0]?.health === EndpointHealth.READY);
  await weft('instance', 'drain', 'api', '-n', 'shop', '--id', 'a');
  expect((await weft('instance', 'list')).stdout).toMatch(/shop\/api +a +127.0.0.1 .*draining/);
  expect((await weft('instance', 'deregister', 'api', '-n', 'shop', '--id', 'a')).code).toBe(0);
  await watched.until('it is gone', () => watched.endpoints.length === 0);
  const again = await weft('instance', 'deregister', 'api', '-n', 'shop', '--id', 'a');
  expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining('no instance "a" of shop/api is registered at this agent') });
});

test('an instance that is kept goes when its keeper ends, or is killed; one that stays outlives a restart of the agent', async () => {
  expect((await weft(...REGISTER, '--id', 'stays', '--port', 'http=8080')).code).toBe(0);
  const watched = await known();
  const keep = (id: string, port: string) => start(...REGISTER.with(6, '127.0.0.2'), '--id', id, '--port', port, '--keep', '--ttl', '1s');
  const ids = () => watched.endpoints.map(({ ports }) => ports[0]?.port);
  const ended = keep('ended', 'http=8081');
  const killed = keep('killed', 'http=8082');
  await watched.until('all three', () => ids().length === 3);
  const closed = once(ended, 'close');
  ended.kill('SIGTERM');
  expect((await closed)[0]).toBe(0);
  await watched.until('the ended one is gone', () => !ids().includes(8081));
  killed.kill('SIGKILL');
  await watched.until('the killed one is gone', () => !ids().includes(8082));
  await agent.stop();
  agent = await startNode();
  expect((await weft('instance', 'list')).stdout).toContain('stays');
  // Its lease never ran out: nobody saw it go.
  expect(ids()).toEqual([8080]);
});

test('mistakes say what was expected', async () => {
  const kind = await weft('get', 'endpoints');
  expect(kind).toMatchObject({ code: 2, stderr: expect.stringContaining('weft registry endpoints SERVICE') });
  expect(await weft(...REGISTER, '--id', 'a')).toMatchObject({ code: 2, stderr: expect.stringContaining('--port') });
  expect(await weft(...REGISTER, '--id', 'a', '--port', 'x')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('NAME=SERVICEPORT:PORT'),
  });
  const refused = await weft(...REGISTER.with(6, 'localhost'), '--id', 'a', '--port', '80');
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('"localhost" is no IPv4 or IPv6 address') });
  // Cut in the middle of a character.
  const halved = await weft(...REGISTER.with(6, `${'a'.repeat(63)}😀`), '--id', 'a', '--port', '80');
  expect(halved).toMatchObject({ code: 1, stderr: expect.stringContaining('a�" is no IPv4 or IPv6 address') });
  const away = await weft('instance', 'list', '--agent', 'unix:/nowhere.sock');
  expect(away).toMatchObject({ code: 1, stderr: expect.stringContaining('no agent answers at unix:/nowhere.sock') });
});
