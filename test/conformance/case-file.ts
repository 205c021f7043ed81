// Reads the case files (cases/*.txt): conversations through the proxy, byte for byte. README.md explains the format. Must not know of sockets.

/** Bytes are latin1 strings throughout the suite: one character is one byte. */
export type Step =
  | { readonly kind: 'client sends' | 'origin sends' | 'origin receives' | 'client receives'; readonly bytes: string }
  | {
      readonly kind:
        | 'client receives the end'
        | 'client is reset'
        | 'client ends'
        | 'origin ends'
        | 'origin resets'
        | 'origin receives the end'
        | 'origin receives no whole request'
        | 'client receives no whole answer';
    };

export interface Case {
  /** Section and requirement. */
  readonly name: string;
  readonly line: number;
  readonly steps: readonly Step[];
  /** The conversation leaves a connection that must carry another request. */
  readonly endsOpen: boolean;
}

const REASONS: Readonly<Record<string, string>> = {
  '400': 'Bad Request',
  '417': 'Expectation Failed',
  '431': 'Request Header Fields Too Large',
  '501': 'Not Implemented',
  '502': 'Bad Gateway',
  '503': 'Service Unavailable',
  '505': 'HTTP Version Not Supported',
};

const ENDING: ReadonlySet<string> = new Set([
  'client receives the end',
  'client receives no whole answer',
  'client is reset',
  'client ends',
]);

/** What a gateway adds to every request (docs/proxy.md); the id is different every time and replaced before comparing. */
const GATEWAY_LINES = 'x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-request-id: <made>\r\n';

export class CaseFileError extends Error {}

export function parseCases(text: string, file: string): Case[] {
  const cases: Case[] = [];
  let name = '';
  let began = 0;
  let steps: Step[] = [];
  const finish = (): void => {
    if (name === '') return;
    if (steps.length === 0) throw new CaseFileError(`${file}:${began}: no steps`);
    cases.push({ name, line: began, steps, endsOpen: endsOpen(steps) });
  };
  for (const [index, line] of text.split('\n').entries()) {
    const where = `${file}:${index + 1}`;
    if (line.startsWith('== ')) {
      finish();
      [name, began, steps] = [line.slice(3), index + 1, []];
    } else if (line.startsWith('|')) {
      const step = steps.at(-1);
      if (step === undefined || !('bytes' in step)) throw new CaseFileError(`${where}: no step that has bytes stands above`);
      steps[steps.length - 1] = { ...step, bytes: step.bytes + lineBytes(line.slice(line[1] === ' ' ? 2 : 1), where) };
    } else if (line !== '' && !line.startsWith('#')) {
      if (name === '') throw new CaseFileError(`${where}: a step before the first case`);
      steps.push(...stepsOf(line, where));
    }
  }
  finish();
  return cases;
}

/** After these nothing more can be asked on the client's connection; elsewhere a probe follows. */
function endsOpen(steps: readonly Step[]): boolean {
  return !steps.some(({ kind }) => ENDING.has(kind));
}

function stepsOf(line: string, where: string): Step[] {
  const local = /^client is (refused with|answered) (\d\d\d)$/.exec(line);
  if (local !== null) {
    const [, verb, status = ''] = local;
    const reason = REASONS[status];
    if (reason === undefined) throw new CaseFileError(`${where}: no reason phrase for ${status}`);
    const head = `HTTP/1.1 ${status} ${reason}\r\ncontent-length: 0\r\n`;
    if (verb === 'answered') return [{ kind: 'client receives', bytes: `${head}\r\n` }];
    return [{ kind: 'client receives', bytes: `${head}connection: close\r\n\r\n` }, { kind: 'client receives the end' }];
  }
  switch (line) {
    case 'client sends':
    case 'origin sends':
    case 'origin receives':
    case 'client receives':
      return [{ kind: line, bytes: '' }];
    case 'client receives the end':
    case 'client is reset':
    case 'client ends':
    case 'origin ends':
    case 'origin resets':
    case 'origin receives the end':
    case 'origin receives no whole request':
    case 'client receives no whole answer':
      return [{ kind: line }];
    default:
      throw new CaseFileError(`${where}: "${line}" is no step`);
  }
}

/** A line of a block: CRLF is added unless it ends with a backslash. */
function lineBytes(line: string, where: string): string {
  if (line === '{gateway}') return GATEWAY_LINES;
  const continues = line.endsWith('\\') && !line.endsWith('\\\\');
  const source = continues ? line.slice(0, -1) : line;
  const bytes = source
    .replace(/\{(.+?)\*(\d+)\}/g, (_, what: string, times: string) => what.repeat(Number(times)))
    .replace(/\\(x[0-9a-fA-F]{2}|.)/g, (_, code: string) => {
      if (code.startsWith('x') && code.length === 3) return String.fromCharCode(Number.parseInt(code.slice(1), 16));
      const byte = { r: '\r', n: '\n', t: '\t', '\\': '\\' }[code];
      if (byte === undefined) throw new CaseFileError(`${where}: \\${code} is no escape`);
      return byte;
    });
  return continues ? bytes : `${bytes}\r\n`;
}

/**
 * Chunk borders say nothing (RFC 9112 7.1), and where they fall depends on timing: every run of chunks becomes one. Chunks that are
 * malformed, or have extensions, stay as they are and so differ from what is expected.
 */
export function joinChunks(bytes: string): string {
  let out = '';
  let rest = bytes;
  for (;;) {
    const head = /(?:^|\r\n)transfer-encoding: chunked\r\n(?:[^\r\n]+\r\n)*\r\n/.exec(rest);
    if (head === null) return out + rest;
    out += rest.slice(0, head.index + head[0].length);
    rest = rest.slice(head.index + head[0].length);
    let payload = '';
    for (let size = /^([0-9a-f]+)\r\n/.exec(rest); size !== null && !/^0+$/.test(size[1]!); size = /^([0-9a-f]+)\r\n/.exec(rest)) {
      const end = size[0].length + Number.parseInt(size[1]!, 16);
      if (rest.slice(end, end + 2) !== '\r\n') break;
      payload += rest.slice(size[0].length, end);
      rest = rest.slice(end + 2);
    }
    if (payload !== '') out += `${payload.length.toString(16)}\r\n${payload}\r\n`;
  }
}
