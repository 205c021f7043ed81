// Thousands of ways to write a request that two parsers may read differently, made by combining what is known to divide them.
// Every target begins with /ID/, so that what an origin sees can be laid at a payload's door.
import { DATA, END_HEADERS, END_STREAM, type Fields, frame, HEADERS, hpack, WHOLE } from './http2-wire.js';

export interface Payload {
  readonly id: number;
  readonly name: string;
  readonly protocol: 'http/1' | 'http/2';
  readonly bytes: Buffer;
}
type Make = (id: number) => string;
interface Recipe {
  readonly name: string;
  readonly make: Make;
}

/** What hides behind a body, as a request of its own for whom reads the body shorter. */
const hidden = (id: number): string => `GET /${id}/hidden HTTP/1.1\r\nHost: a.test\r\nX: `;
const start = (id: number, method = 'POST'): string => `${method} /${id}/ HTTP/1.1\r\nHost: a.test\r\n`;
/** Every byte that is no field-vchar, and some that are no token. */
const BYTES = [
  ...Array.from({ length: 33 }, (_, i) => i),
  0x22,
  0x28,
  0x2c,
  0x2f,
  0x3a,
  0x3b,
  0x40,
  0x5c,
  0x5f,
  0x7b,
  0x7f,
  0x80,
  0x85,
  0xa0,
  0xad,
  0xff,
];
const charOf = (byte: number): string => String.fromCharCode(byte);

const TE_NAMES = [
  'Transfer-Encoding',
  'transfer-encoding',
  'TRANSFER-ENCODING',
  'tRANSFER-eNCODING',
  'Transfer_Encoding',
  'Transfer Encoding',
  'Transfer-Encoding ',
  ' Transfer-Encoding',
  'Transfer-Encoding\t',
  '\tTransfer-Encoding',
  'X: y\nTransfer-Encoding',
  'X: y\rTransfer-Encoding',
  'X: y\0\r\nTransfer-Encoding',
  ':Transfer-Encoding',
  'Transfer-Encoding:',
  'Content-Encoding: x\r\n Transfer-Encoding',
];
const TE_VALUES = [
  'chunked',
  'Chunked',
  'CHUNKED',
  'chunked ',
  'chunked\t',
  '\tchunked',
  '\x0bchunked',
  '\x0cchunked',
  'chunked\x0b',
  'chunked\r',
  'chunked\0',
  'xchunked',
  'chunkedx',
  'chunked, chunked',
  'chunked, identity',
  'identity, chunked',
  'gzip, chunked',
  'identity',
  'chunked, x',
  '"chunked"',
  "'chunked'",
  'chunked;q=1',
  'chunked; ext=1',
  ',chunked',
  'chunked,',
  'chu nked',
  '\r\n chunked',
  '\r\n\tchunked',
  '\n chunked',
  'cow\r\nTransfer-Encoding: chunked',
  'chunked\r\nTransfer-Encoding: chunked',
  'chunked\r\nTransfer-Encoding: identity',
  'identity\r\nTransfer-Encoding: chunked',
  '',
  '\xa0chunked',
  'chun\xc4\xb1ked',
];

const LENGTHS = (n: number): string[] => [
  ...[`${n}`, ` ${n}`, `\t${n}`, `${n} `, `${n}\t`, `+${n}`, `-${n}`, `0${n}`, `00000000000000000000${n}`, `${n},`, `,${n}`, `${n}, ${n}`],
  ...[
    `${n}, 0`,
    `0, ${n}`,
    `0x${n.toString(16)}`,
    `0X${n.toString(16)}`,
    `0o${n.toString(8)}`,
    `${n}.0`,
    `${n}e0`,
    `${n};`,
    `${n} ${n}`,
    `${n}_0`,
  ],
  ...[
    '18446744073709551616',
    `${2n ** 64n + BigInt(n)}`,
    `${2n ** 32n + BigInt(n)}`,
    '99999999999999999999999',
    '-1',
    '',
    ' ',
    'x',
    `${n}x`,
  ],
  ...[
    `\x0b${n}`,
    `${n}\x0c`,
    `\0${n}`,
    `${n}\0`,
    `${n}\r`,
    `\r\n ${n}`,
    `'${n}'`,
    `"${n}"`,
    `(${n})`,
    `${n}\xa0`,
    '\xb2',
    '\u00bd',
    'NaN',
    'Infinity',
    '1 2',
  ],
];

