// Sessions that stay with one endpoint (Gateway API, SessionPersistence): which endpoint a request's token names, and the token that names the one chosen.
// A token is sealed (AES-256-GCM): clients can neither read it nor make one. On a worker's thread, for rules with sessions alone.
import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { Descriptor, DescriptorFlag, Header } from '../native/engine.js';
import type { Batch } from './decide/draft.js';
import type { RequestText } from './request-text.js';
import type { DecisionTables } from './tables/decision-tables.js';

export interface SessionSpec {
  /** The header where the token stands, as RequestText has it. */
  readonly subject: number;
  /** Of the cookie, or of the header. */
  readonly name: string;
  readonly isCookie: boolean;
  /** 0: none. */
  readonly absoluteSeconds: number;
  readonly idleSeconds: number;
  /** The cookie outlives the browser's session. */
  readonly isPermanent: boolean;
  /** 32 bytes; empty: the node's own. */
  readonly key: Uint8Array;
}

export const SESSION_KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** Two words of the endpoint, when the session began and when its token was made (Unix time, seconds). */
const CONTENT_BYTES = 16;
const TOKEN_LENGTH = Math.ceil(((NONCE_BYTES + CONTENT_BYTES + TAG_BYTES) * 4) / 3);
const [SPACE, TAB, SEMICOLON, COMMA, EQUALS] = [0x20, 0x09, 0x3b, 0x2c, 0x3d];
/** Of a permanent cookie whose session has no end, seconds: browsers keep none for longer (RFC 6265bis, 400 days). */
const LASTING_SECONDS = 34_560_000;
/** A token that is used is made anew when so much of its idle time is over. */
const RENEWED_AFTER = 0.1;

/** What stands for an endpoint in tokens, whichever node makes or reads them. */
export function sessionEndpoint(address: string, port: number): [number, number] {
  const digest = createHash('sha256').update(`${address} ${port}`).digest();
  return [digest.readInt32LE(0), digest.readInt32LE(4)];
}

/** Of the node, in a file that is nobody else's: tokens outlive the process. Where it can't be written `failed` hears why, and they end with the process. */
export function sessionKeyOf(file: string, failed: (error: unknown) => void): Uint8Array {
  try {
    const known = readFileSync(file);
    if (known.length === SESSION_KEY_BYTES) return known;
  } catch {
    // The first time.
  }
  const made = randomBytes(SESSION_KEY_BYTES);
  try {
    writeFileSync(file, made, { mode: 0o600 });
    chmodSync(file, 0o600);
  } catch (error) {
    failed(error);
  }
  return made;
}

export class Sessions {
  /** What read() found: the endpoint's words. */
  high = 0;
  low = 0;
  private begun = 0;
  private made = 0;

  constructor(private readonly nowSeconds: () => number = () => Math.floor(Date.now() / 1_000)) {}

  /** Whether the request has a token that holds. */
  read(batch: Batch, tables: DecisionTables, d: number, text: RequestText, spec: SessionSpec): boolean {
    if (!text.find(batch, tables, d, spec.subject)) return false;
    const token = spec.isCookie ? cookieNamed(spec.name, text) : textOf(text.bytes, text.at, text.length);
    return token.length === TOKEN_LENGTH && this.open(token, spec);
  }

  private open(token: string, { key, absoluteSeconds, idleSeconds }: SessionSpec): boolean {
    const sealed = Buffer.from(token, 'base64url');
    if (sealed.length !== NONCE_BYTES + CONTENT_BYTES + TAG_BYTES) return false;
    const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES });
    decipher.setAuthTag(sealed.subarray(NONCE_BYTES + CONTENT_BYTES));
    const content = decipher.update(sealed.subarray(NONCE_BYTES, NONCE_BYTES + CONTENT_BYTES));
    try {
      decipher.final();
    } catch {
      return false;
    }
    this.high = content.readInt32LE(0);
    this.low = content.readInt32LE(4);
    this.begun = content.readUInt32LE(8);
    this.made = content.readUInt32LE(12);
    const now = this.nowSeconds();
    return (absoluteSeconds === 0 || now < this.begun + absoluteSeconds) && (idleSeconds === 0 || now < this.made + idleSeconds);
  }

  /** Whether the token that was read, for the endpoint that was chosen, is to be given anew. */
  isOld({ idleSeconds }: SessionSpec): boolean {
    return idleSeconds > 0 && this.nowSeconds() - this.made >= Math.max(1, idleSeconds * RENEWED_AFTER);
  }

  /** Writes the line that gives a token for the endpoint; returns its place as Decision.AnswerLines has it, 0: there was no room. */
  give({ header, texts, descriptors }: Batch, d: number, spec: SessionSpec, high: number, low: number, goesOn: boolean): number {
    const now = this.nowSeconds();
    const begun = goesOn ? this.begun : now;
    const content = Buffer.alloc(CONTENT_BYTES);
    content.writeInt32LE(high, 0);
    content.writeInt32LE(low, 4);
    content.writeUInt32LE(begun, 8);
    content.writeUInt32LE(now, 12);
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', spec.key, nonce, { authTagLength: TAG_BYTES });
    const token = Buffer.concat([nonce, cipher.update(content), cipher.final(), cipher.getAuthTag()]).toString('base64url');
    const isTls = (descriptors[d + Descriptor.Flags]! & DescriptorFlag.Tls) !== 0;
    const left = spec.absoluteSeconds === 0 ? LASTING_SECONDS : begun + spec.absoluteSeconds - now;
    const age = spec.isPermanent ? `; Max-Age=${left}` : '';
    const line = Buffer.from(
      spec.isCookie
        ? `set-cookie: ${spec.name}=${token}; Path=/; HttpOnly${isTls ? '; Secure' : ''}${age}\r\n`
        : `${spec.name}: ${token}\r\n`,
    );
    const at = header[Header.TextBytes]!;
    if (at + line.length > texts.length - 1) return 0;
    texts.set(line, at);
    header[Header.TextBytes] = at + line.length;
    return (at << 16) | line.length;
  }
}

function textOf(bytes: Uint8Array, at: number, length: number): string {
  return length > TOKEN_LENGTH ? '' : Buffer.from(bytes.buffer, bytes.byteOffset + at, length).toString('latin1');
}

/** Of the first cookie of that name; empty: there is none. */
function cookieNamed(name: string, { bytes, at, length }: RequestText): string {
  const end = at + length;
  for (let i = at; i < end; i++) {
    while (i < end && (bytes[i] === SPACE || bytes[i] === TAB)) i++;
    let same = 0;
    while (same < name.length && i + same < end && bytes[i + same] === name.charCodeAt(same)) same++;
    const isNamed = same === name.length && bytes[i + same] === EQUALS && i + same < end;
    const value = i + name.length + 1;
    while (i < end && bytes[i] !== SEMICOLON && bytes[i] !== COMMA) i++;
    if (isNamed) return textOf(bytes, value, i - value);
  }
  return '';
}
