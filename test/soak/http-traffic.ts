// HTTP/1.1 clients of the soak, plain and TLS, over HTTP/1 and HTTP/2 upstreams; each one exchange or connection of its kind. A Fault is a finding; so is any other error where none is due.
import { Agent, type IncomingMessage, request } from 'node:http';
import { Agent as TlsAgent, request as tlsRequest } from 'node:https';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { anySlice, below, bytesOf, Comparison, Fault, nameOf, type Slice } from './bytes.js';

export const HOST = 'soak.test';
export const MOST = 1_048_576;
/** So far no exchange takes a tenth of it. */
export const STUCK_MS = 30_000;
/** Behind the first are HTTP/1 servers, behind the second HTTP/2. */
const PREFIXES = ['/soak', '/h2'] as const;

export interface HttpTarget {
  readonly port: number;
  readonly agent: Agent;
}

export function httpTarget(port: number): HttpTarget {
  return { port, agent: new Agent({ keepAlive: true, maxSockets: 16 }) };
}

/** `certificate`: of HOST. */
export function httpsTarget(port: number, certificate: string): HttpTarget {
  return { port, agent: new TlsAgent({ keepAlive: true, maxSockets: 8, ca: certificate, servername: HOST }) };
}

export function pathOf(query: string): string {
  return `${PREFIXES[below(PREFIXES.length)]}?${query}`;
}

interface Exchange {
  readonly sent: Slice;
  readonly want: Slice;
  readonly end: 'length' | 'chunked' | 'reset';
  readonly isSlow: boolean;
}

/** Body up, body down, over kept connections; either is chunked or has a length. */
export async function exchange(target: HttpTarget): Promise<void> {
  const end = below(2) === 0 ? 'length' : 'chunked';
  await perform(target, { sent: anySlice(MOST), want: anySlice(MOST), end, isSlow: false });
}

/** Reads its answer with rests. */
export async function slowReader(target: HttpTarget): Promise<void> {
  await perform(target, { sent: anySlice(100), want: { offset: below(MOST), length: 2 * MOST }, end: 'length', isSlow: true });
}

/** The server resets in mid-body: the client must be told that the answer is not whole. */
export async function cutByServer(target: HttpTarget): Promise<void> {
  const exchange: Exchange = { sent: anySlice(1_000), want: anySlice(MOST), end: 'reset', isSlow: false };
  const isWhole = await perform(target, exchange).then(
    () => true,
    (error: Error) => {
      if (error instanceof Fault && !/ended after/.test(error.message)) throw error;
      return false;
    },
  );
  if (isWhole) throw new Fault('an answer that the server cut looked whole to the client');
}

async function perform({ port, agent }: HttpTarget, { sent, want, end, isSlow }: Exchange): Promise<void> {
  const id = `${below(2 ** 48)}`;
  const path = pathOf(`sent=${nameOf(sent)}&want=${nameOf(want)}&end=${end}`);
  const ask = agent instanceof TlsAgent ? tlsRequest : request;
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const outgoing = ask({ host: '127.0.0.1', port, path, method: 'POST', agent, headers: { host: HOST, 'x-id': id } }, resolve);
    outgoing.setTimeout(STUCK_MS, () => outgoing.destroy(new Fault(`stuck: POST ${path}`)));
    outgoing.on('error', reject);
    const body = bytesOf(sent);
    if (below(2) === 0) outgoing.setHeader('content-length', body.length);
    // In pieces of any size: those without a length become chunks.
    for (let at = 0; at < body.length; ) {
      const next = at + 1 + below(65_536);
      outgoing.write(body.subarray(at, next));
      at = next;
    }
    outgoing.end();
  });
  if (response.statusCode !== 200 || response.headers['x-id'] !== id) {
    response.resume();
    // The server's reset may come before a byte of its answer: 502 or 503 says so honestly.
    if (end === 'reset' && (response.statusCode === 502 || response.statusCode === 503)) throw new Error('no answer');
    throw new Fault(`POST ${path}: status ${response.statusCode}, x-id ${response.headers['x-id']} instead of ${id}`);
  }
  const comparison = new Comparison(want, `answer to POST ${path}`);
  for await (const chunk of response) {
    comparison.add(chunk as Buffer);
    if (isSlow) await sleep(below(20));
  }
  comparison.finish();
  if (end === 'reset') throw new Fault(`answer to POST ${path}: told as whole`);
}

