// Binds a gRPC server to an address as gRPC writes it, unix sockets with care: owner only, and a stale one of a dead agent is replaced,
// a live one never.
import { rmSync } from 'node:fs';
import { connect } from 'node:net';
import { type Server, ServerCredentials } from '@grpc/grpc-js';

/** The bound port; 0 for a unix socket. Rejects with the address and what to do. */
export async function bindGrpc(server: Server, address: string): Promise<number> {
  const path = address.startsWith('unix:') ? address.slice('unix:'.length) : null;
  if (path === null) return bind(server, address);
  await assertUnserved(path);
  rmSync(path, { force: true });
  // The socket is born with its mode: a chmod afterwards would leave a moment for others.
  const umask = process.umask(0o177);
  try {
    return await bind(server, address);
  } finally {
    process.umask(umask);
  }
}

function bind(server: Server, address: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) resolve(port);
      else reject(new Error(`cannot listen on ${address}: ${error.message}; is another agent running, or the address not of this host?`));
    });
  });
}

/** Throws when a live process serves the unix socket. */
export async function assertUnserved(path: string): Promise<void> {
  if (await isAnswered(path))
    throw new Error(`unix:${path} is served by another process: stop that one, or give this one another --run-dir`);
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
