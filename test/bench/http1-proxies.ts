// The three proxies of the HTTP/1 benchmarks, configured to do the same work: 50 routes by path prefix for one host, 8 endpoints by least
// connections, keep-alive both ways, X-Forwarded-For and -Proto and a request id added, no log, one worker; where it is asked for, a rate limit by
// the client's address.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gateway, httpRoute, localSlice, service, trafficPolicy, yaml } from './manifests.js';
import { childrenOf } from './process.js';

export const ROUTES = 50;
export const BACKENDS = 8;
export const HOST = 'api.bench.test';
/** In the folder of weft's command(). */
export const WEFT_FILE = 'weft.yaml';

/** More than any proxy gets: all pass, and are counted. */
export const MAX_PER_SECOND = 1_000_000;

export interface ProxySetup {
  readonly name: string;
  /** Writes its configuration into `folder`; returns its command. */
  command(folder: string, port: number, firstBackend: number): string[];
  /** The process that works, from the one that was started. */
  worker(pid: number): number;
}

export const indexes = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

export function weft(main: string, isLimited = false): ProxySetup {
  return {
    name: 'weft',
    command: (folder, port, firstBackend) => {
      const file = join(folder, WEFT_FILE);
      writeFileSync(file, yaml([...manifests(port, firstBackend), ...(isLimited ? [addressLimit()] : [])]));
      return weftCommand(main, file, folder);
    },
    worker: (pid) => pid,
  };
}

/** One worker, as its peers have. Their pools keep 512 idle connections (nginx: as told; HAProxy: any number), so ours may too. */
export function weftCommand(main: string, file: string, folder: string): string[] {
  const flags = ['--workers', '1', '--shutdown-timeout', '100', '--log-level', 'warn'];
  return [process.execPath, main, 'proxy', '--static', file, '--run-dir', folder, ...flags];
}

/** `weight`: of every route's only backend, so that it changes everything and nothing. */
export function manifests(port: number, firstBackend: number, weight = 1): object[] {
  const rules = indexes(ROUTES).map((i) => ({
    matches: [{ path: { type: 'PathPrefix', value: `/svc${i}` } }],
    backendRefs: [{ name: 'pool', port: 80, weight }],
  }));
  return [
    gateway('edge', { name: 'http', port, protocol: 'HTTP' }),
    service('pool'),
    // Every endpoint has a port of its own, so each is a slice.
    ...indexes(BACKENDS).map((i) => localSlice(`pool-${i}`, 'pool', firstBackend + i)),
    // Gateway API allows 16 rules in a route.
    ...indexes(Math.ceil(ROUTES / 16)).map((i) => httpRoute(`routes-${i}`, 'edge', HOST, rules.slice(i * 16, i * 16 + 16))),
  ];
}

/** Peers' answers say nothing of theirs. */
function addressLimit(): object {
  return trafficPolicy('pool', {
    rateLimits: [{ name: 'per-client', requests: MAX_PER_SECOND, headers: 'None', by: [{ source: 'Address' }] }],
  });
}

export const nginx = nginxWith('');

export const limitedNginx = nginxWith(
  `limit_req_zone $binary_remote_addr zone=clients:1m rate=${MAX_PER_SECOND}r/s; limit_req zone=clients burst=${MAX_PER_SECOND} nodelay;`,
);

/** `lines`: of its http part. */
function nginxWith(lines: string): ProxySetup {
  return {
    name: 'nginx',
    command: (folder, port, firstBackend) => {
      const servers = indexes(BACKENDS).map((i) => `server 127.0.0.1:${firstBackend + i};`);
      const locations = indexes(ROUTES).map((i) => `location /svc${i}/ { proxy_pass http://pool; }`);
      const file = join(folder, 'nginx.conf');
      writeFileSync(
        file,
        `daemon off; worker_processes 1; pid ${folder}/nginx.pid; error_log ${folder}/nginx.err; worker_rlimit_nofile 20000;
events { worker_connections 16384; }
http {
  access_log off; keepalive_timeout 300s; keepalive_requests 1000000000; client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
  ${lines}
  upstream pool { least_conn; ${servers.join(' ')} keepalive 512; keepalive_requests 1000000000; keepalive_timeout 300s; }
  server {
    listen 127.0.0.1:${port} backlog=1024; server_name ${HOST};
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Request-Id $request_id;
    ${locations.join('\n    ')}
  }
}
`,
      );
      return ['nginx', '-c', file, '-p', folder];
    },
    worker: (pid) => childrenOf(pid)[0]!,
  };
}

export const haproxy = haproxyWith('');

export const limitedHaproxy = haproxyWith(`  stick-table type ip size 100k expire 10s store http_req_rate(1s)
  http-request track-sc0 src
  http-request deny deny_status 429 if { sc_http_req_rate(0) gt ${MAX_PER_SECOND} }
`);

/** HAProxy's fastest way to many routes: 50 rules and a random id cost it 13 µs a request more. Its file. */
export function routesMap(folder: string): string {
  const file = join(folder, 'routes.map');
  const lines = indexes(ROUTES).map((i) => `/svc${i}/ pool\n`);
  writeFileSync(file, lines.join(''));
  return file;
}

/** `lines`: of its frontend, each with its end. */
function haproxyWith(lines: string): ProxySetup {
  return {
    name: 'haproxy',
    command: (folder, port, firstBackend) => {
      const map = routesMap(folder);
      const servers = indexes(BACKENDS).map((i) => `  server s${i} 127.0.0.1:${firstBackend + i} maxconn 4096`);
      const file = join(folder, 'haproxy.cfg');
      writeFileSync(
        file,
        `global
  nbthread 1
  no strict-limits
  maxconn 16384
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
  option http-keep-alive
  http-reuse always
frontend edge
  bind 127.0.0.1:${port} backlog 1024
  acl is_api hdr(host) -i ${HOST}
${lines}  option forwardfor
  unique-id-format %{+X}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-Id
  http-request set-header X-Forwarded-Proto http
  use_backend %[path,map_beg(${map})] if is_api
backend pool
  balance leastconn
${servers.join('\n')}
`,
      );
      return ['haproxy', '-db', '-f', file];
    },
    worker: (pid) => pid,
  };
}

/** No proxy: what moving the bytes costs alone. `program`: of blind-relay.c. */
export function blindRelay(program: string): ProxySetup {
  return {
    name: 'relay',
    command: (_folder, port, firstBackend) => [program, ...[port, firstBackend, BACKENDS].map(String)],
    worker: (pid) => pid,
  };
}
