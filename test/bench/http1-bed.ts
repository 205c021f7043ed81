// What the HTTP/1 benchmarks share: backends, the proxies before them (those of http1-proxies.ts unless told), each on ports of its own,
// and the load that CPU per request is measured under.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Bed, type Contender, LOAD_CORE, PROXY_CORE, WEFT } from './bed.js';
import { BACKENDS, HOST, haproxy, nginx, type ProxySetup, ROUTES, weft } from './http1-proxies.js';
import { cpuTimeUs, freePorts, Pinned } from './process.js';

/** Backends answer with `bodyBytes`. Names: weft, nginx, haproxy. Each proxy's folder: folderOf(). */
export async function startHttp1(
  bed: Bed,
  bodyBytes: number,
  setups: readonly ProxySetup[] = [weft(WEFT), nginx, haproxy],
): Promise<Contender[]> {
  const firstPort = await freePorts(BACKENDS + setups.length);
  const backends = bed.start(LOAD_CORE, [bed.tool('backend'), String(firstPort), String(BACKENDS), String(bodyBytes)]);
  await backends.listensOn(firstPort + BACKENDS - 1);
  const contenders: Contender[] = [];
  for (const [index, setup] of setups.entries()) {
    const port = firstPort + BACKENDS + index;
    const process = bed.start(PROXY_CORE, setup.command(folderOf(bed, setup, bodyBytes), port, firstPort));
    await process.listensOn(port);
    contenders.push({ name: setup.name, port, firstBackend: firstPort, pid: setup.worker(process.pid) });
  }
  return contenders;
}

export function folderOf(bed: Bed, { name }: { readonly name: string }, bodyBytes: number): string {
  return bed.subfolder(`${name}-${bodyBytes}`);
}

export interface Load {
  /** wrk's: every route in turn. */
  readonly script: string;
  readonly connections: number;
  readonly seconds: number;
  /** Of each request, beside Host. */
  readonly headers: Readonly<Record<string, string>>;
}

export interface Measured {
  readonly requests: number;
  /** CPU µs per request. */
  readonly cpuUs: number;
}

/** Throws if one was not answered with 2xx or 3xx. */
export async function underLoad({ name, port, pid }: Contender, { script, connections, seconds, headers }: Load): Promise<Measured> {
  const before = cpuTimeUs(pid);
  const lines = Object.entries({ Host: HOST, ...headers }).flatMap(([header, value]) => ['-H', `${header}: ${value}`]);
  const options = ['-t1', `-c${connections}`, `-d${seconds}s`, '-s', script, ...lines];
  const output = await new Pinned(LOAD_CORE, ['wrk', ...options, `http://127.0.0.1:${port}/`]).result();
  const requests = Number(/(\d+) requests in/.exec(output)?.[1]);
  const failed = /Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)/.exec(output);
  if (!(requests > 0) || failed !== null) throw new Error(`${name} did not answer every request:\n${output}`);
  return { requests, cpuUs: (cpuTimeUs(pid) - before) / requests };
}

/** Load.script; requests are made beforehand: the load generator must not be the bottleneck. */
export function loadScript(bed: Bed): string {
  const file = join(bed.folder, 'load.lua');
  writeFileSync(
    file,
    `local all, at = {}, 0
function init(args)
  for i = 0, ${ROUTES - 1} do all[i] = wrk.format("GET", "/svc" .. i .. "/item") end
end
function request()
  at = (at + 1) % ${ROUTES}
  return all[at]
end
`,
  );
  return file;
}
