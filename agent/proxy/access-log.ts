// The access log: takes the workers' records out of their rings, as lines, into the file; tells the formatter the names that it misses. On the main
// thread. What there is no room for stays in its ring, and is lost where that is full (counted by the engine): traffic never waits.
import { type AccessLogLines, Missing } from '../native/access-log.js';
import { AccessLogFile } from './access-log-file.js';

const INTERVAL_MS = 20;
/** Lines wait so long for more of them, unless they fill a chunk: the file costs by the write, not by the line. */
const TURNS_PER_WRITE = 5;

/** What it needs of the data plane. */
export interface AccessLogSource {
  /** Of each worker; null: it has none. */
  rings(): readonly { readonly accessLog: Uint8Array | null; readonly cells: { readonly edges: Int32Array } }[];
  /** Of what may have changed with the names of rules. */
  generation(): object | null;
  label(id: number): string;
  /** "shop/catalog rule 0"; null: there is no such rule any more. */
  rule(id: number): string | null;
}

export class AccessLog {
  private readonly file: AccessLogFile;
  private readonly timer: NodeJS.Timeout;
  private chunk: Buffer | null = null;
  /** Bytes of it that are lines. */
  private end = 0;
  /** Since the last write. */
  private turns = 0;
  private namesOf: object | null = null;
  private isClosed = false;

  /** Throws when the file (null: standard output) can't be opened. */
  constructor(
    file: string | null,
    private readonly lines: AccessLogLines,
    private readonly source: AccessLogSource,
    onError: (error: Error) => void,
  ) {
    this.file = new AccessLogFile(file, onError);
    this.timer = setInterval(() => this.drain(), INTERVAL_MS);
  }

  /** Lines that the file did not take. */
  get lost(): number {
    return this.file.lost;
  }

  reopen(): void {
    if (!this.isClosed) this.file.reopen();
  }

  /** With the last lines written. */
  async close(): Promise<void> {
    clearInterval(this.timer);
    for (let isAll = false; !isAll; ) {
      isAll = this.drain();
      this.flush();
      await this.file.idle();
    }
    this.isClosed = true;
    this.file.close();
  }

  /** False: there was no room for all. */
  private drain(): boolean {
    const generation = this.source.generation();
    if (generation !== this.namesOf) this.lines.forgetRules();
    this.namesOf = generation;
    for (const { accessLog, cells } of this.source.rings()) if (accessLog !== null && !this.drainRing(accessLog, cells.edges)) return false;
    if (++this.turns >= TURNS_PER_WRITE && this.file.isIdle) this.flush();
    return true;
  }

  private drainRing(ring: Uint8Array, edges: Int32Array): boolean {
    for (;;) {
      this.chunk ??= this.file.take();
      if (this.chunk === null) return false;
      const { end, missing, id } = this.lines.take(ring, edges, this.chunk, this.end);
      this.end = end;
      switch (missing) {
        case Missing.Nothing:
          return true;
        case Missing.Room:
          this.flush();
          break;
        case Missing.Label:
          this.lines.setLabel(id, JSON.stringify(this.source.label(id)));
          break;
        case Missing.Rule:
          this.lines.setRule(id, JSON.stringify(this.source.rule(id)));
          break;
      }
    }
  }

  private flush(): void {
    this.turns = 0;
    if (this.chunk === null || this.end === 0) return;
    this.file.give(this.chunk, this.end);
    this.chunk = null;
    this.end = 0;
  }
}
