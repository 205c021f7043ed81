// Opaque TCP clients of the soak: what is sent comes back, whole, behind a half-close; in haste, slowly, or cut off.
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { anySlice, below, bytesOf, Comparison, Fault } from './bytes.js';

const MOST = 2_097_152;
const STUCK_MS = 30_000;
/** Not the upstream's own: to a mesh, a client that calls itself is a case apart. */
const CLIENT = '127.0.77.2';

export interface TcpTarget {
  readonly address: string;
  readonly port: number;
}

function dial({ address, port }: TcpTarget): Socket {
  const socket = connect({ host: address, port, localAddress: CLIENT, allowHalfOpen: true });
  socket.setTimeout(STUCK_MS, () => socket.destroy(new Fault('stuck: a TCP connection')));
  return socket;
}

/** `restMs`: at most so long between two reads. */
export async function echo(target: TcpTarget, restMs: number): Promise<void> {
  const slice = anySlice(MOST);
  const socket = dial(target);
  socket.end(bytesOf(slice));
  const comparison = new Comparison(slice, 'TCP echo');
  for await (const chunk of socket) {
    comparison.add(chunk as Buffer);
    if (restMs > 0) await sleep(below(restMs));
  }
  comparison.finish();
}

/** What came until the reset must still be right. */
export async function cut(target: TcpTarget): Promise<void> {
  const slice = anySlice(MOST);
  const socket = dial(target);
  const comparison = new Comparison(slice, 'TCP echo, cut');
  let fault: Error | null = null;
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => {
    try {
      comparison.add(chunk);
    } catch (error) {
      fault = error as Error;
    }
  });
  socket.write(bytesOf(slice));
  await sleep(below(30));
  socket.resetAndDestroy();
  if (fault !== null) throw fault;
}