function framings(): Recipe[] {
  const recipes: Recipe[] = [];
  const chunked = (id: number): string => `0\r\n\r\n${hidden(id)}`;
  for (const name of TE_NAMES) {
    for (const value of TE_VALUES) {
      const line = `${name}: ${value}\r\n`;
      const told = JSON.stringify(line);
      recipes.push({ name: `TE ${told}`, make: (id) => `${start(id)}${line}\r\n${chunked(id)}` });
      recipes.push({
        name: `CL.TE ${told}`,
        make: (id) => `${start(id)}Content-Length: ${chunked(id).length}\r\n${line}\r\n${chunked(id)}`,
      });
      recipes.push({ name: `TE.CL ${told}`, make: (id) => `${start(id)}${line}Content-Length: 4\r\n\r\n5c\r\n${hidden(id)}\r\n0\r\n\r\n` });
    }
  }
  const spellings = [
    'Content-Length: ',
    'Content-Length:',
    'Content-Length : ',
    'Content_Length: ',
    ' Content-Length: ',
    'X: y\nContent-Length: ',
  ];
  for (let i = 0; i < LENGTHS(0).length; i++) {
    for (const spelling of spellings) {
      for (const method of ['POST', 'GET', 'HEAD']) {
        const line = (id: number): string => `${spelling}${LENGTHS(hidden(id).length)[i]}\r\n`;
        recipes.push({ name: `${method} CL ${JSON.stringify(line(1))}`, make: (id) => `${start(id, method)}${line(id)}\r\n${hidden(id)}` });
      }
    }
    const again = (id: number): string => `Content-Length: ${LENGTHS(hidden(id).length)[i]}\r\n`;
    recipes.push({
      name: `CL then ${again(1)}`,
      make: (id) => `${start(id)}Content-Length: ${hidden(id).length}\r\n${again(id)}\r\n${hidden(id)}`,
    });
    recipes.push({ name: `CL before ${again(1)}`, make: (id) => `${start(id)}${again(id)}Content-Length: 0\r\n\r\n${hidden(id)}` });
  }
  return recipes;
}

/** One odd byte at every place of a field, for a harmless field and both that frame. */
function oddBytes(): Recipe[] {
  const fields = [
    ['X-Test', 'value', ''],
    ['Transfer-Encoding', 'chunked', '0\r\n\r\n'],
    ['Content-Length', '0', ''],
  ] as const;
  return fields.flatMap(([name, value, body]) =>
    BYTES.flatMap((byte) => {
      const odd = charOf(byte);
      const lines = [`${odd}${name}: ${value}`, `${name}${odd}: ${value}`, `${name.slice(0, 4)}${odd}${name.slice(4)}: ${value}`];
      lines.push(
        `${name}: ${odd}${value}`,
        `${name}: ${value}${odd}`,
        `${name}: ${value.slice(0, 1)}${odd}${value.slice(1)}`,
        `${name}${odd}${value}`,
      );
      return lines.map((line) => ({
        name: `byte ${byte} in ${JSON.stringify(line)}`,
        make: (id: number) => `${start(id)}${line}\r\n\r\n${body}${hidden(id)}`,
      }));
    }),
  );
}

