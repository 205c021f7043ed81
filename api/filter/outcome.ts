// What a filter's hook returned, as it comes out of its process → what the proxy is told to do. Bytes of a stranger's: everything is
// checked, bounded, and copied.

/** What is called. */
export const enum Hook {
  Request = 0,
  Response = 1,
}

/** That a Filter may read, and what it writes in its place. */
export const MAX_BODY_BYTES = 1024 * 1024;
/** Of a direct response. */
export const MAX_REPLY_BYTES = 64 * 1024;
const MAX_HEADERS = 64;
const MAX_HEADER_BYTES = 16 * 1024;
const MAX_TARGET_BYTES = 8 * 1024;
const TOKEN = /^[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,256}$/;
/** Bytes of the field values of RFC 9110 5.5, one a character. */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const VALUE_BYTES = /^[\0-\xff]*$/;
const PATH = /^\/[\x21-\x7e\x80-\xff]*$/;
const HOST = /^[A-Za-z0-9._~:[\]-]{1,255}$/;

export type Outcome =
  | { readonly kind: 'continue'; readonly changes: string; readonly body: Buffer | null; readonly reroutes: boolean }
  | { readonly kind: 'respond'; readonly status: number; readonly lines: string; readonly body: Buffer; readonly grpcStatus: number }
  | { readonly kind: 'failed'; readonly why: FilterFailure; readonly detail: string };

/** Also the label of a metric. */
export const FILTER_FAILURES = ['threw', 'invalid', 'timed_out', 'not_running', 'overflow', 'body_too_large'] as const;
export type FilterFailure = (typeof FILTER_FAILURES)[number];

export const failed = (why: FilterFailure, detail: string): Outcome => ({ kind: 'failed', why, detail });

class Invalid extends Error {}

/** `changes` and `lines` are as Engine.changeDeferred() reads them. Never throws. */
export function readOutcome(json: string, hook: Hook): Outcome {
  try {
    const { result, error } = objectOf(JSON.parse(json), 'an outcome') as { result?: unknown; error?: unknown };
    if (error !== undefined) return failed('threw', String(error).slice(0, 1024));
    if (result === undefined || result === null) return { kind: 'continue', changes: '', body: null, reroutes: false };
    return read(objectOf(result, 'what the hook returned'), hook);
  } catch (error) {
    return failed('invalid', error instanceof Invalid ? error.message : 'the filter returned what is no outcome');
  }
}

type Fields = Readonly<Record<string, unknown>>;

/** What only the other hook may return. */
const ALIEN = { [Hook.Request]: ['status'], [Hook.Response]: ['path', 'host', 'reroute'] } as const;

function read(result: Fields, hook: Hook): Outcome {
  const { headers, path, host, status, body, reroute, respond } = result;
  if (respond !== undefined) return readReply(objectOf(respond, 'respond'));
  const alien = ALIEN[hook].find((name) => result[name] !== undefined);
  if (alien !== undefined) throw new Invalid(`${alien}: not for ${hook === Hook.Request ? 'a request' : 'an answer'} to change`);
  const lines = headers === undefined ? [] : headerLines(objectOf(headers, 'headers'));
  if (status !== undefined) lines.push(`:status: ${statusOf(status, 'status')}`);
  if (path !== undefined) lines.push(`:path: ${textOf(path, PATH, MAX_TARGET_BYTES, 'path', 'a path that begins with "/"')}`);
  if (host !== undefined) lines.push(`:authority: ${textOf(host, HOST, 255, 'host', 'a host name')}`);
  return {
    kind: 'continue',
    changes: join(lines),
    body: body === undefined ? null : bodyOf(body, 'body', MAX_BODY_BYTES),
    reroutes: reroute === true,
  };
}

function readReply({ status, headers, body, grpcStatus }: Fields): Outcome {
  if (grpcStatus !== undefined && (typeof grpcStatus !== 'number' || !Number.isInteger(grpcStatus) || grpcStatus < 0 || grpcStatus > 16))
    throw new Invalid(`respond.grpcStatus: expected 0 to 16, found ${describe(grpcStatus)}`);
  const bytes = bodyOf(body ?? '', 'respond.body', MAX_REPLY_BYTES);
  const lines = headers === undefined ? [] : headerLines({ set: headers });
  return {
    kind: 'respond',
    status: statusOf(status, 'respond.status'),
    lines: join(lines),
    body: bytes,
    grpcStatus: (grpcStatus as number | undefined) ?? -1,
  };
}

/** A text, or `{latin1}`, a character a byte. */
function bodyOf(body: unknown, what: string, max: number): Buffer {
  const { latin1 } = typeof body === 'string' ? { latin1: undefined } : objectOf(body, what);
  if (typeof body !== 'string' && (typeof latin1 !== 'string' || !VALUE_BYTES.test(latin1)))
    throw new Invalid(`${what}: expected a string or {latin1}, found ${describe(latin1)}`);
  const bytes = typeof latin1 === 'string' ? Buffer.from(latin1, 'latin1') : Buffer.from(body as string);
  if (bytes.length > max) throw new Invalid(`${what}: ${bytes.length} bytes, at most ${max}`);
  return bytes;
}

function statusOf(status: unknown, what: string): number {
  if (typeof status === 'number' && Number.isInteger(status) && status >= 200 && status <= 599) return status;
  throw new Invalid(`${what}: expected 200 to 599, found ${describe(status)}`);
}

function headerLines({ remove, set, add }: Fields): string[] {
  const lines: string[] = [];
  if (remove !== undefined) for (const name of listOf(remove, 'headers.remove')) lines.push(`-${nameOf(name, 'headers.remove')}`);
  for (const [sign, fields, what] of [['=', set, 'headers.set'] as const, ['+', add, 'headers.add'] as const]) {
    if (fields === undefined) continue;
    for (const [name, value] of Object.entries(objectOf(fields, what))) {
      const values = sign === '+' && Array.isArray(value) ? value : [value];
      for (const each of values)
        lines.push(`${sign}${nameOf(name, what)}: ${textOf(each, VALUE, MAX_HEADER_BYTES, `${what}.${name}`, 'the value of a header')}`);
    }
  }
  if (lines.length > MAX_HEADERS) throw new Invalid(`headers: ${lines.length} changes, at most ${MAX_HEADERS}`);
  return lines;
}

function join(lines: readonly string[]): string {
  const text = lines.map((line) => `${line}\n`).join('');
  if (text.length > MAX_HEADER_BYTES) throw new Invalid(`headers: ${text.length} bytes, at most ${MAX_HEADER_BYTES}`);
  return text;
}

function nameOf(name: unknown, what: string): string {
  return textOf(name, TOKEN, 256, what, 'the name of a header');
}

function textOf(value: unknown, pattern: RegExp, max: number, what: string, expected: string): string {
  if (typeof value === 'string' && value.length <= max && pattern.test(value)) return value;
  throw new Invalid(`${what}: expected ${expected}, found ${describe(value)}`);
}

function objectOf(value: unknown, what: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw new Invalid(`${what}: expected an object, found ${describe(value)}`);
}

function listOf(value: unknown, what: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw new Invalid(`${what}: expected a list, found ${describe(value)}`);
}

function describe(value: unknown): string {
  if (typeof value !== 'string')
    return value === null ? 'null' : Array.isArray(value) ? 'a list' : `${typeof value}${typeof value === 'number' ? ` ${value}` : ''}`;
  return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}…` : value);
}
