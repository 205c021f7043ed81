// What grpc-js says of a call that failed, for people.

/** OpenSSL's words, and those of a connection that ends at once: what there is to look at. */
const HINTS: readonly (readonly [RegExp, string])[] = [
  [
    /certificate is not yet valid|certificate has expired/,
    "compare this host's clock with the other's, and look until when the certificate is",
  ],
  [/self-signed certificate|unable to (get|verify)/, 'it is of no authority that is trusted here'],
  [/wrong version number|packet length too long/, 'no TLS is spoken there'],
  [/^Failed to connect/, 'perhaps only TLS is spoken there'],
];

/** The cause alone, for grpc-js wraps it into three sentences; and what to look at, where it says nothing of that. */
export function failureReason(details: string): string {
  const reason = /Last error: (?:Error: )?(.+?)[.\s]*(?:Resolution note:.*)?$/s.exec(details)?.[1] ?? details.trimEnd();
  const [, hint] = HINTS.find(([words]) => words.test(reason)) ?? [];
  return hint === undefined ? reason : `${reason}: ${hint}`;
}
