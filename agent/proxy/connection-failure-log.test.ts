import { expect, test } from '@jest/globals';
import pino from 'pino';
import type { ConnectionFailure, ConnectionFailures, ProxyHeaderRefusal, TlsFailure } from '../native/engine.js';
import { ConnectionFailureLog } from './connection-failure-log.js';

function failure<Reason extends string>(reason: Reason, side: TlsFailure['side'] = 'downstream'): ConnectionFailure<Reason> {
  return { reason, side, address: '10.0.0.1', port: 5, localAddress: '10.0.0.9', localPort: 443, text: '' };
}
const tls = (reason: TlsFailure['reason'], text = 'said'): ConnectionFailures => ({
  tls: [{ ...failure(reason), text }],
  proxyHeaders: [],
});
const proxyHeader = (reason: ProxyHeaderRefusal): ConnectionFailures => ({ tls: [], proxyHeaders: [failure(reason)] });

function lines(run: (log: ConnectionFailureLog, advance: (ms: number) => void) => void): string[] {
  const written: string[] = [];
  let now = 0;
  const logger = pino(
    { base: null, timestamp: false },
    { write: (line: string) => void written.push((JSON.parse(line) as { msg: string }).msg) },
  );
  run(new ConnectionFailureLog(logger, () => now), (ms) => {
    now += ms;
  });
  return written;
}

test('a TLS failure is told with its addresses, its reason and what to do', () => {
  expect(lines((log) => log.add(tls('not-tls')))).toEqual([
    'TLS from 10.0.0.1 port 5 to 10.0.0.9 port 443 failed: not-tls: said: plain text came to a TLS port: use https://',
  ]);
});

test('of a TLS failure with an endpoint the endpoint alone is told', () => {
  expect(lines((log) => log.add({ tls: [failure('untrusted', 'upstream')], proxyHeaders: [] }))).toEqual([
    'TLS to 10.0.0.1 port 5 failed: untrusted',
  ]);
});

test('of versions it is said that the listener may take fewer: 1.2 is refused where it says 1.3', () => {
  expect(lines((log) => log.add(tls('version', '')))).toEqual([
    'TLS from 10.0.0.1 port 5 to 10.0.0.9 port 443 failed: version: the client offers no version that this listener takes, which are 1.2 and 1.3 unless it says less',
  ]);
});

test('a refused PROXY header is told with who came, where to, and what to look at', () => {
  expect(lines((log) => log.add(proxyHeader('absent')))).toEqual([
    'PROXY header from 10.0.0.1 port 5 to 10.0.0.9 port 443 refused: absent: what came begins otherwise: does the load balancer in front send one, or does somebody come past it?',
  ]);
});

test('a flood of failures is ten lines in ten seconds, and then how many there were; the other kind still has its lines', () => {
  const written = lines((log, advance) => {
    for (let i = 0; i < 100; i++) log.add(tls('protocol'));
    log.add(proxyHeader('malformed'));
    advance(10_000);
    log.add(tls('protocol'));
  });
  expect(written).toHaveLength(13);
  expect(written[10]).toMatch(/^PROXY header .*: malformed: /);
  expect(written[11]).toBe('90 more TLS failures; tls_failures_… count all of them');
});

test('clients that leave without close_notify are no news', () => {
  expect(lines((log) => log.add(tls('truncated')))).toEqual([]);
});