/**
 * Several requests in one write; the answers come in their order. With `isHalfClosed` the client's side has ended behind the last: the
 * proxy may take it for gone (as nginx does) and stop, by a reset too; but what comes is right, and the end comes.
 */
export async function pipelined({ port }: HttpTarget, isHalfClosed: boolean): Promise<void> {
  const wants = Array.from({ length: 1 + below(8) }, () => anySlice(20_000));
  const requests = wants.map((want, i) => {
    const close = i === wants.length - 1 && !isHalfClosed ? 'Connection: close\r\n' : '';
    return `GET /soak?want=${nameOf(want)} HTTP/1.1\r\nHost: ${HOST}\r\nX-Id: ${i}\r\n${close}\r\n`;
  });
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const received = gather(socket, isHalfClosed);
  if (isHalfClosed) socket.end(requests.join(''));
  else socket.write(requests.join(''));
  const bytes = await received;
  socket.destroy();
  if (isHalfClosed) return checkPrefix(bytes, wants);
  let at = 0;
  for (const [i, want] of wants.entries()) {
    const end = bytes.indexOf('\r\n\r\n', at);
    const head = bytes.toString('latin1', at, end);
    if (end < 0 || !isAnswer(head, i))
      throw new Fault(`pipelined: answer ${i} of ${wants.length} is ${JSON.stringify(head.slice(0, 200))}`);
    const comparison = new Comparison(want, `pipelined answer ${i}`);
    comparison.add(bytes.subarray(end + 4, end + 4 + want.length));
    comparison.finish();
    at = end + 4 + want.length;
  }
  if (at !== bytes.length) throw new Fault(`pipelined: ${bytes.length - at} bytes behind the last answer`);
}

/** Goes away in mid-request or mid-answer, by a reset. */
export async function cutByClient({ port }: HttpTarget): Promise<void> {
  const want = anySlice(MOST);
  const body = bytesOf(anySlice(MOST));
  const socket = connect({ port, host: '127.0.0.1' });
  socket.on('error', () => undefined);
  const head = `POST /soak?sent=0-${body.length + 1}&want=${nameOf(want)} HTTP/1.1\r\nHost: ${HOST}\r\nContent-Length: ${body.length + 1}\r\n\r\n`;
  const asks = `GET /soak?want=${nameOf(want)} HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`;
  if (below(2) === 0) socket.write(Buffer.concat([Buffer.from(head), body]));
  else socket.write(asks);
  await sleep(below(30));
  socket.resetAndDestroy();
}

/** All that comes until the peer ends. */
async function gather(socket: Socket, mayReset: boolean): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.setTimeout(STUCK_MS, () => socket.destroy(new Fault('stuck: pipelined requests')));
  try {
    for await (const chunk of socket) chunks.push(chunk as Buffer);
  } catch (error) {
    if (!mayReset || error instanceof Fault) throw error;
  }
  return Buffer.concat(chunks);
}

function isAnswer(head: string, i: number): boolean {
  return head.startsWith('HTTP/1.1 200 ') && new RegExp(`^x-id: ${i}$`, 'im').test(head);
}

function checkPrefix(bytes: Buffer, wants: readonly Slice[]): void {
  let at = 0;
  for (const [i, want] of wants.entries()) {
    const end = bytes.indexOf('\r\n\r\n', at);
    if (end < 0) return;
    if (!isAnswer(bytes.toString('latin1', at, end), i)) throw new Fault(`half-closed: answer ${i} is another's`);
    new Comparison(want, `half-closed answer ${i}`).add(bytes.subarray(end + 4, end + 4 + want.length));
    at = end + 4 + want.length;
  }
}
