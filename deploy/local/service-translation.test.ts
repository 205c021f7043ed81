import { expect, test } from '@jest/globals';
import { serviceTranslation } from './service-translation.js';

const PODS = [
  { name: 'one', node: 'node-a' as const, v4: '10.0.1.1', v6: 'fd00::1' },
  { name: 'two', node: 'node-b' as const, v4: '10.0.2.1', v6: 'fd00::2' },
];
const SERVICE = { namespace: 'shop', name: 'catalog', v4: '10.96.0.1', v6: 'fd96::1', port: 80, targetPort: 8080, pods: ['one', 'two'] };

test('a service leads to each of its pods with equal shares, in its own address family', () => {
  const ruleset = serviceTranslation([SERVICE], PODS);
  expect(ruleset).toContain(
    'ip daddr 10.96.0.1 tcp dport 80 dnat ip to numgen random mod 2 map { 0 : 10.0.1.1 . 8080, 1 : 10.0.2.1 . 8080 }',
  );
  expect(ruleset).toContain(
    'ip6 daddr fd96::1 tcp dport 80 dnat ip6 to numgen random mod 2 map { 0 : fd00::1 . 8080, 1 : fd00::2 . 8080 }',
  );
});

test('a service without pods has no rule, and one that names an unknown pod is refused', () => {
  expect(serviceTranslation([{ ...SERVICE, pods: [] }], PODS)).not.toContain('10.96.0.1');
  expect(() => serviceTranslation([{ ...SERVICE, pods: ['three'] }], PODS)).toThrow('no pod "three"');
});
