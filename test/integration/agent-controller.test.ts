// The real agent (redirection off) with the real controller over a real etcd: what a node's operator relies on when parts come and go.
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { afterEach, expect, test } from '@jest/globals';
import pino from 'pino';
import { DiscoveryClient } from '../../agent/discovery/discovery-client.js';
import type { RunningAgent } from '../../agent/main.js';
import { AdminClient, type ApplyResponse, type ListNodesResponse, type WaitResponse } from '../../api/gen/mesh/v1/admin.js';
import { NodeStatusClient, type StatusResponse } from '../../api/gen/mesh/v1/status.js';
import { controllerConfig, DEFAULT_FLAGS } from '../../controller/config.js';
import { type Controller, startController } from '../../controller/main.js';
import { startEtcd } from '../lab/etcd.js';
import { eventually } from '../lab/eventually.js';
import { startTestAgent } from './agent-lab.js';

const log = pino({ level: 'silent' });
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

type Done<T> = (error: Error | null, value: T) => void;
const ask = <T>(call: (done: Done<T>) => unknown): Promise<T> =>
  new Promise((resolve, reject) => call((error, value) => (error === null ? resolve(value) : reject(error))));

class Mesh {
  readonly folder = mkdtempSync('/dev/shm/wag-');
  readonly address = `unix:${join(this.folder, 'controller.sock')}`;

  constructor() {
    cleanups.push(() => rmSync(this.folder, { recursive: true, force: true }));
  }

  async controller(etcd: string): Promise<Controller> {
    const flags = { ...DEFAULT_FLAGS, etcd: [etcd], listen: [this.address], metricsListen: '', nodeTtl: '3' };
    const controller = await startController(controllerConfig(flags), log);
    cleanups.push(() => controller.stop());
    return controller;
  }

  async agent(): Promise<RunningAgent> {
    const flags = ['--node', 'n1', '--zone', 'z1', '--controller', this.address, '--run-dir', this.folder, '--state-dir', this.folder];
    const agent = await startTestAgent(...flags);
    cleanups.push(() => agent.stop());
    return agent;
  }

  /** Applies and waits for the node; returns the revision. */
  async applyAndWait(content: string): Promise<number> {
    const applied = await this.#admin<ApplyResponse>((admin, done) =>
      admin.apply({ files: [{ name: 't.yaml', content }], dryRun: false, asOf: 0 }, done),
    );
    expect(applied.findings).toEqual([]);
    const { acked, pending, rejected } = await this.#admin<WaitResponse>((admin, done) =>
      admin.wait({ revision: applied.revision, timeoutMs: 15_000 }, done),
    );
    expect({ acked, pending, rejected }).toEqual({ acked: ['n1'], pending: [], rejected: [] });
    return applied.revision;
  }

  nodes(): Promise<ListNodesResponse> {
    return this.#admin<ListNodesResponse>((admin, done) => admin.listNodes({}, done));
  }

  async #admin<T>(call: (admin: AdminClient, done: Done<T>) => unknown): Promise<T> {
    const admin = new AdminClient(this.address, credentials.createInsecure());
    try {
      return await ask<T>((done) => call(admin, done));
    } finally {
      admin.close();
    }
  }
}

async function status(agent: RunningAgent): Promise<StatusResponse> {
  const client = new NodeStatusClient(agent.statusAddresses[0] ?? '', credentials.createInsecure());
  try {
    return await ask<StatusResponse>((done) => client.get({}, done));
  } finally {
    client.close();
  }
}

const service = (name: string): string => `apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop }
spec: { clusterIP: 10.96.0.10, ports: [{ name: http, port: 80 }] }
`;
// Any path that exists stands for the namespace while redirection is off.
const workload = `apiVersion: mesh.weft.dev/v1
kind: Workload
metadata: { name: catalog-1, namespace: shop }
spec: { node: n1, networkNamespace: /proc/self/ns/net, addresses: [10.0.0.7] }
`;

test('a node applies and acks what is applied, registers what runs, and goes on over the loss of controller and etcd', async () => {
  const etcd = await startEtcd();
  cleanups.push(() => etcd.stop());
  const mesh = new Mesh();
  const agent = await mesh.agent();
  expect(await status(agent)).toMatchObject({ appliedRevision: 0, controller: { connected: false } });

  const first = await mesh.controller(etcd.endpoint);
  await eventually(
    () => mesh.nodes().catch(() => null),
    (nodes) => nodes?.nodes[0]?.connected === true,
  );
  const revision = await mesh.applyAndWait(`${service('catalog')}---\n${workload}`);
  expect((await status(agent)).appliedRevision).toBeGreaterThanOrEqual(revision);
  const { nodes } = await eventually(
    () => mesh.nodes(),
    (found) => found.nodes[0]?.workloads.length === 1,
  );
  expect(nodes[0]).toMatchObject({ name: 'n1', zone: 'z1', workloads: [{ name: 'shop/catalog-1', addresses: ['10.0.0.7'] }] });

  await first.stop();
  await eventually(
    () => status(agent),
    ({ controller }) => controller?.connected === false,
  );
  expect((await status(agent)).appliedRevision).toBeGreaterThanOrEqual(revision);
  await mesh.controller(etcd.endpoint);
  await eventually(
    () => mesh.nodes().catch(() => null),
    (found) => found?.nodes[0]?.connected === true,
  );
  const later = await mesh.applyAndWait(service('cart'));

  await etcd.kill();
  expect((await status(agent)).appliedRevision).toBeGreaterThanOrEqual(later);
  await etcd.restart();
  const last = await eventually(
    () => mesh.applyAndWait(service('order')).catch(() => 0),
    (found) => found > 0,
  );
  expect((await status(agent)).appliedRevision).toBeGreaterThanOrEqual(last);
});

test('a proxy that hangs is named by apply --wait, and no longer once it acks again', async () => {
  const etcd = await startEtcd();
  cleanups.push(() => etcd.stop());
  const mesh = new Mesh();
  await mesh.controller(etcd.endpoint);
  const agent = await mesh.agent();
  await eventually(
    () => mesh.nodes().catch(() => null),
    (nodes) => nodes?.nodes[0]?.connected === true,
  );
  await mesh.applyAndWait(service('catalog'));
  let wake: () => void = () => {};
  let hold: Promise<void> = Promise.resolve();
  const proxy = new DiscoveryClient({
    addresses: [`unix:${join(mesh.folder, 'agent.sock')}`],
    node: 'n1/proxy',
    version: 'test',
    resume: null,
    onUpdate: () => hold.then(() => []),
    log,
  });
  proxy.start();
  cleanups.push(() => proxy.stop());
  await eventually(
    () => Promise.resolve(proxy.token),
    (token) => token !== null,
  );
  hold = new Promise((resolve) => (wake = resolve));
  await expect(mesh.applyAndWait(service('cart'))).rejects.toThrow(/the proxy did not ack/);
  expect((await status(agent)).proxyError).toContain('does not ack');
  wake();
  await eventually(
    () => status(agent),
    ({ rejected }) => rejected.length === 0,
  );
  await mesh.applyAndWait(service('order'));
});
