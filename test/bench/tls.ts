// Benchmark tls: CPU per request with TLS 1.3 terminated by the proxy, HTTP/1.1 on both sides, 100-byte responses: on kept connections;
// with a new connection for every request that resumes its session (PSK with a key exchange: wrk offers the ticket that it had last); with a
// new connection and a full handshake (X25519, ECDSA P-256).
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { join } from 'node:path';
import { Bed, type BenchOptions, type Contender, interleaved, LOAD_CORE, PROXY_CORE, WEFT } from './bed.js';
import { haproxy, nginx, type ProxySetup, WEFT_FILE, weftCommand } from './http1-proxies.js';
import { gateway, localSlice, routeTo, service, yaml } from './manifests.js';
import { cpuTimeUs, freePorts, Pinned } from './process.js';
import { type Case, compare } from './report.js';

const HOST = 'tls.bench.test';

interface TlsCase {
  readonly name: string;
  /** How many requests were answered in that time, all. */
  readonly load: (port: number, seconds: number, bed: Bed) => Promise<number>;
}
const CASES: readonly TlsCase[] = [
  { name: 'kept-64c', load: (port, seconds) => wrk(port, 64, seconds, true) },
  { name: 'resumed-16c', load: (port, seconds) => wrk(port, 16, seconds, false) },
  { name: 'full-16c', load: fullHandshakes },
];

export async function tls({ quick, only, peersOnly, onProgress }: BenchOptions): Promise<Case[]> {
  const cases = CASES.filter(({ name }) => (only === null ? true : name === only));
  if (cases.length === 0) throw new Error(`no case ${only}; there are: ${CASES.map(({ name }) => name).join(', ')}`);
  return Bed.use(async (bed) => {
    const certificate = makeCertificate(bed.folder, HOST, ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256']);
    const setups = [...(peersOnly ? [] : [weftTls(certificate)]), nginxTls(certificate), haproxyTls(certificate)];
    const backendPort = await freePorts(1 + setups.length);
    await bed.start(LOAD_CORE, [bed.tool('backend'), String(backendPort), '1']).listensOn(backendPort);
    const contenders: Contender[] = [];
    for (const [index, setup] of setups.entries()) {
      const port = backendPort + 1 + index;
      const process = bed.start(PROXY_CORE, setup.command(bed.subfolder(setup.name), port, backendPort));
      const fault = await process.listensOn(port).then(
        () => faultOfRequest(port, certificate),
        (error: Error) => error.message,
      );
      if (fault !== null && setup.name === 'weft') throw new Error(`this build of weft doesn't terminate TLS on a gateway: ${fault}`);
      if (fault !== null) throw new Error(`${setup.name} doesn't serve HTTPS: ${fault}`);
      contenders.push({ name: setup.name, port, firstBackend: backendPort, pid: setup.worker(process.pid) });
    }
    const results: Case[] = [];
    for (const one of cases) {
      const measure = (contender: Contender, isWarmUp: boolean): Promise<number> => cpuTime(bed, contender, one, isWarmUp || quick ? 1 : 2);
      const values = await interleaved(contenders, quick ? 3 : 9, measure, (text) => onProgress(`${one.name} ${text} µs`));
      const [ours, ...peers] = contenders as [Contender, ...Contender[]];
      results.push(...peers.map((peer) => compare(one.name, peer.name, values.get(ours.name)!, values.get(peer.name)!)));
    }
    return results;
  });
}

/** µs per request. */
async function cpuTime(bed: Bed, { name, port, pid }: Contender, one: TlsCase, seconds: number): Promise<number> {
  const before = cpuTimeUs(pid);
  try {
    const requests = await one.load(port, seconds, bed);
    return (cpuTimeUs(pid) - before) / requests;
  } catch (error) {
    throw new Error(`${name} did not answer every request:\n${(error as Error).message}`);
  }
}

/** On connections that are closed wrk takes the end for an error. */
async function wrk(port: number, connections: number, seconds: number, isKept: boolean): Promise<number> {
  const headers = ['-H', `Host: ${HOST}`, ...(isKept ? [] : ['-H', 'Connection: close'])];
  const command = ['wrk', '-t1', `-c${connections}`, `-d${seconds}s`, ...headers, `https://127.0.0.1:${port}/item`];
  const output = await new Pinned(LOAD_CORE, command).result();
  const requests = Number(/(\d+) requests in/.exec(output)?.[1]);
  const isBad = /Non-2xx or 3xx responses|Socket errors/.test(output) && isKept;
  if (!(requests > 0) || isBad) throw new Error(output);
  return requests;
}

async function fullHandshakes(port: number, seconds: number, bed: Bed): Promise<number> {
  const command = [bed.tool('tls-connections', ['ssl', 'crypto']), String(port), HOST, '16', String(seconds)];
  const output = await new Pinned(LOAD_CORE, command).result();
  const { count, resumed, faults } = JSON.parse(output) as { count: number; resumed: number; faults: number };
  if (count === 0 || resumed + faults > 0) throw new Error(output);
  return count;
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

/** Null: a request with a verified certificate was answered with 200 and 100 bytes over TLS 1.3. */
function faultOfRequest(port: number, { certFile }: Certificate): Promise<string | null> {
  return new Promise((resolve) => {
    const options = {
      host: '127.0.0.1',
      port,
      path: '/item',
      servername: HOST,
      headers: { host: HOST },
      ca: readFileSync(certFile),
      agent: false,
    };
    const sent = request({ ...options, minVersion: 'TLSv1.3', timeout: 5_000 }, (response) => {
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
      });
      response.on('end', () =>
        resolve(response.statusCode === 200 && size === 100 ? null : `status ${response.statusCode}, ${size} bytes`),
      );
    });
    sent.on('timeout', () => sent.destroy(new Error('no answer within 5 s')));
    sent.on('error', (error) => resolve(error.message));
    sent.end();
  });
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
