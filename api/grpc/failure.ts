// What grpc-js says of a call that failed, for people.

/** The cause alone: grpc-js wraps it into three sentences. */
export function failureReason(details: string): string {
  return /Last error: (?:Error: )?(.+?)\.? *(?:Resolution note:.*)?$/.exec(details)?.[1] ?? details;
}