const CHUNK_SIZES = [
  '5',
  '05',
  '000000000000000005',
  '0x5',
  '+5',
  '-5',
  ' 5',
  '5 ',
  '\t5',
  '5\t',
  '5;',
  '5;a',
  '5;a=b',
  '5;a="b"',
  '5;a="\r\n"',
  '5;\x01',
  '5;a\n',
];
const MORE_CHUNK_SIZES = [
  '5\n',
  '5\r',
  '5\r\r',
  '\r\n5',
  '5,5',
  '5 5',
  '5_',
  'five',
  '',
  'g',
  '5h',
  '10000000000000005',
  'ffffffffffffffff5',
  '5;a\rb',
  '5\x0b',
  '5\0',
  '\xb5',
  '5;\xff',
];
const CHUNK_ENDS = ['\r\n', '\n', '\r', '', 'X\r\n', ' \r\n', '\r\r\n', '\n\r', '\0\r\n'];
const TRAILERS = [
  ...[
    '',
    'X: y\r\n',
    'Content-Length: 5\r\n',
    'Transfer-Encoding: chunked\r\n',
    'Host: b.test\r\n',
    ' X: folded\r\n',
    'X : y\r\n',
    'X\r\n',
    'X: y\n',
    'X: a\rb\r\n',
  ],
  ...[
    'X: a\0\r\n',
    ': y\r\n',
    'X: a\r\n b\r\n',
    'GET /hidden HTTP/1.1\r\n',
    'Connection: close\r\n',
    'Authorization: x\r\n',
    'Trailer: Host\r\n',
    '\tX: y\r\n',
    'Expect: 100-continue\r\n',
  ],
];

function chunks(): Recipe[] {
  const head = (id: number): string => `${start(id)}Transfer-Encoding: chunked\r\n\r\n`;
  const recipes: Recipe[] = [];
  for (const size of [...CHUNK_SIZES, ...MORE_CHUNK_SIZES]) {
    const last = size.replace('5', '0');
    recipes.push({ name: `chunk ${JSON.stringify(size)}`, make: (id) => `${head(id)}${size}\r\nhello\r\n0\r\n\r\n${hidden(id)}` });
    recipes.push({ name: `last chunk ${JSON.stringify(last)}`, make: (id) => `${head(id)}5\r\nhello\r\n${last}\r\n\r\n${hidden(id)}` });
    for (const trailer of TRAILERS.slice(0, 4)) {
      recipes.push({ name: `chunk ${JSON.stringify(last + trailer)}`, make: (id) => `${head(id)}${last}\r\n${trailer}\r\n${hidden(id)}` });
    }
  }
  for (const end of CHUNK_ENDS) {
    recipes.push({ name: `size ends ${JSON.stringify(end)}`, make: (id) => `${head(id)}5${end}hello\r\n0\r\n\r\n${hidden(id)}` });
    recipes.push({ name: `data ends ${JSON.stringify(end)}`, make: (id) => `${head(id)}5\r\nhello${end}0\r\n\r\n${hidden(id)}` });
    recipes.push({ name: `last ends ${JSON.stringify(end)}`, make: (id) => `${head(id)}5\r\nhello\r\n0${end}\r\n${hidden(id)}` });
    recipes.push({ name: `all ends ${JSON.stringify(end)}`, make: (id) => `${head(id)}5\r\nhello\r\n0\r\n${end}${hidden(id)}` });
  }
  for (const trailer of TRAILERS) {
    recipes.push({ name: `trailer ${JSON.stringify(trailer)}`, make: (id) => `${head(id)}5\r\nhello\r\n0\r\n${trailer}\r\n${hidden(id)}` });
  }
  return recipes;
}

