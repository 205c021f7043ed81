// Binds a gRPC server to an address as weft writes them: "host:port", "[v6]:port" or "unix:/path". Owns the life of the socket file.
import { rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { type Server, ServerCredentials } from '@grpc/grpc-js';
import { type HostPort, parseHostPort } from '../host-port.js';
import { makeFolder } from '../make-folder.js';

const UNIX = 'unix:';

/** Who may connect to a unix socket: its owner, its group too, or whoever reaches its folder. */
export type SocketMode = 0o600 | 0o660 | 0o666;

/**
 * Returns the bound address, with the kernel's port where 0 was asked for. A socket file that nobody serves is replaced, a served one never.
 * Throws with the address and what to do.
 */
export async function listenGrpc(
  server: Server,
  address: string,
  mode: SocketMode = 0o660,
  credentials = ServerCredentials.createInsecure(),
): Promise<string> {
  if (address.startsWith(UNIX)) {
    await listenUnix(server, address, mode, credentials);
    return address;
  }
  listenHostPort(address);
  return withPort(address, await bind(server, address, credentials));
}

/** Throws on what is neither "host:port" nor "[v6]:port". */
export function listenHostPort(address: string): HostPort {
  const at = parseHostPort(address);
  if (at === null) throw new Error(`can't listen on "${address}": expected host:port, [v6]:port or unix:/path`);
  return at;
}

/** The same address with the port that was bound. */
export function withPort(address: string, port: number): string {
  return `${address.slice(0, address.lastIndexOf(':'))}:${port}`;
}

export function cannotListen(address: string, { message }: Error): Error {
  // grpc-js has the kernel's words in brackets, behind its own.
  const reason = /errors: \[(.+)\]$/s.exec(message)?.[1] ?? message;
  return new Error(`can't listen on ${address}: ${reason}. Is another weft running, or the address not of this host?`);
}

/** Throws when a live process serves the unix socket. */
export async function assertUnserved(path: string): Promise<void> {
  if (await isServed(path)) throw new Error(`${UNIX}${path} is served by another process: stop that one, or choose another path`);
}

async function listenUnix(server: Server, address: string, mode: SocketMode, credentials: ServerCredentials): Promise<void> {
  const path = address.slice(UNIX.length);
  makeFolder(dirname(path), 0o777);
  await assertUnserved(path);
  await rm(path, { force: true });
  // The socket is born with its mode: a chmod afterwards would leave a moment for others.
  const umask = process.umask(0o777 & ~mode);
  try {
    await bind(server, address, credentials);
  } finally {
    process.umask(umask);
  }
}

function bind(server: Server, address: string, credentials: ServerCredentials): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(address, credentials, (error, port) => {
      if (error === null) return resolve(port);
      reject(cannotListen(address, error));
    });
  });
}

function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
}
