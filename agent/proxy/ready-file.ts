// A file that is there while this proxy serves: for a supervisor of several of them in turn, as each has a status of its own but all one address for it.
import { rmSync, writeFileSync } from 'node:fs';
import type { Logger } from 'pino';

export class ReadyFile {
  #isOver = false;

  constructor(
    /** Null: none is wanted. */
    private readonly path: string | null,
    private readonly log: Logger,
  ) {}

  /** Of an earlier proxy that was killed. */
  clear(): void {
    if (this.path !== null) rmSync(this.path, { force: true });
  }

  serves(): void {
    if (this.path === null || this.#isOver) return;
    try {
      writeFileSync(this.path, '');
    } catch (error) {
      this.log.error({ err: error }, `${this.path} can't be written: nobody learns that this proxy serves; see --ready-file`);
    }
  }

  /** It serves no longer, and will not again. */
  ends(): void {
    this.#isOver = true;
    this.clear();
  }
}
