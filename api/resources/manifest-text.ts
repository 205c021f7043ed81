// The text of a manifest as it was read from disk or standard input.
import { isUtf8 } from 'node:buffer';

/** Throws for bytes that are no UTF-8: decoded all the same they would be applied as other characters than were written. */
export function manifestText(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString('utf8');
  let line = 1;
  for (let start = 0, end = bytes.indexOf(10); end >= 0 && isUtf8(bytes.subarray(start, end)); end = bytes.indexOf(10, start)) {
    start = end + 1;
    line++;
  }
  throw new Error(`line ${line} is not UTF-8: save it in that encoding`);
}
