// How different servers would read the same bytes: the bytes that a proxy has sent are safe when all of them read the same requests.
// Each reading is lenient in its own way, as some server was found to be.

export interface Seen {
  readonly line: string;
  readonly host: string;
  readonly body: string;
  /** Where it stands in what was read. */
  readonly from: number;
  readonly to: number;
}
export interface Reading {
  readonly requests: readonly Seen[];
  /** Where the first request begins that is not whole. */
  readonly rest: number;
}

interface Habits {
  /** What ends a line. */
  readonly lineEnd: RegExp;
  /** What is taken for a field's name. */
  readonly nameOf: (text: string) => string;
  readonly isChunked: (values: readonly string[]) => boolean;
  readonly lengthOf: (values: readonly string[]) => number;
  readonly prefersLength: boolean;
  readonly sizeOf: (line: string) => number;
  readonly hostOf: (target: string, hosts: readonly string[]) => string;
}

const authority = (target: string): string => /^\w+:\/\/([^/?#]*)/.exec(target)?.[1] ?? '';
const exactly = (text: string, digits: RegExp, base: number): number => (digits.test(text) ? Number.parseInt(text, base) : Number.NaN);

const STRICT: Habits = {
  lineEnd: /\r\n/g,
  nameOf: (text) => text.toLowerCase(),
  isChunked: (values) => values.join(', ').toLowerCase() === 'chunked',
  lengthOf: (values) => (values.length === 1 ? exactly(values[0]!, /^\d+$/, 10) : Number.NaN),
  prefersLength: false,
  sizeOf: (line) => exactly(line, /^[\da-f]+$/i, 16),
  hostOf: (_, hosts) => (hosts.length === 1 ? hosts[0]! : `${hosts.length} hosts`),
};
const anyLineEnd = /\r?\n|\r/g;
const lastOf = (values: readonly string[]): string => values.at(-1) ?? '';

export const READINGS: Readonly<Record<string, Habits>> = {
  strict: STRICT,
  'any line end': { ...STRICT, lineEnd: anyLineEnd, sizeOf: (line) => Number.parseInt(line, 16) },
  'loose names': {
    ...STRICT,
    nameOf: (text) =>
      text
        .replace(/[^!-~]/g, '')
        .replaceAll('_', '-')
        .toLowerCase(),
  },
  'anything chunked': { ...STRICT, isChunked: (values) => /chunked/i.test(values.join().replace(/[^!-~]/g, '')) },
  'last coding': { ...STRICT, isChunked: (values) => lastOf(values).split(',').at(-1)?.trim().toLowerCase() === 'chunked' },
  'length first': {
    ...STRICT,
    prefersLength: true,
    lengthOf: (values) => Number.parseInt(values[0]!, 10),
    hostOf: (_, hosts) => hosts[0]!,
  },
  'length last': { ...STRICT, lengthOf: (values) => Number(lastOf(values).split(',').at(-1)), hostOf: (_, hosts) => lastOf(hosts) },
  'target over host': { ...STRICT, hostOf: (target, hosts) => authority(target) || lastOf(hosts).split(/[,@]/).at(-1)! },
};

interface Head {
  readonly lines: readonly string[];
  readonly end: number;
}

function headAt(text: string, at: number, lineEnd: RegExp): Head | null {
  const lines: string[] = [];
  const ends = new RegExp(lineEnd);
  let begin = at;
  for (;;) {
    ends.lastIndex = begin;
    const end = ends.exec(text);
    if (end === null) return null;
    const line = text.slice(begin, end.index);
    begin = ends.lastIndex;
    if (line !== '') lines.push(line);
    else if (lines.length > 0) return { lines, end: begin };
  }
}

/** The body and where it ends; null: not whole. */
function chunkedAt(text: string, at: number, habits: Habits): { body: string; end: number } | null {
  const ends = new RegExp(habits.lineEnd);
  let body = '';
  for (let begin = at; ; ) {
    ends.lastIndex = begin;
    const end = ends.exec(text);
    if (end === null) return null;
    const size = habits.sizeOf(text.slice(begin, end.index));
    if (!Number.isSafeInteger(size) || size < 0) return null;
    begin = ends.lastIndex;
    if (size === 0) {
      const trailers = /^\r\n/.test(text.slice(begin)) ? { end: begin + 2 } : headAt(text, begin, habits.lineEnd);
      return trailers === null ? null : { body, end: trailers.end };
    }
    body += text.slice(begin, begin + size);
    begin += size + 2;
    if (text.slice(begin - 2, begin) !== '\r\n') return null;
  }
}

export function read(text: string, habits: Habits): Reading {
  const requests: Seen[] = [];
  for (let at = 0; ; ) {
    const head = headAt(text, at, habits.lineEnd);
    if (head === null) return { requests, rest: at };
    const [line = '', ...fields] = head.lines;
    const values = (name: string): string[] =>
      fields.filter((field) => habits.nameOf(field.split(':', 1)[0]!) === name).map((field) => field.slice(field.indexOf(':') + 1).trim());
    const codings = values('transfer-encoding');
    const lengths = values('content-length');
    const host = habits.hostOf(line.split(' ')[1] ?? '', values('host'));
    if (codings.length > 0 && habits.isChunked(codings) && !(habits.prefersLength && lengths.length > 0)) {
      const chunked = chunkedAt(text, head.end, habits);
      if (chunked === null) return { requests, rest: at };
      requests.push({ line, host, body: chunked.body, from: at, to: chunked.end });
      at = chunked.end;
      continue;
    }
    const length = lengths.length === 0 ? 0 : habits.lengthOf(lengths);
    if (!(head.end + length <= text.length)) return { requests, rest: at };
    requests.push({ line, host, body: text.slice(head.end, head.end + length), from: at, to: head.end + length });
    at = head.end + length;
  }
}
