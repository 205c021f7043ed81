// One `weft proxy --static` process with several lanes: a gateway port of its own and the origin behind it. Every Host reaches the origin.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo, Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KeyPair } from '../lab/certificates.js';
import { freePorts } from '../lab/ports.js';

const dist = process.env.WEFT_DIST ?? join(process.cwd(), 'dist');
const START_MS = 20_000;

/** HTTP over TLS to the first origin. */
interface Secure {
  readonly port: number;
  readonly certificate: KeyPair;
}
const base64 = (text: string): string => Buffer.from(text).toString('base64');

const secretManifest = ({ certificate: { cert, key } }: Secure): string => `---
apiVersion: v1
kind: Secret
metadata: {name: edge}
type: kubernetes.io/tls
data:
  tls.crt: ${base64(cert)}
  tls.key: ${base64(key)}
`;
const secureListener = ({ port }: Secure): string =>
  `    - {name: secure, port: ${port}, protocol: HTTPS, tls: {certificateRefs: [{name: edge}]}}\n`;

const manifest = (lanes: readonly { port: number; origin: number }[], secure: Secure | null, appProtocol: string): string => `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: weft
  addresses: [{value: 127.0.0.1}]
  listeners:
${lanes.map(({ port }, i) => `    - {name: lane${i}, port: ${port}, protocol: HTTP}`).join('\n')}
${secure === null ? '' : secureListener(secure) + secretManifest(secure)}${lanes
  .map(
    ({ origin }, i) => `---
apiVersion: v1
kind: Service
metadata: {name: origin${i}}
spec: {ports: [{name: http, port: 80, appProtocol: ${appProtocol}}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: origin${i}-1, labels: {kubernetes.io/service-name: origin${i}}}
addressType: IPv4
ports: [{name: http, port: ${origin}}]
endpoints: [{addresses: [127.0.0.1]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: lane${i}}
spec:
  parentRefs: [{name: edge, sectionName: lane${i}}${i === 0 && secure !== null ? ', {name: edge, sectionName: secure}' : ''}]
  rules:
    - backendRefs: [{name: origin${i}, port: 80}]
    - matches: [{method: CONNECT, headers: [{name: x-tunnel, value: "yes"}]}]
      backendRefs: [{name: origin${i}, port: 80}]
`,
  )
  .join('')}`;

export async function listening(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

export class ProxyProcess {
  private constructor(
    private readonly child: ChildProcess,
    private readonly folder: string,
    /** One for every origin, in their order. */
    readonly ports: readonly number[],
    readonly securePort: number,
    private readonly metricsPort: number,
  ) {}

  /** With `certificate` the first origin is reached over TLS too. */
  static async start(origins: readonly number[], certificate?: KeyPair, appProtocol = 'http'): Promise<ProxyProcess> {
    const folder = mkdtempSync(join(tmpdir(), 'wconf-'));
    const [metricsPort = 0, securePort = 0, ...ports] = await freePorts(origins.length + 2);
    const secure = certificate === undefined ? null : { port: securePort, certificate };
    const file = join(folder, 'lanes.yaml');
    writeFileSync(
      file,
      manifest(
        origins.map((origin, i) => ({ origin, port: ports[i]! })),
        secure,
        appProtocol,
      ),
    );
    const flags = ['--workers', '1', '--run-dir', folder, '--metrics-listen', `127.0.0.1:${metricsPort}`];
    const child = spawn(process.execPath, [join(dist, 'cli', 'main.js'), 'proxy', '--static', file, ...flags], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const proxy = new ProxyProcess(child, folder, ports, securePort, metricsPort);
    await proxy.ready();
    return proxy;
  }

  private ready(): Promise<void> {
    let said = '';
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`not ready after ${START_MS} ms:\n${said}`)), START_MS);
      this.child.once('exit', (code) => reject(new Error(`the proxy ended with ${code}:\n${said}`)));
      this.child.stderr?.on('data', (text: Buffer) => {
        said += text.toString();
        if (!said.includes('"ready"')) return;
        clearTimeout(late);
        resolve();
      });
    });
  }

  isRunning(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** One of the engine's counters, as /metrics tells it. */
  async counter(name: string): Promise<number> {
    const text = await (await fetch(`http://127.0.0.1:${this.metricsPort}/metrics`)).text();
    const found = new RegExp(`^weft_proxy_${name}(?:_total)?(?:\\{.*\\})? (\\S+)$`, 'm').exec(text);
    if (found === null) throw new Error(`/metrics has no weft_proxy_${name}`);
    return Number(found[1]);
  }

  async stop(): Promise<void> {
    if (this.isRunning()) {
      this.child.removeAllListeners('exit');
      this.child.kill('SIGKILL');
      await once(this.child, 'exit');
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}
