import { expect, test } from '@jest/globals';
import { instanceOf } from './instance.js';

const read = (node: string, data: unknown): unknown =>
  instanceOf(node, Buffer.from(typeof data === 'string' ? data : JSON.stringify(data)));

test('an instance is what its data says, else its name', () => {
  expect(read('x', { address: '10.0.0.1', port: 80 })).toMatchObject({ address: '10.0.0.1', port: 80, conditions: { ready: true } });
  expect(read('x', { address: '10.0.0.1', port: null, sslPort: 443 })).toMatchObject({ port: 443 });
  expect(read('x', { serviceEndpoint: { host: '10.0.0.1', port: 1 }, status: 'DEAD' })).toMatchObject({ conditions: { ready: false } });
  expect(read('[fd00::1]:80', '')).toMatchObject({ address: 'fd00::1', port: 80 });
  expect(read('x', '10.0.0.1:81')).toMatchObject({ address: '10.0.0.1', port: 81 });
});

test('its metadata are its labels, as far as they can be', () => {
  const metadata = { version: 'v3', zone: 'z', region: 'eu', note: 'two words', instance_status: 'UP' };
  expect(read('x', { address: '10.0.0.1', port: 80, payload: { metadata } })).toMatchObject({
    labels: { instance_status: 'UP', region: 'eu', 'topology.kubernetes.io/region': 'eu', version: 'v3', zone: 'z' },
  });
});

test('data of any shape throws nothing and says what is wrong', () => {
  expect(read('x', { address: '10.0.0.1', port: 70_000 })).toBe('x: it has no port');
  expect(read('x', { address: 'a'.repeat(1_000), port: 1 })).toBe(`x: its address "${'a'.repeat(120)}" is none of IPv4 or IPv6`);
  for (const odd of ['', 'null', '[]', '1', '{', '{"payload":1}', '{"serviceEndpoint":{}}', '{"serviceEndpoint":[]}']) {
    expect(typeof read('odd', odd)).toBe('string');
  }
});
