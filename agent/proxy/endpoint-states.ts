// What all workers know of an endpoint, by its id: whether it takes new work, how fast it answers, how far it is in its slow start. Shared memory;
// ids are stable over generations (tables/stable-ids.ts). All zero: nothing is known, and nothing holds it back. An array has one kind of
// writer; of two workers that observe at once one observation may be lost, which an average bears.
import { MAX_ENDPOINTS } from './metrics/cells.js';

/** 8-byte elements first. */
const LAYOUT = {
  ewmaUs: 8,
  observedUs: 8,
  decayUs: 8,
  reportedWeight: 8,
  reportedUs: 8,
  errorPenalty: 8,
  loadWeight: 8,
  coldness: 4,
  unavailable: 1,
} as const;
const VERSION_WORDS = 2;
/** What an attempt that brought no answer counts as, at least: an endpoint that fails fast must not look like a fast one. */
const FAILURE_US = 1_000_000;

export class EndpointStates {
  static allocate(): SharedArrayBuffer {
    const bytes = Object.values(LAYOUT).reduce((sum, size) => sum + size * MAX_ENDPOINTS, VERSION_WORDS * 4);
    return new SharedArrayBuffer(bytes);
  }

  /** Peak-sensitive moving average of the time to the first byte of an answer; 0: none came yet. Written by workers. */
  readonly ewmaUs: Float64Array;
  /** When that was last written, on the clock of Engine.clock. */
  readonly observedUs: Float64Array;
  /** How fast the average forgets; 0: the endpoint is not observed. Written by the main thread. */
  readonly decayUs: Float64Array;
  /** Of the last report of its load (gRFC A58): requests a second by how busy it is. Written by workers. */
  readonly reportedWeight: Float64Array;
  /** When that was, on the same clock; 0: there was none. */
  readonly reportedUs: Float64Array;
  /** How much errors count in it. Written by the main thread, as is what follows. */
  readonly errorPenalty: Float64Array;
  /** The weight that its reports give it now; 0: none. Written with setLoadWeights() alone. */
  readonly loadWeight: Float64Array;
  /** What slow start takes of its weight, in 65,536ths; 0: nothing. Written by the main thread. */
  readonly coldness: Int32Array;
  /** 1: it takes no new work (ejected). Written with setUnavailable() alone. */
  readonly unavailable: Uint8Array;
  /** [0] changes with `unavailable`, [1] with `loadWeight`: workers that hold a view of them look anew. */
  readonly version: Int32Array;

  constructor(readonly buffer: SharedArrayBuffer) {
    let offset = 0;
    const place = (part: keyof typeof LAYOUT): number => {
      const at = offset;
      offset += LAYOUT[part] * MAX_ENDPOINTS;
      return at;
    };
    this.ewmaUs = new Float64Array(buffer, place('ewmaUs'), MAX_ENDPOINTS);
    this.observedUs = new Float64Array(buffer, place('observedUs'), MAX_ENDPOINTS);
    this.decayUs = new Float64Array(buffer, place('decayUs'), MAX_ENDPOINTS);
    this.reportedWeight = new Float64Array(buffer, place('reportedWeight'), MAX_ENDPOINTS);
    this.reportedUs = new Float64Array(buffer, place('reportedUs'), MAX_ENDPOINTS);
    this.errorPenalty = new Float64Array(buffer, place('errorPenalty'), MAX_ENDPOINTS);
    this.loadWeight = new Float64Array(buffer, place('loadWeight'), MAX_ENDPOINTS);
    this.coldness = new Int32Array(buffer, place('coldness'), MAX_ENDPOINTS);
    this.unavailable = new Uint8Array(buffer, place('unavailable'), MAX_ENDPOINTS);
    this.version = new Int32Array(buffer, offset, VERSION_WORDS);
  }

  /**
   * An attempt ended: its answer began after `firstByteUs`, or (-1) there was none; it was given up after `us`. A peak counts whole and at
   * once, what is below it by the time since the last (Finagle's PeakEwma). Workers; allocates nothing.
   */
  observe(endpoint: number, firstByteUs: number, us: number, nowUs: number): void {
    const decay = this.decayUs[endpoint]!;
    if (decay === 0) return;
    const seen = firstByteUs >= 0 ? firstByteUs : Math.max(us, FAILURE_US);
    const before = this.ewmaUs[endpoint]!;
    const kept = seen > before ? 0 : Math.exp((this.observedUs[endpoint]! - nowUs) / decay);
    // Never 0, which is nothing known.
    this.ewmaUs[endpoint] = Math.max(1, before * kept + seen * (1 - kept));
    this.observedUs[endpoint] = nowUs;
  }

  /** It said of itself how busy it is; the first two are above 0. Workers; allocates nothing. */
  hear(endpoint: number, utilization: number, requestsPerSecond: number, errorsPerSecond: number, nowUs: number): void {
    const busy = utilization + (errorsPerSecond / requestsPerSecond) * this.errorPenalty[endpoint]!;
    this.reportedWeight[endpoint] = requestsPerSecond / busy;
    this.reportedUs[endpoint] = nowUs;
  }

  /** Of some endpoints, by id. Main thread. */
  setLoadWeights(weights: Iterable<readonly [endpoint: number, weight: number]>): void {
    let hasChanged = false;
    for (const [endpoint, weight] of weights) {
      if (this.loadWeight[endpoint] === weight) continue;
      this.loadWeight[endpoint] = weight;
      hasChanged = true;
    }
    if (hasChanged) Atomics.add(this.version, 1, 1);
  }

  /** On any thread; pickers of every worker heed it from their next pick on. */
  setUnavailable(endpoint: number, isUnavailable: boolean): void {
    const value = isUnavailable ? 1 : 0;
    if (Atomics.exchange(this.unavailable, endpoint, value) !== value) Atomics.add(this.version, 0, 1);
  }

  /** The id is another endpoint's from now on. Main thread. */
  forget(endpoint: number): void {
    this.ewmaUs[endpoint] = 0;
    this.observedUs[endpoint] = 0;
    this.decayUs[endpoint] = 0;
    this.reportedWeight[endpoint] = 0;
    this.reportedUs[endpoint] = 0;
    this.errorPenalty[endpoint] = 0;
    this.setLoadWeights([[endpoint, 0]]);
    this.coldness[endpoint] = 0;
    this.setUnavailable(endpoint, false);
  }
}
