// Benchmark http2: CPU per gRPC-shaped unary call, HTTP/2 on both sides, by connections × streams. Generator: h2load.
// Before anything is measured, one call through every proxy is checked: status, body, and grpc-status in the trailers.
import { writeFileSync } from 'node:fs';
import { connect } from 'node:http2';
import { join } from 'node:path';
import { Bed, type BenchOptions, type Contender, chosen, interleaved, LOAD_CORE, PROXY_CORE } from './bed.js';
import { GRPC_PATH, grpcMessage, H2_HOST, haproxyH2, nghttpx, nginxH2, weftH2 } from './http2-proxies.js';
import { consecutivePorts, cpuTimeUs, Pinned } from './process.js';
import { type Case, compare } from './report.js';

const CASES = [
  { name: '8x16-100B', connections: 8, streams: 16, bodyBytes: 100 },
  { name: '64x1-100B', connections: 64, streams: 1, bodyBytes: 100 },
  { name: '2x100-100B', connections: 2, streams: 100, bodyBytes: 100 },
  { name: '8x16-8KiB', connections: 8, streams: 16, bodyBytes: 8192 },
] as const;
type H2Case = (typeof CASES)[number];
const CALL_TIMEOUT_MS = 5_000;
/** nginx 1.22 answers one call in some 10,000 with 502 over kept grpc_pass connections. Ours may fail none. */
const PEER_FAILURES = 0.001;

export async function http2(options: BenchOptions): Promise<Case[]> {
  const results: Case[] = [];
  for (const one of chosen(CASES, options)) results.push(...(await Bed.use((bed) => runCase(bed, one, options))));
  return results;
}

async function runCase(bed: Bed, one: H2Case, { quick, peersOnly, onProgress }: BenchOptions): Promise<Case[]> {
  const setups = [...(peersOnly ? [] : [weftH2]), nghttpx, haproxyH2, nginxH2];
  const backendPort = await consecutivePorts(1 + setups.length);
  const backend = bed.start(LOAD_CORE, [bed.tool('h2-backend'), String(backendPort), String(one.bodyBytes)]);
  await backend.listensOn(backendPort);
  const contenders: Contender[] = [];
  for (const [index, setup] of setups.entries()) {
    const port = backendPort + 1 + index;
    const process = bed.start(PROXY_CORE, setup.command(bed.subfolder(setup.name), port, backendPort));
    await process.listensOn(port);
    const fault = await faultOfCall(port, one.bodyBytes);
    if (fault !== null && setup === weftH2) throw new Error(`this build of weft doesn't speak HTTP/2 on a gateway: ${fault}`);
    if (fault !== null) throw new Error(`${setup.name} doesn't carry a gRPC call: ${fault}`);
    contenders.push({ name: setup.name, port, firstBackend: backendPort, pid: setup.worker(process.pid) });
  }
  const body = join(bed.folder, 'call');
  writeFileSync(body, grpcMessage(16));
  const measure = (contender: Contender, isWarmUp: boolean): Promise<number> => load(contender, one, body, isWarmUp ? 1 : 2);
  const values = await interleaved(contenders, quick ? 4 : 9, measure, (text) => onProgress(`${one.name} ${text} µs`));
  const [ours, ...peers] = contenders as [Contender, ...Contender[]];
  return peers.map((peer) => compare(one.name, peer.name, values.get(ours.name)!, values.get(peer.name)!));
}

/** Null: a call went through whole. */
function faultOfCall(port: number, bodyBytes: number): Promise<string | null> {
  return new Promise((resolve) => {
    const session = connect(`http://127.0.0.1:${port}`);
    const done = (fault: string | null): void => {
      clearTimeout(timer);
      session.destroy();
      resolve(fault);
    };
    const timer = setTimeout(() => done(`no answer within ${CALL_TIMEOUT_MS} ms`), CALL_TIMEOUT_MS);
    session.on('error', (error) => done(error.message));
    const call = session.request({
      ':method': 'POST',
      ':path': GRPC_PATH,
      ':authority': H2_HOST,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    let [status, size, grpcStatus] = [0, 0, ''];
    call.on('response', (headers) => {
      status = Number(headers[':status']);
    });
    call.on('trailers', (trailers) => {
      grpcStatus = String(trailers['grpc-status']);
    });
    call.on('data', (chunk: Buffer) => {
      size += chunk.length;
    });
    call.on('error', (error) => done(error.message));
    call.on('end', () => {
      const isWhole = status === 200 && size === bodyBytes + 5 && grpcStatus === '0';
      done(isWhole ? null : `status ${status}, ${size} bytes, grpc-status "${grpcStatus}"`);
    });
    call.end(grpcMessage(16));
  });
}

/** CPU µs per call. */
async function load({ name, port, pid }: Contender, { connections, streams }: H2Case, body: string, seconds: number): Promise<number> {
  const before = cpuTimeUs(pid);
  const headers = ['-H', 'content-type: application/grpc', '-H', 'te: trailers', '-H', `:authority: ${H2_HOST}`];
  const options = ['-t1', `-c${connections}`, `-m${streams}`, `-D${seconds}`, '-d', body, ...headers];
  const output = await new Pinned(LOAD_CORE, ['h2load', ...options, `http://127.0.0.1:${port}${GRPC_PATH}`]).result();
  const after = cpuTimeUs(pid);
  const counts = /(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout/.exec(output)?.slice(1).map(Number) ?? [];
  const [succeeded = 0, ...bad] = counts;
  const failed = bad.reduce((sum, count) => sum + count, 0);
  const tolerated = name === 'weft' ? 0 : succeeded * PEER_FAILURES;
  if (succeeded === 0 || failed > tolerated) throw new Error(`${name} did not answer every call:\n${output}`);
  return (after - before) / succeeded;
}