const lines = (id: number): string[] => {
  const target = `/${id}/`;
  const versions = [
    '1.0',
    '1.1',
    '1.2',
    '1.9',
    '2.0',
    '0.9',
    '1.10',
    '01.1',
    '1.01',
    '1,1',
    '1',
    '1.',
    '.1',
    '11',
    '3.0',
    '1.1 ',
    '1.1\t',
    '1.1x',
    ' 1.1',
    '1 .1',
  ];
  const targets = [
    ...[
      '*',
      '',
      '/#x',
      `${target}#fragment`,
      `${target} x`,
      `${target}\tx`,
      `${target}\x0bx`,
      `${target}\0`,
      `${target}\x7f`,
      `${target}\xff`,
      `${target}%00`,
      `/${target}`,
    ],
    ...[
      `http://a.test${target}`,
      `http://b.test${target}`,
      `HTTP://A.TEST${target}`,
      `http://u@a.test${target}`,
      `http:/${target}`,
      `http://${target}`,
      `https://a.test${target}`,
    ],
    ...[
      `http://a.test:80${target}`,
      `http://a.test:x${target}`,
      `http://a.test:${target}`,
      `ftp://a.test${target}`,
      'a.test:80',
      `a.test${target}`,
      `\\${id}\\`,
      `${target}\\..\\x`,
    ],
    ...[
      `${target}?a b`,
      `${target}\r`,
      `//b.test${target}`,
      `http://a.test?${target}`,
      `http://a.test#${target}`,
      `${target}"x"`,
      `${target}<x>`,
    ],
  ];
  const methods = [
    'get',
    'G',
    'GET\t',
    ' GET',
    'G ET',
    'GET\0',
    'GE\x80T',
    'G(T',
    '',
    'PRI',
    'CONNECT',
    'OPTIONS',
    'TRACE',
    'X-NEW',
    'POST:',
    '\r\nPOST',
    '\nPOST',
    '\r\n\r\nPOST',
    'POST\r\n',
  ];
  return [
    ...versions.map((version) => `POST ${target} HTTP/${version}`),
    ...['http/1.1', 'HTTP1.1', 'HTTP /1.1', 'XTTP/1.1', 'HTTPS/1.1', 'HTTP\\1.1', ''].map((protocol) => `POST ${target} ${protocol}`),
    ...targets.map((each) => `POST ${each} HTTP/1.1`),
    ...methods.map((method) => `${method} ${target} HTTP/1.1`),
    ...[
      `POST  ${target} HTTP/1.1`,
      `POST ${target}  HTTP/1.1`,
      `POST\t${target}\tHTTP/1.1`,
      `POST ${target}`,
      `POST${target} HTTP/1.1`,
      `POST ${target} HTTP/1.1\r`,
    ],
  ];
};
const hosts = (): string[] => [
  ...[
    'Host: a.test',
    'Host: a.test\r\nHost: a.test',
    'Host: a.test\r\nHost: b.test',
    'Host: a.test, b.test',
    'Host: a.test\r\n b.test',
    'Host : a.test',
    'Host:',
    'X: y',
  ],
  ...[
    'Host: a.test/x',
    'Host: u@a.test',
    'Host: a.test:80',
    'Host: a.test:80:81',
    'Host: a.test:99999',
    'Host: a.test:x',
    'Host: a.test:',
    'Host: a\tb',
    'Host: [::1',
    'Host: [::1]:80',
  ],
  ...[
    'Host: a%00',
    'Host: a.test#b',
    'Host: a.test?b',
    'Host: a\\b',
    'hOsT: a.test',
    'Host:\ta.test\t',
    ' Host: a.test',
    'Host: a.test\0',
    'Host: a.test b.test',
    'Host: ',
    'Host: "a.test"',
  ],
  ...[
    'Host: a.test\r\nX-Forwarded-Host: b.test',
    'Ho\0st: a.test',
    'Host\0: a.test',
    'Host: \xffa',
    'Host: http://a.test',
    'Host: a.test.',
    'Host: .',
    'Host: -',
    'Host: a..test',
    'Host: a,b',
    'Host: a;b',
  ],
];
const FIELDS = [
  ...[
    'Expect: 100-continue',
    'Expect: 200-ok',
    'Expect: 100-continue, x',
    'Expect:',
    'Expect : 100-continue',
    'Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__',
  ],
  ...[
    'Upgrade: websocket\r\nConnection: upgrade',
    'Upgrade: x\r\nConnection: upgrade',
    'Upgrade: h2c',
    'Upgrade: TLS/1.0\r\nConnection: upgrade',
    'Proxy-Connection: keep-alive',
    'Keep-Alive: x',
  ],
  ...[
    'TE: trailers',
    'TE: chunked',
    'Trailer: content-length',
    'Trailer: x',
    'Content-Encoding: chunked',
    'X-HTTP-Method-Override: PUT',
    'Max-Forwards: 0',
    'Range: bytes=0-',
    'Via: 1.1 x',
  ],
  ...[
    'content-length',
    'transfer-encoding',
    'host',
    'close',
    'keep-alive, close',
    'te',
    'x',
    'a b',
    '',
    ',',
    'expect',
    'upgrade',
    'cookie',
    'Content-Length\x0b',
  ].map((name) => `Connection: ${name}`),
];

