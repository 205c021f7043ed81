// What is valid by itself but doesn't fit the other objects: a dangling reference, a port that isn't there. Never stops the compile.

export interface Problem {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  /** Field path in the object. */
  readonly path: string;
  /** What is wrong, what follows from it, what to do. */
  readonly message: string;
}

export type ReportProblem = (path: string, message: string) => void;
