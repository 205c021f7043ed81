// gRPC-Web through the real `weft proxy --static` process: Connect's client, and raw requests, to a real gRPC server.
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, createFileRegistry, type DescMethodServerStreaming, type DescMethodUnary, type MessageShape } from '@bufbuild/protobuf';
import {
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  FieldDescriptorProto_Label as Label,
  FieldDescriptorProto_Type as Type,
} from '@bufbuild/protobuf/wkt';
import { Code, type ConnectError, type Transport } from '@connectrpc/connect';
import { createGrpcWebTransport } from '@connectrpc/connect-node';
import * as grpc from '@grpc/grpc-js';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { eventually } from '../lab/eventually.js';
import { freePort } from '../lab/ports.js';
import { accessLog, gatewayManifest, ProxyProcess, serviceManifest } from '../lab/proxy-process.js';

const note = {
  name: 'Note',
  field: [{ name: 'text', jsonName: 'text', number: 1, type: Type.STRING, label: Label.OPTIONAL }],
};
const messages = { inputType: '.test.Note', outputType: '.test.Note' };
const registry = createFileRegistry(
  create(FileDescriptorSetSchema, {
    file: [
      create(FileDescriptorProtoSchema, {
        name: 'test.proto',
        package: 'test',
        syntax: 'proto3',
        messageType: [note],
        service: [
          {
            name: 'Echo',
            method: [
              { name: 'Say', ...messages },
              { name: 'Count', serverStreaming: true, ...messages },
            ],
          },
        ],
      }),
    ],
  }),
);
const service = registry.getService('test.Echo')!;
const [say, count] = service.methods as [DescMethodUnary, DescMethodServerStreaming];

/** One short text field, as protobuf writes it. */
function encode(text: string): Buffer {
  const bytes = Buffer.from(text);
  const length = bytes.length < 128 ? [bytes.length] : [(bytes.length & 127) | 128, ((bytes.length >> 7) & 127) | 128, bytes.length >> 14];
  return Buffer.concat([Buffer.from([0x0a, ...length]), bytes]);
}
function decode(bytes: Buffer): string {
  let at = 1;
  while ((bytes[at++]! & 128) !== 0);
  return bytes.subarray(at).toString();
}
function frame(text: string): Buffer {
  const message = encode(text);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

const cleanups: (() => unknown)[] = [];
afterAll(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
let port = 0;
let metricsPort = 0;
let logFile = '';
const seen: grpc.Metadata[] = [];

async function startServer(): Promise<number> {
  const server = new grpc.Server();
  const method = (name: string, responseStream: boolean) => ({
    path: `/test.Echo/${name}`,
    requestStream: false,
    responseStream,
    requestSerialize: encode,
    requestDeserialize: decode,
    responseSerialize: encode,
    responseDeserialize: decode,
  });
  server.addService(
    { Say: method('Say', false), Count: method('Count', true) },
    {
      Say: (call: grpc.ServerUnaryCall<string, string>, reply: grpc.sendUnaryData<string>) => {
        seen.push(call.metadata);
        const trailers = new grpc.Metadata();
        trailers.set('x-trailer', 'at the end');
        if (call.request === 'fail') reply({ code: grpc.status.NOT_FOUND, details: 'no such ünit', metadata: trailers });
        else if (call.request !== 'never') reply(null, call.request, trailers);
      },
      Count: (call: grpc.ServerWritableStream<string, string>) => {
        for (let i = 0; i < Number(call.request); i++) call.write(`${i}`);
        call.end();
      },
    },
  );
  const bound = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, at) => (error ? reject(error) : resolve(at))),
  );
  cleanups.push(() => server.forceShutdown());
  return bound;
}

beforeAll(async () => {
  const folder = mkdtempSync(join(tmpdir(), 'grpcweb-'));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  port = await freePort();
  const route = (host: string, name: string): string => `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ${name}}
spec:
  parentRefs: [{name: edge}]
  hostnames: [${host}]
  rules: [{matches: [{path: {type: PathPrefix, value: /test.Echo}}], backendRefs: [{name: ${name}, port: 80}]}]
---`;
  const file = join(folder, 'web.yaml');
  const declared = (name: string, to: number): string => serviceManifest(name, to).replace('appProtocol: http', 'appProtocol: grpc');
  writeFileSync(
    file,
    `${declared('echo', await startServer())}${declared('gone', await freePort())}${route('localhost', 'echo')}${route('gone.test', 'gone')}${gatewayManifest(`{name: http, port: ${port}, protocol: HTTP}`)}`,
  );
  logFile = join(folder, 'access.log');
  metricsPort = await freePort();
  const log = ['--access-log', 'all', '--access-log-file', logFile];
  const proxy = ProxyProcess.start(file, folder, ...log, '--metrics-listen', `127.0.0.1:${metricsPort}`);
  cleanups.push(() => proxy.kill());
  await proxy.says('"ready"');
});

