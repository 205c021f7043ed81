import type { EventEmitter } from 'node:events';
import type { ServiceError } from '@grpc/grpc-js';
import { Condition } from './condition.js';

/** A stream that its server is to end. */
export class WatchedStream extends Condition {
  #isServed = false;
  #error: ServiceError | null = null;

  constructor(stream: EventEmitter) {
    super();
    stream.on('error', (error: ServiceError) => {
      this.#error = error;
      this.changed();
    });
    stream.on('data', () => {
      this.#isServed = true;
      this.changed();
    });
  }

  served(): Promise<void> {
    return this.until('the first answer', () => this.#isServed);
  }

  /** With which error. */
  async ended(): Promise<ServiceError | null> {
    await this.until('the end of the stream', () => this.#error !== null);
    return this.#error;
  }
}
