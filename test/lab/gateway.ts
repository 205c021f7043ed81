// For tests with other people's clients: a folder with one gateway's manifests, the proxy on it, and certificates. Everything goes with stop().
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './ports.js';
import { ProxyProcess } from './proxy-process.js';

export interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

/** Self-signed (P-256) for the host name, written to `folder` as NAME.crt and NAME.key. */
export function selfSigned(folder: string, host: string): KeyPair {
  const [certFile, keyFile] = [join(folder, `${host}.crt`), join(folder, `${host}.key`)];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', keyFile];
  const subject = ['-subj', `/CN=${host}`, '-addext', `subjectAltName=DNS:${host}`];
  execFileSync('openssl', ['req', '-x509', ...key, '-out', certFile, '-days', '2', ...subject], { stdio: 'ignore' });
  return { cert: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
}

/** What a gateway's two listeners forward: path prefixes, and the port and appProtocol behind each. */
export interface Backend {
  readonly name: string;
  readonly port: number;
  readonly appProtocol: string;
  readonly prefix: string;
}

export class Gateway {
  private constructor(
    readonly folder: string,
    readonly proxy: ProxyProcess,
    readonly port: number,
    /** Of the TLS listener, for `host` alone. */
    readonly tlsPort: number,
    readonly host: string,
    readonly certificate: string,
  ) {}

  static async start(backends: readonly Backend[], ...flags: string[]): Promise<Gateway> {
    const folder = mkdtempSync(join(tmpdir(), 'wgw-'));
    const host = 'shop.test';
    const { cert, key } = selfSigned(folder, host);
    const [port, tlsPort] = [await freePort(), await freePort()];
    const file = join(folder, 'gateway.yaml');
    writeFileSync(file, gatewayManifests({ port, tlsPort, host, pair: { cert, key } }, backends), { mode: 0o600 });
    const proxy = ProxyProcess.start(file, folder, ...flags);
    const gateway = new Gateway(folder, proxy, port, tlsPort, host, cert);
    try {
      await proxy.says('"ready"');
    } catch (error) {
      await gateway.stop();
      throw error;
    }
    return gateway;
  }

  async stop(): Promise<void> {
    await this.proxy.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

interface GatewayPorts {
  readonly port: number;
  /** Serves `host` with `pair`. */
  readonly tlsPort: number;
  readonly host: string;
  readonly pair: KeyPair;
}

/** Lines that JSON and YAML read alike. */
export function gatewayManifests({ port, tlsPort, host, pair: { cert, key } }: GatewayPorts, backends: readonly Backend[]): string {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const objects: object[] = [
    {
      apiVersion: 'v1',
      kind: 'Secret',
      type: 'kubernetes.io/tls',
      metadata: { name: 'shop' },
      data: { 'tls.crt': base64(cert), 'tls.key': base64(key) },
    },
    {
      apiVersion: 'gateway.networking.k8s.io/v1',
      kind: 'Gateway',
      metadata: { name: 'edge' },
      spec: {
        gatewayClassName: 'weft',
        addresses: [{ value: '127.0.0.1' }],
        listeners: [
          { name: 'http', port, protocol: 'HTTP' },
          { name: 'https', port: tlsPort, protocol: 'HTTPS', hostname: host, tls: { certificateRefs: [{ name: 'shop' }] } },
        ],
      },
    },
    {
      apiVersion: 'gateway.networking.k8s.io/v1',
      kind: 'HTTPRoute',
      metadata: { name: 'shop' },
      spec: {
        parentRefs: [{ name: 'edge' }],
        rules: backends.map(({ name, prefix }) => ({
          matches: [{ path: { type: 'PathPrefix', value: prefix } }],
          backendRefs: [{ name, port: 80 }],
        })),
      },
    },
    ...backends.flatMap(({ name, port: target, appProtocol }) => [
      { apiVersion: 'v1', kind: 'Service', metadata: { name }, spec: { ports: [{ name: 'main', port: 80, appProtocol }] } },
      {
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: { name: `${name}-1`, labels: { 'kubernetes.io/service-name': name } },
        addressType: 'IPv4',
        ports: [{ name: 'main', port: target }],
        endpoints: [{ addresses: ['127.0.0.1'] }],
      },
    ]),
  ];
  return objects.map((object) => JSON.stringify(object)).join('\n---\n');
}
