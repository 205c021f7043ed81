// Benchmark tls: CPU per request with TLS 1.3 terminated by the proxy, HTTP/1.1 on both sides: on kept connections, 100 bytes and 64 KiB;
// with a new connection for every request that resumes its session (a ticket with a key exchange); with a new connection and a full
// handshake (X25519, ECDSA P-256). AES-128-GCM for all: the load (closed-loop.c) offers nothing else.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Bed, type BenchOptions, type Contender, chosen, interleaved, WEFT } from './bed.js';
import { type LoadKind, roundsOf, startHttp1, underLoad } from './http1-bed.js';
import { HOST, haproxy, nginx, type ProxySetup, WEFT_FILE, weftCommand } from './http1-proxies.js';
import { gateway, localSlice, routeTo, service, yaml } from './manifests.js';
import { type Case, compare } from './report.js';

interface TlsCase {
  readonly name: string;
  readonly bodyBytes: number;
  readonly connections: number;
  readonly kind: LoadKind;
}
const CASES: readonly TlsCase[] = [
  { name: 'kept-64c', bodyBytes: 100, connections: 64, kind: 'kept' },
  { name: 'kept-64KiB-64c', bodyBytes: 65_536, connections: 64, kind: 'kept' },
  { name: 'resumed-16c', bodyBytes: 100, connections: 16, kind: 'resumed' },
  { name: 'full-16c', bodyBytes: 100, connections: 16, kind: 'full' },
];

export async function tls(options: BenchOptions): Promise<Case[]> {
  const results: Case[] = [];
  for (const one of chosen(CASES, options)) results.push(...(await Bed.use((bed) => runCase(bed, one, options))));
  return results;
}

async function runCase(
  bed: Bed,
  { name, bodyBytes, connections, kind }: TlsCase,
  { quick, peersOnly, onProgress }: BenchOptions,
): Promise<Case[]> {
  const certificate = makeCertificate(bed.folder, HOST, ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256']);
  const setups = [...(peersOnly ? [] : [weftTls(certificate)]), nginxTls(certificate), haproxyTls(certificate)];
  const { contenders, load } = await startHttp1(bed, bodyBytes, { setups });
  const measure = async (contender: Contender, isWarmUp: boolean): Promise<number> => {
    const { cpuUs, busy } = await underLoad(load, contender, connections, isWarmUp, kind);
    onProgress(`${contender.name} was at work ${Math.round(busy * 100)} % of the time`);
    return cpuUs;
  };
  const values = await interleaved(contenders, roundsOf(quick), measure, (text) => onProgress(`${name} ${text} µs`));
  const [ours, ...peers] = contenders as [Contender, ...Contender[]];
  return peers.map((peer) => compare(name, peer.name, values.get(ours.name)!, values.get(peer.name)!));
}

export interface Certificate {
  readonly certFile: string;
  readonly keyFile: string;
  /** Both in one, as HAProxy wants them. */
  readonly bothFile: string;
}

/** Self-signed. `kind`: what openssl's -newkey takes. */
export function makeCertificate(folder: string, host: string, kind: readonly string[]): Certificate {
  const [certFile, keyFile, bothFile] = ['cert.pem', 'key.pem', 'both.pem'].map((name) => join(folder, name)) as [string, string, string];
  const subject = ['-subj', `/CN=${host}`, '-addext', `subjectAltName=DNS:${host}`];
  const key = ['-newkey', ...kind, '-nodes', '-keyout', keyFile];
  execFileSync('openssl', ['req', '-x509', ...key, '-out', certFile, '-days', '2', ...subject], { stdio: 'ignore' });
  writeFileSync(bothFile, readFileSync(certFile, 'utf8') + readFileSync(keyFile, 'utf8'));
  return { certFile, keyFile, bothFile };
}

function weftTls({ certFile, keyFile }: Certificate): ProxySetup {
  return {
    name: 'weft',
    command: (folder, port, backendPort) => {
      const file = join(folder, WEFT_FILE);
      writeFileSync(file, yaml(manifests(port, backendPort, readFileSync(certFile), readFileSync(keyFile))));
      return weftCommand(WEFT, file, folder);
    },
    worker: (pid) => pid,
  };
}

function nginxTls({ certFile, keyFile }: Certificate): ProxySetup {
  return {
    ...nginx,
    command: (folder, port, backendPort) => {
      const file = join(folder, 'nginx.conf');
      writeFileSync(
        file,
        `daemon off; worker_processes 1; pid ${folder}/nginx.pid; error_log ${folder}/nginx.err; worker_rlimit_nofile 20000;
events { worker_connections 8192; }
http {
  access_log off; keepalive_timeout 300s; keepalive_requests 1000000000; client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
  upstream pool { server 127.0.0.1:${backendPort}; keepalive 512; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:${port} ssl backlog=1024; server_name ${HOST}; ssl_protocols TLSv1.3 TLSv1.2;
    ssl_certificate ${certFile}; ssl_certificate_key ${keyFile}; ssl_session_cache shared:s:1m;
    location / { proxy_pass http://pool; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Request-Id $request_id; }
  }
}
`,
      );
      return ['nginx', '-c', file, '-p', folder];
    },
  };
}

function haproxyTls({ bothFile }: Certificate): ProxySetup {
  return {
    ...haproxy,
    command: (folder, port, backendPort) => {
      const file = join(folder, 'haproxy.cfg');
      writeFileSync(
        file,
        `global
  nbthread 1
  no strict-limits
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  http-reuse always
frontend edge
  bind 127.0.0.1:${port} ssl crt ${bothFile} backlog 1024
  option forwardfor
  unique-id-format %{+X}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-Id
  http-request set-header X-Forwarded-Proto https
  default_backend pool
backend pool
  server s 127.0.0.1:${backendPort}
`,
      );
      return ['haproxy', '-db', '-f', file];
    },
  };
}

function manifests(port: number, backendPort: number, cert: Buffer, key: Buffer): object[] {
  const tls = { mode: 'Terminate', certificateRefs: [{ name: 'edge' }] };
  return [
    {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'edge' },
      type: 'kubernetes.io/tls',
      data: { 'tls.crt': cert.toString('base64'), 'tls.key': key.toString('base64') },
    },
    gateway('edge', { name: 'https', port, protocol: 'HTTPS', tls }),
    service('pool'),
    localSlice('pool', 'pool', backendPort),
    routeTo('pool', 'edge', HOST),
  ];
}
