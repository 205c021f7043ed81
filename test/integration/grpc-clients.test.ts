// grpc-js clients and servers through a gateway, in all four call kinds.
import { randomBytes } from 'node:crypto';
import { type ServiceError, status } from '@grpc/grpc-js';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { eventually } from '../lab/eventually.js';
import { Gateway } from '../lab/gateway.js';
import { GrpcEchoClient, SCATTERED, startGrpcEcho } from '../lab/grpc-echo.js';

let server: Awaited<ReturnType<typeof startGrpcEcho>>;
let gateway: Gateway;
let client: GrpcEchoClient;
beforeAll(async () => {
  server = await startGrpcEcho();
  gateway = await Gateway.start([{ name: 'echo', port: server.port, appProtocol: 'grpc', prefix: '/weft.test.Echo' }]);
  client = new GrpcEchoClient(gateway.port);
});
afterAll(async () => {
  client?.close();
  await gateway?.stop();
  server?.stop();
});

const message = (size: number): Buffer => Buffer.concat([Buffer.from([1]), randomBytes(size)]);

test('unary: from nothing to a message of 4 MiB', async () => {
  for (const size of [0, 1, 1_000, 65_535, 300_000, 4 << 20]) {
    const sent = message(size);
    expect((await client.unary(sent)).equals(sent)).toBe(true);
  }
});

test('a stream of requests, a stream of answers, and a conversation', async () => {
  const messages = [0, 10, 100_000, 3, 70_000].map(message);
  expect((await client.gather(messages)).equals(Buffer.concat(messages))).toBe(true);
  const scattered = await client.scatter(messages[2]!);
  expect(scattered).toHaveLength(SCATTERED);
  expect(Buffer.concat(scattered).equals(messages[2]!)).toBe(true);
  expect(Buffer.concat(await client.chat(messages)).equals(Buffer.concat(messages))).toBe(true);
});

test('a thousand calls at once over one connection of the client’s', async () => {
  const before = await gateway.proxy.counter('downstream_accepted');
  const sent = Array.from({ length: 1_000 }, (_, i) => message(i));
  const answers = await Promise.all(sent.map((one) => client.unary(one)));
  expect(answers.every((answer, i) => answer.equals(sent[i]!))).toBe(true);
  expect(await gateway.proxy.counter('downstream_accepted')).toBe(before);
});

test('the server’s own errors, its message included, are the client’s', async () => {
  const error = (await client.unary(Buffer.alloc(0)).catch((reason) => reason)) as ServiceError;
  expect([error.code, error.details]).toEqual([status.INVALID_ARGUMENT, 'nothing to echo, 100 % empty']);
});

test('a deadline ends the call at both ends, and a cancelled one leaves nothing behind', async () => {
  const error = (await client.unary(Buffer.from([0]), { deadline: Date.now() + 150 }).catch((reason) => reason)) as ServiceError;
  expect(error.code).toBe(status.DEADLINE_EXCEEDED);
  await client.cutChat(message(10));
  const sent = message(10);
  expect((await client.unary(sent)).equals(sent)).toBe(true);
  const open = await eventually(
    () => gateway.proxy.counter('http2_streams_open'),
    (count) => count === 0,
  );
  expect(open).toBe(0);
});
