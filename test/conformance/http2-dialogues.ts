// RFC 9113 and RFC 7541 as conversations: what is sent waits for what came. With http2-cases.ts every case of h2spec has its like
// (generic 1-5, http2 3.5-8.2, hpack 2.3-6.3), played as h2spec plays it: /page has a body that its windows can cut.
import {
  a,
  acknowledged,
  answered,
  closedError,
  compressionError,
  ended,
  firstData,
  malformed,
  pongs,
  protocolError,
  type Sections,
  sizeError,
  streamError,
} from './http2-expectations.js';
import {
  CONTINUATION,
  DATA,
  END_HEADERS,
  END_STREAM,
  frame,
  GOAWAY,
  get,
  HEADERS,
  hpack,
  PADDED,
  PING,
  PREFACE,
  PRIORITY,
  ping,
  post,
  RST_STREAM,
  request,
  setting,
  settings,
  u32,
  WHOLE,
  WINDOW_UPDATE,
  WITH_PRIORITY,
  windowUpdate,
  withBlock,
} from './http2-wire.js';

const PAGE = 'a page';
const page = (id = 1): Buffer => get(id, '/page');
const base = hpack(request());
const closedWindow = settings(setting(4, 0));
const reset = (id = 1): Buffer => frame(RST_STREAM, 0, id, u32(8));
const priority = (id: number, dependency = 0, weight = 255): Buffer =>
  frame(PRIORITY, 0, id, Buffer.concat([u32(dependency), Buffer.from([weight])]));
/** One field of 4,000 bytes. */
const dummy = hpack([['x-dummy0', 'x'.repeat(4_000)]]);
const more = (block: Buffer, flags = 0, id = 1): Buffer => frame(CONTINUATION, flags, id, block);
const behind = (...bytes: number[]): Buffer => withBlock(Buffer.concat([base, Buffer.from(bytes)]));
const answeredPage = answered(1, PAGE);
const HUFFMAN_USER_AGENT = [0x87, 0xb5, 0x05, 0xb1, 0x61, 0xcc, 0x5a, 0x93];
const HUFFMAN_H2SPEC = [0x84, 0x9c, 0x48, 0xac, 0xa4];
const HUFFMAN_X_TEST = [0x85, 0xf2, 0xb2, 0x4a, 0x84, 0xff];
const literal = (value: string): number[] => [value.length, ...Buffer.from(value)];

