// `npm run soak -- --minutes N`: mixed HTTP/1, HTTP/2, TLS, gRPC, WebSocket and opaque TCP traffic through real proxies, with resets,
// half-closes, slow readers, pipelining and a new configuration every second. Every byte is compared both ways. Exit 1 if a byte was lost, added or changed, a connection stuck
// or was left behind, or a proxy's memory grew once it was warm.
// `npm run soak -- --grpc-calls N` is grpc-calls.ts.
import { setTimeout as sleep } from 'node:timers/promises';
import { Bed } from '../bench/bed.js';
import { median } from '../bench/report.js';
import { GrpcEchoClient, startGrpcEcho } from '../lab/grpc-echo.js';
import { below, Fault } from './bytes.js';
import { grpcCalls } from './grpc-calls.js';
import { cutByClient, cutByServer, exchange, httpsTarget, httpTarget, pipelined, slowReader } from './http-traffic.js';
import { cutByServer2, cutConnection, cutStream, exchange2, Http2Target, slowReader2 } from './http2-traffic.js';
import { type Memory, Proxies, type Watched } from './proxies.js';
import { startEchoServer, startHttp2Server, startHttpServer } from './servers.js';
import { grpc, grpcCut, webSocket, webSocketCut } from './stream-traffic.js';
import { cut, echo } from './tcp-traffic.js';

const RELOAD_MS = 1_000;
/** Pools close idle upstream connections after 4 s; then nothing may be open but what was before. */
const QUIET_MS = 12_000;
/** Growth from the first to the last fifth of the time after warm-up; of the lowest of the JavaScript heap from half to half. */
const MOST_GROWTH_BYTES = 6 * 1_048_576;
const MEMORY_EVERY_S = 5;
/** V8 collects what is old about every 100 s here: both halves must have seen it. */
const HEAP_JUDGED_S = 300;
const SHOWN_FINDINGS = 20;

interface Kind {
  readonly name: string;
  readonly clients: number;
  readonly run: () => Promise<void>;
  done: number;
}

class Soak {
  readonly findings = new Map<string, number>();
  private isOver = false;

  constructor(
    private readonly proxies: Proxies,
    private readonly kinds: readonly Kind[],
    /** Closes what clients keep open between exchanges. */
    private readonly hangUp: () => void,
  ) {}

  find(text: string): void {
    // Numbers differ, the finding is one.
    const kind = text.replace(/\d+/g, 'N');
    if (!this.findings.has(kind)) console.error(`finding: ${text}`);
    this.findings.set(kind, (this.findings.get(kind) ?? 0) + 1);
  }

  async run(minutes: number): Promise<void> {
    const watched = this.proxies.watched;
    const before = watched.map((proxy) => ({ sockets: proxy.sockets(), descriptors: proxy.descriptors() }));
    const memory = watched.map((): Memory[] => []);
    const clients = this.kinds.flatMap((kind) => Array.from({ length: kind.clients }, () => this.client(kind)));
    const seconds = Math.ceil(minutes * 60);
    for (let second = 0; second < seconds; second++) {
      await sleep(RELOAD_MS);
      this.proxies.reload();
      if (second % MEMORY_EVERY_S === 0) for (const [i, proxy] of watched.entries()) memory[i]!.push(await proxy.memory());
      if (second % 15 === 14) this.progress(second + 1, memory);
    }
    this.isOver = true;
    await Promise.all(clients);
    this.hangUp();
    await sleep(QUIET_MS);
    for (const [i, proxy] of watched.entries()) {
      this.judgeSockets(proxy, before[i]!);
      this.judgeMemory(proxy.name, memory[i]!);
    }
  }

  private async client(kind: Kind): Promise<void> {
    while (!this.isOver) {
      try {
        await kind.run();
        kind.done++;
      } catch (error) {
        this.find(`${kind.name}: ${error instanceof Fault ? '' : 'error: '}${(error as Error).message}`);
        // A proxy that is gone shall not be asked a million times.
        await sleep(50);
      }
    }
  }

  private progress(second: number, memory: readonly (readonly Memory[])[]): void {
    const sizes = memory.map((samples) => {
      const last = Object.entries(samples.at(-1)!) as [string, number | null][];
      return last.flatMap(([name, bytes]) => (bytes === null ? [] : [`${name} ${mib(bytes)}`])).join(', ');
    });
    console.error(`${second} s: ${this.kinds.map(({ name, done }) => `${name} ${done}`).join(', ')}; MiB ${sizes.join('; ')}`);
  }

  private judgeSockets(proxy: Watched, before: { readonly sockets: number; readonly descriptors: number }): void {
    const left = proxy.sockets() - before.sockets;
    console.log(`${proxy.name}: ${left} sockets, ${proxy.descriptors() - before.descriptors} descriptors more than before the traffic`);
    if (left > 0) this.find(`${proxy.name}: ${left} sockets are still open though every client has gone:\n${proxy.connections()}`);
  }

