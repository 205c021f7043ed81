// What the HTTP/1 benchmarks share: backends, and the three proxies of http1-proxies.ts before them, each on ports of its own.
import { type Bed, type Contender, LOAD_CORE, PROXY_CORE, WEFT } from './bed.js';
import { BACKENDS, haproxy, nginx, type ProxySetup, weft } from './http1-proxies.js';
import { freePorts } from './process.js';

/** Backends answer with `bodyBytes`. Names: weft, nginx, haproxy. */
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
    const process = bed.start(PROXY_CORE, setup.command(bed.subfolder(`${setup.name}-${bodyBytes}`), port, firstPort));
    await process.listensOn(port);
    contenders.push({ name: setup.name, port, firstBackend: firstPort, pid: setup.worker(process.pid) });
  }
  return contenders;
}
