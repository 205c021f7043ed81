// What stands in a line of the access log, from records as the engine writes them.
import { expect, test } from '@jest/globals';
import { ACCESS_LOG_RECORD_WORDS, AccessLogKind, AccessLogRecord, COMPLETION_REASONS, METHODS } from '../native/engine.js';
import { AccessLogLines } from './access-log-lines.js';

const names = {
  edge: (slot: number, row: number) => ({ source: `shop/web "${slot}"`, service: 'shop/catalog', workload: `shop/catalog-${row}` }),
  rule: (ruleId: number) => (ruleId < 0 ? null : `shop/catalog rule ${ruleId}`),
};
const TEXTS = ['path', 'authority', 'userAgent', 'requestId', 'grpcMessage', 'clientIdentity'] as const;
const LENGTHS = [
  AccessLogRecord.PathLength,
  AccessLogRecord.AuthorityLength,
  AccessLogRecord.UserAgentLength,
  AccessLogRecord.RequestIdLength,
  AccessLogRecord.GrpcMessageLength,
  AccessLogRecord.ClientIdentityLength,
];

interface Given {
  readonly words?: ReadonlyMap<AccessLogRecord, number>;
  readonly texts?: Partial<Record<(typeof TEXTS)[number], string>>;
  readonly startedMs?: number;
  readonly client?: readonly number[];
}

const V4 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255];

function record({ words = new Map(), texts = {}, startedMs = 1_795_281_234_007.9, client = [...V4, 10, 0, 200, 1] }: Given): Buffer {
  const fixed = Buffer.alloc(ACCESS_LOG_RECORD_WORDS * 4);
  const parts = TEXTS.map((name) => Buffer.from(texts[name] ?? '', 'latin1'));
  const set = (word: AccessLogRecord, value: number): number => fixed.writeInt32LE(value, word * 4);
  const defaults = new Map([
    [AccessLogRecord.Kind, AccessLogKind.Http1],
    [AccessLogRecord.Status, 200],
    [AccessLogRecord.Method, METHODS.indexOf('GET')],
    [AccessLogRecord.Token, 7],
    [AccessLogRecord.LatencyUs, 12_340],
    [AccessLogRecord.FirstByteUs, 2_000],
    [AccessLogRecord.Attempts, 1],
    [AccessLogRecord.GrpcStatus, -1],
    [AccessLogRecord.ClientPort, 40_001],
    [AccessLogRecord.DestinationPort, 80],
    [AccessLogRecord.UpstreamPort, 9_000],
  ]);
  for (const [word, value] of [...defaults, ...words]) set(word, value);
  for (const [i, part] of parts.entries()) set(LENGTHS[i]!, part.length);
  fixed.writeDoubleLE(startedMs, AccessLogRecord.StartedMs * 4);
  fixed.writeDoubleLE(5_000_000_000, AccessLogRecord.Received * 4);
  fixed.writeDoubleLE(99, AccessLogRecord.Sent * 4);
  fixed.set(client, AccessLogRecord.ClientAddress * 4);
  fixed.set([...V4, 10, 0, 0, 2], AccessLogRecord.DestinationAddress * 4);
  fixed.set([...V4, 10, 0, 0, 3], AccessLogRecord.UpstreamAddress * 4);
  return Buffer.concat([fixed, ...parts]);
}

function linesOf(given: readonly Given[], errorsOnly = false): string[] {
  let written = '';
  const lines = new AccessLogLines(names, errorsOnly, (bytes) => {
    written += bytes.toString();
  });
  for (const one of given) {
    const bytes = record(one);
    lines.add(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), bytes, 0, 2);
  }
  lines.flush();
  lines.flush();
  return written.split('\n').slice(0, -1);
}

