// Benchmark fair: what a flooding tenant does to another one's latency. Two tenants (namespaces), each with a gateway listener and a backend
// of its own, on one proxy with one worker. The victim sends a moderate fixed rate (open-loop.c); its p99 alone and under each flood, in turn.
// ratio = p99 flooded over p99 alone: 1 is perfect, and the aim is at most 2. oursUs: alone; peerUs: flooded. The same is measured through
// HAProxy and nginx, under their names, for comparison. Beside each stands its control: the same client at the same time, straight to the
// victim's backend. What the flood does to that is the machine's doing and no proxy's.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Bed, type BenchOptions, CORES, chosen, LOAD_CORE, PROXY_CORE, WEFT } from './bed.js';
import { haproxy, nginx, type ProxySetup, WEFT_FILE, weftCommand } from './http1-proxies.js';
import { yaml } from './manifests.js';
import { openLoad } from './open-loop.js';
import { busiestThread, consecutivePorts, cpuTimeUs, FIRST, heldUpDuring, Pinned, putFirst } from './process.js';
import { type Case, compare } from './report.js';
import { type Certificate, makeCertificate } from './tls.js';

interface FairCase {
  /** Of the flood, as flood.ts knows it. */
  readonly name: string;
  /** Takes all that the worker's core has. */
  readonly isSaturating?: true;
  /** Its backend takes all that comes and never answers: an answer would end what it is about. */
  readonly isUnanswered?: true;
  readonly isTls?: true;
  /** Left out of a quick run, which ends within 50 s. */
  readonly isSlow?: true;
}

const CASES: readonly FairCase[] = [
  { name: 'connections' },
  { name: 'headers' },
  { name: 'slow-reads' },
  { name: 'bodies', isSaturating: true, isUnanswered: true },
  { name: 'given-up', isUnanswered: true, isSlow: true },
  { name: 'handshakes', isTls: true },
];
const RATE = 1_000;
/** Of the control. Not a divisor of RATE: the two must not be due at the same moment again and again. */
const CONTROL_RATE = 331;
/** So many that a slow answer does not hold back the next request for want of a connection. */
const CONNECTIONS = 64;
const VICTIM = 'victim.test';
const FLOODER = 'flooder.test';
const FLOOD_ANSWER_BYTES = 65_536;

/** `port` is the victim's, the flooder's is the next; so are their backends. With a certificate the flooder's port takes TLS. */
type FairSetup = (flooder: Certificate | null) => ProxySetup;

const weftFair: FairSetup = (flooder) => ({
  name: 'weft',
  command: (folder, port, firstBackend) => {
    const file = join(folder, WEFT_FILE);
    const victim = tenant('victim', VICTIM, port, firstBackend, null);
    writeFileSync(file, yaml([...victim, ...tenant('flooder', FLOODER, port + 1, firstBackend + 1, flooder)]));
    return weftCommand(WEFT, file, folder);
  },
  worker: (pid) => pid,
});

