// `npm run chaos -- traffic`: endpoints of a service are killed, stalled, slowed and made to fail, one after the other, under a load through a real
// proxy with retries and outlier detection. There is always an endpoint that is well, so no request may fail; nor may what the policy does
// against one endpoint cost the others their share.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, get, type IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../lab/ports.js';
import { gatewayManifest, ProxyProcess } from '../lab/proxy-process.js';
import type { Manner } from './traffic-endpoint.js';

const ENDPOINTS = 4;
const CLIENTS = 8;
/** Between two requests of a client. */
const PAUSE_MS = 5;
const ATTEMPT_MS = 1_000;
/** The longest ejection, and time for the trials. */
const RECOVERY_MS = 10_000;
const PROGRAM = join(process.cwd(), 'dist', 'test', 'chaos', 'traffic-endpoint.js');
const WELL: Manner = { status: 200, delayMs: 0 };
/** Of which another endpoint may do better: 501 is the same everywhere. */
const RETRIED = [500, 502, 503, 504];
const DEEDS = ['killed', 'stalled', 'slowed', 'failing', 'flapping'] as const;
type DeedName = (typeof DEEDS)[number];

class Endpoint {
  private process: ChildProcess | null = null;

  constructor(readonly port: number) {}

  async start(): Promise<void> {
    const child = fork(PROGRAM, [String(this.port)], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    this.process = child;
    await once(child, 'message');
  }

  tell(manner: Manner): void {
    this.process?.send(manner);
  }

  signal(signal: NodeJS.Signals): void {
    this.process?.kill(signal);
  }

  async kill(): Promise<void> {
    const child = this.process;
    this.process = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
}

export interface TrafficReport {
  readonly requests: number;
  /** By deed: how often, and the longest that a request took meanwhile, ms. */
  readonly deeds: ReadonlyMap<DeedName, { readonly times: number; readonly longestMs: number }>;
  readonly ejections: number;
  readonly findings: readonly string[];
}

function manifests(port: number, endpoints: readonly Endpoint[]): string {
  const slices = endpoints.map(
    ({ port: own }, index) => `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shop-${index}, labels: {kubernetes.io/service-name: shop}}
addressType: IPv4
ports: [{name: http, port: ${own}}]
endpoints: [{addresses: [127.0.0.1]}]
---`,
  );
  return `${gatewayManifest(`{name: web, port: ${port}, protocol: HTTP}`)}
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: edge}]
  rules:
  - backendRefs: [{name: shop, port: 80}]
    timeouts: {request: 15s, backendRequest: ${ATTEMPT_MS}ms}
    retry: {attempts: 3, codes: [${RETRIED}]}
---
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {ports: [{name: http, port: 80, appProtocol: http}]}
---${slices.join('')}
apiVersion: mesh.weft.dev/v1
kind: TrafficPolicy
metadata: {name: shop}
spec:
  targetRefs: [{kind: Service, name: shop}]
  outlierDetection: {consecutive5xxErrors: 3, baseEjectionTime: 500ms, maxEjectionTime: 2s, maxEjectionPercent: 50}
`;
}

class Clients {
  requests = 0;
  longestMs = 0;
  readonly findings: string[] = [];
  private isOver = false;
  private readonly agent = new Agent({ keepAlive: true });
  private readonly running: Promise<void>[];

  constructor(private readonly port: number) {
    this.running = Array.from({ length: CLIENTS }, () => this.run());
  }

  async end(): Promise<void> {
    this.isOver = true;
    await Promise.all(this.running);
    this.agent.destroy();
  }

  private async run(): Promise<void> {
    while (!this.isOver) {
      const from = performance.now();
      const answer = await this.ask().catch((error: Error) => error.message);
      const ms = performance.now() - from;
      this.requests++;
      this.longestMs = Math.max(this.longestMs, ms);
      if (answer !== 200) this.findings.push(`a request came to ${answer} after ${Math.round(ms)} ms`);
      await sleep(PAUSE_MS);
    }
  }

  private async ask(): Promise<number> {
    const request = get({ host: '127.0.0.1', port: this.port, agent: this.agent });
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    response.resume();
    await once(response, 'end');
    return response.statusCode!;
  }
}

/** Does it, and undoes it. */
async function doTo(endpoint: Endpoint, deed: DeedName, below: (limit: number) => number): Promise<void> {
  const forMs = 300 + below(2_000);
  switch (deed) {
    case 'killed':
      await endpoint.kill();
      await sleep(forMs);
      await endpoint.start();
      return;
    case 'stalled':
      endpoint.signal('SIGSTOP');
      await sleep(forMs);
      endpoint.signal('SIGCONT');
      return;
    case 'slowed':
      endpoint.tell({ status: 200, delayMs: 100 + below(2 * ATTEMPT_MS) });
      await sleep(forMs);
      break;
    case 'failing':
      endpoint.tell({ status: RETRIED[below(RETRIED.length)]!, delayMs: 0 });
      await sleep(forMs);
      break;
    case 'flapping':
      for (let left = forMs; left > 0; left -= 100) {
        endpoint.tell((left / 100) % 2 < 1 ? WELL : { status: 503, delayMs: 0 });
        await sleep(100);
      }
      break;
  }
  endpoint.tell(WELL);
}

export async function chaosTraffic({ minutes, random }: { minutes: number; random: () => number }): Promise<TrafficReport> {
  const folder = mkdtempSync(join(tmpdir(), 'weft-chaos-'));
  const below = (limit: number): number => Math.floor(random() * limit);
  const endpoints: Endpoint[] = [];
  for (let i = 0; i < ENDPOINTS; i++) endpoints.push(new Endpoint(await freePort()));
  const port = await freePort();
  const metricsPort = await freePort();
  const file = join(folder, 'shop.yaml');
  writeFileSync(file, manifests(port, endpoints));
  const deeds = new Map<DeedName, { times: number; longestMs: number }>();
  let proxy: ProxyProcess | null = null;
  try {
    await Promise.all(endpoints.map((endpoint) => endpoint.start()));
    proxy = ProxyProcess.start(file, folder, `--metrics-listen=127.0.0.1:${metricsPort}`);
    await proxy.says('"ready"');
    const clients = new Clients(port);
    const until = performance.now() + minutes * 60_000;
    for (let round = 0; performance.now() < until; round++) {
      const deed = DEEDS[(round + below(2)) % DEEDS.length]!;
      clients.longestMs = 0;
      await doTo(endpoints[below(ENDPOINTS)]!, deed, below);
      const known = deeds.get(deed) ?? { times: 0, longestMs: 0 };
      deeds.set(deed, { times: known.times + 1, longestMs: Math.max(known.longestMs, clients.longestMs) });
      await sleep(200 + below(800));
    }
    const metrics = async (): Promise<string> => (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
    const left = await unreturned(metrics);
    await clients.end();
    const ejections = sum(await metrics(), 'weft_outlier_ejections_total');
    return { requests: clients.requests, deeds, ejections, findings: [...clients.findings, ...left] };
  } finally {
    await proxy?.kill();
    await Promise.all(endpoints.map((endpoint) => endpoint.kill()));
    rmSync(folder, { recursive: true, force: true });
  }
}

/** When nothing is done to them any more every endpoint takes work again: after the longest ejection, by requests that try it. */
async function unreturned(metrics: () => Promise<string>): Promise<string[]> {
  const deadline = performance.now() + RECOVERY_MS;
  for (;;) {
    const left = sum(await metrics(), 'weft_outlier_ejections_active');
    if (left === 0) return [];
    if (performance.now() > deadline) return [`${left} endpoints are left out ${RECOVERY_MS} ms after the last deed`];
    await sleep(100);
  }
}

function sum(metrics: string, name: string): number {
  const lines = metrics.split('\n').filter((line) => line.startsWith(`${name}{`));
  return lines.reduce((total, line) => total + Number(line.split(' ').at(-1)), 0);
}
