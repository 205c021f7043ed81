// What proves to a controller who is asking, and whom it is told to: a file, or a token in the environment.
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { type ChannelCredentials, type ClientOptions, credentials, Metadata } from '@grpc/grpc-js';
import { parseToken } from '../api/access/names.js';
import { isLocalAddress, pinnedAuthority, secureChannel } from '../api/access/secure-channel.js';
import { parseHostPort } from '../api/host-port.js';
import type { Credentials } from './credentials-file.js';
import { EXIT_USAGE, Failure } from './failure.js';

/** Where a controller is, and how to come to it. */
export interface Target {
  readonly address: string;
  /** Empty: WEFT_TOKEN, else the usual file if it is there. */
  readonly credentialsFile: string;
  readonly isInsecure: boolean;
}

export interface Dialling {
  readonly credentials: ChannelCredentials;
  readonly options: ClientOptions;
  /** What every call carries. */
  readonly metadata: Metadata;
}

function usualFile(): string {
  return join(process.env.XDG_CONFIG_HOME || join(homedir(), '.config'), 'weft', 'credentials.yaml');
}

/** Throws Failure with what is missing. */
export async function dial({ address, credentialsFile, isInsecure }: Target): Promise<Dialling> {
  if (!/^unix:./.test(address) && parseHostPort(address) === null)
    throw new Failure(`--controller ${address}: expected host:port, [v6]:port or unix:/path (WEFT_CONTROLLER says it too)`, EXIT_USAGE);
  const plain = { credentials: credentials.createInsecure(), options: {}, metadata: new Metadata() };
  if (address.startsWith('unix:') || isInsecure) return plain;
  const found = await find(credentialsFile);
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

async function find(file: string): Promise<Credentials | null> {
  if (file !== '') return read(file);
  const { WEFT_TOKEN } = process.env;
  if (WEFT_TOKEN !== undefined && WEFT_TOKEN !== '') return { token: WEFT_TOKEN };
  return existsSync(usualFile()) ? read(usualFile()) : null;
}

/** YAML and its schema load here, not with every command. */
async function read(file: string): Promise<Credentials> {
  return (await import('./credentials-file.js')).readCredentials(file);
}
