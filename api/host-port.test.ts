import { expect, test } from '@jest/globals';
import { hostPort, parseHostPort } from './host-port.js';

test('an address is host and port, IPv6 in brackets', () => {
  expect(parseHostPort('[::1]:80')).toEqual({ host: '::1', port: 80 });
  expect(parseHostPort('localhost:0')).toEqual({ host: 'localhost', port: 0 });
  for (const wrong of [
    '',
    'localhost',
    ':80',
    '::1:80',
    '[nonsense]:80',
    '[::1]',
    'a:70000',
    'a:',
    'a b:80',
    'a]:80',
    'http://a:80',
    'a:-1',
  ]) {
    expect(parseHostPort(wrong)).toBeNull();
  }
});

test('what was read is written as it was', () => {
  for (const text of ['[fd00::1]:8080', '10.0.0.1:0', 'catalog.shop:65535']) {
    const { host, port } = parseHostPort(text)!;
    expect(hostPort(host, port)).toBe(text);
  }
});
