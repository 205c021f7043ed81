// The relays of the tcp benchmark: one backend that sees the client's own address, one worker, no log. Ours stands for captured traffic: see captured-proxy.ts.
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { haproxy, nginx, type ProxySetup } from './http1-proxies.js';
import { localSlice, yaml } from './manifests.js';

/** Another loopback address than the backend's: a service's address is not its endpoint's. */
export const SERVICE_ADDRESS = '127.0.77.1';
/** Debian: libnginx-mod-stream. */
const STREAM_MODULE = process.env.WEFT_BENCH_NGINX_STREAM ?? '/usr/lib/nginx/modules/ngx_stream_module.so';

export function serviceManifests(port: number, backendPort: number, weight = 1): object[] {
  return [
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'bytes', annotations: { 'weft.test/weight': String(weight) } },
      spec: { clusterIP: SERVICE_ADDRESS, ports: [{ name: 'tcp', port }] },
    },
    localSlice('bytes-1', 'bytes', backendPort, 'tcp'),
  ];
}

export const weftTcp: ProxySetup = {
  name: 'weft',
  command: (folder, port, backendPort) => {
    const file = join(folder, 'weft.yaml');
    writeFileSync(file, yaml(serviceManifests(port, backendPort)));
    return [process.execPath, fileURLToPath(new URL('./captured-proxy.js', import.meta.url)), file, SERVICE_ADDRESS, String(port), '1'];
  },
  worker: (pid) => pid,
};

/** Null: this nginx has no stream module. */
export const nginxTcp: ProxySetup | null = !existsSync(STREAM_MODULE)
  ? null
  : {
      ...nginx,
      command: (folder, port, backendPort) => {
        const file = join(folder, 'nginx.conf');
        writeFileSync(
          file,
          `load_module ${STREAM_MODULE};
daemon off; worker_processes 1; pid ${folder}/nginx.pid; error_log ${folder}/nginx.err; worker_rlimit_nofile 20000;
events { worker_connections 16384; }
stream {
  upstream pool { least_conn; server 127.0.0.1:${backendPort}; }
  server { listen ${SERVICE_ADDRESS}:${port} backlog=1024; proxy_pass pool; proxy_bind $remote_addr transparent; proxy_timeout 300s; }
}
`,
        );
        return ['nginx', '-c', file, '-p', folder];
      },
    };

export const haproxyTcp: ProxySetup = {
  ...haproxy,
  command: (folder, port, backendPort) => {
    const file = join(folder, 'haproxy.cfg');
    // Spliced through pipes where it pays, as HAProxy's manual advises for relays.
    writeFileSync(
      file,
      `global
  nbthread 1
  no strict-limits
  maxconn 8192
defaults
  mode tcp
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  option splice-auto
frontend edge
  bind ${SERVICE_ADDRESS}:${port} backlog 1024
  default_backend pool
backend pool
  balance leastconn
  source 0.0.0.0 usesrc clientip
  server s 127.0.0.1:${backendPort}
`,
    );
    return ['haproxy', '-db', '-f', file];
  },
};
