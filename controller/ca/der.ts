// DER (ITU-T X.690), as much of it as X.509 needs: values to bytes, and the children of a value we trust. Knows no certificate.

const SEQUENCE = 0x30;
const SET = 0x31;

/** One value: tag, length, contents. */
export function der(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(contents);
  if (body.length < 0x80) return Buffer.concat([Buffer.of(tag, body.length), body]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length);
  const significant = length.subarray(length.findIndex((byte) => byte !== 0));
  return Buffer.concat([Buffer.of(tag, 0x80 | significant.length), significant, body]);
}

export const sequence = (...items: readonly Uint8Array[]): Buffer => der(SEQUENCE, ...items);
export const set = (...items: readonly Uint8Array[]): Buffer => der(SET, ...items);
export const explicit = (number: number, ...items: readonly Uint8Array[]): Buffer => der(0xa0 | number, ...items);
export const implicit = (number: number, bytes: Uint8Array): Buffer => der(0x80 | number, bytes);
export const octets = (bytes: Uint8Array): Buffer => der(0x04, bytes);
export const utf8 = (text: string): Buffer => der(0x0c, Buffer.from(text));
export const TRUE = der(0x01, Buffer.of(0xff));
export const NULL = der(0x05);

/** Unsigned, big-endian; leading zeros are dropped, and one is put before a high bit. */
export function integer(bytes: Uint8Array): Buffer {
  const from = bytes.findIndex((byte) => byte !== 0);
  const significant = from < 0 ? Buffer.of(0) : bytes.subarray(from);
  return der(0x02, ...((significant[0] ?? 0) >= 0x80 ? [Buffer.of(0), significant] : [significant]));
}

/** `unused`: bits of the last byte. */
export const bits = (bytes: Uint8Array, unused = 0): Buffer => der(0x03, Buffer.of(unused), bytes);

/** "1.2.840.10045.4.3.2" */
export function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  return der(0x06, Buffer.from([first * 40 + second, ...rest].flatMap(base128)));
}

function base128(value: number): number[] {
  const digits = [value & 0x7f];
  for (let left = Math.floor(value / 128); left > 0; left = Math.floor(left / 128)) digits.unshift((left & 0x7f) | 0x80);
  return digits;
}

/** UTCTime before 2050, GeneralizedTime from then on (RFC 5280, 4.1.2.5). Whole seconds. */
export function time(ms: number): Buffer {
  const text = `${new Date(ms)
    .toISOString()
    .replace(/\.\d+Z$/, '')
    .replace(/[-:T]/g, '')}Z`;
  return text < '2050' ? der(0x17, Buffer.from(text.slice(2))) : der(0x18, Buffer.from(text));
}

export interface DerValue {
  readonly tag: number;
  /** With tag and length. */
  readonly whole: Buffer;
  readonly body: Buffer;
}

/** The values that follow each other in `bytes`. Throws where they don't fit. */
export function children(bytes: Buffer): DerValue[] {
  const values: DerValue[] = [];
  for (let at = 0; at < bytes.length; ) {
    const tag = bytes[at] ?? 0;
    const short = bytes[at + 1] ?? 0x80;
    const more = short < 0x80 ? 0 : short & 0x7f;
    if (short === 0x80 || more > 4) throw new Error('not DER: a length of more than four bytes');
    const begin = at + 2 + more;
    const length = more === 0 ? short : bytes.readUIntBE(at + 2, more);
    if (begin + length > bytes.length) throw new Error('not DER: a value ends behind its container');
    values.push({ tag, whole: bytes.subarray(at, begin + length), body: bytes.subarray(begin, begin + length) });
    at = begin + length;
  }
  return values;
}
