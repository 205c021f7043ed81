/** Headers of more than some 16 KiB are refused by many readers, and each character may be nine there (%xx of UTF-8). */
const MAX_CHARACTERS = 1_024;

/**
 * A message as a status can carry it, that may repeat what a caller wrote: grpc-js throws where half a character stands in it, which ends the process, and
 * one that doesn't fit into a header is never seen.
 */
export function statusDetails(message: string): string {
  const short = message.length > MAX_CHARACTERS ? `${message.slice(0, MAX_CHARACTERS)}…` : message;
  return short.replace(/\p{Surrogate}/gu, '\ufffd');
}
