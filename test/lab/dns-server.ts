// A DNS server on a port of its own, over UDP, whose answers a test sets. For clients that can be told where it is.
import { createSocket } from 'node:dgram';
import { isIPv6 } from 'node:net';

export interface DnsRecord {
  readonly addresses?: readonly string[];
  readonly ttl?: number;
  /** 0 (a name without records), 2 SERVFAIL, 3 NXDOMAIN; "silent": nothing is answered. */
  readonly code?: number | 'silent';
}

export interface TestDns {
  /** "127.0.0.1:port" */
  readonly address: string;
  /** By name; a name that is not in it does not exist. Either for both types, or for one of them. */
  readonly records: Map<string, DnsRecord | { readonly a: DnsRecord; readonly aaaa: DnsRecord }>;
  /** Of names, in the order in which they came. */
  readonly questions: string[];
  stop(): void;
}

const AAAA = 28;

export async function startDns(): Promise<TestDns> {
  const socket = createSocket('udp4');
  const records: TestDns['records'] = new Map();
  const questions: string[] = [];
  socket.on('message', (query, { address, port }) => {
    const { name, type, end } = questionOf(query);
    questions.push(`${name} ${type === AAAA ? 'AAAA' : 'A'}`);
    const found = records.get(name) ?? { code: 3 };
    const record = 'a' in found ? (type === AAAA ? found.aaaa : found.a) : found;
    if (record.code !== 'silent') socket.send(answerTo(query.subarray(0, end), type, record), port, address);
  });
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  return { address: `127.0.0.1:${socket.address().port}`, records, questions, stop: () => void socket.close() };
}

/** RFC 1035, 4.1.2. */
function questionOf(query: Buffer): { name: string; type: number; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.').toLowerCase(), type: query.readUInt16BE(at + 1), end: at + 5 };
}

function answerTo(question: Buffer, type: number, { addresses = [], ttl = 60, code = 0 }: DnsRecord): Buffer {
  const head = Buffer.from(question);
  const ofType = addresses.filter((address) => isIPv6(address) === (type === AAAA));
  head.writeUInt16BE(0x8180 | (typeof code === 'number' ? code : 0), 2);
  head.writeUInt16BE(ofType.length, 6);
  head.writeUInt32BE(0, 8);
  const answers = ofType.map((address) => {
    const data = isIPv6(address) ? bytesOfV6(address) : Buffer.from(address.split('.').map(Number));
    const record = Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, 0, 0, data.length]);
    record.writeUInt32BE(ttl, 6);
    return Buffer.concat([record, data]);
  });
  return Buffer.concat([head, ...answers]);
}

function bytesOfV6(address: string): Buffer {
  const [left = '', right = ''] = address.split('::');
  const groups = (text: string): number[] => (text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16)));
  const [first, last] = [groups(left), groups(right)];
  const all = [...first, ...new Array<number>(8 - first.length - last.length).fill(0), ...last];
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 255]));
}
