// HTTP to one Kubernetes API server: requests whose answers are read whole, and watches that are read line by line. Owns connections, credentials
// on them, times and bounds. Doesn't retry, but for a token that may have been replaced; knows no kinds.
import type { Agent, ClientRequest, IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { heldTo } from '../../../api/access/server-identity.js';
import { messageOf } from '../../../api/message-of.js';
import { isUnchecked, textOf } from '../../../api/resources/schema.js';
import { isTls, JSON_HEADERS, OK, openPool, readText, send, TooLarge } from '../http.js';
import type { ClusterAccess, Credentials } from './cluster-access.js';

/** Why there is no answer of the kind that was asked for. */
export interface ApiFailure {
  readonly kind: 'failure';
  /** 0: no answer at all. */
  readonly status: number;
  /** For an operator: what the server or the connection said. */
  readonly message: string;
  /** What the server asks to wait; 0: nothing. */
  readonly retryAfterMs: number;
}

export type ApiAnswer = { readonly kind: 'ok'; readonly value: unknown } | ApiFailure;

export interface RequestOptions {
  /** Of everything, to the last byte. */
  readonly deadlineMs: number;
  readonly maxBytes: number;
  readonly signal: AbortSignal;
}

export interface Body {
  readonly contentType: 'application/merge-patch+json' | 'application/json';
  readonly body: unknown;
}

export interface LineReader {
  /** The server has accepted. */
  onOpen(): void;
  /** False: no more are wanted, and the connection is closed. */
  onLine(line: string): boolean;
}

/** A line longer than this ends the watch: an object of etcd's 1.5 MiB in JSON, with room. */
const MAX_LINE_BYTES = 16 * 1_048_576;
const MAX_MESSAGE_BYTES = 65_536;
const CONNECT_DEADLINE_MS = 10_000;
/** A peer that is gone without a word is noticed by the kernel. */
const TCP_KEEPALIVE_MS = 15_000;
const CREATED = 201;
const UNAUTHORIZED = 401;
/** Also how an answer above the caller's bound is told. */
export const TOO_LARGE = 413;

export class ApiClient {
  readonly server: string;
  readonly #access: ClusterAccess;
  /** Those that the open pool was made with. */
  #credentials: Credentials | null = null;
  #pool: Agent | null = null;

  constructor(access: ClusterAccess) {
    this.#access = access;
    this.server = access.server;
  }

  get(path: string, options: RequestOptions): Promise<ApiAnswer> {
    return this.#whole('GET', path, null, options);
  }

  patch(path: string, patch: Body, options: RequestOptions): Promise<ApiAnswer> {
    return this.#whole('PATCH', path, patch, options);
  }

  post(path: string, body: unknown, options: RequestOptions): Promise<ApiAnswer> {
    return this.#whole('POST', path, { contentType: 'application/json', body }, options);
  }

  /**
   * Resolves when the server or the reader ends it, with null, or with what went wrong. `openMs` is the longest it may take, from the request to its end.
   */
  watch(path: string, reader: LineReader, openMs: number, signal: AbortSignal): Promise<ApiFailure | null> {
    return within(openMs, signal, async (limit) => {
      const answer = await this.#send('GET', path, null, limit.signal);
      if ('kind' in answer) return answer;
      if (answer.statusCode !== OK) return readFailure(answer);
      try {
        reader.onOpen();
        await eachLine(answer, reader.onLine);
        return null;
      } catch (error) {
        return noAnswer(limit.isOver() ? `no end within ${openMs} ms` : messageOf(error));
      }
    });
  }

  /** Idempotent; what is under way fails. */
  close(): void {
    this.#pool?.destroy();
  }

  #whole(method: string, path: string, content: Body | null, { deadlineMs, maxBytes, signal }: RequestOptions): Promise<ApiAnswer> {
    return within(deadlineMs, signal, async (limit) => {
      const answer = await this.#send(method, path, content, limit.signal);
      if ('kind' in answer) return limit.isOver() ? noAnswer(`no answer within ${deadlineMs} ms`) : answer;
      if (answer.statusCode !== OK && answer.statusCode !== CREATED) return readFailure(answer);
      try {
        return { kind: 'ok', value: JSON.parse(await readText(answer, maxBytes)) as unknown };
      } catch (error) {
        if (error instanceof TooLarge) return { ...noAnswer(error.message), status: TOO_LARGE };
        return noAnswer(limit.isOver() ? `no whole answer within ${deadlineMs} ms` : messageOf(error));
      }
    });
  }

  /** The head of the answer; once more with credentials read anew if they were refused. */
  async #send(method: string, path: string, content: Body | null, signal: AbortSignal): Promise<IncomingMessage | ApiFailure> {
    for (const isFresh of [false, true]) {
      const credentials = this.#access.credentials(isFresh);
      try {
        const answer = await this.#once(method, path, content, credentials, signal);
        if (answer.statusCode !== UNAUTHORIZED || isFresh) return answer;
        answer.resume();
      } catch (error) {
        return noAnswer(messageOf(error));
      }
    }
    throw new Error('unreachable');
  }

  #once(method: string, path: string, content: Body | null, credentials: Credentials, signal: AbortSignal): Promise<IncomingMessage> {
    const body = content === null ? null : Buffer.from(JSON.stringify(content.body));
    const headers: Record<string, string> = { ...JSON_HEADERS };
    if (credentials.token !== null) headers.authorization = `Bearer ${credentials.token}`;
    if (content !== null) headers['content-type'] = content.contentType;
    if (body !== null) headers['content-length'] = String(body.length);
    return send(`${this.server}${path}`, { method, headers, signal, agent: this.#poolFor(credentials) }, body, (request) =>
      limitConnecting(request, isTls(this.server)),
    );
  }

  #poolFor(credentials: Credentials): Agent {
    const known = this.#credentials;
    const isSame = known !== null && (['ca', 'cert', 'key'] as const).every((field) => known[field] === credentials[field]);
    if (this.#pool !== null && isSame) return this.#pool;
    // Requests under way on the old one go on; its idle connections close by themselves.
    this.#credentials = credentials;
    const { ca, cert, key } = credentials;
    const { serverName, isVerified } = this.#access;
    this.#pool = openPool(this.server, {
      timeout: 0,
      rejectUnauthorized: isVerified,
      ...(ca === null ? {} : { ca }),
      ...(cert === null || key === null ? {} : { cert, key }),
      ...(serverName === null ? {} : isIP(serverName) === 0 ? { servername: serverName } : heldTo(serverName)),
    });
    return this.#pool;
  }
}

