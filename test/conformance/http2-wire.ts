// Raw HTTP/2 for conformance tests: frames, blocks of literals, and the client's end of a connection. Knows no rule of the protocol.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

const PATIENCE_MS = 4_000;
export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
export const DATA = 0;
export const HEADERS = 1;
export const PRIORITY = 2;
export const RST_STREAM = 3;
export const SETTINGS = 4;
export const PUSH_PROMISE = 5;
export const PING = 6;
export const GOAWAY = 7;
export const WINDOW_UPDATE = 8;
export const CONTINUATION = 9;
// Flags; END_STREAM is ACK on SETTINGS and PING.
export const END_STREAM = 1;
export const ACK = 1;
export const END_HEADERS = 4;
export const PADDED = 8;
export const WITH_PRIORITY = 32;
export const WHOLE = END_STREAM | END_HEADERS;

export type Code =
  | 'PROTOCOL_ERROR'
  | 'FLOW_CONTROL_ERROR'
  | 'STREAM_CLOSED'
  | 'FRAME_SIZE_ERROR'
  | 'REFUSED_STREAM'
  | 'COMPRESSION_ERROR'
  | 'ENHANCE_YOUR_CALM';
export const CODES: Record<Code, number> = {
  PROTOCOL_ERROR: 1,
  FLOW_CONTROL_ERROR: 3,
  STREAM_CLOSED: 5,
  FRAME_SIZE_ERROR: 6,
  REFUSED_STREAM: 7,
  COMPRESSION_ERROR: 9,
  ENHANCE_YOUR_CALM: 11,
};

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}
export type Fields = readonly (readonly [string, string])[];

export function frame(type: number, flags: number, stream: number, payload: Buffer | number[] | string = []): Buffer {
  const body = Buffer.from(payload as Buffer);
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, body]);
}

export function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32BE(value, 4 * i);
  return bytes;
}

export function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1');
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const length = [127];
  let rest = bytes.length - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) length.push((rest % 128) | 128);
  return Buffer.concat([Buffer.from([...length, rest]), bytes]);
}

/** Literals that no table keeps. */
export const hpack = (fields: Fields): Buffer =>
  Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
export const setting = (id: number, value: number): Buffer => Buffer.concat([Buffer.from([0, id]), u32(value)]);
export const settings = (...values: Buffer[]): Buffer => frame(SETTINGS, 0, 0, Buffer.concat(values));

export const request = (method = 'GET', path = '/'): Fields => [
  [':method', method],
  [':scheme', 'http'],
  [':path', path],
  [':authority', 'a.test'],
];
export const get = (id: number, path = '/', more: Fields = []): Buffer =>
  frame(HEADERS, WHOLE, id, hpack([...request('GET', path), ...more]));
export const post = (id: number, more: Fields = [], path = '/'): Buffer =>
  frame(HEADERS, END_HEADERS, id, hpack([...request('POST', path), ...more]));
export const withBlock = (block: Buffer | number[], id = 1): Buffer => frame(HEADERS, WHOLE, id, block);
export const withFields = (fields: Fields): Buffer => withBlock(hpack(fields));
export const base = hpack(request());
export const windowUpdate = (stream: number, increment: number): Buffer => frame(WINDOW_UPDATE, 0, stream, u32(increment));
export const ping = frame(PING, 0, 0, 'conforms');

/** The client's end of a connection. */
export class Client {
  readonly frames: Frame[] = [];
  ended = false;
  private kept = Buffer.alloc(0);
  private wake = (): void => {};

  private constructor(private readonly socket: Socket) {
    socket.on('data', (bytes: Buffer) => this.take(bytes));
    socket.on('error', () => {});
    socket.on('end', () => this.end());
    socket.on('close', () => this.end());
  }

  static async to(port: number, secure = false): Promise<Client> {
    if (secure) {
      const socket = connectTls({ port, host: '127.0.0.1', servername: 'a.test', ALPNProtocols: ['h2'], rejectUnauthorized: false });
      await once(socket, 'secureConnect');
      if (socket.alpnProtocol !== 'h2') throw new Error(`ALPN says ${String(socket.alpnProtocol)}`);
      return new Client(socket.setNoDelay(true));
    }
    const socket = connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
    await once(socket, 'connect');
    return new Client(socket);
  }

  /** Resolves when the kernel has it. */
  send(bytes: Buffer): Promise<void> {
    return new Promise((resolve) => this.socket.write(bytes, () => resolve()));
  }

  close(): void {
    this.socket.destroy();
  }

  async until<T>(find: () => T | undefined | false): Promise<T> {
    const late = Date.now() + PATIENCE_MS;
    for (;;) {
      const found = find();
      if (found !== undefined && found !== false) return found;
      if (Date.now() >= late) throw new Error(`it did not come; what came: ${this.said()}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, PATIENCE_MS);
        this.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  said(): string {
    const told = this.frames.map(
      ({ type, flags, stream, payload }) => `${type}/${flags}@${stream}:${payload.subarray(0, 24).toString('hex')}`,
    );
    return `${told.join(' ')}${this.ended ? ' end' : ''}`;
  }

  private end(): void {
    this.ended = true;
    this.wake();
  }

  private take(bytes: Buffer): void {
    this.kept = Buffer.concat([this.kept, bytes]);
    while (this.kept.length >= 9) {
      const size = this.kept.readUIntBE(0, 3) + 9;
      if (this.kept.length < size) break;
      const [type, flags, stream] = [this.kept.readUInt8(3), this.kept.readUInt8(4), this.kept.readUInt32BE(5)];
      this.frames.push({ type, flags, stream, payload: this.kept.subarray(9, size) });
      this.kept = this.kept.subarray(size);
    }
    this.wake();
  }
}
