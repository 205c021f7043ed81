// Binds a gRPC server to an address as weft writes them: "host:port", "[v6]:port" or "unix:/path". Owns the life of the socket file.
import { chmod, mkdir, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { type Server, ServerCredentials } from '@grpc/grpc-js';

const UNIX = 'unix:';

/**
 * Returns the bound address, with the kernel's port where 0 was asked for. A socket file that nobody serves is replaced; the file is for its
 * owner and group alone. Throws with the address and what to do.
 */
export async function listenGrpc(server: Server, address: string): Promise<string> {
  if (address.startsWith(UNIX)) {
    await freeSocket(address.slice(UNIX.length));
    await bind(server, address);
    await chmod(address.slice(UNIX.length), 0o660);
    return address;
  }
  const colon = address.lastIndexOf(':');
  if (colon < 1 || !/^\d+$/.test(address.slice(colon + 1))) {
    throw new Error(`can't listen on "${address}": expected host:port, [v6]:port or unix:/path`);
  }
  return `${address.slice(0, colon)}:${await bind(server, address)}`;
}

function bind(server: Server, address: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) return resolve(port);
      reject(new Error(`can't listen on ${address}: ${error.message}. Is another weft running, or the address not of this host?`));
    });
  });
}

async function freeSocket(path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const isServed = await new Promise<boolean>((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
  if (isServed) throw new Error(`can't listen on ${UNIX}${path}: another process serves it. Stop that one, or choose another path`);
  await rm(path, { force: true });
}
