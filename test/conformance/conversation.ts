// Plays one case over real sockets: a raw client, the proxy, a raw origin; every byte that arrives at either end is compared.
import { connect, type Socket } from 'node:net';
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises';
import { type Case, joinChunks, type Step } from './case-file.js';

/** The longest that a step may take; it ends as soon as what it waits for is there. */
const STEP_MS = 2_000;
/** What a Date of now may be off by: it has whole seconds, and the test its own pace. */
const FRESH_MS = 10_000;
/** Between two parts of one message, for the proxy to read the first alone. */
const PART_MS = 1;

/** Another request on the same connection: what stood before it must not have left a byte behind. */
const PROBE: readonly Step[] = [
  { kind: 'client sends', bytes: 'GET /probe HTTP/1.1\r\nHost: probe.test\r\nX-Request-Id: p\r\n\r\n' },
  {
    kind: 'origin receives',
    bytes: 'GET /probe HTTP/1.1\r\nhost: probe.test\r\nX-Request-Id: p\r\nx-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\n\r\n',
  },
  { kind: 'origin sends', bytes: 'HTTP/1.1 204 No Content\r\n\r\n' },
  { kind: 'client receives', bytes: 'HTTP/1.1 204 No Content\r\n\r\n' },
];

/** How the bytes of a case's sending steps are cut. */
export type Cut =
  | { readonly kind: 'whole' }
  /** Every byte of every step alone. */
  | { readonly kind: 'bytes' }
  /** Step `step` in two parts, the first of `at` bytes. */
  | { readonly kind: 'split'; readonly step: number; readonly at: number };

/** What arrived is not what the case says. */
export class Mismatch extends Error {}

/**
 * RFC 9110 6.6.1: every final answer has a Date. Cases write the origin's own; the one that the proxy adds where there is none ("date: ",
 * as opposed to "Date: ") changes, and is taken out here. A final head without either, or with a Date of another time, shows as such.
 */
