// The proxies under soak: `weft proxy --static` for HTTP, and the data plane for captured traffic (test/bench/captured-proxy.ts) for opaque
// TCP. Starts them, changes their configuration, and looks at them from outside: memory, sockets.
import { execFileSync } from 'node:child_process';
import { readdirSync, readlinkSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Bed, PROXY_CORE, WEFT } from '../bench/bed.js';
import { yaml } from '../bench/manifests.js';
import { consecutivePorts, ownMemoryBytes, type Pinned } from '../bench/process.js';
import { SERVICE_ADDRESS, serviceManifests } from '../bench/tcp-proxies.js';
import { type KeyPair, selfSigned } from '../lab/gateway.js';
import { HOST } from './http-traffic.js';

/** Ports. */
export interface Upstreams {
  readonly http: readonly number[];
  readonly http2: number;
  readonly grpc: number;
  readonly echo: number;
}

/** Bytes. */
export interface Memory {
  /** Anonymous pages, without those of the main thread's JavaScript heap, which V8 lets grow as it likes: by 25 MiB within two minutes. */
  readonly native: number;
  /** Given out by malloc; null: the process does not say. */
  readonly malloc: number | null;
  /** In use in the main thread's JavaScript heap, garbage too; null: the process does not say. */
  readonly heap: number | null;
}

export interface Watched {
  readonly name: string;
  memory(): Promise<Memory>;
  sockets(): number;
  /** `ss`'s lines of them, with their timers and queues. */
  connections(): string;
  /** All of them, sockets too. */
  descriptors(): number;
}

export class Proxies {
  readonly watched: readonly Watched[];
  private generation = 0;

  private constructor(
    readonly httpPort: number,
    readonly tls: { readonly port: number; readonly certificate: string },
    readonly tcp: { readonly address: string; readonly port: number },
    private readonly write: (generation: number) => void,
    processes: { readonly http: Pinned; readonly tcp: Pinned; readonly metricsPort: number },
  ) {
    const { http, tcp: opaque, metricsPort } = processes;
    this.watched = [watch('weft proxy', http, metricsPort), watch('captured TCP', opaque, null)];
  }

  static async start(bed: Bed, upstreams: Upstreams): Promise<Proxies> {
    const folder = bed.subfolder('proxies');
    const httpPort = await consecutivePorts(4);
    const tcp = { address: SERVICE_ADDRESS, port: httpPort + 1 };
    const pair = selfSigned(folder, HOST);
    const tls = { port: httpPort + 2, certificate: pair.cert };
    const [httpFile, tcpFile] = [join(folder, 'http.yaml'), join(folder, 'tcp.yaml')];
    const write = (generation: number): void => {
      replace(
        httpFile,
        yaml([...gatewayOf(httpPort, tls.port, pair), ...servicesOf(upstreams, generation), routeOf(upstreams, generation)]),
      );
      replace(tcpFile, yaml(serviceManifests(tcp.port, upstreams.echo, generation)));
    };
    write(0);
    const metricsPort = httpPort + 3;
    const metrics = ['--metrics-listen', `127.0.0.1:${metricsPort}`];
    const flags = ['--static', httpFile, '--workers', '2', '--run-dir', folder, '--log-level', 'warn', ...metrics];
    const http = bed.start(PROXY_CORE, [process.execPath, WEFT, 'proxy', ...flags]);
    const captured = fileURLToPath(new URL('../bench/captured-proxy.js', import.meta.url));
    const opaque = bed.start(PROXY_CORE, [process.execPath, captured, tcpFile, tcp.address, String(tcp.port), '2']);
    await http.listensOn(httpPort);
    await opaque.listensOn(tcp.port, tcp.address);
    // The last socket that it opens for itself: what is open now is what may be open at the end.
    await http.listensOn(metricsPort);
    return new Proxies(httpPort, tls, tcp, write, { http, tcp: opaque, metricsPort });
  }

  /** New weights, another order of the rules, an endpoint more or less: all in force for the next request. */
  reload(): void {
    this.generation++;
    this.write(this.generation);
  }
}

