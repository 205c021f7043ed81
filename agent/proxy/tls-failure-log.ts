// TLS failures → log lines, a bounded number of them whatever peers do. Counting is the engine's (tls_failures_…).
import type { Logger } from 'pino';
import type { TlsFailure } from '../native/engine.js';

const LINES = 10;
const WINDOW_MS = 10_000;

/** What the operator may do about it, where the reason alone does not say. */
const HINTS: Partial<Record<TlsFailure['reason'], string>> = {
  'not-tls': 'plain text came to a TLS port: use https://',
  'unknown-server-name': 'no listener of this port has that host name and a certificate',
  version: 'the client offers no version that this listener takes, which are 1.2 and 1.3 unless it says less',
  'peer-alert': "the client refuses our side: does it trust the certificate's issuer, is the certificate valid and for that name?",
  'timed-out': 'the handshake did not end in time',
  flood: 'the peer makes work (key updates, renegotiations, tickets) and sends next to nothing else',
};

export class TlsFailureLog {
  private windowEndsMs = 0;
  private lines = 0;
  private omitted = 0;

  constructor(
    private readonly log: Logger,
    /** Monotonic milliseconds. */
    private readonly now: () => number = () => performance.now(),
  ) {}

  add(failures: readonly TlsFailure[]): void {
    if (this.now() >= this.windowEndsMs) this.beginWindow();
    for (const failure of failures) {
      if (isOrdinary(failure)) continue;
      if (this.lines < LINES) this.write(failure);
      else this.omitted++;
    }
  }

  private beginWindow(): void {
    if (this.omitted > 0) this.log.warn({ omitted: this.omitted }, `${this.omitted} more TLS failures; tls_failures_… count all of them`);
    this.windowEndsMs = this.now() + WINDOW_MS;
    this.lines = 0;
    this.omitted = 0;
  }

  private write({ reason, side, address, port, text }: TlsFailure): void {
    this.lines++;
    const hint = side === 'downstream' ? HINTS[reason] : undefined;
    const said = [reason, text, hint].filter((part) => part !== undefined && part !== '').join(': ');
    this.log.warn({ reason, side, address, port }, `TLS ${side === 'downstream' ? 'from' : 'to'} ${address} port ${port} failed: ${said}`);
  }
}

/** Many clients just leave, without close_notify. */
function isOrdinary({ reason, side }: TlsFailure): boolean {
  return reason === 'truncated' && side === 'downstream';
}
