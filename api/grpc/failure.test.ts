// What people read of a connection that could not be made.
import { expect, test } from '@jest/globals';
import { failureReason } from './failure.js';

function wrapped(cause: string): string {
  return `No connection established. Last error: Error: ${cause}. Resolution note: `;
}

test('the cause stands alone, also one of several lines', () => {
  expect(failureReason(wrapped('connect ECONNREFUSED 127.0.0.1:1'))).toBe('connect ECONNREFUSED 127.0.0.1:1');
  expect(failureReason('Connection dropped')).toBe('Connection dropped');
  expect(failureReason(wrapped('ssl3_get_record:wrong version number:record.c:350:\n'))).toBe(
    'ssl3_get_record:wrong version number:record.c:350:: no TLS is spoken there',
  );
});

test('what OpenSSL says has what to look at behind it', () => {
  expect(failureReason('certificate is not yet valid')).toContain("compare this host's clock");
  expect(failureReason('certificate has expired')).toContain("compare this host's clock");
  expect(failureReason('self-signed certificate in certificate chain')).toContain('no authority that is trusted here');
  expect(failureReason('Failed to connect (2026-11-22T16:18:33.341Z)')).toContain('perhaps only TLS is spoken there');
});