test('a line has all that the record says, in a fixed order', () => {
  const texts = { path: '/a?b=c', authority: 'shop.test', userAgent: 'curl/8', requestId: 'id-1' };
  expect(linesOf([{ texts, words: new Map([[AccessLogRecord.RouteId, 3]]) }])).toEqual([
    '{"time":"2026-11-21T17:13:54.007Z","protocol":"http/1","method":"GET","authority":"shop.test","path":"/a?b=c","status":200,' +
      '"response_flag":"-","route":"shop/catalog rule 3","source":"shop/web \\"2\\"","client":"10.0.200.1:40001","destination":"shop/catalog",' +
      '"destination_address":"10.0.0.2:80","destination_workload":"shop/catalog-7","endpoint":"10.0.0.3:9000","attempts":1,' +
      '"bytes_received":5000000000,"bytes_sent":99,"duration_ms":12.34,"upstream_first_byte_ms":2,"user_agent":"curl/8","request_id":"id-1"}',
  ]);
});

test('whatever bytes a client sends, a line is JSON and stays one line', () => {
  const path = `/"\\\n\r\t\0${Array.from({ length: 256 }, (_, i) => String.fromCharCode(i)).join('')}`;
  const [line, ...more] = linesOf([{ texts: { path, userAgent: '"', authority: 'é' } }]);
  expect(more).toEqual([]);
  expect(JSON.parse(line!)).toMatchObject({ path, user_agent: '"', authority: 'é', request_id: '' });
});

test('gRPC: status and decoded message, or the message as it is', () => {
  const grpc = (grpcMessage: string): Given => ({ texts: { grpcMessage }, words: new Map([[AccessLogRecord.GrpcStatus, 14]]) });
  expect(linesOf([grpc('nicht m%C3%B6glich "%0A"'), grpc('50%')]).map((line) => JSON.parse(line))).toMatchObject([
    { grpc_status: 14, grpc_message: 'nicht möglich "\n"' },
    { grpc_status: 14, grpc_message: '50%' },
  ]);
});

test('a connection has the server name in place of what only requests have', () => {
  const words = new Map([
    [AccessLogRecord.Kind, AccessLogKind.Opaque],
    [AccessLogRecord.UpstreamPort, 0],
    [AccessLogRecord.FirstByteUs, -1],
    [AccessLogRecord.RouteId, -1],
    [AccessLogRecord.TlsVersion, 772],
    [AccessLogRecord.Reason, COMPLETION_REASONS.indexOf('UF')],
  ]);
  const client = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
  const texts = { authority: 'db.test', clientIdentity: 'spiffe://mesh/ns/shop' };
  const parsed = JSON.parse(linesOf([{ words, client, texts }])[0]!) as Record<string, unknown>;
  expect(parsed).toMatchObject({
    protocol: 'tcp',
    server_name: 'db.test',
    response_flag: 'UF',
    route: null,
    client: '[2001:db8::1]:40001',
    tls_version: '1.3',
    client_identity: 'spiffe://mesh/ns/shop',
    endpoint: null,
    upstream_first_byte_ms: null,
  });
  for (const name of ['method', 'path', 'status', 'user_agent', 'request_id']) expect(parsed).not.toHaveProperty(name);
});

test('errors only: what failed is written, what went well is not', () => {
  const status = (value: number, grpcStatus = -1): Given => ({
    words: new Map([
      [AccessLogRecord.Status, value],
      [AccessLogRecord.GrpcStatus, grpcStatus],
    ]),
  });
  const lines = linesOf([status(200), status(404), status(503), status(200, 0), status(200, 5)], true);
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ status: 503 }, { grpc_status: 5 }]);
});

test('more lines than a piece of memory holds are all written whole', () => {
  const path = `/${'"'.repeat(2_000)}`;
  const lines = linesOf(Array.from({ length: 600 }, (_, i) => ({ texts: { path }, startedMs: 1_795_281_234_000 + i })));
  expect(lines).toHaveLength(600);
  lines.forEach((line, i) => {
    expect(JSON.parse(line)).toMatchObject({ path, time: new Date(1_795_281_234_000 + i).toISOString() });
  });
});