function heads(): Recipe[] {
  const rest = (id: number, host = 'Host: a.test'): string => `\r\n${host}\r\nContent-Length: ${hidden(id).length}\r\n\r\n${hidden(id)}`;
  const recipes: Recipe[] = lines(1).flatMap((line, i) => [
    { name: `line ${JSON.stringify(line)}`, make: (id: number) => `${lines(id)[i]}${rest(id)}` },
    {
      name: `line ${JSON.stringify(line)}, chunked`,
      make: (id: number) => `${lines(id)[i]}\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${hidden(id)}`,
    },
    { name: `line ${JSON.stringify(line)}, no body`, make: (id: number) => `${lines(id)[i]}\r\nHost: a.test\r\n\r\n` },
  ]);
  for (const host of hosts()) {
    for (const target of ['', 'http://a.test', 'http://b.test']) {
      recipes.push({ name: `host ${JSON.stringify(host)} ${target}`, make: (id) => `POST ${target}/${id}/ HTTP/1.1${rest(id, host)}` });
    }
  }
  for (const field of FIELDS) {
    for (const method of ['POST', 'GET', 'HEAD', 'OPTIONS']) {
      recipes.push({ name: `${method} ${JSON.stringify(field)}`, make: (id) => `${method} /${id}/ HTTP/1.1\r\n${field}${rest(id)}` });
    }
    recipes.push({
      name: `chunked ${JSON.stringify(field)}`,
      make: (id) => `${start(id)}${field}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${hidden(id)}`,
    });
  }
  for (const end of ['\n', '\r', '\r\r\n', '\n\r', '\r\n\r', ' \r\n', '\0\r\n', '\x0b\r\n', '\x85', '\u0000']) {
    const told = JSON.stringify(end);
    recipes.push({
      name: `request line ends ${told}`,
      make: (id) => `POST /${id}/ HTTP/1.1${end}Host: a.test\r\nContent-Length: 0\r\n\r\n${hidden(id)}`,
    });
    recipes.push({
      name: `host ends ${told}`,
      make: (id) => `POST /${id}/ HTTP/1.1\r\nHost: a.test${end}Content-Length: 0\r\n\r\n${hidden(id)}`,
    });
    recipes.push({ name: `length ends ${told}`, make: (id) => `${start(id)}Content-Length: ${hidden(id).length}${end}\r\n${hidden(id)}` });
    recipes.push({ name: `head ends ${told}`, make: (id) => `${start(id)}Content-Length: 0\r\n${end}${hidden(id)}` });
    recipes.push({ name: `begins with ${told}`, make: (id) => `${end}${start(id)}Content-Length: 0\r\n\r\n${hidden(id)}` });
  }
  return recipes;
}

