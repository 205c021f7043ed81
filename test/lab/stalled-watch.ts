// An etcd of which the watches can be held up while every other call goes through: what a replica behind a lossy connection sees. Passes HTTP/2 on, stream
// by stream; knows nothing of etcd but the watch's path.
import { once } from 'node:events';
import { connect, createServer, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { type AddressInfo, connect as connectSocket } from 'node:net';

const WATCH = '/etcdserverpb.Watch/Watch';

export interface StallableEtcd {
  /** For --etcd. */
  readonly endpoint: string;
  /** From now on no watch hears anything, old or new. */
  stall(): void;
  close(): void;
}

/** `endpoint`: "unix:/path". */
export async function stallableEtcd(endpoint: string): Promise<StallableEtcd> {
  let isStalled = false;
  const stalls = new Set<() => void>();
  const etcd = connect('http://etcd', { createConnection: () => connectSocket(endpoint.replace('unix:', '')) });
  const server = createServer();
  server.on('stream', (downstream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    const upstream = etcd.request(headers);
    let trailers: IncomingHttpHeaders = {};
    const ends = (): void => {
      upstream.close();
      if (!downstream.destroyed) downstream.close();
    };
    upstream.on('response', (response) => {
      downstream.respond(response, { waitForTrailers: true });
      if (headers[':path'] !== WATCH) return void upstream.pipe(downstream);
      stalls.add(() => upstream.unpipe(downstream));
      if (!isStalled) upstream.pipe(downstream);
    });
    upstream.on('trailers', (received) => {
      trailers = received;
    });
    downstream.on('wantTrailers', () => downstream.sendTrailers(trailers));
    downstream.pipe(upstream);
    for (const stream of [upstream, downstream]) stream.on('error', ends);
    downstream.on('close', ends);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    stall: () => {
      isStalled = true;
      for (const stall of stalls) stall();
    },
    close: () => {
      server.close();
      etcd.destroy();
    },
  };
}
