// The head and body of a request that is only described: what its filters see, and what they make of it, by the engine's own rules. Stands where
// FilterCalls has an engine; sends nothing.
import type { EngineAddon, HeadLimits } from '../../native/engine.js';
import type { FilterEngine } from '../filters/filter-calls.js';

/** Any head that lines of a reply may be changes of. */
const REPLY_HEAD = Buffer.from('GET / HTTP/1.1\r\nhost: reply\r\n\r\n');
const FRAMING = /^(content-length|transfer-encoding|trailer):/i;

export class DescribedExchange implements FilterEngine {
  /** As rules match it. */
  matched: Buffer;
  /** As it goes to the backend. */
  sent: Buffer;
  /** Bytes as characters; null: none is held. */
  held: string | null = null;
  /** A filter wrote it, so the rule's own rewrite is not for it. */
  writesPath = false;
  writesAuthority = false;

  constructor(
    head: Buffer,
    /** Lines of what is known of the client, as Engine.deferredHead() has them. */
    private readonly client: string,
    /** Lines of the head as it is sent. */
    private readonly linesOf: (head: Buffer) => string,
    private readonly addon: Pick<EngineAddon, 'changeHead'>,
    private readonly limits: HeadLimits,
    /** A change that a filter wants can't be made. */
    private readonly onRefused: (why: string) => void,
  ) {
    this.matched = this.sent = head;
  }

  deferredHead(): string {
    return this.client + this.linesOf(this.sent);
  }

  /** No backend answers. */
  deferredAnswer(): null {
    return null;
  }

  deferredBody(): string | null {
    return this.held;
  }

  changeDeferred(_token: number, changes: string, reroutes: boolean): string | null {
    const changed = changes === '' ? this.sent : this.addon.changeHead(this.sent, changes, this.limits);
    if (typeof changed === 'string') return this.refuse(changed);
    this.sent = changed;
    if (reroutes) this.matched = changed;
    this.writesPath = !reroutes && (this.writesPath || /^:path: /m.test(changes));
    this.writesAuthority = !reroutes && (this.writesAuthority || /^:authority: /m.test(changes));
    return null;
  }

  replaceBody(_token: number, body: Buffer): string | null {
    if (this.held === null) return this.refuse('no body of the request is held');
    this.held = body.toString('latin1');
    this.sent = withLength(this.sent, body.length);
    return null;
  }

  replyDeferred(_token: number, lines: string): string | null {
    const changed = this.addon.changeHead(REPLY_HEAD, lines, this.limits);
    return typeof changed === 'string' ? this.refuse(changed) : null;
  }

  private refuse(why: string): string {
    this.onRefused(why);
    return why;
  }
}

/** The head of HTTP/1, which says that so many bytes are behind it. */
export function withLength(head: Buffer, bytes: number): Buffer {
  const lines = head
    .toString('latin1')
    .split('\r\n')
    .filter((line) => !FRAMING.test(line));
  lines.splice(-2, 0, `content-length: ${bytes}`);
  return Buffer.from(lines.join('\r\n'), 'latin1');
}
