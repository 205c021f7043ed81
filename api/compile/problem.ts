// What is valid by itself but doesn't fit the other objects: a dangling reference, a port that isn't there. Never stops the compile.

export interface Problem {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  /** Field path in the object. */
  readonly path: string;
  /** What is wrong, what follows from it, what to do. */
  readonly message: string;
  readonly reason: ConditionReason;
}

/** Of Accepted and ResolvedRefs, of routes, Gateways and policies (Gateway API v1); for other kinds in the same words, and these. */
export type ConditionReason =
  | 'Invalid'
  | 'InvalidKind'
  | 'NoMatchingParent'
  | 'NotAllowedByListeners'
  | 'NoMatchingListenerHostname'
  | 'NotAllowed'
  | 'ProtocolConflict'
  | 'HostnameConflict'
  | 'RefNotPermitted'
  | 'BackendNotFound'
  | 'InvalidCertificateRef'
  | 'InvalidClientCertificateRef'
  | 'InvalidCACertificateRef'
  | 'NoValidCACertificate'
  | 'TargetNotFound'
  | 'Conflicted'
  | 'UnsupportedAddress'
  | 'InvalidParameters'
  | 'UnsupportedProtocol'
  | 'UnsupportedValue'
  // Weft's own.
  | 'CertificateExpired'
  | 'WrongNode';

export type ReportProblem = (path: string, message: string, reason: ConditionReason) => void;
