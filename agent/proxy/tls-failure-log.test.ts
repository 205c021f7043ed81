import { expect, test } from '@jest/globals';
import pino from 'pino';
import type { TlsFailure } from '../native/engine.js';
import { TlsFailureLog } from './tls-failure-log.js';

const failure = (reason: TlsFailure['reason']): TlsFailure => ({ reason, side: 'downstream', address: '10.0.0.1', port: 5, text: 'said' });

function lines(run: (log: TlsFailureLog, advance: (ms: number) => void) => void): string[] {
  const written: string[] = [];
  let now = 0;
  const logger = pino(
    { base: null, timestamp: false },
    { write: (line: string) => void written.push((JSON.parse(line) as { msg: string }).msg) },
  );
  run(new TlsFailureLog(logger, () => now), (ms) => {
    now += ms;
  });
  return written;
}

test('a failure is told with its address, its reason and what to do', () => {
  expect(lines((log) => log.add([failure('not-tls')]))).toEqual([
    'TLS from 10.0.0.1 port 5 failed: not-tls: said: plain text came to a TLS port: use https://',
  ]);
});

test('of versions it is said that the listener may take fewer: 1.2 is refused where it says 1.3', () => {
  expect(lines((log) => log.add([failure('version')]))).toEqual([
    'TLS from 10.0.0.1 port 5 failed: version: said: the client offers no version that this listener takes, which are 1.2 and 1.3 unless it says less',
  ]);
});

test('a flood of failures is ten lines in ten seconds, and then how many there were', () => {
  const written = lines((log, advance) => {
    for (let i = 0; i < 100; i++) log.add([failure('protocol')]);
    advance(10_000);
    log.add([failure('protocol')]);
  });
  expect(written).toHaveLength(12);
  expect(written[10]).toBe('90 more TLS failures; tls_failures_… count all of them');
});

test('clients that leave without close_notify are no news', () => {
  expect(lines((log) => log.add([failure('truncated')]))).toEqual([]);
});