  private judgeMemory(proxy: string, samples: readonly Memory[]): void {
    const warm = samples.slice(Math.floor(samples.length * 0.4));
    const judge = (name: string, of: (memory: Memory) => number | null, parts: number, sizeOf = median): void => {
      const sizes = warm.map(of).filter((size) => size !== null);
      if (sizes.length === 0) return;
      const length = Math.max(1, Math.floor(sizes.length / parts));
      const [first, last] = [sizeOf(sizes.slice(0, length)), sizeOf(sizes.slice(-length))];
      const text = `${mib(first)} MiB once warm, ${mib(last)} MiB at the end`;
      console.log(`${proxy}: ${name} ${text}`);
      if (last - first > MOST_GROWTH_BYTES) this.find(`${proxy}: ${name} grows: ${text}`);
    };
    judge('native memory', ({ native }) => native, 5);
    judge('malloc', ({ malloc }) => malloc, 5);
    if (warm.length * MEMORY_EVERY_S >= HEAP_JUDGED_S)
      judge(
        'JavaScript heap',
        ({ heap }) => heap,
        2,
        (sizes) => Math.min(...sizes),
      );
  }
}

function mib(bytes: number): string {
  return (bytes / 1_048_576).toFixed(1);
}

/** Null: bad usage. */
function parse(args: readonly string[]): { readonly minutes: number } | { readonly grpcCalls: number } | null {
  const [flag, text] = args;
  const number = flag === undefined ? 5 : Number(text);
  if (!(number > 0) || args.length > 2) return null;
  if (flag === undefined || flag === '--minutes') return { minutes: number };
  return flag === '--grpc-calls' ? { grpcCalls: number } : null;
}

/**
 * A cut is over for its client at once, but not for the server: Node 20 accepts one connection in a turn of its loop, and cuts without an
 * exchange behind them fill its queue of 1,024, in which every honest connection then waits (half a minute at a load of 14).
 */
function inTurn(cut: () => Promise<void>, exchange: () => Promise<void>): () => Promise<void> {
  return () => cut().then(exchange);
}

async function soak(bed: Bed, minutes: number): Promise<boolean> {
  const late: { find?: (text: string) => void } = {};
  const onFault = (fault: Fault): void => late.find?.(`server: ${fault.message}`);
  const grpcServer = await startGrpcEcho();
  const proxies = await Proxies.start(bed, {
    http: [await startHttpServer(onFault), await startHttpServer(onFault)],
    http2: await startHttp2Server(onFault),
    grpc: grpcServer.port,
    echo: await startEchoServer(),
  });
  const { httpPort, tls, tcp } = proxies;
  const [plain, secure] = [httpTarget(httpPort), httpsTarget(tls.port, tls.certificate)];
  const [plain2, secure2] = [new Http2Target(httpPort, null), new Http2Target(tls.port, tls.certificate)];
  const calls = new GrpcEchoClient(httpPort);
  const kind = (name: string, clients: number, run: () => Promise<void>): Kind => ({ name, clients, run, done: 0 });
  const [cutHttp, cutTcp] = [() => cutByClient(plain), () => cut(tcp)];
  const kinds = [
    kind('exchange', 6, () => exchange(plain)),
    kind('slow reader', 4, () => slowReader(plain)),
    kind('pipelined', 3, () => pipelined(plain, false)),
    kind('half-closed', 2, () => pipelined(plain, true)),
    kind(
      'cut by client',
      3,
      inTurn(cutHttp, () => exchange(plain)),
    ),
    kind('cut by server', 2, () => cutByServer(plain)),
    kind('tls exchange', 3, () => exchange(secure)),
    kind('tls slow reader', 2, () => slowReader(secure)),
    kind('h2 exchange', 6, () => exchange2(plain2)),
    kind('h2 tls exchange', 3, () => exchange2(secure2)),
    kind('h2 slow reader', 4, () => slowReader2(plain2)),
    kind('h2 cut by server', 2, () => cutByServer2(plain2)),
    kind('h2 cut stream', 2, () => cutStream(plain2)),
    kind('h2 cut connection', 2, () => cutConnection(below(2) === 0 ? plain2 : secure2)),
    kind('grpc', 4, () => grpc(calls)),
    kind('grpc cut', 1, () => grpcCut(httpPort)),
    kind('websocket', 3, () => webSocket(httpPort, null)),
    kind('websocket tls', 2, () => webSocket(tls.port, tls.certificate)),
    kind('websocket cut', 1, () => webSocketCut(httpPort)),
    kind('tcp', 4, () => echo(tcp, 0)),
    kind('tcp slow', 3, () => echo(tcp, 10)),
    kind(
      'tcp cut',
      3,
      inTurn(cutTcp, () => echo(tcp, 0)),
    ),
  ];
  const soak = new Soak(proxies, kinds, () => {
    for (const target of [plain, secure]) target.agent.destroy();
    for (const target of [plain2, secure2]) target.close();
    calls.close();
  });
  late.find = (text) => soak.find(text);
  await soak.run(minutes);
  grpcServer.stop();
  for (const { name, done } of kinds) console.log(`${name}: ${done}`);
  for (const [text, count] of [...soak.findings].slice(0, SHOWN_FINDINGS)) console.log(`FINDING (${count}×): ${text}`);
  console.log(soak.findings.size === 0 ? 'soak: nothing found' : `soak: ${soak.findings.size} kinds of findings`);
  return soak.findings.size === 0;
}

async function main(): Promise<number> {
  const wanted = parse(process.argv.slice(2));
  if (wanted === null) {
    console.error('usage: npm run soak -- [--minutes N]     (5)\n       npm run soak -- --grpc-calls N');
    return 2;
  }
  const isGood = 'grpcCalls' in wanted ? await grpcCalls(wanted.grpcCalls) : await Bed.use((bed) => soak(bed, wanted.minutes));
  return isGood ? 0 : 1;
}

process.exitCode = await main().catch((error: Error) => {
  console.error(error.stack);
  return 1;
});
