// `npm run soak -- --grpc-calls N`: N grpc-js calls of all four kinds through a real proxy, none of which may fail or bring back a wrong
// byte. Over 8 channels (so both workers have some), 25 calls at a time on each.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { Bed, PROXY_CORE, WEFT } from '../bench/bed.js';
import { consecutivePorts, ownMemoryBytes } from '../bench/process.js';
import { gatewayManifests, selfSigned } from '../lab/gateway.js';
import { GrpcEchoClient, startGrpcEcho } from '../lab/grpc-echo.js';
import { anySlice, bytesOf, Fault } from './bytes.js';

const HOST = 'grpc.test';
const CHANNELS = 8;
const AT_ONCE = 25;
const MOST_BYTES = 2_000;
const TOLD_EVERY = 50_000;
const SHOWN_ERRORS = 5;

interface Tally {
  begun: number;
  done: number;
  failed: number;
}

/** True if all went well. */
export function grpcCalls(count: number): Promise<boolean> {
  return Bed.use(async (bed) => {
    const server = await startGrpcEcho();
    const port = await consecutivePorts(2);
    const folder = bed.subfolder('grpc');
    const file = join(folder, 'grpc.yaml');
    const backend = { name: 'echo', port: server.port, appProtocol: 'grpc', prefix: '/' };
    writeFileSync(file, gatewayManifests({ port, tlsPort: port + 1, host: HOST, pair: selfSigned(folder, HOST) }, [backend]));
    const flags = ['--static', file, '--workers', '2', '--run-dir', folder, '--log-level', 'warn'];
    const proxy = bed.start(PROXY_CORE, [process.execPath, WEFT, 'proxy', ...flags]);
    await proxy.listensOn(port);
    const clients = Array.from({ length: CHANNELS }, () => new GrpcEchoClient(port));
    const tally: Tally = { begun: 0, done: 0, failed: 0 };
    const began = performance.now();
    const told = (): void => {
      const [seconds, memory] = [(performance.now() - began) / 1_000, ownMemoryBytes(proxy.pid) / 1_048_576];
      const rate = (tally.done / seconds).toFixed(0);
      console.error(`${tally.done} calls, ${tally.failed} failed, ${seconds.toFixed(0)} s, ${rate}/s; memory ${memory.toFixed(1)} MiB`);
    };
    const lane = async (client: GrpcEchoClient): Promise<void> => {
      while (tally.begun < count) {
        const number = tally.begun++;
        // The kinds in turn.
        await checkedCall(client, number % 4, MOST_BYTES).catch((error: Error) => {
          if (tally.failed++ < SHOWN_ERRORS) console.log(`call ${number}: ${error.message}`);
        });
        if (++tally.done % TOLD_EVERY === 0) told();
      }
    };
    await Promise.all(clients.flatMap((client) => Array.from({ length: AT_ONCE }, () => lane(client))));
    told();
    for (const client of clients) client.close();
    server.stop();
    console.log(`grpc: ${tally.done} calls, ${tally.failed} failed`);
    return tally.failed === 0;
  });
}

/** `kind`: 0 unary, 1 and 2 a stream of requests or answers, 3 both. Messages of at most `most` bytes. */
export async function checkedCall(client: GrpcEchoClient, kind: number, most: number): Promise<void> {
  const messages = Array.from({ length: kind === 0 ? 1 : 3 }, () => anyMessage(most));
  const sent = Buffer.concat(messages);
  const got = await answer(client, kind, messages, sent);
  if (!got.equals(sent)) throw new Fault(`${got.length} bytes came back for ${sent.length}, or others`);
}

async function answer(client: GrpcEchoClient, kind: number, messages: readonly Buffer[], sent: Buffer): Promise<Buffer> {
  if (kind === 0) return client.unary(sent);
  if (kind === 1) return client.gather(messages);
  return Buffer.concat(kind === 2 ? await client.scatter(sent) : await client.chat(messages));
}

/** Its first byte is not the one that asks for silence. */
export function anyMessage(most: number): Buffer {
  return Buffer.concat([Buffer.from([1]), bytesOf(anySlice(most))]);
}
