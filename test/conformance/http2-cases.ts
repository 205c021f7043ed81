// RFC 9113 and RFC 7541 from a client's side, section by section: what is sent in one go, and what must come back.
import { expect } from '@jest/globals';
import {
  a,
  acknowledged,
  answered,
  closedError,
  compressionError,
  connectionError,
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
  ACK,
  base,
  CONTINUATION,
  DATA,
  END_HEADERS,
  END_STREAM,
  type Fields,
  frame,
  GOAWAY,
  get,
  HEADERS,
  hpack,
  PADDED,
  PING,
  PREFACE,
  PRIORITY,
  PUSH_PROMISE,
  ping,
  post,
  RST_STREAM,
  request,
  SETTINGS,
  setting,
  settings,
  text,
  u32,
  WHOLE,
  WINDOW_UPDATE,
  WITH_PRIORITY,
  windowUpdate,
  withBlock,
  withFields,
} from './http2-wire.js';

const without = (name: string): Fields => request().filter(([each]) => each !== name);
/** Long enough that an answer does not come between. */
const hanging = (id = 1): Buffer => get(id, '/never');

export const SECTIONS: Sections = {
  'RFC 9113 3.4': [
    a('a request after the preface is answered', [get(1)], answered()),
    { ...a('SETTINGS must come first', [PREFACE, ping], protocolError), raw: true },
    { ...a('an ACK is not the first SETTINGS', [PREFACE, frame(SETTINGS, ACK, 0)], protocolError), raw: true },
    { ...a('what only begins like a preface ends', [Buffer.from('PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n'), settings()], ended), raw: true },
  ],
  'RFC 9113 4.1': [
    a('frames of unknown types are ignored', [frame(0xbb, 0xff, 0, 'x'), frame(0xbb, 0, 1, 'x'), ping], pongs),
    a('undefined flags are ignored', [frame(PING, 0xfe, 0, 'conforms')], pongs),
    a('the reserved bit is ignored', [frame(PING, 0, 0x80000000, 'conforms')], pongs),
  ],
  'RFC 9113 4.2': [
    a('DATA of 16,384 bytes', [post(1), frame(DATA, END_STREAM, 1, Buffer.alloc(16_384))], answered()),
    a('DATA above SETTINGS_MAX_FRAME_SIZE', [post(1), frame(DATA, END_STREAM, 1, Buffer.alloc(16_385))], sizeError),
    a('HEADERS above SETTINGS_MAX_FRAME_SIZE', [frame(HEADERS, WHOLE, 1, Buffer.alloc(16_385))], sizeError),
  ],
  'RFC 9113 4.3': [
    a('a block that is no HPACK', [withBlock([0x00, 0x05, 0x61])], compressionError),
    a(
      'a block that is interrupted by another frame',
      [frame(HEADERS, END_STREAM, 1, base), frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1])],
      protocolError,
    ),
    a('a block that is interrupted by another stream', [frame(HEADERS, END_STREAM, 1, base), get(3)], protocolError),
    a('a block that is interrupted by an unknown type', [frame(HEADERS, END_STREAM, 1, base), frame(0xbb, 0, 1)], protocolError),
  ],
  'RFC 9113 5.1': [
    a('idle: DATA', [frame(DATA, END_STREAM, 1, 'x')], protocolError),
    a('idle: RST_STREAM', [frame(RST_STREAM, 0, 1, u32(8))], protocolError),
    a('idle: WINDOW_UPDATE', [windowUpdate(1, 100)], protocolError),
    a('idle: CONTINUATION', [frame(CONTINUATION, END_HEADERS, 1, base)], protocolError),
    a('half-closed (remote): DATA', [hanging(), frame(DATA, END_STREAM, 1, 'x')], streamError(1, 'STREAM_CLOSED')),
    a('half-closed (remote): HEADERS', [hanging(), get(1)], streamError(1, 'STREAM_CLOSED')),
    a('half-closed (remote): CONTINUATION', [hanging(), frame(CONTINUATION, END_HEADERS, 1, base)], protocolError),
    a(
      'half-closed (remote): PRIORITY and WINDOW_UPDATE are taken',
      [hanging(), frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1]), windowUpdate(1, 1), ping],
      pongs,
    ),
    a('reset by the client: DATA', [hanging(), frame(RST_STREAM, 0, 1, u32(8)), frame(DATA, 0, 1, 'x')], closedError),
    a('reset by the client: HEADERS', [hanging(), frame(RST_STREAM, 0, 1, u32(8)), get(1)], closedError),
    a(
      'reset by the client: CONTINUATION',
      [hanging(), frame(RST_STREAM, 0, 1, u32(8)), frame(CONTINUATION, END_HEADERS, 1, base)],
      protocolError,
    ),
    a(
      'reset by the client: PRIORITY, WINDOW_UPDATE and RST_STREAM are taken',
      [
        hanging(),
        frame(RST_STREAM, 0, 1, u32(8)),
        frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1]),
        windowUpdate(1, 1),
        frame(RST_STREAM, 0, 1, u32(8)),
        ping,
      ],
      pongs,
    ),
    a(
      'reset by the server: what was under way is let pass',
      [post(1), windowUpdate(1, 0), frame(DATA, 0, 1, 'x'), frame(DATA, END_STREAM, 1, 'y'), ping],
      pongs,
    ),
  ],
  'RFC 9113 5.1.1': [
    a('an even id', [get(2)], protocolError),
    a('an id below the last', [hanging(5), get(3)], protocolError),
    a('an id that was used and is closed', [hanging(5), hanging(7), frame(RST_STREAM, 0, 5, u32(8)), get(5)], closedError),
    a('ids may be left out', [get(7)], answered(7)),
  ],
  'RFC 9113 5.1.2': [
    a(
      'more streams than SETTINGS_MAX_CONCURRENT_STREAMS',
      Array.from({ length: 129 }, (_, i) => hanging(2 * i + 1)),
      streamError(257, 'PROTOCOL_ERROR', 'REFUSED_STREAM'),
    ),
  ],
  'RFC 9113 5.3.1': [
    a(
      'HEADERS that depend on themselves',
      [frame(HEADERS, WHOLE | WITH_PRIORITY, 1, Buffer.concat([Buffer.from([0, 0, 0, 1, 16]), base]))],
      malformed,
    ),
    a('PRIORITY that depends on itself', [hanging(), frame(PRIORITY, 0, 1, [0, 0, 0, 1, 16])], malformed),
    // Which may not be reset (RFC 9113 6.4).
    a('PRIORITY of an idle stream that depends on itself', [frame(PRIORITY, 0, 1, [0, 0, 0, 1, 16])], protocolError),
  ],
  'RFC 9113 5.4.1': [
    a('GOAWAY names the last stream, then comes the end', [hanging(3), frame(PING, 0, 0, 'short')], async (client) => {
      await sizeError(client);
      expect(client.frames.find(({ type }) => type === GOAWAY)?.payload.readUInt32BE(0)).toBe(3);
    }),
  ],
  'RFC 9113 5.5': [a('unknown settings are ignored', [settings(setting(0xff, 1)), get(1)], answered())],
  'RFC 9113 6.1': [
    a('DATA on stream 0', [frame(DATA, END_STREAM, 0, 'x')], protocolError),
    a('padding as long as the payload', [post(1), frame(DATA, END_STREAM | PADDED, 1, [2, 0])], protocolError),
    a('PADDED without a length', [post(1), frame(DATA, END_STREAM | PADDED, 1)], sizeError),
    a('padded DATA', [post(1, [], '/echo'), frame(DATA, END_STREAM | PADDED, 1, [3, 0x68, 0x69, 0, 0, 0])], answered(1, 'hi')),
  ],
  'RFC 9113 6.2': [
    a('HEADERS on stream 0', [get(0)], protocolError),
    a('padding as long as the payload', [frame(HEADERS, WHOLE | PADDED, 1, [2, 0x82])], protocolError),
    a(
      'padding that reaches into the priority',
      [frame(HEADERS, WHOLE | PADDED | WITH_PRIORITY, 1, [3, 0, 0, 0, 0, 16, 0, 0])],
      protocolError,
    ),
    a(
      'HEADERS with padding and priority',
      [frame(HEADERS, WHOLE | PADDED | WITH_PRIORITY, 1, Buffer.concat([Buffer.from([2, 0, 0, 0, 0, 16]), base, Buffer.alloc(2)]))],
      answered(),
    ),
    a('PRIORITY without room', [frame(HEADERS, WHOLE | WITH_PRIORITY, 1, [0, 0, 0, 0])], sizeError),
  ],
  'RFC 9113 6.3': [
    a('PRIORITY on stream 0', [frame(PRIORITY, 0, 0, [0, 0, 0, 1, 16])], protocolError),
    a('PRIORITY of 4 bytes', [hanging(), frame(PRIORITY, 0, 1, [0, 0, 0, 1])], streamError(1, 'FRAME_SIZE_ERROR')),
    a('PRIORITY of 4 bytes on an idle stream', [frame(PRIORITY, 0, 1, [0, 0, 0, 1])], sizeError),
    a('PRIORITY on an idle stream', [frame(PRIORITY, 0, 5, [0, 0, 0, 1, 16]), get(7)], answered(7)),
  ],
  'RFC 9113 6.4': [
    a('RST_STREAM on stream 0', [frame(RST_STREAM, 0, 0, u32(8))], protocolError),
    a('RST_STREAM of 3 bytes', [hanging(), frame(RST_STREAM, 0, 1, [0, 0, 8])], sizeError),
  ],
  'RFC 9113 6.5': [
    a('SETTINGS are acknowledged', [settings()], acknowledged(2)),
    a('an ACK with a payload', [frame(SETTINGS, ACK, 0, setting(1, 1))], sizeError),
    a('SETTINGS on a stream', [frame(SETTINGS, 0, 1, setting(1, 1))], protocolError),
    a('SETTINGS of 5 bytes', [frame(SETTINGS, 0, 0, [0, 3, 0, 0, 0])], sizeError),
    a('6.5.2: ENABLE_PUSH of 2', [settings(setting(2, 2))], protocolError),
    a('6.5.2: INITIAL_WINDOW_SIZE above 2^31 - 1', [settings(setting(4, 2 ** 31))], connectionError('FLOW_CONTROL_ERROR')),
    a('6.5.2: MAX_FRAME_SIZE below 16,384', [settings(setting(5, 16_383))], protocolError),
    a('6.5.2: MAX_FRAME_SIZE above 2^24 - 1', [settings(setting(5, 2 ** 24))], protocolError),
    a('6.5.3: the last of several values holds', [settings(setting(4, 100), setting(4, 1)), get(1)], firstData('o')),
  ],
  'RFC 9113 6.6': [
    a(
      'PUSH_PROMISE of a client',
      [post(1, [], '/never'), frame(PUSH_PROMISE, END_HEADERS, 1, Buffer.concat([u32(2), base]))],
      protocolError,
    ),
  ],
  'RFC 9113 6.7': [
    a('PING is answered with its bytes', [ping], pongs),
    a('a PING ACK is not answered', [frame(PING, ACK, 0, 'ackacked'), ping], async (client) => {
      await pongs(client);
      expect(client.frames.filter(({ type }) => type === PING)).toHaveLength(1);
    }),
    a('PING on a stream', [frame(PING, 0, 1, 'conforms')], protocolError),
    a('PING of 6 bytes', [frame(PING, 0, 0, 'sixsix')], sizeError),
  ],
  'RFC 9113 6.8': [
    a('GOAWAY on a stream', [frame(GOAWAY, 0, 1, u32(0, 0))], protocolError),
    a('GOAWAY of 7 bytes', [frame(GOAWAY, 0, 0, 'seven77')], sizeError),
    a('after GOAWAY open streams are answered to their end', [get(1, '/late'), frame(GOAWAY, 0, 0, u32(0, 0))], answered()),
  ],
  'RFC 9113 6.9': [
    a('an increment of 0 on the connection', [windowUpdate(0, 0)], protocolError),
    a('an increment of 0 on a stream', [hanging(), windowUpdate(1, 0)], malformed),
    a('WINDOW_UPDATE of 3 bytes', [frame(WINDOW_UPDATE, 0, 0, [0, 0, 1])], sizeError),
    a(
      "6.9.1: the connection's window above 2^31 - 1",
      [windowUpdate(0, 2 ** 31 - 1), windowUpdate(0, 2 ** 31 - 1)],
      connectionError('FLOW_CONTROL_ERROR'),
    ),
    a(
      "6.9.1: a stream's window above 2^31 - 1",
      [hanging(), windowUpdate(1, 2 ** 31 - 1), windowUpdate(1, 2 ** 31 - 1)],
      streamError(1, 'FLOW_CONTROL_ERROR'),
    ),
    a('6.9.1: a window of 1 is kept to', [settings(setting(4, 1)), get(1), firstData('o'), windowUpdate(1, 1)], answered()),
    a('6.9.2: SETTINGS open the windows of open streams', [settings(setting(4, 0)), get(1), settings(setting(4, 100))], answered()),
    a(
      '6.9.2: SETTINGS that overflow a window',
      [hanging(), windowUpdate(1, 2 ** 31 - 1 - 65_535), settings(setting(4, 65_536))],
      connectionError('FLOW_CONTROL_ERROR'),
    ),
    a(
      '6.9.2: a window below 0 is opened again',
      [settings(setting(4, 1)), get(1, '/late'), settings(setting(4, 0)), windowUpdate(1, 2)],
      answered(),
    ),
  ],
  'RFC 9113 6.10': [
    a(
      'a block over three frames',
      [
        frame(HEADERS, END_STREAM, 1, base.subarray(0, 9)),
        frame(CONTINUATION, 0, 1, base.subarray(9, 20)),
        frame(CONTINUATION, END_HEADERS, 1, base.subarray(20)),
      ],
      answered(),
    ),
    a('CONTINUATION behind END_HEADERS', [post(1), frame(CONTINUATION, END_HEADERS, 1, base)], protocolError),
    a('CONTINUATION on stream 0', [frame(HEADERS, END_STREAM, 1, base), frame(CONTINUATION, END_HEADERS, 0)], protocolError),
    a('CONTINUATION behind DATA', [post(1), frame(DATA, 0, 1, 'x'), frame(CONTINUATION, END_HEADERS, 1, base)], protocolError),
  ],
  'RFC 9113 7': [
    a('an unknown error code in RST_STREAM', [hanging(), frame(RST_STREAM, 0, 1, u32(0xff)), ping], pongs),
    a('an unknown error code in GOAWAY', [hanging(), frame(GOAWAY, 0, 0, u32(0, 0xff)), ping], pongs),
  ],
  'RFC 9113 8.1': [
    a('trailers', [post(1, [], '/echo'), frame(DATA, 0, 1, 'hi'), frame(HEADERS, WHOLE, 1, hpack([['x-end', '1']]))], answered(1, 'hi')),
    a('a second HEADERS without END_STREAM', [post(1), frame(HEADERS, END_HEADERS, 1, hpack([['x', 'y']]))], malformed),
    a('pseudo-header fields in trailers', [post(1), frame(HEADERS, WHOLE, 1, hpack([[':method', 'GET']]))], malformed),
    a('framing in trailers', [post(1), frame(HEADERS, WHOLE, 1, hpack([['content-length', '0']]))], malformed),
    a('8.1.1: content-length that DATA exceeds', [post(1, [['content-length', '1']]), frame(DATA, END_STREAM, 1, 'ok')], malformed),
    a('8.1.1: content-length that DATA does not reach', [post(1, [['content-length', '3']]), frame(DATA, END_STREAM, 1, 'ok')], malformed),
    a(
      '8.1.1: content-length that trailers cut short',
      [post(1, [['content-length', '3']]), frame(DATA, 0, 1, 'ok'), frame(HEADERS, WHOLE, 1, hpack([['x', 'y']]))],
      malformed,
    ),
    a(
      '8.1.1: content-length over several DATA',
      [post(1, [['content-length', '1']], '/never'), frame(DATA, 0, 1, 'o'), frame(DATA, END_STREAM, 1, 'k')],
      malformed,
    ),
    a('8.1.1: content-length without a body', [get(1, '/', [['content-length', '1']])], malformed),
    ...['+1', '-1', '1,1', '0x1', '1 ', '', '99999999999999999999'].map((length) =>
      a(`8.1.1: content-length "${length}"`, [post(1, [['content-length', length]])], malformed),
    ),
    a(
      '8.1.1: content-length twice',
      [
        post(1, [
          ['content-length', '2'],
          ['content-length', '2'],
        ]),
      ],
      malformed,
    ),
  ],
  'RFC 9113 8.2': [
    ...['X-Upper', 'sp ace', 'x\r\ny', 'x\0', 'x:', 'x\x7f', 'caf\xe9', ''].map((name) =>
      a(`8.2.1: the name ${JSON.stringify(name)}`, [get(1, '/', [[name, 'v']])], malformed),
    ),
    ...['a\r\nx: y', 'a\nb', 'a\rb', 'a\0b', ' a', 'a ', '\ta', 'a\x01'].map((value) =>
      a(`8.2.1: the value ${JSON.stringify(value)}`, [get(1, '/', [['x', value]])], malformed),
    ),
    ...(
      ['connection', 'keep-alive', 'proxy-connection', 'upgrade', 'transfer-encoding', 'transfer_encoding', 'content_length'] as const
    ).map((name) => a(`8.2.2: ${name}`, [get(1, '/', [[name, name === 'transfer-encoding' ? 'chunked' : 'x']])], malformed)),
    a('8.2.2: TE with more than trailers', [get(1, '/', [['te', 'trailers, deflate']])], malformed),
    a('8.2.2: TE with trailers', [get(1, '/', [['te', 'trailers']])], answered()),
    a(
      '8.2.3: cookie crumbs become one',
      [
        get(1, '/cookie', [
          ['cookie', 'a=1'],
          ['cookie', 'b=2'],
        ]),
      ],
      answered(1, 'a=1; b=2'),
    ),
  ],
  'RFC 9113 8.3': [
    ...([':method', ':scheme', ':path'] as const).map((name) => a(`without ${name}`, [withFields(without(name))], malformed)),
    ...([':method', ':scheme', ':path', ':authority'] as const).map((name) =>
      a(`${name} twice`, [withFields([...request(), request().find(([each]) => each === name)!])], malformed),
    ),
    a('without :authority and Host', [withFields(without(':authority'))], malformed),
    a('Host in place of :authority', [withFields([...without(':authority'), ['host', 'a.test']])], answered()),
    a('Host that is not :authority', [get(1, '/', [['host', 'b.test']])], malformed),
    a(
      'Host twice',
      [
        get(1, '/', [
          ['host', 'a.test'],
          ['host', 'a.test'],
        ]),
      ],
      malformed,
    ),
    a('an unknown pseudo-header field', [withFields([...request(), [':test', 'x']])], malformed),
    a('the pseudo-header field of answers', [withFields([...request(), [':status', '200']])], malformed),
    a(':protocol of another method than CONNECT (RFC 8441 4)', [withFields([...request(), [':protocol', 'websocket']])], malformed),
    a('pseudo-header fields behind others', [withFields([...without(':path'), ['x', 'y'], [':path', '/']])], malformed),
    ...['', 'relative', '/a b', '/a\tb', '/a\r\nx: y', '/a#b', '*', '/caf\xe9', '/\0'].map((path) =>
      a(`:path ${JSON.stringify(path)}`, [get(1, path)], malformed),
    ),
    ...['', 'G T', 'GET /x HTTP/1.1\r\nx:', 'GET\0'].map((method) =>
      a(`:method ${JSON.stringify(method)}`, [withFields(request(method))], malformed),
    ),
    ...['', 'a b', 'a\r\nx: y', 'user@a.test', 'a/b', 'a:b'].map((authority) =>
      a(`:authority ${JSON.stringify(authority)}`, [withFields([...without(':authority'), [':authority', authority]])], malformed),
    ),
    a('CONNECT with :path', [withFields(request('CONNECT'))], malformed),
  ],
  'RFC 9113 8.4': [
    a('PUSH_PROMISE on an idle stream', [frame(PUSH_PROMISE, END_HEADERS, 1, Buffer.concat([u32(2), base]))], protocolError),
  ],
  'RFC 7541': [
    a('2.3.3: an index beyond both tables', [withBlock([0xff, 0x00])], compressionError),
    a('2.3.3: the name of an index beyond both tables', [withBlock([0x7f, 0x00, 0x01, 0x61])], compressionError),
    a('4.2: a size update behind a field', [withBlock(Buffer.concat([base, Buffer.from([0x20])]))], compressionError),
    a('5.1: an integer that does not end', [withBlock([0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80])], compressionError),
    a(
      '5.2: Huffman padding of more than 7 bits',
      [withBlock(Buffer.concat([base, Buffer.from([0x00, 0x01, 0x78, 0x82, 0x1f, 0xff])]))],
      compressionError,
    ),
    a('5.2: Huffman padding of zeros', [withBlock(Buffer.concat([base, Buffer.from([0x00, 0x01, 0x78, 0x81, 0x18])]))], compressionError),
    a(
      '5.2: EOS within a string',
      [withBlock(Buffer.concat([base, Buffer.from([0x00, 0x01, 0x78, 0x84, 0xff, 0xff, 0xff, 0xff])]))],
      compressionError,
    ),
    a('6.1: index 0', [withBlock([0x80])], compressionError),
    a(
      '6.3: a size above SETTINGS_HEADER_TABLE_SIZE',
      [withBlock(Buffer.concat([Buffer.from([0x3f, 0xe2, 0x1f]), base]))],
      compressionError,
    ),
    a('6.3: two updates before the first field', [withBlock(Buffer.concat([Buffer.from([0x20, 0x3f, 0xe1, 0x1f]), base]))], answered()),
    ...[0x40, 0x00, 0x10].map((kind) =>
      a(`6.2: literals of kind ${kind}`, [withBlock(Buffer.concat([base, Buffer.from([kind]), text('x'), text('y')]))], answered()),
    ),
  ],
};
