import { expect, test } from '@jest/globals';
import { type Deed, judge } from './judge.js';
import type { Call } from './protocol.js';

function call(changes: Partial<Call>): Call {
  return {
    kind: 'call',
    began: 1_000,
    ended: 1_010,
    from: 'p1',
    fromNode: 'a',
    to: 'p2',
    toNode: 'b',
    family: 'v4',
    result: 'ECONNRESET',
    ...changes,
  };
}
function deed(changes: Partial<Deed>): Deed {
  return { kind: 'proxy killed', node: 'a', token: '', began: 1_005, ended: 1_005, ...changes };
}
const findings = (one: Call, done: Deed): number => judge([one], [done]).findings.length;

test('a call in flight through a killed proxy may fail, one that began later or elsewhere may not', () => {
  expect(findings(call({}), deed({}))).toBe(0);
  expect(findings(call({ began: 1_100, ended: 1_110 }), deed({}))).toBe(1);
  expect(findings(call({ fromNode: 'c' }), deed({}))).toBe(1);
  expect(findings(call({ ended: 1_001 }), deed({ began: 2_000 }))).toBe(1);
});

test('a hung proxy costs calls until its heartbeat counts as stale', () => {
  expect(findings(call({ began: 2_000, ended: 9_000 }), deed({ kind: 'proxy stopped' }))).toBe(0);
  expect(findings(call({ began: 2_200, ended: 9_000 }), deed({ kind: 'proxy stopped' }))).toBe(1);
});

test('an upgrade and an agent that goes explain nothing', () => {
  for (const kind of ['proxy upgraded', 'agent killed', 'agent restarted', 'pod created'] as const)
    expect(findings(call({}), deed({ kind }))).toBe(1);
});

test('a wrong server is a finding whatever happened, unless the pod that was called has gone', () => {
  expect(findings(call({ result: 'answered by p3' }), deed({}))).toBe(1);
  expect(findings(call({ result: 'answered by p3' }), deed({ kind: 'pod deleted', token: 'p2' }))).toBe(0);
});

test('a server that heard another address is a finding always', () => {
  const heard = { kind: 'misattributed', at: 1_000, from: 'p1', to: 'p2', saw: '10.0.0.9', said: '10.0.0.1' } as const;
  expect(judge([heard], [deed({})]).findings).toEqual(['p2 heard p1 from 10.0.0.9, which is not its address 10.0.0.1']);
});