export const DIALOGUES: Sections = {
  'a peer that behaves': [
    a('PRIORITY on an idle stream', [priority(1), ping], pongs),
    a('WINDOW_UPDATE on a half-closed stream opens its window', [closedWindow, page(), windowUpdate(1, 1)], firstData('a')),
    a('PRIORITY on a half-closed stream', [closedWindow, page(), priority(1), windowUpdate(1, 1)], firstData('a')),
    a('RST_STREAM on a half-closed stream', [page(), reset(), ping], pongs),
    a('PRIORITY on a closed stream', [page(), answeredPage, priority(1), ping], pongs),
    a('several DATA', [post(1, [], '/echo'), frame(DATA, 0, 1, 'te'), frame(DATA, END_STREAM, 1, 'st')], answered(1, 'test')),
    a('PRIORITY of weight 1', [priority(1, 0, 0), get(1)], answered()),
    a('PRIORITY of weight 256', [priority(1, 0, 255), get(1)], answered()),
    a('PRIORITY with a dependency', [priority(1), priority(3, 1), get(3)], answered(3)),
    a('PRIORITY that is exclusive', [priority(1), priority(3, 0x80000001), get(3)], answered(3)),
    a('PRIORITY on an idle stream, then HEADERS on a lower one', [priority(3), get(1)], answered()),
    a(
      'HEADERS with an exclusive dependency',
      [frame(HEADERS, WHOLE | WITH_PRIORITY, 1, Buffer.concat([u32(0x80000003), Buffer.from([255]), base]))],
      answered(),
    ),
    ...(
      [
        [1, 100],
        [2, 0],
        [2, 1],
        [3, 100],
        [4, 100],
        [5, 16_384],
        [5, 2 ** 24 - 1],
        [6, 100],
        [8, 0],
        [8, 1],
      ] as const
    ).map(([id, value]) => a(`SETTINGS ${id} of ${value}`, [settings(setting(id, value)), acknowledged(2), ping], pongs)),
    a('GOAWAY without a stream ends the connection', [frame(GOAWAY, 0, 0, Buffer.concat([u32(0, 0), Buffer.from('text')]))], ended),
    a('WINDOW_UPDATE on the connection', [windowUpdate(0, 1), ping], pongs),
    a('WINDOW_UPDATE on a stream', [page(), windowUpdate(1, 1)], answeredPage),
    a('one CONTINUATION', [frame(HEADERS, END_STREAM, 1, base), more(dummy, END_HEADERS)], answered()),
    a('several CONTINUATION', [frame(HEADERS, END_STREAM, 1, base), more(dummy), more(dummy, END_HEADERS)], answered()),
    a('CONTINUATION that are empty', [frame(HEADERS, END_STREAM, 1), more(base), more(Buffer.alloc(0), END_HEADERS)], answered()),
    a('HEAD', [frame(HEADERS, WHOLE, 1, hpack(request('HEAD', '/page')))], answered(1, '')),
    a('POST', [post(1, [], '/echo'), frame(DATA, END_STREAM, 1, 'test')], answered(1, 'test')),
    a(
      'POST with trailers that it announced',
      [post(1, [['trailer', 'x-test']], '/echo'), frame(DATA, 0, 1, 'test'), frame(HEADERS, WHOLE, 1, hpack([['x-test', 'ok']]))],
      answered(1, 'test'),
    ),
  ],
  'HPACK, every representation': [
    a('indexed, of the static table, with an empty value', [behind(0xba)], answered()),
    a(
      'indexed, of the dynamic table',
      [behind(0x40, ...literal('x-test'), ...literal('h2spec')), answered(), withBlock(Buffer.concat([base, Buffer.from([0xbe])]), 3)],
      answered(3),
    ),
    ...[0x40, 0x00, 0x10].flatMap((kind) => [
      a(
        `${kind}: indexed name`,
        [behind(kind === 0x40 ? 0x7a : kind | 0x0f, ...(kind === 0x40 ? [] : [58 - 15]), ...literal('h2spec'))],
        answered(),
      ),
      a(`${kind}: known name`, [behind(kind, ...literal('user-agent'), ...literal('h2spec'))], answered()),
      a(`${kind}: known name, Huffman`, [behind(kind, ...HUFFMAN_USER_AGENT, ...HUFFMAN_H2SPEC)], answered()),
      a(`${kind}: new name`, [behind(kind, ...literal('x-test'), ...literal('h2spec'))], answered()),
      a(`${kind}: new name, Huffman`, [behind(kind, ...HUFFMAN_X_TEST, ...HUFFMAN_H2SPEC)], answered()),
    ]),
    a('a size update', [withBlock(Buffer.concat([Buffer.from([0x20]), base]))], answered()),
    a(
      '4.2: a size update behind a field, after the ACK of a smaller table',
      [settings(setting(1, 100)), acknowledged(2), behind(0x20)],
      compressionError,
    ),
  ],
  'RFC 9113, as it goes on': [
    { ...a('3.4: an answer to a preface begins with SETTINGS', [PREFACE, settings()], acknowledged(1)), raw: true },
    { ...a('3.4: no preface at all ends', [Buffer.from('INVALID CONNECTION PREFACE\r\n\r\n')], ended), raw: true },
    a('5.1: closed after the answer: DATA', [page(), answeredPage, frame(DATA, END_STREAM, 1, 'test')], closedError),
    a('5.1: closed after the answer: HEADERS', [page(), answeredPage, page()], closedError),
    a('5.1: closed after the answer: CONTINUATION', [page(), answeredPage, more(dummy, END_HEADERS)], protocolError),
    a('5.1: closed after the answer: WINDOW_UPDATE and RST_STREAM pass', [page(), answeredPage, windowUpdate(1, 1), reset(), ping], pongs),
    a('5.1.1: HEADERS again on a half-closed stream', [page(5), page(5)], streamError(5, 'STREAM_CLOSED')),
    a('5.1.1: a lower id after the answer', [page(5), answered(5, PAGE), page(3)], protocolError),
    a(
      '5.1.2: a stream too many, none of which is read',
      [closedWindow, ...Array.from({ length: 129 }, (_, i) => page(2 * i + 1))],
      streamError(257, 'PROTOCOL_ERROR', 'REFUSED_STREAM'),
    ),
    a(
      '6.1: DATA that is padded beyond its end',
      [post(1, [], '/never'), frame(DATA, END_STREAM | PADDED, 1, [6, 0x74, 0, 0, 0])],
      protocolError,
    ),
    a('6.4: RST_STREAM of 5 bytes', [post(1, [], '/never'), frame(RST_STREAM, 0, 1, [0, 0, 0, 8, 0])], sizeError),
    a('6.5.3: several INITIAL_WINDOW_SIZE', [settings(setting(4, 100), setting(4, 1)), acknowledged(2), page()], firstData('a')),
    a('6.9.1: a window of one byte', [settings(setting(4, 1)), acknowledged(2), page()], firstData('a')),
    a(
      '6.9.2: INITIAL_WINDOW_SIZE that changes behind HEADERS',
      [closedWindow, acknowledged(2), page(), settings(setting(4, 1)), acknowledged(3)],
      firstData('a'),
    ),
    a(
      '6.9.2: a window below 0',
      [settings(setting(4, 3)), acknowledged(2), page(), firstData('a p'), settings(setting(4, 2)), acknowledged(3), windowUpdate(1, 2)],
      async (client) => {
        await client.until(() => client.frames.filter(({ type }) => type === DATA).length === 2);
        const [, second] = client.frames.filter(({ type }) => type === DATA);
        if (second?.payload.length !== 1) throw new Error(`a window of 1 let ${second?.payload.length} bytes pass`);
      },
    ),
    a(
      '6.10: CONTINUATION, then DATA',
      [frame(HEADERS, 0, 1, hpack(request('POST'))), more(dummy), frame(DATA, END_STREAM, 1, 'test')],
      protocolError,
    ),
    a(
      '6.10: CONTINUATION behind CONTINUATION with END_HEADERS',
      [frame(HEADERS, END_STREAM, 1, hpack(request('GET', '/never'))), more(dummy, END_HEADERS), more(dummy, END_HEADERS)],
      protocolError,
    ),
    a(
      '6.10: DATA within a block',
      [frame(HEADERS, 0, 1, hpack(request('POST'))), frame(DATA, END_STREAM, 1, 'test'), more(dummy), more(dummy, END_HEADERS, 0)],
      protocolError,
    ),
    a('6.9: WINDOW_UPDATE of 5 bytes on a stream', [page(), frame(WINDOW_UPDATE, 0, 1, [0, 0, 0, 1, 0])], sizeError),
    a('6.7: PING of 9 bytes', [frame(PING, 0, 0, 'ninebytes')], sizeError),
    a(
      '8.1: trailers without END_STREAM',
      [post(1), frame(DATA, 0, 1, 'x'), frame(HEADERS, END_HEADERS, 1, hpack([['x', 'y']]))],
      malformed,
    ),
  ],
};