function withoutOwnDates(bytes: string): string {
  return bytes.replace(/HTTP\/1\.1 [2-5]\d\d [^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n/g, (head) => {
    const own = /\r\ndate: (\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT)(?=\r\n)/.exec(head);
    if (own === null) return /\r\nDate: /.test(head) ? head : `<without Date> ${head}`;
    return Math.abs(Date.parse(own[1]!) - Date.now()) < FRESH_MS ? head.replace(own[0], '') : `<old Date> ${head}`;
  });
}

/** One end: what it has received, and what it should have. */
class End {
  received = '';
  expected = '';
  state: 'open' | 'ended' | 'reset' = 'open';
  private mayBreakOff = false;

  constructor(private readonly name: string) {}

  normal(): string {
    return joinChunks(withoutOwnDates(this.received.replace(/x-request-id: [0-9a-f-]{36}\r\n/g, 'x-request-id: <made>\r\n')));
  }

  hasExpected(): boolean {
    return this.normal().startsWith(joinChunks(this.expected));
  }

  /** How much of a message is handed on before its fault is seen is a matter of timing. */
  expectNoWholeMessage(): void {
    this.mayBreakOff = true;
  }

  check(step: string): void {
    const got = this.normal();
    if (this.mayBreakOff) {
      const heads = got.match(/(?:^| )HTTP\/1\.1[ \r]/g)?.length ?? 0;
      if (heads > 1 || got.endsWith('\r\n0\r\n\r\n'))
        throw new Mismatch(`${step}: the ${this.name} received a whole message\n${show(got)}`);
      return;
    }
    if (got === joinChunks(this.expected)) return;
    throw new Mismatch(
      `${step}: the ${this.name} (${this.state}) received\n${show(this.normal())}\ninstead of\n${show(joinChunks(this.expected))}`,
    );
  }
}

export class Conversation {
  private readonly socket: Socket;
  private readonly client = new End('client');
  private readonly origin = new End('origin');
  /** The upstream connection that spoke last. */
  private upstream: Socket | null = null;
  private wake: () => void = () => undefined;

  constructor(
    port: number,
    private readonly cut: Cut,
  ) {
    this.socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    this.socket.setEncoding('latin1');
    this.socket.on('data', (text: string) => {
      this.client.received += text;
      this.wake();
    });
    this.socket.on('end', () => this.clientIs('ended'));
    this.socket.on('error', () => this.clientIs('reset'));
  }

  private clientIs(state: 'ended' | 'reset'): void {
    if (this.client.state === 'open' || state === 'reset') this.client.state = state;
    this.wake();
  }

  onOriginData(socket: Socket, text: string): void {
    if (socket !== this.upstream) {
      this.upstream = socket;
      this.origin.state = 'open';
    }
    this.origin.received += text;
    this.wake();
  }

  onOriginEnd(socket: Socket): void {
    if (socket === this.upstream) this.origin.state = 'ended';
    this.wake();
  }

  async play(played: Case): Promise<void> {
    for (const [index, step] of played.steps.entries()) await this.take(step, index);
    if (played.endsOpen) await this.probe();
    this.expectNothingMore();
  }

  async probe(): Promise<void> {
    for (const step of PROBE) await this.take(step, -1);
  }

  expectNothingMore(): void {
    this.client.check('at the end');
    this.origin.check('at the end');
  }

  close(): void {
    this.socket.destroy();
  }

  private async take(step: Step, index: number): Promise<void> {
    switch (step.kind) {
      case 'client sends':
        return this.send(this.socket, step.bytes, index);
      case 'origin sends':
        return this.send(this.theUpstream(step.kind), step.bytes, index);
      case 'origin receives':
        this.origin.expected += step.bytes;
        return this.arrives(this.origin, step.kind);
      case 'client receives':
        this.client.expected += step.bytes;
        return this.arrives(this.client, step.kind);
      case 'client receives the end':
        await this.until(() => this.client.state !== 'open');
        if (this.client.state !== 'ended')
          throw new Mismatch(`${step.kind}: it is ${this.client.state} after\n${show(this.client.received)}`);
        return;
      case 'client is reset':
        await this.until(() => this.client.state === 'reset');
        if (this.client.state !== 'reset')
          throw new Mismatch(`${step.kind}: it is ${this.client.state} after\n${show(this.client.received)}`);
        // How much of the answer came before the reset is a matter of timing.
        this.client.expected = this.client.normal();
        return;
      case 'origin receives the end':
        await this.until(() => this.origin.state !== 'open');
        if (this.origin.state === 'open') throw new Mismatch(`${step.kind}: the connection is still open`);
        return;
      case 'client receives no whole answer':
        await this.until(() => this.client.state !== 'open');
        if (this.client.state === 'open') throw new Mismatch(`${step.kind}: the connection is still open`);
        return this.client.expectNoWholeMessage();
      case 'origin receives no whole request':
        return this.origin.expectNoWholeMessage();
      case 'client ends':
        return ended(this.socket);
      case 'origin ends':
        return ended(this.theUpstream(step.kind));
      case 'origin resets':
        this.theUpstream(step.kind).resetAndDestroy();
    }
  }

  private theUpstream(step: string): Socket {
    if (this.upstream === null) throw new Mismatch(`${step}: nothing has reached the origin yet`);
    return this.upstream;
  }

  private async send(socket: Socket, bytes: string, index: number): Promise<void> {
    const { cut } = this;
    if (cut.kind === 'bytes') {
      for (const byte of bytes) {
        socket.write(byte, 'latin1');
        await nextTurn();
      }
    } else if (cut.kind === 'split' && cut.step === index) {
      socket.write(bytes.slice(0, cut.at), 'latin1');
      await pause(PART_MS);
      socket.write(bytes.slice(cut.at), 'latin1');
    } else {
      socket.write(bytes, 'latin1');
    }
  }

  private async arrives(end: End, step: string): Promise<void> {
    // A client's connection is the only one there is; an origin may be given another.
    await this.until(() => end.hasExpected() || (end === this.client && end.state !== 'open'));
    if (!end.hasExpected()) end.check(step);
  }

  /** Looks again at every event, until the step's time is over. */
  private async until(isTrue: () => boolean): Promise<void> {
    const deadline = performance.now() + STEP_MS;
    while (!isTrue() && performance.now() < deadline) {
      await new Promise<void>((resolve) => {
        const late = setTimeout(resolve, deadline - performance.now());
        this.wake = () => {
          clearTimeout(late);
          resolve();
        };
      });
    }
  }
}

/** Resolves when the FIN is on its way. */
function ended(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.end(resolve));
}

function show(bytes: string): string {
  const shown = bytes.length > 3_000 ? `${bytes.slice(0, 1_500)} … ${bytes.length} bytes … ${bytes.slice(-1_000)}` : bytes;
  return shown
    .split('\r\n')
    .map((line) => `    | ${JSON.stringify(line).slice(1, -1)}`)
    .join('\n');
}
