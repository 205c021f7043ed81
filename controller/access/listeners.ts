// The addresses a controller listens on, each behind the guard: unix sockets by their file mode, TCP by TLS where there is an authority.
import { experimental, type Server, ServerCredentials } from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { listenGrpc } from '../../api/grpc/listen.js';
import type { ListenerSecurity } from './authenticator.js';
import type { Guard } from './guard.js';

export interface ListenerParts {
  readonly guard: Guard;
  /** Null: there is no authority. */
  readonly credentials: ServerCredentials | null;
}

/** Returns them as bound. Throws where one can't be. */
export async function listenGuarded(server: Server, addresses: readonly string[], parts: ListenerParts, log: Logger): Promise<string[]> {
  const { guard, credentials } = parts;
  const open = (security: ListenerSecurity): ServerCredentials =>
    experimental.createServerCredentialsWithInterceptors(ServerCredentials.createInsecure(), [guard.interceptor(security)]);
  const bound: string[] = [];
  for (const address of addresses) {
    const isSocket = address.startsWith('unix:');
    bound.push(await listenGrpc(server, address, 0o660, isSocket ? open('local socket') : (credentials ?? open('plaintext'))));
    if (!isSocket && credentials === null) {
      log.warn(
        { address },
        'plaintext: whoever reaches this address is an administrator, and what is said there can be read and altered on the way',
      );
    }
  }
  return bound;
}
