// What opens etcd to us, from files: read anew each time, as they are rotated. Owns no connection.
import { readFileSync } from 'node:fs';
import type { EtcdSecrets } from './etcd-client.js';

/** Paths; null: not given. */
export interface EtcdSecretFiles {
  readonly ca: string | null;
  /** Both or neither. */
  readonly cert: string | null;
  readonly key: string | null;
  /** Both or neither. */
  readonly user: string | null;
  readonly passwordFile: string | null;
}

export function secretsOf({ ca, cert, key, user, passwordFile }: EtcdSecretFiles): EtcdSecrets {
  return {
    tls: () => ({
      ca: ca === null ? null : read('--etcd-ca', ca),
      client: cert === null || key === null ? null : { cert: read('--etcd-cert', cert), key: read('--etcd-key', key) },
    }),
    login: () => {
      if (user === null || passwordFile === null) return null;
      // Editors and `echo` end a file with a line end.
      return {
        user,
        password: read('--etcd-password-file', passwordFile)
          .toString()
          .replace(/\r?\n$/, ''),
      };
    },
  };
}

function read(flag: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new Error(`${flag} ${path}: ${(error as NodeJS.ErrnoException).code ?? String(error)}: check the path and who may read it`);
  }
}
