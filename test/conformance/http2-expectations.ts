// What must come back over HTTP/2: an error of the connection, of a stream, an answer.
// An error of a stream may be told as an error of the connection (RFC 9113 5.4.2), never the other way round.
import { expect } from '@jest/globals';
import { ACK, type Client, CODES, type Code, DATA, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS } from './http2-wire.js';

export type Expectation = (client: Client) => Promise<void>;

const codesOf = (codes: readonly Code[]): number[] => codes.map((code) => CODES[code]);

/** GOAWAY with one of these, then the end. */
export const connectionError =
  (...codes: Code[]): Expectation =>
  async (client) => {
    const goaway = await client.until(() => client.frames.find(({ type }) => type === GOAWAY));
    expect(codesOf(codes)).toContain(goaway.payload.readUInt32BE(4));
    await client.until(() => client.ended);
  };

export const streamError =
  (stream: number, ...codes: Code[]): Expectation =>
  async (client) => {
    const told = await client.until(() =>
      client.frames.find(({ type, stream: on }) => type === GOAWAY || (type === RST_STREAM && on === stream)),
    );
    expect(codesOf(codes)).toContain(told.payload.readUInt32BE(told.type === GOAWAY ? 4 : 0));
  };

/** A whole answer with a status of the static table: 200, 204 (0x88, 0x89). */
export const answered =
  (stream = 1, body: string | null = 'ok'): Expectation =>
  async (client) => {
    await client.until(() =>
      client.frames.find((each) => each.stream === stream && (each.type === DATA || each.type === HEADERS) && each.flags & END_STREAM),
    );
    const mine = client.frames.filter((each) => each.stream === stream);
    const head = mine.find(({ type }) => type === HEADERS);
    expect(head?.payload[0]).toBe(0x88);
    const data = mine.filter(({ type }) => type === DATA).map(({ payload }) => payload.toString());
    if (body !== null) expect(data.join('')).toBe(body);
  };

export const ended: Expectation = async (client) => void (await client.until(() => client.ended));

export const pongs: Expectation = async (client) => {
  const pong = await client.until(() => client.frames.find(({ type, flags }) => type === PING && flags === ACK));
  expect(pong.payload.toString()).toBe('conforms');
};

/** Both SETTINGS were exchanged and ours were acknowledged. */
export const settled: Expectation = async (client) => {
  const settings = (flags: number) => client.frames.some((each) => each.type === SETTINGS && each.flags === flags);
  await client.until(() => settings(0) && settings(ACK));
};

/** The first DATA of a stream, exactly. */
export const firstData =
  (payload: string, stream = 1): Expectation =>
  async (client) => {
    const first = await client.until(() => client.frames.find((each) => each.type === DATA && each.stream === stream));
    expect(first.payload.toString()).toBe(payload);
  };

/** As many acknowledgements of SETTINGS as that. */
export const acknowledged =
  (count: number): Expectation =>
  async (client) =>
    void (await client.until(() => client.frames.filter(({ type, flags }) => type === SETTINGS && flags === ACK).length >= count));

interface Case {
  readonly name: string;
  /** Bytes to send, and what to wait for between. */
  readonly sends: readonly (Buffer | Expectation)[];
  readonly expects: Expectation;
  /** Sends a preface and SETTINGS of its own. */
  readonly raw?: boolean;
}
export type Sections = Readonly<Record<string, readonly Case[]>>;
export const a = (name: string, sends: Case['sends'], expects: Expectation): Case => ({ name, sends, expects });

export const protocolError = connectionError('PROTOCOL_ERROR');
export const sizeError = connectionError('FRAME_SIZE_ERROR');
export const malformed = streamError(1, 'PROTOCOL_ERROR');
export const compressionError = connectionError('COMPRESSION_ERROR');
export const closedError = connectionError('STREAM_CLOSED');