/** Not while the answer is awaited: a watch of a quiet kind has none for long. */
function limitConnecting(request: ClientRequest, hasTls: boolean): void {
  const connecting = setTimeout(() => request.destroy(new Error(`no connection within ${CONNECT_DEADLINE_MS} ms`)), CONNECT_DEADLINE_MS);
  const connected = (): void => clearTimeout(connecting);
  request.on('socket', (socket) => {
    socket.setKeepAlive(true, TCP_KEEPALIVE_MS);
    if (!socket.connecting) connected();
    else socket.once(hasTls ? 'secureConnect' : 'connect', connected);
  });
  request.on('close', connected);
}

interface Limit {
  readonly signal: AbortSignal;
  /** Whether it was the time that ended it. */
  isOver(): boolean;
}

/** Not by AbortSignal.any: it keeps something of every request for as long as the caller's signal lives. */
async function within<Result>(ms: number, signal: AbortSignal, action: (limit: Limit) => Promise<Result>): Promise<Result> {
  const both = new AbortController();
  let isOver = false;
  const abort = (): void => both.abort();
  const timer = setTimeout(() => {
    isOver = true;
    abort();
  }, ms);
  signal.addEventListener('abort', abort);
  if (signal.aborted) abort();
  try {
    return await action({ signal: both.signal, isOver: () => isOver });
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
  }
}

/** Lines end with \n; a last one without is half an event, and dropped. */
async function eachLine(answer: IncomingMessage, onLine: (line: string) => boolean): Promise<void> {
  let parts: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    let from = 0;
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, from)) {
      parts.push(chunk.subarray(from, end));
      const line = Buffer.concat(parts).toString('utf8');
      parts = [];
      bytes = 0;
      from = end + 1;
      if (line !== '' && !onLine(line)) return;
    }
    if (from === chunk.length) continue;
    parts.push(chunk.subarray(from));
    bytes += chunk.length - from;
    if (bytes > MAX_LINE_BYTES) throw new Error(`an event of more than ${MAX_LINE_BYTES} bytes`);
  }
}

async function readFailure(answer: IncomingMessage): Promise<ApiFailure> {
  const code = answer.statusCode ?? 0;
  const seconds = Number(answer.headers['retry-after'] ?? 0);
  const retryAfterMs = Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 60) * 1_000 : 0;
  const said = await readText(answer, MAX_MESSAGE_BYTES).catch(() => '');
  return { kind: 'failure', status: code, message: `${code} ${statusMessage(said) ?? answer.statusMessage ?? ''}`.trim(), retryAfterMs };
}

/** Of a Kubernetes Status object. */
function statusMessage(text: string): string | null {
  try {
    const status: unknown = JSON.parse(text);
    return isUnchecked(status) ? textOf(status, 'message') : null;
  } catch {
    return null;
  }
}

function noAnswer(message: string): ApiFailure {
  return { kind: 'failure', status: 0, message, retryAfterMs: 0 };
}
