// What is valid by itself but doesn't fit the other objects: a dangling reference, a port that isn't there. Never stops the compile.

export interface Problem {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  /** Field path in the object. */
  readonly path: string;
  /** What is wrong, what follows from it, what to do. */
  readonly message: string;
  /** Where a condition of the Gateway API has a word for it. */
  readonly reason?: ConditionReason;
}

/** Of Accepted and ResolvedRefs, of routes, Gateways and policies (Gateway API v1). */
export type ConditionReason =
  | 'Invalid'
  | 'NoMatchingParent'
  | 'NotAllowedByListeners'
  | 'NoMatchingListenerHostname'
  | 'RefNotPermitted'
  | 'BackendNotFound'
  | 'InvalidCertificateRef'
  | 'InvalidCACertificateRef'
  | 'NoValidCACertificate'
  | 'TargetNotFound'
  | 'Conflicted';

export type ReportProblem = (path: string, message: string, reason?: ConditionReason) => void;