async function unary(transport: Transport, text: string, timeoutMs?: number) {
  const answer = await transport.unary(say, undefined, timeoutMs, undefined, { text });
  return { text: (answer.message as MessageShape<typeof say.output> & { text: string }).text, trailer: answer.trailer };
}
async function failure(work: Promise<unknown>): Promise<ConnectError> {
  return work.then(
    () => {
      throw new Error('no error came');
    },
    (error: ConnectError) => error,
  );
}

for (const httpVersion of ['1.1', '2'] as const) {
  const connectTransport = (): Transport => createGrpcWebTransport({ baseUrl: `http://localhost:${port}`, httpVersion });

  test(`Connect's client over HTTP/${httpVersion}: messages, trailers and streams come as they were sent`, async () => {
    const transport = connectTransport();
    const long = 'é'.repeat(300_000);
    for (const text of ['hello', long]) {
      const answer = await unary(transport, text);
      expect(answer.text).toBe(text);
      expect(answer.trailer.get('x-trailer')).toBe('at the end');
    }
    const stream = await transport.stream(count, undefined, undefined, undefined, one({ text: '500' }));
    const received: string[] = [];
    for await (const message of stream.message) received.push((message as unknown as { text: string }).text);
    expect(received).toEqual(Array.from({ length: 500 }, (_, i) => `${i}`));
  });

  test(`Connect's client over HTTP/${httpVersion}: the server's errors and ours are gRPC's`, async () => {
    const transport = connectTransport();
    const theirs = await failure(unary(transport, 'fail'));
    expect([theirs.code, theirs.rawMessage, theirs.metadata.get('x-trailer')]).toEqual([Code.NotFound, 'no such ünit', 'at the end']);
    expect((await failure(unary(transport, 'never', 200))).code).toBe(Code.DeadlineExceeded);
    const unknown = createGrpcWebTransport({ baseUrl: `http://localhost:${port}/nowhere`, httpVersion });
    expect((await failure(unary(unknown, 'x'))).code).toBe(Code.Unimplemented);
  });
}

async function* one<T>(value: T): AsyncGenerator<T> {
  yield value;
}

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}
async function answerOf(sent: ClientRequest): Promise<Answer> {
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk);
  return { status: response.statusCode!, headers: response.headers, body: Buffer.concat(chunks) };
}
function post(type: string, path = '/test.Echo/Say', host = 'localhost'): ClientRequest {
  return request({ port, host: '127.0.0.1', path, method: 'POST', headers: { host, 'content-type': type } });
}
/** Texts that were padded one by one. */
function decodeText(body: Buffer): Buffer {
  return Buffer.concat((body.toString().match(/[^=]{4}|[^=]{2}==|[^=]{3}=/g) ?? []).map((quantum) => Buffer.from(quantum, 'base64')));
}
/** The messages, then the trailers' lines. */
function framesOf(body: Buffer): { messages: string[]; trailers: string[] } {
  const messages: string[] = [];
  for (let at = 0; at < body.length; ) {
    const end = at + 5 + body.readUInt32BE(at + 1);
    const payload = body.subarray(at + 5, end);
    if (body[at] === 0x80)
      return {
        messages,
        trailers: payload
          .toString()
          .split('\r\n')
          .filter((line) => line !== '')
          .sort(),
      };
    messages.push(decode(payload));
    at = end;
  }
  return { messages, trailers: [] };
}

test('the text form is read at every split of its base64, and padded anywhere', async () => {
  const message = frame('split me');
  const texts = [message.toString('base64'), message.subarray(0, 7).toString('base64') + message.subarray(7).toString('base64')];
  for (const text of texts) {
    for (let split = 0; split <= text.length; split++) {
      const sent = post('application/grpc-web-text+proto');
      sent.setNoDelay(true);
      if (split > 0) sent.write(text.slice(0, split));
      sent.end(text.slice(split));
      const { status, headers, body } = await answerOf(sent);
      expect([status, headers['content-type']]).toEqual([200, 'application/grpc-web-text+proto']);
      expect(framesOf(decodeText(body))).toEqual({
        messages: ['split me'],
        trailers: ['grpc-message: OK', 'grpc-status: 0', 'x-trailer: at the end'],
      });
    }
  }
});

