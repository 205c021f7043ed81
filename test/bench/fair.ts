// Benchmark fair: what a flooding tenant does to another one's latency. Two tenants (namespaces), each with a gateway listener and a backend
// of its own, on one proxy with one worker. The victim sends a moderate fixed rate (open-loop.c); its p99 alone and under each flood.
// ratio = p99 flooded over p99 alone: 1 is perfect, and the aim is at most 2. oursUs: alone; peerUs: flooded. The same is measured through
// HAProxy and nginx, under their names, for comparison.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Bed, type BenchOptions, type Contender, chosen, LOAD_CORE, PROXY_CORE, WEFT } from './bed.js';
import { haproxy, nginx, type ProxySetup, WEFT_FILE, weftCommand } from './http1-proxies.js';
import { yaml } from './manifests.js';
import { freePorts, Pinned } from './process.js';
import { type Case, compare } from './report.js';

const CASES = [{ name: 'connections' }, { name: 'headers' }, { name: 'slow-reads' }, { name: 'bodies' }] as const;
const RATE = 1_000;
/** So many that a slow answer does not hold back the next request for want of a connection. */
const CONNECTIONS = 64;
const VICTIM = 'victim.test';
const FLOODER = 'flooder.test';
const FLOOD_ANSWER_BYTES = 65_536;

/** `port` is the victim's, the flooder's is the next; so are their backends. */
const weftFair: ProxySetup = {
  name: 'weft',
  command: (folder, port, firstBackend) => {
    const file = join(folder, WEFT_FILE);
    writeFileSync(file, yaml([...tenant('victim', VICTIM, port, firstBackend), ...tenant('flooder', FLOODER, port + 1, firstBackend + 1)]));
    return weftCommand(WEFT, file, folder);
  },
  worker: (pid) => pid,
};

const nginxFair: ProxySetup = {
  ...nginx,
  command: (folder, port, firstBackend) => {
    const file = join(folder, 'nginx.conf');
    const server = (i: number): string => `upstream pool${i} { server 127.0.0.1:${firstBackend + i}; keepalive 64; }
  server { listen 127.0.0.1:${port + i} backlog=1024; location / { proxy_pass http://pool${i}; proxy_http_version 1.1;
    proxy_set_header Connection ""; proxy_request_buffering off; client_max_body_size 0; } }`;
    writeFileSync(
      file,
      `daemon off; worker_processes 1; pid ${folder}/nginx.pid; error_log ${folder}/nginx.err; worker_rlimit_nofile 20000;
events { worker_connections 8192; }
http {
  access_log off; large_client_header_buffers 8 64k; client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
  keepalive_requests 1000000000;
  ${server(0)}
  ${server(1)}
}
`,
    );
    return ['nginx', '-c', file, '-p', folder];
  },
};

const haproxyFair: ProxySetup = {
  ...haproxy,
  command: (folder, port, firstBackend) => {
    const file = join(folder, 'haproxy.cfg');
    const tenantOf = (i: number): string => `frontend edge${i}
  bind 127.0.0.1:${port + i} backlog 1024
  default_backend pool${i}
backend pool${i}
  server s 127.0.0.1:${firstBackend + i}`;
    writeFileSync(
      file,
      `global
  nbthread 1
  no strict-limits
  maxconn 8192
  tune.bufsize 81920
  tune.http.maxhdr 256
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  http-reuse always
${tenantOf(0)}
${tenantOf(1)}
`,
    );
    return ['haproxy', '-db', '-f', file];
  },
};

export async function fair(options: BenchOptions): Promise<Case[]> {
  const cases = options.only === null ? CASES : chosen(CASES, options);
  const setups = options.quick ? [weftFair] : [weftFair, nginxFair, haproxyFair];
  const results: Case[] = [];
  for (const setup of setups) {
    for (const { name } of cases) results.push(await Bed.use((bed) => runCase(bed, setup, name, options)));
  }
  return results;
}

/** Alone and flooded in turn. A new proxy for each flood: one must not suffer from the one before. */
async function runCase(bed: Bed, setup: ProxySetup, kind: string, { quick, onProgress }: BenchOptions): Promise<Case> {
  const backend = await freePorts(4);
  const port = backend + 2;
  for (const [i, bytes] of [100, FLOOD_ANSWER_BYTES].entries()) {
    const command = [bed.tool('backend'), String(backend + i), '1', String(bytes)];
    await bed.start(LOAD_CORE, i === 0 ? command : ['nice', '-n', '19', ...command]).listensOn(backend + i);
  }
  const process = bed.start(PROXY_CORE, setup.command(bed.subfolder(setup.name), port, backend));
  await process.listensOn(port + 1);
  const contender = { name: setup.name, port, firstBackend: backend, pid: process.pid };
  const [alone, flooded]: [number[], number[]] = [[], []];
  const seconds = quick ? 1.5 : 5;
  for (let round = 0; round < (quick ? 1 : 5); round++) {
    alone.push(await victim(bed, contender, seconds));
    const flood = new Pinned(LOAD_CORE, floodCommand(kind, port + 1));
    try {
      flooded.push(await victim(bed, contender, seconds));
    } finally {
      await flood.stop();
    }
    onProgress(`${setup.name} ${kind} round ${round + 1}: p99 alone ${alone.at(-1)} µs, flooded ${flooded.at(-1)} µs`);
  }
  return compare(kind, setup.name, alone, flooded);
}

/** Of lower priority than the victim and its backend, as is the flooder's backend: the proxy's fairness is measured, not the scheduler's on the core of the load. */
function floodCommand(kind: string, port: number): string[] {
  return [
    'nice',
    '-n',
    '19',
    globalThis.process.execPath,
    fileURLToPath(new URL('./flood.js', import.meta.url)),
    kind,
    String(port),
    FLOODER,
  ];
}

/** p99, µs. */
async function victim(bed: Bed, { port }: Contender, seconds: number): Promise<number> {
  const command = [bed.tool('open-loop'), String(port), VICTIM, String(RATE), String(CONNECTIONS), String(seconds), '1'];
  const output = await new Pinned(LOAD_CORE, command).result();
  const { p99, errors, count } = JSON.parse(output) as { p99: number; errors: number; count: number };
  if (errors > 0) throw new Error(`${errors} of the victim's ${count} requests failed`);
  // What was not answered within 5 s is in the p99 with the time it waited.
  return p99;
}

function tenant(namespace: string, host: string, port: number, backend: number): object[] {
  const metadata = { name: 'own', namespace };
  return [
    {
      apiVersion: 'gateway.networking.k8s.io/v1',
      kind: 'Gateway',
      metadata,
      spec: { gatewayClassName: 'weft', addresses: [{ value: '127.0.0.1' }], listeners: [{ name: 'http', port, protocol: 'HTTP' }] },
    },
    { apiVersion: 'v1', kind: 'Service', metadata, spec: { ports: [{ name: 'http', port: 80, appProtocol: 'http' }] } },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { ...metadata, labels: { 'kubernetes.io/service-name': 'own' } },
      addressType: 'IPv4',
      ports: [{ name: 'http', port: backend }],
      endpoints: [{ addresses: ['127.0.0.1'] }],
    },
    {
      apiVersion: 'gateway.networking.k8s.io/v1',
      kind: 'HTTPRoute',
      metadata,
      spec: { parentRefs: [{ name: 'own' }], hostnames: [host], rules: [{ backendRefs: [{ name: 'own', port: 80 }] }] },
    },
  ];
}