const nginxFair: FairSetup = (flooder) => ({
  ...nginx,
  command: (folder, port, firstBackend) => {
    const file = join(folder, 'nginx.conf');
    const tls = flooder === null ? '' : `ssl_certificate ${flooder.certFile}; ssl_certificate_key ${flooder.keyFile};`;
    const server = (i: number): string => `upstream pool${i} { server 127.0.0.1:${firstBackend + i}; keepalive 64; }
  server { listen 127.0.0.1:${port + i} ${i === 1 && tls !== '' ? 'ssl' : ''} backlog=1024; ${i === 1 ? tls : ''}
    location / { proxy_pass http://pool${i}; proxy_http_version 1.1;
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
});

const haproxyFair: FairSetup = (flooder) => ({
  ...haproxy,
  command: (folder, port, firstBackend) => {
    const file = join(folder, 'haproxy.cfg');
    const tenantOf = (i: number): string => `frontend edge${i}
  bind 127.0.0.1:${port + i} backlog 1024 ${i === 1 && flooder !== null ? `ssl crt ${flooder.bothFile}` : ''}
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
});

export async function fair(options: BenchOptions): Promise<Case[]> {
  if (FIRST.length === 0)
    options.onProgress('not allowed to use real-time priorities: the flood and the victim’s client will hold each other up');
  const cases = options.only !== null ? chosen(CASES, options) : CASES.filter(({ isSlow }) => !options.quick || isSlow !== true);
  const setups = options.quick ? [weftFair] : [weftFair, nginxFair, haproxyFair];
  const results: Case[] = [];
  for (const setup of setups) {
    for (const one of cases) results.push(...(await Bed.use((bed) => runCase(bed, setup, one, options))));
  }
  return results;
}

/** p99, µs, of requests through the proxy and of those past it. */
interface Latencies {
  readonly through: number;
  readonly past: number;
  /** Of the victim's requests: under way while a core stood still. */
  readonly leftOut: number;
  /** Of the time: the proxy worked, all its threads; the one that serves was ready and others had its core. */
  readonly busy: number;
  readonly heldUp: number;
}

/** Counted, and before that. */
interface Times {
  readonly seconds: number;
  readonly warm: number;
}
const LONG: Times = { seconds: 4, warm: 1 };
const SHORT: Times = { seconds: 0.7, warm: 0.7 };
/** For all to have run once. */
const FIRST_REQUESTS: Times = { seconds: 0.3, warm: 0 };

/** A proxy that works less than this in so long a time has nothing left of a flood. */
const REST_SHARE = 0.1;
const REST_MS = 50;
const REST_TIMEOUT_MS = 10_000;

/** Where the proxy was held up for more of the time, by others than who looks whether the core stands still, the p99 is theirs. */
const DISTURBED = 0.05;

/** A new proxy for each flood: one must not suffer from the one before. The case and its control. */
async function runCase(bed: Bed, fairSetup: FairSetup, one: FairCase, { quick, only, onProgress }: BenchOptions): Promise<Case[]> {
  const setup = fairSetup(one.isTls === true ? makeCertificate(bed.folder, FLOODER, ['rsa:2048']) : null);
  const backend = await consecutivePorts(4);
  const port = backend + 2;
  await bed.start(LOAD_CORE, [...FIRST, bed.tool('backend'), String(backend), '1', '100']).listensOn(backend);
  const answer = one.isUnanswered === true ? 'none' : String(FLOOD_ANSWER_BYTES);
  await bed.start(LOAD_CORE, [bed.tool('backend'), String(backend + 1), '1', answer]).listensOn(backend + 1);
  const proxy = bed.start(PROXY_CORE, setup.command(bed.subfolder(setup.name), port, backend));
  await proxy.listensOn(port + 1);
  const worker = setup.worker(proxy.pid);
  const [rounds, tries, times] = !quick ? [5, 4, LONG] : only === null ? [2, 1, SHORT] : [3, 4, SHORT];
  const measure = (flood: readonly string[] | null): Promise<Latencies> =>
    leastDisturbed(tries, () => latencies(bed, port, backend, { pid: worker, thread }, times, flood));
  // What other people's processes do to the proxy's core is not what is measured. Also: whatever runs for the first time has run.
  const thread = await busiestThread(worker, () => victim(bed, port, 4 * RATE, FIRST_REQUESTS));
  putFirst(worker, thread, { coreOfOthers: LOAD_CORE, takesAll: one.isSaturating === true });
  const [alone, flooded]: [Latencies[], Latencies[]] = [[], []];
  for (let round = 0; round < rounds; round++) {
    alone.push(await measure(null));
    flooded.push(await measure([process.execPath, FLOOD, one.name, String(port + 1), FLOODER]));
    onProgress(`${setup.name} ${one.name} round ${round + 1}: alone ${inWords(alone.at(-1)!)}; flooded ${inWords(flooded.at(-1)!)}`);
  }
  const column = (all: readonly Latencies[], key: 'through' | 'past'): number[] => all.map((one) => one[key]);
  return [
    compare(one.name, setup.name, column(alone, 'through'), column(flooded, 'through')),
    compare(one.name, `${setup.name}'s control`, column(alone, 'past'), column(flooded, 'past')),
  ];
}

const FLOOD = fileURLToPath(new URL('./flood.js', import.meta.url));

/** The first that nobody disturbed, or of so many the one that was disturbed least. */
async function leastDisturbed(tries: number, measure: () => Promise<Latencies>): Promise<Latencies> {
  let best = await measure();
  for (let i = 1; i < tries && best.heldUp > DISTURBED; i++) {
    const next = await measure();
    if (next.heldUp < best.heldUp) best = next;
  }
  return best;
}

async function latencies(
  bed: Bed,
  port: number,
  backend: number,
  worker: { readonly pid: number; readonly thread: string },
  times: Times,
  flood: readonly string[] | null,
): Promise<Latencies> {
  const flooding = flood === null ? null : new Pinned(LOAD_CORE, flood);
  const [used, began] = [cpuTimeUs(worker.pid), performance.now()];
  let [through, past] = [
    { p99: 0, leftOut: 0 },
    { p99: 0, leftOut: 0 },
  ];
  try {
    const heldUp = await heldUpDuring(worker.pid, worker.thread, async () => {
      [through, past] = await Promise.all([victim(bed, port, RATE, times), victim(bed, backend, CONTROL_RATE, times)]);
    });
    const busy = (cpuTimeUs(worker.pid) - used) / (performance.now() - began) / 1000;
    return { through: through.p99, past: past.p99, leftOut: through.leftOut, busy, heldUp };
  } finally {
    await flooding?.stop();
    await resting(worker.pid);
  }
}

/** What a flood has left in the kernel's buffers comes for a second after it has ended. */
async function resting(pid: number): Promise<void> {
  const deadline = performance.now() + REST_TIMEOUT_MS;
  let used = cpuTimeUs(pid);
  for (let isBusy = true; isBusy && performance.now() < deadline; ) {
    await sleep(REST_MS);
    const now = cpuTimeUs(pid);
    isBusy = now - used > REST_MS * 1_000 * REST_SHARE;
    used = now;
  }
}

function inWords({ through, past, leftOut, busy, heldUp }: Latencies): string {
  const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;
  return `p99 ${through.toFixed(0)} µs (past the proxy ${past.toFixed(0)} µs; the proxy worked ${percent(busy)}, was held up ${percent(heldUp)}; ${percent(leftOut)} left out)`;
}

/** p99, µs, and the part of its requests that are left out, since a core stood still meanwhile. */
async function victim(bed: Bed, port: number, rate: number, { seconds, warm }: Times): Promise<{ p99: number; leftOut: number }> {
  const load = { port, host: VICTIM, rate, connections: CONNECTIONS, seconds, routes: 1, warm, cores: CORES, as: FIRST };
  const { p99, errors, count, left_out } = await openLoad(bed, load);
  if (errors > 0) throw new Error(`${errors} of the victim's ${count + left_out} requests failed`);
  // What was not answered within 5 s is in the p99 with the time it waited.
  return { p99, leftOut: left_out / (count + left_out) };
}

function tenant(namespace: string, host: string, port: number, backend: number, certificate: Certificate | null): object[] {
  const metadata = { name: 'own', namespace };
  const tls = { mode: 'Terminate', certificateRefs: [{ name: 'own' }] };
  const listener = certificate === null ? { name: 'http', port, protocol: 'HTTP' } : { name: 'https', port, protocol: 'HTTPS', tls };
  return [
    {
      apiVersion: 'gateway.networking.k8s.io/v1',
      kind: 'Gateway',
      metadata,
      spec: { gatewayClassName: 'weft', addresses: [{ value: '127.0.0.1' }], listeners: [listener] },
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
    ...(certificate === null ? [] : [secret(metadata, certificate)]),
  ];
}

function secret(metadata: object, { certFile, keyFile }: Certificate): object {
  const data = { 'tls.crt': readFileSync(certFile).toString('base64'), 'tls.key': readFileSync(keyFile).toString('base64') };
  return { apiVersion: 'v1', kind: 'Secret', metadata, type: 'kubernetes.io/tls', data };
}