/** Downgrades: what HTTP/2 can say and HTTP/1 can't. */
function http2(): { name: string; make: (id: number) => Buffer }[] {
  const pseudo = (id: number): Fields => [
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', `/${id}/`],
    [':authority', 'a.test'],
  ];
  const recipes: { name: string; make: (id: number) => Buffer }[] = [];
  const add = (fields: (id: number) => Fields, body: string | null = null, trailers: Fields = []): void => {
    const make = (id: number): Buffer => {
      const told = body ?? hidden(id);
      const head = frame(HEADERS, told === '' && trailers.length === 0 ? WHOLE : END_HEADERS, 1, hpack(fields(id)));
      if (trailers.length > 0) return Buffer.concat([head, frame(DATA, 0, 1, told), frame(HEADERS, WHOLE, 1, hpack(trailers))]);
      return told === '' ? head : Buffer.concat([head, frame(DATA, END_STREAM, 1, told)]);
    };
    recipes.push({ name: JSON.stringify([fields(1).slice(-2), body, trailers]), make });
  };
  const withField =
    (name: string, value: string) =>
    (id: number): Fields => [...pseudo(id), [name, value]];
  const inPseudo =
    (name: string, value: (id: number) => string) =>
    (id: number): Fields =>
      pseudo(id).map(([each, was]) => (each === name ? [each, value(id)] : [each, was]));
  for (const length of LENGTHS(5)) {
    add(withField('content-length', length));
    add(withField('content-length', length), 'hello');
  }
  for (const value of TE_VALUES) add(withField('transfer-encoding', value), '0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a.test\r\n\r\n');
  const injection = '\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n';
  const carriers = [
    'a\r\nb: c',
    'a\nb: c',
    'a\rb: c',
    `a${injection}`,
    `a\r\n\r\nGET /hidden HTTP/1.1\r\nHost: a.test\r\n\r\n`,
    'a\0',
    '\0',
  ];
  for (const byte of BYTES) {
    const odd = charOf(byte);
    for (const name of [`${odd}x`, `x${odd}`, `x${odd}y`]) add(withField(name, 'v'), '');
    for (const value of [`${odd}v`, `v${odd}`, `v${odd}w`]) add(withField('x', value), '');
    add(
      inPseudo(':path', (id) => `/${id}/${odd}x`),
      '',
    );
    add(
      inPseudo(':method', () => `GE${odd}T`),
      '',
    );
    add(
      inPseudo(':authority', () => `a${odd}b`),
      '',
    );
    add(
      inPseudo(':scheme', () => `http${odd}`),
      '',
    );
  }
  for (const carrier of carriers) {
    add(withField('x', carrier));
    add(withField(carrier, 'v'));
    add(withField('cookie', carrier));
    add(withField('te', carrier));
    add(inPseudo(':path', (id) => `/${id}/${carrier}`));
    add(inPseudo(':path', (id) => `/${id}/ HTTP/1.1${carrier.slice(1)}`));
    add(inPseudo(':method', (id) => `GET /${id}/ HTTP/1.1${carrier.slice(1)}`));
    add(inPseudo(':authority', () => carrier));
    add(inPseudo(':scheme', () => carrier));
    add((id) => pseudo(id), 'x', [['x', carrier]]);
    add((id) => pseudo(id), 'x', [[carrier, 'v']]);
  }
  for (const [name, value] of pseudo(1)) {
    add((id) => [...pseudo(id), [name, value]], '');
    add((id) => pseudo(id).filter(([each]) => each !== name), '');
    add((id) => pseudo(id), 'x', [[name, value]]);
    add((id) => [...pseudo(id).filter(([each]) => each !== name), ['x', 'y'], [name, value]], '');
    add(
      inPseudo(name, () => ''),
      '',
    );
  }
  for (const name of [
    'connection',
    'keep-alive',
    'proxy-connection',
    'upgrade',
    'http2-settings',
    'transfer-encoding',
    'te',
    'host',
    'expect',
    'trailer',
    'content-length',
  ]) {
    for (const value of ['close', 'h2c', 'chunked', 'content-length', 'a.test', 'b.test', '100-continue', '0', 'trailers']) {
      add(withField(name, value));
      add((id) => pseudo(id), 'x', [[name, value]]);
    }
  }
  for (const path of ['*', '', 'x', 'http://b.test/', '//b.test/', '/#x', '?x', ' /', '/ ', '\\'])
    add(
      inPseudo(':path', (id) => (path.startsWith('/') ? `/${id}${path}` : path)),
      '',
    );
  for (const method of ['CONNECT', 'get', 'PRI', 'TRACE', 'OPTIONS', 'GET /x HTTP/1.1\r\nHost: a.test\r\n\r\nGET'])
    add(inPseudo(':method', () => method));
  for (const authority of [
    'u@a.test',
    'a.test:x',
    'a.test:99999',
    'a.test, b.test',
    'a.test/b',
    'a.test?b',
    'a.test#b',
    '[::1',
    'a b',
    'a\\b',
  ])
    add(
      inPseudo(':authority', () => authority),
      '',
    );
  return recipes;
}

export function payloads(): Payload[] {
  const http1: Recipe[] = [...framings(), ...oddBytes(), ...chunks(), ...heads()];
  const follow = (id: number): string => `GET /${id}/after HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n`;
  const first: Payload[] = http1.map(({ name, make }, id) => ({
    id,
    name,
    protocol: 'http/1',
    bytes: Buffer.from(make(id) + follow(id), 'latin1'),
  }));
  const second: Payload[] = http2().map(({ name, make }, i) => ({
    id: http1.length + i,
    name,
    protocol: 'http/2',
    bytes: make(http1.length + i),
  }));
  return [...first, ...second];
}
