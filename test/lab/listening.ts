// For tests: servers of their own.
import { once } from 'node:events';
import type { AddressInfo, Server, Socket } from 'node:net';

/** On a port of the loopback, which it returns; `closing` gets what ends the server with all its connections. */
export async function listenOnLoopback(
  server: Pick<Server, 'on' | 'listen' | 'close' | 'address'>,
  closing: (() => unknown)[],
): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => sockets.add(socket.on('error', () => {})));
  server.listen(0, '127.0.0.1');
  await once(server as Server, 'listening');
  closing.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}
