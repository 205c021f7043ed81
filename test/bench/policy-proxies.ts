// The proxies of the policy benchmark. `weft` and `haproxy` do the same work: 50 routes by path prefix and two headers, retries, outlier
// detection, a rate limit by client, an access log of JSON lines in a file, and what http1-proxies.ts has; weft by peak EWMA, HAProxy, which has none, by least
// connections. `bare`: ours with one route and no policy.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { WEFT } from './bed.js';
import {
  BACKENDS,
  HOST,
  haproxy,
  indexes,
  MAX_PER_SECOND,
  type ProxySetup,
  ROUTES,
  routesMap,
  WEFT_FILE,
  weftCommand,
} from './http1-proxies.js';
import { gateway, httpRoute, localSlice, routeTo, service, trafficPolicy, yaml } from './manifests.js';

/** In the folder of command(). */
export const ACCESS_LOG = 'access.log';
/** By which requests are counted apart. */
const CLIENT_HEADER = 'x-client';
/** What every route asks for. */
export const MATCHED_HEADERS = { [CLIENT_HEADER]: 'mobile', 'x-version': 'v2' };

export const weftPolicy: ProxySetup = {
  name: 'weft',
  command: (folder, port, firstBackend) => {
    const file = join(folder, WEFT_FILE);
    writeFileSync(file, yaml([...pool(port, firstBackend), ...routes(), policies()]));
    return [...weftCommand(WEFT, file, folder), '--access-log', 'all', '--access-log-file', join(folder, ACCESS_LOG)];
  },
  worker: (pid) => pid,
};

export const bare: ProxySetup = {
  name: 'bare',
  command: (folder, port, firstBackend) => {
    const file = join(folder, WEFT_FILE);
    writeFileSync(file, yaml([...pool(port, firstBackend), routeTo('pool', 'edge', HOST)]));
    return weftCommand(WEFT, file, folder);
  },
  worker: (pid) => pid,
};

function pool(port: number, firstBackend: number): object[] {
  return [
    gateway('edge', { name: 'http', port, protocol: 'HTTP' }),
    service('pool'),
    ...indexes(BACKENDS).map((i) => localSlice(`pool-${i}`, 'pool', firstBackend + i)),
  ];
}

function routes(): object[] {
  const headers = Object.entries(MATCHED_HEADERS).map(([name, value]) => ({ name, value }));
  const rules = indexes(ROUTES).map((i) => ({
    matches: [{ path: { type: 'PathPrefix', value: `/svc${i}` }, headers }],
    retry: { attempts: 2, codes: [502, 503, 504], backoff: '25ms' },
    backendRefs: [{ name: 'pool', port: 80 }],
  }));
  // Gateway API allows 16 rules in a route.
  return indexes(Math.ceil(ROUTES / 16)).map((i) => httpRoute(`routes-${i}`, 'edge', HOST, rules.slice(i * 16, i * 16 + 16)));
}

function policies(): object {
  return trafficPolicy('pool', {
    loadBalancer: { type: 'PeakEWMA' },
    outlierDetection: { consecutive5xxErrors: 5, successRate: {}, failurePercentage: {} },
    rateLimits: [{ name: 'per-client', requests: MAX_PER_SECOND, headers: 'None', by: [{ header: CLIENT_HEADER }] }],
  });
}

export const haproxyPolicy: ProxySetup = {
  ...haproxy,
  command: (folder, port, firstBackend) => {
    const map = routesMap(folder);
    const conditions = Object.keys(MATCHED_HEADERS).map((_, i) => `has_${i}`);
    const file = join(folder, 'haproxy.cfg');
    writeFileSync(
      file,
      `global
  nbthread 1
  no strict-limits
  maxconn 12288
  log stdout len 2048 format raw local0
defaults
  mode http
  log global
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  timeout http-keep-alive 300s
  option http-keep-alive
  http-reuse always
  retries 2
  option redispatch 1
  retry-on conn-failure empty-response response-timeout 502 503 504
frontend edge
  bind 127.0.0.1:${port} backlog 1024
  capture request header Host len 256
  capture request header User-Agent len 256
  log-format '${JSON_LINE}'
  acl is_api hdr(host) -i ${HOST}
${Object.entries(MATCHED_HEADERS)
  .map(([name, value], i) => `  acl ${conditions[i]} req.hdr(${name}) -m str ${value}`)
  .join('\n')}
  stick-table type string len 64 size 100k expire 10s store http_req_rate(1s)
  http-request track-sc0 req.hdr(${CLIENT_HEADER})
  http-request deny deny_status 429 if { sc_http_req_rate(0) gt ${MAX_PER_SECOND} }
  option forwardfor
  unique-id-format %{+X}o\\ %ci:%cp_%fi:%fp_%Ts_%rt:%pid
  unique-id-header X-Request-Id
  http-request set-header X-Forwarded-Proto http
  use_backend %[path,map_beg(${map})] if is_api ${conditions.join(' ')}
backend pool
  balance leastconn
${indexes(BACKENDS)
  .map((i) => `  server s${i} 127.0.0.1:${firstBackend + i} maxconn 4096 check observe layer7 error-limit 5 on-error mark-down`)
  .join('\n')}
`,
    );
    return ['sh', '-c', `exec haproxy -db -f ${file} >> ${join(folder, ACCESS_LOG)}`];
  },
};

/** What ours says of a request, as far as HAProxy knows it. */
const JSON_LINE = `{${[
  '"time":"%trl"',
  '"protocol":"http/1"',
  '"method":"%HM"',
  '"authority":"%[capture.req.hdr(0),json(utf8s)]"',
  '"path":"%[capture.req.uri,json(utf8s)]"',
  '"status":%ST',
  '"response_flag":"%ts"',
  '"route":"%b"',
  '"client":"%ci:%cp"',
  '"destination":"%b"',
  '"destination_address":"%fi:%fp"',
  '"endpoint":"%si:%sp"',
  '"attempts":%rc',
  '"bytes_received":%U',
  '"bytes_sent":%B',
  '"duration_ms":%Ta',
  '"upstream_first_byte_ms":%Tr',
  '"user_agent":"%[capture.req.hdr(1),json(utf8s)]"',
  '"request_id":"%ID"',
].join(',')}}`;
