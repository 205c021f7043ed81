// Sends a pod's load: a fixed number of requests, or an even stream until told to stop.
import { setTimeout as delay } from 'node:timers/promises';
import type { LoadOrder, LoadProgress } from './protocol.js';

export class Load {
  #running = false;
  #stop = false;
  #sent = 0;

  /** `send` gets the request's number and settles with its answer. */
  constructor(readonly send: (number: number) => Promise<unknown>) {}

  progress(): LoadProgress {
    return { running: this.#running, sent: this.#sent };
  }

  stop(): void {
    this.#stop = true;
  }

  /** False when one is running already. */
  start(order: LoadOrder): boolean {
    if (this.#running) return false;
    this.#running = true;
    this.#stop = false;
    this.#sent = 0;
    const began = performance.now();
    const due = (number: number) => (order.rate === null ? 0 : began + (number * 1000) / order.rate - performance.now());
    const worker = async () => {
      while (!this.#stop && (order.requests === null || this.#sent < order.requests)) {
        const number = this.#sent++;
        const wait = due(number);
        if (wait > 0) await delay(wait);
        await this.send(number);
      }
    };
    void Promise.all(Array.from({ length: order.concurrency }, worker)).finally(() => {
      this.#running = false;
    });
    return true;
  }
}
