// The boundary to the formatter of the access log: native/src/napi/access_log_binding.cc defines the same functions in the same order.
// Plain data; on one thread.

/** What take() wants before it goes on. */
export const enum Missing {
  Nothing = 0,
  /** MAX_LINE_BYTES behind `end`. */
  Room = 1,
  /** The names that `id` has: setLabel(), setRule(). */
  Label = 2,
  Rule = 3,
}
export const MAX_LINE_BYTES = 131_072;

export interface Taken {
  /** Where in `out` the last line ends. */
  readonly end: number;
  readonly missing: Missing;
  readonly id: number;
}

/** Records of the workers' rings (EngineOptions.accessLog) → JSON lines; knows names as it is told them. */
export interface AccessLogLines {
  /** JSON, for good. */
  setLabel(id: number, json: string): void;
  /** JSON, until forgetRules(). */
  setRule(id: number, json: string): void;
  forgetRules(): void;
  /**
   * Takes records out and writes their lines to `out` from byte `at` on, until there are no more or something is missing. `edges`: of the
   * ring's worker, EDGE_WORDS each (metrics/cells.ts), by the bits of tokens that `tokenEdge` has.
   */
  take(ring: Uint8Array, edges: Int32Array, out: Uint8Array, at: number): Taken;
}

export interface AccessLogAddon {
  /** Of a token above `tokenEdge` that a local answer has, the bits from `tokenReasonShift` on are its reason. `errorsOnly`: what went well has no line. */
  readonly AccessLogLines: new (
    tokenEdge: number,
    tokenReasonShift: number,
    errorsOnly: boolean,
  ) => AccessLogLines;
}
