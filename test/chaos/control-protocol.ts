// What the chaos test of the control plane and its program in the namespace say to each other, over IPC.

export interface ControlOrder {
  /** 'stop': write no more; 'finish', afterwards: judge. */
  readonly kind: 'start' | 'stop' | 'finish';
  /** Of the controllers; for 'start'. */
  readonly controllers: readonly string[];
}

export interface ControlReport {
  readonly kind: 'ready' | 'stopped' | 'verdict';
  readonly acknowledged: number;
  /** Applies that failed and were tried again. */
  readonly refused: number;
  readonly updates: number;
  readonly findings: readonly string[];
}
