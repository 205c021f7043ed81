// A shop process: answers at its pod's port with JSON, after calling the services it depends on; knows nothing of any mesh. Its lab
// reads its counts and orders its load on a unix socket, which no network carries.
// Usage: node pod.js '{"pod": …PodOptions}'
import { rmSync } from 'node:fs';
import http from 'node:http';
import { Arrivals } from './arrivals.js';
import { Calls } from './calls.js';
import { Load } from './load.js';
import { type Family, type LoadOrder, type PodReport, REQUEST_HEADER, type ShopAnswer } from './protocol.js';

export interface PodOptions {
  readonly workload: string;
  readonly service: string;
  readonly version: string;
  readonly port: number;
  readonly addresses: readonly string[];
  readonly calls: readonly string[];
  readonly controlSocket: string;
}

/** Longer than any proxy keeps an idle connection, so that it is never this side that closes under a request. */
const KEEP_ALIVE_MS = 75_000;
const MAPPED = /^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/;

function main(options: PodOptions): void {
  const calls = new Calls(options);
  const arrivals = new Arrivals();
  // Families and services alternate independently of each other: all pairs occur equally often.
  const load = new Load((number) => calls.call(options.calls[number % options.calls.length] ?? '', familyOf(number >> 1)));
  listen(options, calls, arrivals);
  control(options, calls, arrivals, load);
}

function familyOf(number: number): Family {
  return number % 2 === 0 ? 4 : 6;
}

function listen(options: PodOptions, calls: Calls, arrivals: Arrivals): void {
  let served = 0;
  const server = http.createServer(async (request, response) => {
    const peer = (request.socket.remoteAddress ?? '').replace(MAPPED, '');
    const id = String(request.headers[REQUEST_HEADER] ?? '');
    arrivals.arrived(id, peer);
    request.resume();
    const family = familyOf(served++);
    const called = await Promise.all(options.calls.map((service) => calls.call(service, family)));
    const good = called.filter((answer): answer is ShopAnswer => answer !== null);
    const answer: ShopAnswer = {
      service: options.service,
      version: options.version,
      workload: options.workload,
      peer,
      peerPort: request.socket.remotePort ?? 0,
      request: id,
      called: good,
    };
    reply(response, good.length === called.length ? 200 : 502, answer);
  });
  server.keepAliveTimeout = KEEP_ALIVE_MS;
  server.listen(options.port, '::');
}

function control(options: PodOptions, calls: Calls, arrivals: Arrivals, load: Load): void {
  rmSync(options.controlSocket, { force: true });
  const report = (): PodReport => ({
    workload: options.workload,
    calls: calls.counts(),
    arrivals: arrivals.counts(),
    failures: calls.failures,
  });
  const server = http.createServer(async (request, response) => {
    switch (`${request.method} ${request.url}`) {
      case 'GET /report':
        return reply(response, 200, report());
      case 'GET /load':
        return reply(response, 200, load.progress());
      case 'POST /load': {
        const chunks: Buffer[] = [];
        for await (const chunk of request) chunks.push(chunk as Buffer);
        const started = load.start(JSON.parse(Buffer.concat(chunks).toString()) as LoadOrder);
        return reply(response, started ? 202 : 409, load.progress());
      }
      case 'POST /stop':
        load.stop();
        return reply(response, 202, load.progress());
      default:
        return reply(response, 404, { error: `${request.method} ${request.url}` });
    }
  });
  server.listen(options.controlSocket);
}

function reply(response: http.ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }).end(text);
}

main(JSON.parse(process.argv[2] ?? '{}') as PodOptions);
