// The proxies of the http2 benchmark: HTTP/2 without TLS (prior knowledge) on both sides, one backend, keep-alive, no log, one worker.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { WEFT } from './bed.js';
import { haproxy, nginx, type ProxySetup, WEFT_FILE, weftCommand } from './http1-proxies.js';
import { gateway, localSlice, routeTo, service, yaml } from './manifests.js';

export const H2_HOST = 'grpc.bench.test';
export const GRPC_PATH = '/bench.Echo/Unary';

export function grpcMessage(bytes: number): Buffer {
  const message = Buffer.alloc(5 + bytes, 'x');
  message.writeUInt8(0, 0);
  message.writeUInt32BE(bytes, 1);
  return message;
}

export const weftH2: ProxySetup = {
  name: 'weft',
  command: (folder, port, backendPort) => {
    const file = join(folder, WEFT_FILE);
    writeFileSync(file, yaml(manifests(port, backendPort)));
    return weftCommand(WEFT, file, folder);
  },
  worker: (pid) => pid,
};

export const nginxH2: ProxySetup = {
  ...nginx,
  command: (folder, port, backendPort) => {
    const file = join(folder, 'nginx.conf');
    writeFileSync(
      file,
      `daemon off; worker_processes 1; pid ${folder}/nginx.pid; error_log ${folder}/nginx.err; worker_rlimit_nofile 20000;
events { worker_connections 8192; }
http {
  access_log off; keepalive_timeout 300s; keepalive_requests 1000000000; http2_max_concurrent_streams 1000;
  client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy; fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
  upstream pool { server 127.0.0.1:${backendPort}; keepalive 1024; keepalive_requests 1000000000; }
  server { listen 127.0.0.1:${port} http2 backlog=1024; server_name ${H2_HOST}; location / { grpc_pass grpc://pool; } }
}
`,
    );
    return ['nginx', '-c', file, '-p', folder];
  },
};

export const haproxyH2: ProxySetup = {
  ...haproxy,
  command: (folder, port, backendPort) => {
    const file = join(folder, 'haproxy.cfg');
    writeFileSync(
      file,
      `global
  nbthread 1
  no strict-limits
  maxconn 8192
  tune.h2.max-concurrent-streams 1000
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  http-reuse always
frontend edge
  bind 127.0.0.1:${port} proto h2 backlog 1024
  default_backend pool
backend pool
  server s 127.0.0.1:${backendPort} proto h2
`,
    );
    return ['haproxy', '-db', '-f', file];
  },
};

export const nghttpx: ProxySetup = {
  name: 'nghttpx',
  command: (_folder, port, backendPort) => [
    'nghttpx',
    '--conf=/dev/null',
    '--single-process',
    '--single-thread',
    '--workers=1',
    '--errorlog-file=/dev/stderr',
    '--log-level=ERROR',
    '--accesslog-file=/dev/null',
    '--frontend-http2-max-concurrent-streams=1000',
    `--frontend=127.0.0.1,${port};no-tls`,
    `--backend=127.0.0.1,${backendPort};;proto=h2`,
  ],
  worker: (pid) => pid,
};

function manifests(port: number, backendPort: number): object[] {
  return [
    gateway('edge', { name: 'http', port, protocol: 'HTTP' }),
    service('grpc', 'kubernetes.io/h2c'),
    localSlice('grpc', 'grpc', backendPort),
    routeTo('grpc', 'edge', H2_HOST),
  ];
}