test('the length of the text is not the server’s business', async () => {
  const sent = post('application/grpc-web-text');
  const text = frame('x').toString('base64');
  sent.setHeader('content-length', text.length);
  sent.setHeader('grpc-timeout', '5S');
  sent.end(text);
  expect(framesOf(decodeText((await answerOf(sent)).body)).messages).toEqual(['x']);
  const metadata = seen.at(-1)!;
  expect(metadata.get('content-length')).toEqual([]);
});

test('long texts pass in pieces', async () => {
  const text = 'p'.repeat(1_000_000);
  const sent = post('application/grpc-web-text');
  sent.end(frame(text).toString('base64'));
  expect(framesOf(decodeText((await answerOf(sent)).body)).messages).toEqual([text]);
});

test('malformed base64 is refused in words; so is an end within a quantum', async () => {
  for (const text of ['not base64!', 'AAA', 'AB==']) {
    const sent = post('application/grpc-web-text');
    sent.end(text);
    const { status, headers, body } = await answerOf(sent);
    expect([status, headers['content-type'], headers['grpc-status'], body.length]).toEqual([
      200,
      'application/grpc-web-text+proto',
      '13',
      0,
    ]);
    expect(headers['grpc-message']).toBe('malformed base64 in the body of a grpc-web-text request');
  }
});

test('our own errors are trailers-only, in the form of the request', async () => {
  const sent = post('application/grpc-web', '/test.Echo/Say', 'gone.test');
  sent.end(frame('x'));
  const { status, headers } = await answerOf(sent);
  expect([status, headers['content-type'], headers['grpc-status'], headers['grpc-message']]).toEqual([
    200,
    'application/grpc-web+proto',
    '14',
    'upstream connect failure',
  ]);
});

test('metrics and the access log tell what gRPC clients were told, and the request id that the gateway made', async () => {
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), { 'grpc.default_authority': 'localhost' });
  cleanups.push(() => client.close());
  const call = (text: string, metadata = new grpc.Metadata()): Promise<number> =>
    new Promise((resolve) => {
      client.makeUnaryRequest('/test.Echo/Say', encode, decode, text, metadata, (error) => resolve(error?.code ?? 0));
    });
  const [ok, failed] = ['native-ok', 'native-failed'].map((agent) => {
    const metadata = new grpc.Metadata();
    metadata.set('x-request-id', agent);
    return metadata;
  });
  expect(await call('fine', ok)).toBe(0);
  expect(await call('fail', failed)).toBe(grpc.status.NOT_FOUND);
  const web = post('application/grpc-web', '/test.Echo/Say', 'gone.test');
  web.setHeader('user-agent', 'telemetry-test');
  web.end(frame('x'));
  await answerOf(web);
  type Line = { request_id: string; user_agent: string; status: number; grpc_status: number; grpc_message: string };
  const lines = async (): Promise<Line[]> => accessLog(logFile) as Line[];
  const all = await eventually(lines, (found) => found.some(({ user_agent }) => user_agent === 'telemetry-test'));
  const line = (is: (line: Line) => boolean): Line | undefined => all.find(is);
  expect(line(({ request_id }) => request_id === 'native-ok')).toMatchObject({ status: 200, grpc_status: 0 });
  expect(line(({ request_id }) => request_id === 'native-failed')).toMatchObject({ grpc_status: 5, grpc_message: 'no such ünit' });
  const told = line(({ user_agent }) => user_agent === 'telemetry-test')!;
  expect(told).toMatchObject({ status: 503, grpc_status: 14, grpc_message: 'upstream connect failure' });
  const metrics = async (): Promise<string> => (await answerOf(request({ port: metricsPort, path: '/metrics' }).end())).body.toString();
  const text = await eventually(
    metrics,
    (seenText) => seenText.includes('grpc_response_status="5"') && seenText.includes('grpc_response_status="14"'),
  );
  expect(text).toMatch(/istio_requests_total\{[^}]*request_protocol="grpc"[^}]*response_code="200"[^}]*grpc_response_status="5"/);
  expect(text).toMatch(/istio_requests_total\{[^}]*response_code="503"[^}]*grpc_response_status="14"/);
  // The gateway made this one's, and the server was told the same.
  seen.length = 0;
  expect(await call('fine')).toBe(0);
  const made = seen[0]!.get('x-request-id')[0] as string;
  expect(made).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4/);
  const again = await eventually(lines, (found) => found.some(({ request_id }) => request_id === made));
  expect(again.filter(({ request_id }) => request_id === made)).toHaveLength(1);
});
