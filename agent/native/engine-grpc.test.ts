// gRPC over the real engine: grpc-js at both ends of one worker thread.
import { once } from 'node:events';
import * as http from 'node:http';
import * as grpc from '@grpc/grpc-js';
import { describe, expect, test } from '@jest/globals';
import { until } from '../../test/lab/eventually.js';
import { Bench, call, closers, http2Upstream, listening, type Upstream } from './testing/http2-scene.js';

const identity = { serialize: (value: Buffer): Buffer => value, deserialize: (bytes: Buffer): Buffer => bytes };
const method = (name: string, requestStream: boolean, responseStream: boolean) => ({
  path: `/test.Echo/${name}`,
  requestStream,
  responseStream,
  requestSerialize: identity.serialize,
  requestDeserialize: identity.deserialize,
  responseSerialize: identity.serialize,
  responseDeserialize: identity.deserialize,
});
const ECHO = {
  unary: method('Unary', false, false),
  upload: method('Upload', true, false),
  download: method('Download', false, true),
  both: method('Both', true, true),
};

async function grpcUpstream(): Promise<Upstream> {
  const server = new grpc.Server();
  server.addService(ECHO, {
    unary: (request: grpc.ServerUnaryCall<Buffer, Buffer>, answer: grpc.sendUnaryData<Buffer>) => {
      if (request.request.toString() === 'sleep') return;
      if (request.request.toString() === 'fail') return answer({ code: grpc.status.ALREADY_EXISTS, details: 'as asked' });
      answer(null, request.request);
    },
    upload: (request: grpc.ServerReadableStream<Buffer, Buffer>, answer: grpc.sendUnaryData<Buffer>) => {
      let size = 0;
      request.on('data', (bytes: Buffer) => {
        size += bytes.length;
      });
      request.on('end', () => answer(null, Buffer.from(String(size))));
    },
    download: (request: grpc.ServerWritableStream<Buffer, Buffer>) => {
      for (let i = 0; i < 100; i++) request.write(Buffer.alloc(10_000));
      request.end();
    },
    both: (request: grpc.ServerDuplexStream<Buffer, Buffer>) => {
      request.on('data', (bytes: Buffer) => request.write(bytes));
      request.on('end', () => request.end());
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) => (error ? reject(error) : resolve(bound)));
  });
  closers.push(() => server.forceShutdown());
  return { port, protocol: 'http2' };
}

let bench: Bench;

