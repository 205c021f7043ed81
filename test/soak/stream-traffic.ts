// Long-lived streams of the soak: gRPC calls of all kinds, and WebSockets; whole or cut off.
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { GrpcEchoClient } from '../lab/grpc-echo.js';
import { anySlice, below, bytesOf, Comparison, Fault } from './bytes.js';
import { anyMessage, checkedCall } from './grpc-calls.js';
import { HOST, STUCK_MS } from './http-traffic.js';

const MOST_BYTES = 300_000;

/** A call of any kind on a connection that is kept. */
export function grpc(client: GrpcEchoClient): Promise<void> {
  return checkedCall(client, below(4), MOST_BYTES);
}

/** On a connection of its own, and cancelled on the way. */
export async function grpcCut(port: number): Promise<void> {
  const client = new GrpcEchoClient(port);
  try {
    await checkedCall(client, below(4), 1_000);
    await client.cutChat(anyMessage(MOST_BYTES));
  } finally {
    client.close();
  }
}

/** `certificate`: null for plain text. */
export async function webSocket(port: number, certificate: string | null): Promise<void> {
  const socket = await open(port, certificate);
  for (let i = below(8); i >= 0; i--) {
    const slice = anySlice(MOST_BYTES);
    socket.send(bytesOf(slice));
    const [data] = (await once(socket, 'message', { signal: AbortSignal.timeout(STUCK_MS) })) as [Buffer];
    const comparison = new Comparison(slice, 'WebSocket echo');
    comparison.add(data);
    comparison.finish();
    if (below(3) === 0) await sleep(below(50));
  }
  const closed = once(socket, 'close', { signal: AbortSignal.timeout(STUCK_MS) }) as Promise<[number]>;
  socket.close(4000);
  const [code] = await closed;
  if (code !== 4000) throw new Fault(`a WebSocket closed with ${code} instead of 4000`);
}

export async function webSocketCut(port: number): Promise<void> {
  const socket = await open(port, null);
  socket.on('error', () => undefined);
  socket.send(bytesOf(anySlice(MOST_BYTES)));
  await sleep(below(30));
  socket.terminate();
}

async function open(port: number, certificate: string | null): Promise<WebSocket> {
  const tls = certificate === null ? {} : { ca: certificate, servername: HOST };
  const url = `${certificate === null ? 'ws' : 'wss'}://127.0.0.1:${port}/ws`;
  const socket = new WebSocket(url, { headers: { host: HOST }, perMessageDeflate: false, ...tls });
  await once(socket, 'open', { signal: AbortSignal.timeout(STUCK_MS) });
  return socket;
}