function replace(file: string, text: string): void {
  writeFileSync(`${file}.new`, text, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** `metricsPort`: null for a process without one, whose JavaScript heap counts as native. */
function watch(name: string, process: Pinned, metricsPort: number | null): Watched {
  return {
    name,
    memory: async () => {
      if (metricsPort === null) return { native: ownMemoryBytes(process.pid), malloc: null, heap: null };
      const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
      const gauge = (metric: string): number => {
        const found = new RegExp(`^weft_proxy_${metric} (\\S+)$`, 'm').exec(text);
        // A 0 would never grow.
        if (found === null) throw new Error(`${name} has no metric weft_proxy_${metric}`);
        return Number(found[1]);
      };
      const native = ownMemoryBytes(process.pid) - gauge('nodejs_heap_size_total_bytes');
      return { native, malloc: gauge('native_heap_bytes'), heap: gauge('nodejs_heap_size_used_bytes') };
    },
    descriptors: () => readdirSync(`/proc/${process.pid}/fd`).length,
    connections: () => connectionsOf(process.pid),
    sockets: () => readdirSync(`/proc/${process.pid}/fd`).filter((fd) => isSocket(`/proc/${process.pid}/fd/${fd}`)).length,
  };
}

function connectionsOf(pid: number): string {
  const all = execFileSync('ss', ['-Htanpo'], { encoding: 'latin1', maxBuffer: 16 * 1_048_576 });
  return all
    .split('\n')
    .filter((line) => line.includes(`pid=${pid},`))
    .join('\n');
}

function isSocket(link: string): boolean {
  try {
    return readlinkSync(link).startsWith('socket:');
  } catch {
    // Closed since it was listed.
    return false;
  }
}

function gatewayOf(port: number, tlsPort: number, { cert, key }: KeyPair): object[] {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const listeners = [
    { name: 'http', port, protocol: 'HTTP' },
    { name: 'https', port: tlsPort, protocol: 'HTTPS', hostname: HOST, tls: { certificateRefs: [{ name: 'soak' }] } },
  ];
  return [
    {
      apiVersion: 'v1',
      kind: 'Secret',
      type: 'kubernetes.io/tls',
      metadata: { name: 'soak' },
      data: { 'tls.crt': base64(cert), 'tls.key': base64(key) },
    },
    {
      apiVersion: 'gateway.networking.k8s.io/v1',
      kind: 'Gateway',
      metadata: { name: 'edge' },
      spec: { gatewayClassName: 'weft', addresses: [{ value: '127.0.0.1' }], listeners },
    },
  ];
}

/** Every second generation has each endpoint twice. */
function servicesOf({ http, http2, grpc }: Upstreams, generation: number): object[] {
  const services = [
    ...http.map((port, i) => ({ name: `soak-${i}`, port, appProtocol: 'http' })),
    { name: 'soak-h2', port: http2, appProtocol: 'kubernetes.io/h2c' },
    { name: 'soak-grpc', port: grpc, appProtocol: 'grpc' },
  ];
  return services.flatMap(({ name, port, appProtocol }) => [
    { apiVersion: 'v1', kind: 'Service', metadata: { name }, spec: { ports: [{ name: 'main', port: 80, appProtocol }] } },
    ...Array.from({ length: 1 + (generation % 2) }, (_, copy) => ({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: `${name}-${copy}`, labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      ports: [{ name: 'main', port }],
      endpoints: [{ addresses: ['127.0.0.1'] }],
    })),
  ]);
}

/** Other weights and another rule that nobody asks for in each generation. */
function routeOf({ http }: Upstreams, generation: number): object {
  const backendRefs = http.map((_, i) => ({ name: `soak-${i}`, port: 80, weight: 1 + ((generation + i) % 5) }));
  const rule = (value: string, refs: readonly object[]): object => ({
    matches: [{ path: { type: 'PathPrefix', value } }],
    backendRefs: refs,
  });
  const rules = [
    rule('/', backendRefs),
    rule(`/nobody-${generation}`, backendRefs),
    rule('/h2', [{ name: 'soak-h2', port: 80 }]),
    rule('/weft.test.Echo', [{ name: 'soak-grpc', port: 80 }]),
  ];
  return {
    apiVersion: 'gateway.networking.k8s.io/v1',
    kind: 'HTTPRoute',
    metadata: { name: 'soak' },
    spec: { parentRefs: [{ name: 'edge' }], rules },
  };
}
