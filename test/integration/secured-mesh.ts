// What the tests of who may speak to whom share: a real etcd, a real controller with an authority, an administrator on its unix socket; nodes,
// operators, agents and the CLI that come to it, and calls with proofs of one's own choosing.
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { beforeEach } from '@jest/globals';
import type { RunningAgent } from '../../agent/main.js';
import { parseToken, RENEWAL_CONTEXT } from '../../api/access/names.js';
import { pinnedAuthority, secureChannel } from '../../api/access/secure-channel.js';
import {
  AccessClient,
  type AuditEntry,
  type CreateJoinTokenResponse,
  type CreateOperatorResponse,
  type ListAuditResponse,
  type NodeCertificate,
  NodeIdentityClient,
  type Role,
} from '../../api/gen/mesh/v1/access.js';
import { AdminClient, type ListNodesResponse, type Node } from '../../api/gen/mesh/v1/admin.js';
import { closesAfterEach } from '../lab/closing.js';
import { startEtcd, type TestEtcd } from '../lab/etcd.js';
import { until } from '../lab/eventually.js';
import { runWeft, type WeftEnded } from '../lab/weft-command.js';
import { startTestAgent } from './agent-lab.js';
import { ask, startTestController, type TestController } from './controller-lab.js';

export type KeyPair = ReturnType<typeof ec>;
export const ec = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });
export const spki = (pair: KeyPair) => pair.publicKey.export({ type: 'spki', format: 'der' });
export const pem = (pair: KeyPair) => pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();

/** By which the owner of `by` asks for a certificate of another key. */
export function renewalSignature(publicKey: Buffer, by: KeyPair): Buffer {
  return sign('sha256', Buffer.concat([Buffer.from(RENEWAL_CONTEXT), publicKey]), by.privateKey);
}

export const plain = credentials.createInsecure;

export function bearer(text: string): Metadata {
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${text}`);
  return metadata;
}

/** What a caller shows, and whom it trusts. */
export interface Known {
  readonly certificate?: string;
  readonly key?: string;
  readonly authorities: readonly string[];
}

export interface Joined extends Known {
  readonly answer: NodeCertificate;
  readonly pair: KeyPair;
}

/** What a call was refused with. */
export async function refusedWith(promise: Promise<unknown>): Promise<ServiceError> {
  const outcome = await promise.then(
    () => null,
    (error: ServiceError) => error,
  );
  if (outcome === null) throw new Error('it was not refused');
  return outcome;
}

/** Made once by a test file: another mesh for each of its tests. */
export class SecuredMesh {
  readonly closing = closesAfterEach();
  folder = '';
  etcd!: TestEtcd;
  one!: TestController;
  /** On its unix socket: an administrator. */
  local!: { readonly access: AccessClient; readonly admin: AdminClient };

  constructor() {
    beforeEach(async () => {
      this.folder = mkdtempSync('/dev/shm/wsec-');
      this.closing.push(() => rmSync(this.folder, { recursive: true, force: true }));
      writeFileSync(join(this.folder, 'sealing'), randomBytes(32).toString('hex'));
      this.etcd = await startEtcd();
      this.closing.push(() => this.etcd.stop());
      this.one = await this.controller();
      this.local = { access: new AccessClient(this.socket, plain(), {}), admin: new AdminClient(this.socket, plain(), {}) };
      this.closing.push(
        () => this.local.access.close(),
        () => this.local.admin.close(),
      );
    });
  }

  get socket(): string {
    return `unix:${join(this.folder, 'controller.sock')}`;
  }

  async controller(flags: Record<string, string | string[]> = {}): Promise<TestController> {
    const own = { listen: ['127.0.0.1:0', this.socket], authorityKeyFile: join(this.folder, 'sealing') };
    const started = await startTestController(this.etcd.endpoint, { ...own, ...flags });
    this.closing.push(() => started.stop());
    return started;
  }

  async token(node: string, ttlSeconds = 600): Promise<string> {
    const { token } = await ask<CreateJoinTokenResponse>((done) => this.local.access.createJoinToken({ node, ttlSeconds }, done));
    return token;
  }

  operator(name: string, role: Role, publicKey = Buffer.alloc(0)): Promise<CreateOperatorResponse> {
    return ask<CreateOperatorResponse>((done) => this.local.access.createOperator({ name, role, ttlSeconds: 0, publicKey }, done));
  }

  client<C extends { close(): void }>(
    Client: new (address: string, credentials: ReturnType<typeof secureChannel>['credentials'], options: object) => C,
    { certificate, key, authorities }: Known,
    address = this.one.address,
  ): C {
    const { credentials: proof, options } = secureChannel({ authorities, certificate: certificate ?? null, key: key ?? null });
    const made = new Client(address, proof, { ...options, 'grpc.use_local_subchannel_pool': 1 });
    this.closing.push(() => made.close());
    return made;
  }

  /** That the token names. */
  async authorities(token: string): Promise<string[]> {
    return [await pinnedAuthority(this.one.address, parseToken(token)?.pin ?? '')];
  }

  async joinWith(token: string, node: string, pair = ec(), trusted?: readonly string[]): Promise<Joined> {
    const identity = this.client(NodeIdentityClient, { authorities: trusted ?? (await this.authorities(token)) });
    const answer = await ask<NodeCertificate>((done) => identity.join({ node, publicKey: spki(pair) }, bearer(token), done));
    return { certificate: answer.certificate, key: pem(pair), authorities: answer.authorities, answer, pair };
  }

  async audit(): Promise<AuditEntry[]> {
    const { entries } = await ask<ListAuditResponse>((done) => this.local.access.listAudit({ limit: 0 }, done));
    return entries;
  }

  /** Written a moment after the call. */
  async audited(matches: (entry: AuditEntry) => boolean): Promise<AuditEntry> {
    for (let attempt = 0; attempt < 200; attempt++) {
      const found = (await this.audit()).find(matches);
      if (found !== undefined) return found;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    throw new Error(`no such entry: ${JSON.stringify(await this.audit(), null, 1)}`);
  }

  /** Of node n1, where the flags don't say. */
  async agent(...flags: string[]): Promise<RunningAgent> {
    const own = ['--node', 'n1', '--controller', this.one.address, '--run-dir', this.folder, '--state-dir', this.folder];
    const running = await startTestAgent(...own, ...flags);
    this.closing.push(() => running.stop());
    return running;
  }

  nodeIsConnected(name: string): Promise<void> {
    return this.#hasNode(`node ${name} is connected`, (node) => node.name === name && node.connected);
  }

  nodeIsRegistered(name: string): Promise<void> {
    return this.#hasNode(`node ${name} is registered`, (node) => node.name === name);
  }

  #hasNode(what: string, is: (node: Node) => boolean): Promise<void> {
    return until(what, async () => {
      const { nodes } = await ask<ListNodesResponse>((done) => this.local.admin.listNodes({}, done));
      return nodes.some(is);
    });
  }

  cli(...args: string[]): Promise<WeftEnded> {
    return runWeft(args, { HOME: this.folder, XDG_CONFIG_HOME: '', WEFT_TOKEN: '', WEFT_ACTOR: 'root@here' });
  }
}
