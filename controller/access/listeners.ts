// The addresses a controller listens on, each behind the guard: unix sockets by their file mode, TCP by TLS where there is an authority.
import { experimental, type Server, ServerCredentials } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { cannotListen, listenGrpc, listenHostPort, withPort } from '../../api/grpc/listen.js';
import { listenPaced, type PacedListener } from '../../api/grpc/paced-listener.js';
import type { ListenerSecurity } from './authenticator.js';
import type { Guard } from './guard.js';

export interface ListenerParts {
  readonly guard: Guard;
  /** Null: there is no authority. */
  readonly credentials: ServerCredentials | null;
}

export interface Listeners {
  /** As bound. */
  readonly addresses: readonly string[];
  /** Nobody new comes in over TLS. Idempotent. */
  close(): void;
}

/** Throws where one can't be bound. */
export async function listenGuarded(server: Server, addresses: readonly string[], parts: ListenerParts, log: Logger): Promise<Listeners> {
  const { guard, credentials } = parts;
  const open = (security: ListenerSecurity): ServerCredentials =>
    experimental.createServerCredentialsWithInterceptors(ServerCredentials.createInsecure(), [guard.interceptor(security)]);
  const bound: string[] = [];
  const paced: PacedListener[] = [];
  const close = (): void => {
    for (const listener of paced) listener.close();
  };
  try {
    for (const address of addresses) {
      const isSocket = address.startsWith('unix:');
      if (!isSocket && credentials !== null) {
        const { host, port } = listenHostPort(address);
        const { injectConnection } = server.createConnectionInjector(credentials);
        const listener = await listenPaced({ host, port, begin: injectConnection, now: () => performance.now() }).catch((error: Error) => {
          throw cannotListen(address, error);
        });
        paced.push(listener);
        bound.push(withPort(address, listener.port));
        continue;
      }
      bound.push(await listenGrpc(server, address, 0o660, open(isSocket ? 'local socket' : 'plaintext')));
      if (!isSocket) {
        log.warn(
          { address },
          'plaintext: whoever reaches this address is an administrator, and what is said there can be read and altered on the way',
        );
      }
    }
  } catch (error) {
    close();
    throw error;
  }
  return { addresses: bound, close };
}
