// Connections that are open and requests that wait for one, of services with such limits: memory that all workers share, which engines write. Its
// layout is EngineOptions.connectionCounts.
import { MAX_ENDPOINTS } from '../metrics/cells.js';

/** Services, their ports and subsets that can be told apart. */
export const MAX_CONNECTION_SERVICES = 4_096;

const ENDPOINT_WORDS = 2;
const SERVICE_WORDS = 4;
const FIRST_SERVICE = 1 + MAX_ENDPOINTS * ENDPOINT_WORDS;

const enum Word {
  Open = 0,
  Waiting = 1,
  RefusedConnections = 2,
  RefusedRequests = 3,
}

export interface ConnectionReport {
  readonly name: string;
  readonly open: number;
  readonly waiting: number;
  readonly refusedConnections: number;
  readonly refusedRequests: number;
}

export class ConnectionCounts {
  readonly words = new Int32Array(new SharedArrayBuffer((FIRST_SERVICE + MAX_CONNECTION_SERVICES * SERVICE_WORDS) * 4));

  isBusy(service: number): boolean {
    return this.word(service, Word.Open) > 0 || this.word(service, Word.Waiting) > 0;
  }

  /** Of a service that is not busy. */
  forget(service: number): void {
    this.words.fill(0, FIRST_SERVICE + service * SERVICE_WORDS, FIRST_SERVICE + (service + 1) * SERVICE_WORDS);
  }

  report(name: string, service: number): ConnectionReport {
    return {
      name,
      open: this.word(service, Word.Open),
      waiting: this.word(service, Word.Waiting),
      refusedConnections: this.word(service, Word.RefusedConnections) >>> 0,
      refusedRequests: this.word(service, Word.RefusedRequests) >>> 0,
    };
  }

  private word(service: number, word: Word): number {
    return Atomics.load(this.words, FIRST_SERVICE + service * SERVICE_WORDS + word);
  }
}
