// Calls of a filter, over a stream to its process: sent once a turn, all together; answered later, each in its time or not at all. Owns the
// calls that are open; knows neither requests nor what an outcome is for.
import type { Duplex } from 'node:stream';
import { FrameReader, frame, MAX_ANSWERS_BYTES } from './frames.js';
import { failed, type Hook, type Outcome, readOutcome } from './outcome.js';

/** Open at once. */
const MAX_OPEN = 1_024;
/** A character takes six bytes of JSON at its worst, and a message has MAX_CALLS_BYTES. */
const MAX_UNSENT_BODIES = 1024 * 1024;
/** Sent and not yet read by the process. */
const MAX_UNREAD_BYTES = 8 * 1024 * 1024;

export interface Call {
  readonly hook: Hook;
  /** As Engine.deferredHead() gives them. */
  readonly head: string;
  /** A character a byte. */
  readonly body: string | null;
  /** Who asks for what: JSON of [workload, destination, port]. */
  readonly meta: string;
  /** Of the answer; empty for a request. */
  readonly answer: string;
}

/** `busyUs`: what the process says it took; -1: it gave no answer. */
export type Done = (outcome: Outcome, busyUs: number) => void;

interface Open {
  readonly hook: Hook;
  readonly dueMs: number;
  readonly sentMs: number;
  readonly done: Done;
}

export class FilterChannel {
  /** In the order of their time. */
  private readonly open = new Map<number, Open>();
  private unsent: unknown[] = [];
  /** Characters of bodies in it. */
  private unsentBodies = 0;
  private next = 0;
  private timer: NodeJS.Timeout | null = null;
  private heardMs = 0;
  private isClosed = false;

  /** `onStuck`: a call had all its time and the process has said nothing since it was sent. */
  constructor(
    private readonly stream: Duplex,
    private readonly timeoutMs: number,
    private readonly onStuck: () => void,
    private readonly now: () => number = () => performance.now(),
  ) {
    const reader = new FrameReader(MAX_ANSWERS_BYTES, (message) => this.hear(message));
    stream.on('data', (piece: Buffer) => {
      try {
        reader.add(piece);
      } catch {
        this.close();
        this.onStuck();
      }
    });
    stream.on('close', () => this.close());
    stream.on('error', () => this.close());
  }

  call({ hook, head, body, meta, answer }: Call, done: Done): void {
    const isFull = this.open.size >= MAX_OPEN || this.stream.writableLength > MAX_UNREAD_BYTES;
    if (this.isClosed || isFull) {
      done(this.isClosed ? failed('not_running', 'the filter is not running') : failed('overflow', `${this.open.size} calls are open`), -1);
      return;
    }
    const id = this.next++;
    const now = this.now();
    this.open.set(id, { hook, sentMs: now, dueMs: now + this.timeoutMs, done });
    if (this.unsent.push([id, hook, head, body, meta, answer]) === 1) queueMicrotask(() => this.flush());
    this.unsentBodies += body?.length ?? 0;
    if (this.unsentBodies > MAX_UNSENT_BODIES) this.flush();
    this.timer ??= setTimeout(() => this.expire(), this.timeoutMs);
  }

  get size(): number {
    return this.open.size;
  }

  /** What is open fails. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    if (this.timer !== null) clearTimeout(this.timer);
    this.stream.destroy();
    const open = [...this.open.values()];
    this.open.clear();
    for (const { done } of open) done(failed('not_running', 'the filter ended while it was asked'), -1);
  }

  private flush(): void {
    const calls = this.unsent;
    this.unsent = [];
    this.unsentBodies = 0;
    if (!this.isClosed && calls.length > 0) this.stream.write(frame(calls));
  }

  private hear(message: unknown): void {
    this.heardMs = this.now();
    if (!Array.isArray(message)) throw new Error('no list of answers');
    for (const answer of message as unknown[]) {
      const [id, json, busyUs] = Array.isArray(answer) ? (answer as unknown[]) : [];
      const open = this.open.get(id as number);
      // Out of time already.
      if (open === undefined) continue;
      this.open.delete(id as number);
      open.done(readOutcome(String(json), open.hook), typeof busyUs === 'number' && busyUs >= 0 && busyUs < 1e9 ? busyUs : 0);
    }
  }

  private expire(): void {
    this.timer = null;
    const now = this.now();
    let isStuck = false;
    for (const [id, { dueMs, sentMs, done }] of this.open) {
      if (dueMs > now) {
        this.timer = setTimeout(() => this.expire(), dueMs - now);
        break;
      }
      this.open.delete(id);
      isStuck ||= this.heardMs < sentMs;
      done(failed('timed_out', `no answer within ${this.timeoutMs} ms`), -1);
    }
    if (isStuck) this.onStuck();
  }
}