describe('gRPC', () => {
  const clientOf = (authority: string): grpc.Client & Record<string, (...args: never[]) => unknown> => {
    const Client = grpc.makeGenericClientConstructor(ECHO, 'Echo');
    const client = new Client(`127.0.0.1:${bench.ports.http2}`, grpc.credentials.createInsecure(), { 'grpc.default_authority': authority });
    closers.push(() => client.close());
    return client as never;
  };
  const unary = (
    client: grpc.Client,
    body: string,
    deadline?: number,
  ): Promise<{ error: grpc.ServiceError | null; body: Buffer | undefined }> =>
    new Promise((resolve) => {
      client.makeUnaryRequest(
        ECHO.unary.path,
        identity.serialize,
        identity.deserialize,
        Buffer.from(body),
        new grpc.Metadata(),
        deadline === undefined ? {} : { deadline: Date.now() + deadline },
        (error, answer) => resolve({ error, body: answer }),
      );
    });

  test('all four kinds of calls', async () => {
    bench = await Bench.start([await grpcUpstream()]);
    const client = clientOf('e0.test');
    expect((await unary(client, 'hello')).body?.toString()).toBe('hello');
    expect((await unary(client, 'fail')).error?.code).toBe(grpc.status.ALREADY_EXISTS);
    const uploaded = await new Promise<Buffer>((resolve, reject) => {
      const upload = client.makeClientStreamRequest(
        ECHO.upload.path,
        identity.serialize,
        identity.deserialize,
        new grpc.Metadata(),
        {},
        (error, answer) => (error ? reject(error) : resolve(answer!)),
      );
      for (let i = 0; i < 100; i++) upload.write(Buffer.alloc(10_000));
      upload.end();
    });
    expect(uploaded.toString()).toBe('1000000');
    const download = client.makeServerStreamRequest(
      ECHO.download.path,
      identity.serialize,
      identity.deserialize,
      Buffer.from('x'),
      new grpc.Metadata(),
      {},
    );
    let downloaded = 0;
    for await (const piece of download) downloaded += (piece as Buffer).length;
    expect(downloaded).toBe(1_000_000);
    const both = client.makeBidiStreamRequest(ECHO.both.path, identity.serialize, identity.deserialize, new grpc.Metadata(), {});
    for (let i = 0; i < 50; i++) {
      both.write(Buffer.from(`message ${i}`));
      const [answer] = (await once(both, 'data')) as [Buffer];
      expect(answer.toString()).toBe(`message ${i}`);
    }
    both.end();
    const [status] = (await once(both, 'status')) as [grpc.StatusObject];
    expect(status.code).toBe(grpc.status.OK);
  });

  test('errors of the proxy are statuses: no route, no upstream, no time', async () => {
    const dead = http.createServer();
    const deadPort = await listening(dead);
    dead.close();
    bench = await Bench.start([await grpcUpstream(), { port: deadPort, protocol: 'http2' }]);
    expect((await unary(clientOf('nowhere.test'), 'x')).error?.code).toBe(grpc.status.UNIMPLEMENTED);
    expect((await unary(clientOf('local.test'), 'x')).error?.code).toBe(grpc.status.UNAVAILABLE);
    expect((await unary(clientOf('e1.test'), 'x')).error?.code).toBe(grpc.status.UNAVAILABLE);
    expect((await unary(clientOf('slow.test'), 'sleep')).error?.code).toBe(grpc.status.DEADLINE_EXCEEDED);
    await until('no attempt outstanding', () => bench.outstanding.every((count) => count === 0));
  });

  test('the deadline is kept by the proxy, and told shortened to the upstream', async () => {
    const told: string[] = [];
    bench = await Bench.start([
      await http2Upstream((stream, headers) => {
        told.push(String(headers['grpc-timeout']));
        stream.on('data', () => {});
      }),
    ]);
    const answer = await call(
      bench.session(),
      {
        ':path': '/test.Echo/Unary',
        ':method': 'POST',
        ':authority': 'e0.test',
        'content-type': 'application/grpc',
        te: 'trailers',
        'grpc-timeout': '150000u',
      },
      Buffer.from([0, 0, 0, 0, 0]),
    );
    expect([answer.status, answer.headers['grpc-status'], answer.headers['content-type']]).toEqual([200, '4', 'application/grpc']);
    expect(told[0]).toMatch(/^(14\d|150)m$/);
    const slow = await call(
      bench.session(),
      {
        ':path': '/test.Echo/Unary',
        ':method': 'POST',
        ':authority': 'slow.test',
        'content-type': 'application/grpc',
        te: 'trailers',
        'grpc-timeout': '5S',
      },
      Buffer.from([0, 0, 0, 0, 0]),
    );
    expect(slow.headers['grpc-status']).toBe('4');
    expect(told[1]).toMatch(/^(19\d|200)m$/);
  });

  test('loses none of 3,000 calls', async () => {
    bench = await Bench.start([await grpcUpstream()]);
    const clients = Array.from({ length: 4 }, () => clientOf('e0.test'));
    let good = 0;
    const one = async (worker: number): Promise<void> => {
      for (let i = 0; i < 75; i++) {
        const text = `${worker} ${i} ${'x'.repeat((i * 37) % 3000)}`;
        if ((await unary(clients[worker % 4]!, text)).body?.toString() === text) good++;
      }
    };
    await Promise.all(Array.from({ length: 40 }, (_, worker) => one(worker)));
    expect(good).toBe(3000);
  });
});
