// Nodes and writers of the chaos test of the control plane, in a namespace of their own. A writer applies one group of Services after the other version,
// all of a group in one apply, again and again until it is acknowledged. A node is the agent's own discovery client, and what it gets is judged
// (control-judge.ts).
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials, Metadata } from '@grpc/grpc-js';
import pino from 'pino';
import { DiscoveryClient, type DiscoveryUpdate } from '../../agent/discovery/discovery-client.js';
import { systemClock } from '../../agent/link/clock.js';
import { shuffled } from '../../agent/link/link.js';
import { RegistryClient } from '../../agent/registry/registry-client.js';
import { AdminClient, type ApplyResponse, type CurrentRevisionResponse } from '../../api/gen/mesh/v1/admin.js';
import { RegisterRequest } from '../../api/gen/mesh/v1/discovery.js';
import { GROUP, LAST, NodeJudge, nameOf, type Written } from './control-judge.js';
import type { ControlOrder, ControlReport } from './control-protocol.js';

const NODES = 20;
const WRITERS = 6;
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

function service(name: string, port: number): string {
  return `apiVersion: v1
kind: Service
metadata: {name: ${name}, namespace: chaos}
spec: {ports: [{name: http, port: ${port}}]}
`;
}

function manifests(writer: number, version: number): string {
  return Array.from({ length: GROUP }, (_, index) => service(nameOf(writer, index), version)).join('---\n');
}

let admins: AdminClient[] = [];

class Writer implements Written {
  version = 0;
  #isOver = false;
  #running: Promise<void> | null = null;

  constructor(readonly index: number) {}

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
    return applied(manifests(this.index, version));
  }
}

/** False: it may have been, or not. */
function applied(content: string): Promise<boolean> {
  const admin = admins[Math.floor(Math.random() * admins.length)]!;
  const files = [{ name: 'chaos.yaml', content }];
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

class Node {
  readonly #judge: NodeJudge;
  readonly #client: DiscoveryClient;
  readonly #registry: RegistryClient;

  constructor(name: string, controllers: readonly string[]) {
    this.#judge = new NodeJudge(name, finding);
    const onUpdate = async (update: DiscoveryUpdate): Promise<[]> => {
      counts.updates++;
      this.#judge.look(update);
      return [];
    };
    const addresses = shuffled(controllers, systemClock);
    this.#client = new DiscoveryClient({ addresses, node: name, version: 'chaos', resume: null, onUpdate, log });
    const state = () => RegisterRequest.fromPartial({ node: name, version: 'chaos' });
    this.#registry = new RegistryClient({ addresses, state, log });
  }

  start(): void {
    this.#client.start();
    this.#registry.start();
  }

  /** What it lacks of what was acknowledged, and how it stands; null: nothing. */
  missing(written: readonly Written[]): string | null {
    const missing = this.#judge.missing(written);
    return missing === null ? null : `${missing}; revision ${this.#client.token?.revision}, ${this.#client.state} ${this.#client.error}`;
  }
}

function report(kind: ControlReport['kind']): void {
  process.send?.({ kind, ...counts, findings } satisfies ControlReport);
}

let writers: Writer[] = [];
let nodes: Node[] = [];

async function stop(): Promise<void> {
  await Promise.all(writers.map((writer) => writer.finish()));
  report('stopped');
}

async function finish(): Promise<void> {
  while (!(await applied(service(LAST, 1)))) await sleep(100);
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
  if (kind === 'stop') return void stop();
  if (kind === 'finish') return void finish();
  admins = controllers.map((address) => new AdminClient(address, credentials.createInsecure(), { 'grpc.enable_http_proxy': 0 }));
  writers = Array.from({ length: WRITERS }, (_, index) => new Writer(index));
  nodes = Array.from({ length: NODES }, (_, index) => new Node(`node-${index}`, controllers));
  for (const each of [...writers, ...nodes]) each.start();
});
process.on('disconnect', () => process.exit(0));
report('ready');
