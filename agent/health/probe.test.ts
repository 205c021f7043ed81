// Against real servers on loopback.
import { createServer as createHttp } from 'node:http';
import { createServer as createHttp2 } from 'node:http2';
import { createServer as createHttps } from 'node:https';
import { type AddressInfo, createServer as createTcp, type Server, type Socket } from 'node:net';
import { Server as GrpcServer, ServerCredentials, status } from '@grpc/grpc-js';
import { afterEach, expect, test } from '@jest/globals';
import { HealthCheck, HealthCheck_Type } from '../../api/gen/mesh/v1/model.js';
import { Certificates } from '../../test/lab/certificates.js';
import { probe } from './probe.js';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

async function listen(server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => sockets.add(socket));
  closers.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

function ask(port: number, check: Partial<HealthCheck>) {
  const whole = HealthCheck.fromPartial({ timeoutMs: 2_000, path: '/', ...check });
  return probe(whole, { address: '127.0.0.1', port }, new AbortController().signal);
}

const well = { isWell: true };
const because = (detail: string) => ({ isWell: false, detail: expect.stringContaining(detail) });

test('TCP: an open port is well, a closed one is refused', async () => {
  const server = createTcp(() => {});
  const port = await listen(server);
  expect(await ask(port, {})).toEqual(well);
  await new Promise((resolve) => server.close(resolve));
  expect(await ask(port, {})).toEqual(because('ECONNREFUSED'));
});

test('HTTP: status, path and host are as the check says, and redirections are not followed', async () => {
  const seen: string[] = [];
  const server = createHttp((request, response) => {
    seen.push(`${request.headers.host} ${request.url}`);
    response.writeHead(request.url === '/bad' ? 503 : request.url === '/moved' ? 302 : 200, { location: '/bad' }).end('a body');
  });
  const port = await listen(server);
  expect(await ask(port, { type: HealthCheck_Type.HTTP, path: '/ok', host: 'shop.test' })).toEqual(well);
  expect(await ask(port, { type: HealthCheck_Type.HTTP, path: '/bad' })).toEqual({ isWell: false, detail: 'HTTP 503 from /bad' });
  expect(await ask(port, { type: HealthCheck_Type.HTTP, path: '/bad', statuses: [{ first: 500, last: 503 }] })).toEqual(well);
  expect(await ask(port, { type: HealthCheck_Type.HTTP, path: '/moved' })).toEqual(well);
  expect(seen).toEqual(['shop.test /ok', `127.0.0.1:${port} /bad`, `127.0.0.1:${port} /bad`, `127.0.0.1:${port} /moved`]);
});

test('HTTP: a server that never answers, floods, or speaks something else fails in its time', async () => {
  const silent = await listen(createTcp(() => {}));
  expect(await ask(silent, { type: HealthCheck_Type.HTTP, timeoutMs: 50 })).toEqual({ isWell: false, detail: 'no answer within 50 ms' });
  const flood = await listen(
    createTcp((socket) => void socket.on('error', () => {}).write(`HTTP/1.1 200 OK\r\n${'x-a: b\r\n'.repeat(10_000)}`)),
  );
  expect(await ask(flood, { type: HealthCheck_Type.HTTP })).toEqual(because('Header overflow'));
  const ssh = await listen(createTcp((socket) => void socket.on('error', () => {}).end('SSH-2.0-x\r\n')));
  expect(await ask(ssh, { type: HealthCheck_Type.HTTP })).toEqual(because('Parse Error'));
});

test('over TLS any certificate will do, by HTTP and by TCP', async () => {
  const certificates = new Certificates();
  closers.push(() => certificates.remove());
  const { key, cert } = certificates.authority('health.test');
  const server = createHttps({ key, cert }, (_, response) => void response.end());
  const port = await listen(server);
  expect(await ask(port, { type: HealthCheck_Type.HTTP, tls: true, serverName: 'health.test' })).toEqual(well);
  expect(await ask(port, { tls: true })).toEqual(well);
  const plain = await listen(createTcp((socket) => void socket.on('error', () => {}).end('no tls')));
  expect(await ask(plain, { tls: true })).toMatchObject({ isWell: false });
});

/** grpc.health.v1 as protobuf's wire format has it: the request's service, the answer's status. */
async function grpcHealth(statuses: Record<string, number>): Promise<number> {
  const server = new GrpcServer();
  const check = {
    path: '/grpc.health.v1.Health/Check',
    requestStream: false,
    responseStream: false,
    requestSerialize: (value: Buffer) => value,
    requestDeserialize: (bytes: Buffer) => ({ service: bytes.subarray(2).toString() }),
    responseSerialize: (value: number) => Buffer.from([0x08, value]),
    responseDeserialize: (bytes: Buffer) => bytes[1],
  };
  server.addService({ check } as never, {
    check: (call: { request: { service: string } }, reply: (error: object | null, value?: number) => void) => {
      const serving = statuses[call.request.service];
      if (serving === undefined) reply({ code: status.NOT_FOUND, details: 'unknown service' });
      else reply(null, serving);
    },
  });
  closers.push(() => server.forceShutdown());
  return new Promise((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => (error === null ? resolve(port) : reject(error))),
  );
}

test('gRPC: a real server of grpc.health.v1 is asked for the service, and its status counts', async () => {
  const port = await grpcHealth({ '': 1, 'shop.Catalog': 2 });
  expect(await ask(port, { type: HealthCheck_Type.GRPC })).toEqual(well);
  expect(await ask(port, { type: HealthCheck_Type.GRPC, grpcService: 'shop.Catalog' })).toEqual({
    isWell: false,
    detail: 'gRPC NOT_SERVING',
  });
  expect(await ask(port, { type: HealthCheck_Type.GRPC, grpcService: 'shop.Other' })).toEqual(because('NOT_FOUND'));
});

test('gRPC: servers without the service, without gRPC, and without an answer', async () => {
  const bare = new GrpcServer();
  closers.push(() => bare.forceShutdown());
  const port = await new Promise<number>((resolve) =>
    bare.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (_, bound) => resolve(bound)),
  );
  expect(await ask(port, { type: HealthCheck_Type.GRPC })).toEqual(because('UNIMPLEMENTED'));
  const web = await listen(createHttp2((_, response) => void response.writeHead(404).end()) as never);
  expect(await ask(web, { type: HealthCheck_Type.GRPC })).toEqual(because('HTTP 404'));
  const http1 = await listen(createHttp((_, response) => void response.end()));
  expect(await ask(http1, { type: HealthCheck_Type.GRPC })).toMatchObject({ isWell: false });
  const silent = await listen(createTcp(() => {}));
  expect(await ask(silent, { type: HealthCheck_Type.GRPC, timeoutMs: 50 })).toEqual(because('no answer within 50 ms'));
});
