// HTTP/2 clients of the soak, each one stream of its kind on a connection that many share, or a connection of its own that is cut. A Fault
// is a finding; so is any other error where none is due.
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants, type IncomingHttpHeaders } from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import { anySlice, below, bytesOf, Comparison, Fault, nameOf, type Slice } from './bytes.js';
import { HOST, MOST, pathOf, STUCK_MS } from './http-traffic.js';

/** Connections of a target, used in turn and opened when they are first needed. */
const SESSIONS = 3;
/** A connection is left for a new one after so many streams, as its peer's ids would run out some day. */
const MOST_STREAMS = 2_000;

export class Http2Target {
  private readonly sessions: (ClientHttp2Session | undefined)[] = [];
  private readonly streams = new WeakMap<ClientHttp2Session, number>();

  /** `certificate`: of HOST; null: plain text by prior knowledge. */
  constructor(
    private readonly port: number,
    private readonly certificate: string | null,
  ) {}

  shared(): ClientHttp2Session {
    const at = below(SESSIONS);
    const known = this.sessions[at];
    const used = known === undefined ? MOST_STREAMS : (this.streams.get(known) ?? 0);
    if (known !== undefined && !known.closed && used < MOST_STREAMS) {
      this.streams.set(known, used + 1);
      return known;
    }
    known?.close();
    const session = this.open();
    this.sessions[at] = session;
    return session;
  }

  open(): ClientHttp2Session {
    const tls = this.certificate === null ? {} : { ca: this.certificate, servername: HOST };
    const scheme = this.certificate === null ? 'http' : 'https';
    const session = connect(`${scheme}://127.0.0.1:${this.port}`, { ...tls, maxSessionMemory: 1_000 });
    // Each of its streams tells it.
    session.on('error', () => undefined);
    return session;
  }

  close(): void {
    for (const session of this.sessions) session?.close();
  }
}

/**
 * Between two cuts of a client's. Every one becomes a RST_STREAM to the server over connections that all clients share, and Node's server
 * (nghttp2) ends a connection with ENHANCE_YOUR_CALM at more than 33 a second: honest exchanges on it would be answered 503.
 */
const CUT_REST_MS = 300;

interface Exchange {
  readonly sent: Slice;
  readonly want: Slice;
  readonly end: 'length' | 'chunked' | 'reset';
  readonly isSlow: boolean;
}

export async function exchange2(target: Http2Target): Promise<void> {
  const end = below(2) === 0 ? 'length' : 'chunked';
  await perform(target.shared(), { sent: anySlice(MOST), want: anySlice(MOST), end, isSlow: false });
}

export async function slowReader2(target: Http2Target): Promise<void> {
  await perform(target.shared(), { sent: anySlice(100), want: { offset: below(MOST), length: MOST }, end: 'length', isSlow: true });
}

/** The server resets its stream or connection in mid-body. */
export async function cutByServer2(target: Http2Target): Promise<void> {
  const cut: Exchange = { sent: anySlice(1_000), want: anySlice(MOST), end: 'reset', isSlow: false };
  const isWhole = await perform(target.shared(), cut).then(
    () => true,
    (error: Error) => {
      if (error instanceof Fault && !/ended after/.test(error.message)) throw error;
      return false;
    },
  );
  if (isWhole) throw new Fault('an answer that the server cut looked whole to the HTTP/2 client');
}

/** Gives up its stream in the middle; the others on the connection must not notice. */
export async function cutStream(target: Http2Target): Promise<void> {
  const stream = begin(target.shared(), { sent: anySlice(MOST), want: anySlice(MOST), end: 'length', isSlow: false }, '0');
  stream.on('error', () => undefined);
  stream.resume();
  await sleep(below(30));
  stream.close(constants.NGHTTP2_CANCEL);
  await sleep(below(CUT_REST_MS));
}

/** Goes away with several streams under way. */
export async function cutConnection(target: Http2Target): Promise<void> {
  const session = target.open();
  for (let i = 0; i < 3; i++) {
    const stream = begin(session, { sent: anySlice(10_000), want: anySlice(MOST), end: 'length', isSlow: false }, '0');
    stream.on('error', () => undefined);
    stream.resume();
  }
  await sleep(below(40));
  session.destroy();
  await sleep(below(4 * CUT_REST_MS));
}

function begin(session: ClientHttp2Session, { sent, want, end }: Exchange, id: string): ClientHttp2Stream {
  const path = pathOf(`sent=${nameOf(sent)}&want=${nameOf(want)}&end=${end}`);
  const body = bytesOf(sent);
  const length = below(2) === 0 ? { 'content-length': String(body.length) } : {};
  const stream = session.request({ ':method': 'POST', ':path': path, ':authority': HOST, 'x-id': id, ...length });
  for (let at = 0; at < body.length; ) {
    const next = at + 1 + below(65_536);
    stream.write(body.subarray(at, next));
    at = next;
  }
  stream.end();
  return stream;
}

async function perform(session: ClientHttp2Session, exchange: Exchange): Promise<void> {
  const id = `${below(2 ** 48)}`;
  const stream = begin(session, exchange, id);
  const what = `HTTP/2 ${nameOf(exchange.sent)} for ${nameOf(exchange.want)}`;
  stream.setTimeout(STUCK_MS, () => stream.destroy(new Fault(`stuck: ${what}`)));
  const headers = await new Promise<IncomingHttpHeaders & { ':status'?: number }>((resolve, reject) => {
    stream.on('response', resolve).on('error', reject);
    stream.on('close', () => reject(new Error(`closed with ${stream.rstCode} before an answer`)));
  });
  if (headers[':status'] !== 200 || headers['x-id'] !== id) {
    stream.resume();
    if (exchange.end === 'reset' && (headers[':status'] === 502 || headers[':status'] === 503)) throw new Error('no answer');
    throw new Fault(`${what}: status ${headers[':status']}, x-id ${headers['x-id']} instead of ${id}`);
  }
  const comparison = new Comparison(exchange.want, `answer to ${what}`);
  for await (const chunk of stream) {
    comparison.add(chunk as Buffer);
    if (exchange.isSlow) await sleep(below(20));
  }
  if (stream.rstCode !== 0) throw new Error(`reset with ${stream.rstCode}`);
  comparison.finish();
  if (exchange.end === 'reset') throw new Fault(`answer to ${what}: told as whole`);
}
