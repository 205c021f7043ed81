// For tests: the real `weft proxy --static` process (from dist, as users run it), and how to wait for what it says. Ends with the test.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { credentials } from '@grpc/grpc-js';
import { type ProxyState, ProxyStatusClient } from '../../api/gen/mesh/v1/status.js';

const dist = process.env.WEFT_DIST ?? join(process.cwd(), 'dist');
/** A proxy begins within a second; where ten others want the core, in ten. */
const DEADLINE_MS = 30_000;

export class ProxyProcess {
  errors = '';
  /** With it all that it said is read. */
  private hasEnded = false;
  private readonly ended: Promise<void>;

  private constructor(
    readonly child: ChildProcess,
    private readonly runDir: string,
  ) {
    child.stderr?.on('data', (chunk: Buffer) => {
      this.errors += chunk.toString();
    });
    this.ended = new Promise((resolve) =>
      child.once('close', () => {
        this.hasEnded = true;
        resolve();
      }),
    );
  }

  /** With two workers; `runDir` is its run directory. */
  static start(file: string, runDir: string, ...flags: string[]): ProxyProcess {
    return ProxyProcess.startWith(['--static', file, ...flags], runDir);
  }

  static startWith(flags: readonly string[], runDir: string, env: NodeJS.ProcessEnv = process.env): ProxyProcess {
    const args = [join(dist, 'cli', 'main.js'), 'proxy', '--workers', '2', '--run-dir', runDir, ...flags];
    return new ProxyProcess(spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'], env }), runDir);
  }

  /** Resolves when a log line has the text; what was said before `from` does not count. */
  async says(text: string, from = 0): Promise<void> {
    const signal = AbortSignal.timeout(DEADLINE_MS);
    while (!this.errors.slice(from).includes(text)) {
      if (this.hasEnded) throw new Error(`ended with ${this.child.exitCode ?? this.child.signalCode}:\n${this.errors}`);
      await Promise.race([once(this.child.stderr!, 'data', { signal }), this.ended]).catch(() => {
        throw new Error(`waited ${DEADLINE_MS} ms for ${JSON.stringify(text)}; heard since then:\n${this.errors.slice(from)}`);
      });
    }
  }

  async exit(): Promise<number | null> {
    await this.ended;
    return this.child.exitCode;
  }

  async kill(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    this.child.kill('SIGKILL');
    await once(this.child, 'exit');
  }

  state(): Promise<ProxyState> {
    const client = new ProxyStatusClient(`unix:${this.runDir}/proxy.sock`, credentials.createInsecure());
    return new Promise<ProxyState>((resolve, reject) =>
      client.get({}, (error, answer) => (error === null ? resolve(answer) : reject(error))),
    ).finally(() => client.close());
  }

  async counter(name: string): Promise<number> {
    return (await this.state()).counters.find((counter) => counter.name === name)?.value ?? 0;
  }
}

/** A Service of that name with one endpoint on the loopback; ends with "---". */
export function serviceManifest(name: string, port: number, appProtocol = 'http'): string {
  return `
apiVersion: v1
kind: Service
metadata: {name: ${name}}
spec: {ports: [{name: http, port: 80, appProtocol: ${appProtocol}}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ${name}-1, labels: {kubernetes.io/service-name: ${name}}}
addressType: IPv4
ports: [{name: http, port: ${port}}]
endpoints: [{addresses: [127.0.0.1]}]
---`;
}

/** The Gateway "edge" on 127.0.0.1, with these listeners in YAML's flow style; ends with "---". */
export function gatewayManifest(...listeners: readonly string[]): string {
  return `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: weft, addresses: [{value: 127.0.0.1}], listeners: [${listeners.join(', ')}]}
---`;
}

/** The records written so far, as far as their lines are whole. */
export function accessLog(file: string): Record<string, unknown>[] {
  const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}
