// Connections that came to nothing for their TLS or their PROXY header → log lines, a bounded number of each kind whatever peers do. Counting is
// the engine's (tls_failures_…, openings_refused_proxy_header).
import type { Logger } from 'pino';
import type { ConnectionFailure, ConnectionFailures, ProxyHeaderRefusal, TlsFailure } from '../native/engine.js';

const LINES = 10;
const WINDOW_MS = 10_000;

/** What the operator may do about it, where the reason alone does not say. */
const TLS_HINTS: Partial<Record<TlsFailure['reason'], string>> = {
  'not-tls': 'plain text came to a TLS port: use https://',
  'unknown-server-name': 'no listener of this port has that host name and a certificate',
  version: 'the client offers no version that this listener takes, which are 1.2 and 1.3 unless it says less',
  'peer-alert': "the client refuses our side: does it trust the certificate's issuer, is the certificate valid and for that name?",
  'timed-out': 'the handshake did not end in time',
  flood: 'the peer makes work (key updates, renegotiations, tickets) and sends next to nothing else',
};

const PROXY_HEADER_HINTS: Record<ProxyHeaderRefusal, string> = {
  absent: 'what came begins otherwise: does the load balancer in front send one, or does somebody come past it?',
  malformed: 'it is neither of version 1 nor of version 2',
  'too-long': 'more than 1024 bytes: have the load balancer add less to it',
  truncated: 'the peer ended in the middle of it',
  'timed-out': 'the whole of it did not come within --header-timeout-ms',
};

export class ConnectionFailureLog {
  private readonly tls: BoundedLines;
  private readonly proxyHeaders: BoundedLines;

  constructor(
    log: Logger,
    /** Monotonic milliseconds. */
    now: () => number = () => performance.now(),
  ) {
    this.tls = new BoundedLines(log, now, 'TLS failures; tls_failures_… count all of them');
    this.proxyHeaders = new BoundedLines(
      log,
      now,
      'connections refused for their PROXY header; openings_refused_proxy_header counts all of them',
    );
  }

  add({ tls, proxyHeaders }: ConnectionFailures): void {
    this.tls.add(
      tls.filter((failure) => !isOrdinary(failure)),
      tlsLine,
    );
    this.proxyHeaders.add(
      proxyHeaders,
      (failure) => `PROXY header ${ends(failure)} refused: ${failure.reason}: ${PROXY_HEADER_HINTS[failure.reason]}`,
    );
  }
}

class BoundedLines {
  private windowEndsMs = 0;
  private lines = 0;
  private omitted = 0;

  constructor(
    private readonly log: Logger,
    private readonly now: () => number,
    private readonly omittedWhat: string,
  ) {}

  add<F extends ConnectionFailure<string>>(failures: readonly F[], line: (failure: F) => string): void {
    if (this.now() >= this.windowEndsMs) this.beginWindow();
    for (const failure of failures) {
      if (this.lines === LINES) {
        this.omitted++;
        continue;
      }
      this.lines++;
      const { reason, side, address, port, localAddress, localPort } = failure;
      this.log.warn({ reason, side, address, port, ...(side === 'downstream' ? { localAddress, localPort } : {}) }, line(failure));
    }
  }

  private beginWindow(): void {
    if (this.omitted > 0) this.log.warn({ omitted: this.omitted }, `${this.omitted} more ${this.omittedWhat}`);
    this.windowEndsMs = this.now() + WINDOW_MS;
    this.lines = 0;
    this.omitted = 0;
  }
}

function tlsLine(failure: TlsFailure): string {
  const { reason, side, text } = failure;
  const hint = side === 'downstream' ? TLS_HINTS[reason] : undefined;
  const said = [reason, text, hint].filter((part) => part !== undefined && part !== '').join(': ');
  return `TLS ${ends(failure)} failed: ${said}`;
}

function ends({ side, address, port, localAddress, localPort }: ConnectionFailure<string>): string {
  return side === 'upstream' ? `to ${address} port ${port}` : `from ${address} port ${port} to ${localAddress} port ${localPort}`;
}

/** Many clients just leave, without close_notify. */
function isOrdinary({ reason, side }: TlsFailure): boolean {
  return reason === 'truncated' && side === 'downstream';
}
