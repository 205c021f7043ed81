// The proxies under soak: `weft proxy --static` for HTTP, and the data plane for captured traffic (test/bench/captured-proxy.ts) for opaque
// TCP. Starts them, changes their configuration, and looks at them from outside: memory, sockets.
import { readdirSync, readlinkSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Bed, PROXY_CORE, WEFT } from '../bench/bed.js';
import { yaml } from '../bench/manifests.js';
import { freePorts, ownMemoryBytes, type Pinned } from '../bench/process.js';
import { SERVICE_ADDRESS, serviceManifests } from '../bench/tcp-proxies.js';

export interface Watched {
  readonly name: string;
  memoryBytes(): number;
  sockets(): number;
}

export class Proxies {
  readonly watched: readonly Watched[];
  private generation = 0;

  private constructor(
    private readonly folder: string,
    readonly httpPort: number,
    readonly tcp: { readonly address: string; readonly port: number },
    private readonly upstreams: { readonly http: readonly number[]; readonly echo: number },
    processes: { readonly http: Pinned; readonly tcp: Pinned },
  ) {
    this.watched = [watch('weft proxy', processes.http), watch('captured TCP', processes.tcp)];
  }

  static async start(bed: Bed, upstreams: { readonly http: readonly number[]; readonly echo: number }): Promise<Proxies> {
    const folder = bed.subfolder('proxies');
    const httpPort = await freePorts(2);
    const tcp = { address: SERVICE_ADDRESS, port: httpPort + 1 };
    const [httpFile, tcpFile] = [join(folder, 'http.yaml'), join(folder, 'tcp.yaml')];
    writeFileSync(httpFile, yaml(httpManifests(httpPort, upstreams.http, 0)));
    writeFileSync(tcpFile, yaml(serviceManifests(tcp.port, upstreams.echo)));
    const flags = ['--static', httpFile, '--workers', '2', '--run-dir', folder, '--log-level', 'warn'];
    const http = bed.start(PROXY_CORE, [process.execPath, WEFT, 'proxy', ...flags]);
    const captured = fileURLToPath(new URL('../bench/captured-proxy.js', import.meta.url));
    const opaque = bed.start(PROXY_CORE, [process.execPath, captured, tcpFile, tcp.address, String(tcp.port), '2']);
    await http.listensOn(httpPort);
    await opaque.listensOn(tcp.port, tcp.address);
    return new Proxies(folder, httpPort, tcp, upstreams, { http, tcp: opaque });
  }

  /** New weights, another order of the rules, an endpoint more or less: all in force for the next request. */
  reload(): void {
    this.generation++;
    replace(join(this.folder, 'http.yaml'), yaml(httpManifests(this.httpPort, this.upstreams.http, this.generation)));
    replace(join(this.folder, 'tcp.yaml'), yaml(serviceManifests(this.tcp.port, this.upstreams.echo, this.generation)));
  }
}

function replace(file: string, text: string): void {
  writeFileSync(`${file}.new`, text);
  renameSync(`${file}.new`, file);
}

function watch(name: string, process: Pinned): Watched {
  return {
    name,
    memoryBytes: () => ownMemoryBytes(process.pid),
    sockets: () => readdirSync(`/proc/${process.pid}/fd`).filter((fd) => isSocket(`/proc/${process.pid}/fd/${fd}`)).length,
  };
}

function isSocket(link: string): boolean {
  try {
    return readlinkSync(link).startsWith('socket:');
  } catch {
    // Closed since it was listed.
    return false;
  }
}

function httpManifests(port: number, upstreams: readonly number[], generation: number): object[] {
  const services = upstreams.flatMap((upstream, i) => [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: `soak-${i}` },
      spec: { ports: [{ name: 'http', port: 80, appProtocol: 'http' }] },
    },
    ...Array.from({ length: 1 + (generation % 2) }, (_, copy) => ({
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: `soak-${i}-${copy}`, labels: { 'kubernetes.io/service-name': `soak-${i}` } },
      addressType: 'IPv4',
      ports: [{ name: 'http', port: upstream }],
      endpoints: [{ addresses: ['127.0.0.1'] }],
    })),
  ]);
  const backendRefs = upstreams.map((_, i) => ({ name: `soak-${i}`, port: 80, weight: 1 + ((generation + i) % 5) }));
  return [
    {
      apiVersion: 'gateway.networking.k8s.io/v1',
      kind: 'Gateway',
      metadata: { name: 'edge' },
      spec: { gatewayClassName: 'weft', addresses: [{ value: '127.0.0.1' }], listeners: [{ name: 'http', port, protocol: 'HTTP' }] },
    },
    ...services,
    {
      apiVersion: 'gateway.networking.k8s.io/v1',
      kind: 'HTTPRoute',
      metadata: { name: 'soak' },
      spec: {
        parentRefs: [{ name: 'edge' }],
        hostnames: ['soak.test'],
        rules: [{ backendRefs }, { matches: [{ path: { type: 'PathPrefix', value: `/nobody-${generation}` } }], backendRefs }],
      },
    },
  ];
}
