// What proves to a controller who is asking, and whom it is told to: a file, or a token in the environment. Owns the file's form and who may read it.
import { existsSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { type ChannelCredentials, type ClientOptions, credentials, Metadata } from '@grpc/grpc-js';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { parseToken } from '../api/access/names.js';
import { isLocalAddress, pinnedAuthority, secureChannel } from '../api/access/secure-channel.js';
import { EXIT_USAGE, Failure } from './failure.js';

/** Where a controller is, and how to come to it. */
export interface Target {
  readonly address: string;
  /** Empty: WEFT_TOKEN, else the usual file if it is there. */
  readonly credentialsFile: string;
  readonly isInsecure: boolean;
}

const form = z.strictObject({
  token: z.string().optional(),
  /** PEM, both or neither. */
  certificate: z.string().optional(),
  key: z.string().optional(),
  /** PEM; with a token it may be left out: the token pins it. */
  authorities: z.string().optional(),
});
export type Credentials = z.infer<typeof form>;

export interface Dialling {
  readonly credentials: ChannelCredentials;
  readonly options: ClientOptions;
  /** What every call carries. */
  readonly metadata: Metadata;
}

export function usualFile(environment: NodeJS.ProcessEnv = process.env): string {
  return join(environment.XDG_CONFIG_HOME || join(homedir(), '.config'), 'weft', 'credentials.yaml');
}

export function credentialsText(content: Credentials): string {
  return stringify(content, { lineWidth: 0 });
}

/** Throws Failure with what is missing. */
export async function dial({ address, credentialsFile, isInsecure }: Target): Promise<Dialling> {
  const plain = { credentials: credentials.createInsecure(), options: {}, metadata: new Metadata() };
  if (address.startsWith('unix:')) return plain;
  if (isInsecure) return plain;
  const found = find(credentialsFile);
  if (found !== null) return secure(address, found);
  // On this host a controller without an authority answers so.
  if (isLocalAddress(address)) return plain;
  throw new Failure(
    `no credentials for the controller at ${address}: give --credentials FILE or WEFT_TOKEN (an administrator makes one: weft operator create NAME --role ROLE); a controller without TLS needs --insecure`,
    EXIT_USAGE,
  );
}

async function secure(address: string, { token, certificate, key, authorities }: Credentials): Promise<Dialling> {
  const metadata = new Metadata();
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`);
  const pin = token === undefined ? null : (parseToken(token)?.pin ?? null);
  if (authorities === undefined && pin === null) {
    throw new Failure(
      'the credentials name no authority, so the controller can’t be verified: expected a token of weft operator create, or authorities',
      EXIT_USAGE,
    );
  }
  const trusted =
    authorities ??
    (await pinnedAuthority(address, pin ?? '').catch((error: Error) => {
      throw new Failure(`the controller at ${address} could not be verified: ${error.message}`);
    }));
  return { ...secureChannel({ authorities: [trusted], certificate: certificate ?? null, key: key ?? null }), metadata };
}

function find(file: string): Credentials | null {
  if (file !== '') return read(file);
  const { WEFT_TOKEN } = process.env;
  if (WEFT_TOKEN !== undefined && WEFT_TOKEN !== '') return { token: WEFT_TOKEN };
  return existsSync(usualFile()) ? read(usualFile()) : null;
}

function read(file: string): Credentials {
  let content: unknown;
  try {
    if ((statSync(file).mode & 0o077) !== 0) throw new Failure(`${file}: others may read it: chmod 600 ${file}`);
    content = parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure(`${file}: ${(error as Error).message}`, EXIT_USAGE);
  }
  const checked = form.safeParse(content);
  if (checked.success) return checked.data;
  throw new Failure(`${file}: ${checked.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ')}`, EXIT_USAGE);
}
