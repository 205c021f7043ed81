// Nodes and writers of the chaos test of the control plane, in a namespace of their own. A writer applies one group of Services after the other version,
// all of a group in one apply, again and again until it is acknowledged. A node is the agent's own discovery client; it looks at every update: a group of two
// versions is a half-applied revision, a version below one it had is a step back, and in the end it must have the last acknowledged ones.

import { setTimeout as sleep } from 'node:timers/promises';
import { credentials, Metadata } from '@grpc/grpc-js';
import pino from 'pino';
import { DiscoveryClient, type DiscoveryUpdate } from '../../agent/discovery/discovery-client.js';
import { RegistryClient } from '../../agent/registry/registry-client.js';
import { decodeResource } from '../../api/compile/index.js';
import { AdminClient, type ApplyResponse, type CurrentRevisionResponse } from '../../api/gen/mesh/v1/admin.js';
import { RegisterRequest } from '../../api/gen/mesh/v1/discovery.js';
import { ResourceType } from '../../api/gen/mesh/v1/model.js';
import type { ControlOrder, ControlReport } from './control-protocol.js';

const NODES = 20;
const WRITERS = 6;
const GROUP = 5;
const APPLY_TIMEOUT_MS = 5_000;
const PAUSE_MS = 40;
const CONVERGE_MS = 60_000;
const MAX_FINDINGS = 50;

const log = pino({ level: 'silent' });
const findings: string[] = [];
const counts = { acknowledged: 0, refused: 0, updates: 0 };
const finding = (text: string): void => {
  if (findings.length < MAX_FINDINGS) findings.push(text);
};

const member = (writer: number, index: number): string => `g${writer}-${index}`;

function manifests(writer: number, version: number): string {
  const one = (index: number): string => `apiVersion: v1
kind: Service
metadata: {name: ${member(writer, index)}, namespace: chaos}
spec: {ports: [{name: http, port: ${version}}]}
`;
  return Array.from({ length: GROUP }, (_, index) => one(index)).join('---\n');
}

class Writer {
  version = 0;
  #isOver = false;
  #running: Promise<void> | null = null;

  constructor(
    readonly index: number,
    private readonly admins: readonly AdminClient[],
  ) {}

  start(): void {
    this.#running = this.#run();
  }

  /** When its last version is acknowledged. */
  async finish(): Promise<void> {
    this.#isOver = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#isOver) {
      const next = this.version + 1;
      while (!(await this.#apply(next))) {
        counts.refused++;
        await sleep(100);
      }
      this.version = next;
      counts.acknowledged++;
      await sleep(PAUSE_MS);
    }
  }

  #apply(version: number): Promise<boolean> {
    const admin = this.admins[Math.floor(Math.random() * this.admins.length)]!;
    const files = [{ name: 'chaos.yaml', content: manifests(this.index, version) }];
    const deadline = { deadline: Date.now() + APPLY_TIMEOUT_MS };
    return new Promise((resolve) => {
      // As `weft apply` does: what is cut off underway comes too late to undo what was tried again.
      admin.currentRevision({}, new Metadata(), deadline, (unknown, current: CurrentRevisionResponse) => {
        if (unknown !== null) return resolve(false);
        const request = { files, dryRun: false, asOf: current.revision };
        admin.apply(request, new Metadata(), deadline, (error, response: ApplyResponse) => {
          if (error === null && response.findings.length > 0) finding(`a valid manifest was refused: ${response.findings[0]?.message}`);
          resolve(error === null && response.findings.length === 0);
        });
      });
    });
  }
}

class Node {
  readonly #versions = new Map<string, number>();
  readonly #client: DiscoveryClient;
  readonly #registry: RegistryClient;

  constructor(
    readonly name: string,
    controllers: readonly string[],
  ) {
    const onUpdate = (update: DiscoveryUpdate) => Promise.resolve(this.#apply(update));
    this.#client = new DiscoveryClient({ addresses: controllers, node: name, version: 'chaos', resume: null, onUpdate, log });
    const state = () => RegisterRequest.fromPartial({ node: name, version: 'chaos' });
    this.#registry = new RegistryClient({ addresses: controllers, state, log });
  }

  start(): void {
    this.#client.start();
    this.#registry.start();
  }

  /** What keeps it from having every group at its writer's version; null: nothing. */
  missing(writers: readonly Writer[]): string | null {
    for (const { index, version } of writers) {
      for (let each = 0; each < GROUP; each++) {
        const has = this.#versions.get(`chaos/${member(index, each)}`);
        if (has !== version) {
          return `${this.name} has ${member(index, each)} at ${has}, acknowledged was ${version}; revision ${this.#client.token?.revision}, ${this.#client.state} ${this.#client.error}`;
        }
      }
    }
    return null;
  }

  #apply({ revision, full, resources, removed }: DiscoveryUpdate): [] {
    counts.updates++;
    const before = new Map(this.#versions);
    if (full) this.#versions.clear();
    for (const { name } of removed) this.#versions.delete(name);
    for (const resource of resources) {
      const decoded = decodeResource(resource);
      if (decoded.kind !== 'resource' || decoded.resource.type !== ResourceType.SERVICE) continue;
      this.#versions.set(resource.name, decoded.resource.message.ports[0]?.port ?? 0);
    }
    for (const [name, version] of before) {
      const now = this.#versions.get(name);
      if (now === undefined || now < version)
        finding(`${this.name}, revision ${revision}: ${name} went from ${version} back to ${now ?? 'nothing'}`);
    }
    for (let writer = 0; writer < WRITERS; writer++) {
      const group = new Set(Array.from({ length: GROUP }, (_, index) => this.#versions.get(`chaos/${member(writer, index)}`)));
      if (group.size > 1) finding(`${this.name}, revision ${revision} half applied: group ${writer} has versions ${[...group].join(', ')}`);
    }
    return [];
  }
}

function report(kind: ControlReport['kind']): void {
  process.send?.({ kind, ...counts, findings } satisfies ControlReport);
}

let writers: Writer[] = [];
let nodes: Node[] = [];

async function finish(): Promise<void> {
  await Promise.all(writers.map((writer) => writer.finish()));
  const deadline = Date.now() + CONVERGE_MS;
  let missing: string[] = [];
  do {
    missing = nodes.flatMap((node) => node.missing(writers) ?? []);
    if (missing.length > 0) await sleep(200);
  } while (missing.length > 0 && Date.now() < deadline);
  for (const text of missing) finding(text);
  report('verdict');
}

process.on('message', ({ kind, controllers }: ControlOrder) => {
  if (kind === 'finish') return void finish();
  const admins = controllers.map((address) => new AdminClient(address, credentials.createInsecure(), { 'grpc.enable_http_proxy': 0 }));
  writers = Array.from({ length: WRITERS }, (_, index) => new Writer(index, admins));
  nodes = Array.from({ length: NODES }, (_, index) => new Node(`node-${index}`, controllers));
  for (const each of [...writers, ...nodes]) each.start();
});
process.on('disconnect', () => process.exit(0));
report('ready');
