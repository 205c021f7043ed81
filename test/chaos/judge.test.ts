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
    heard: 1_000,
    port: 30_000,
    ...changes,
  };
}
function deed(changes: Partial<Deed>): Deed {
  return { kind: 'proxy killed', node: 'a', token: '', began: 1_005, ended: 1_005, ...changes };
}
const findings = (one: Call, done: Deed): number => judge([one], [done], true).findings.length;

test('a call in flight through a killed proxy may fail, one that began later or elsewhere may not', () => {
  expect(findings(call({}), deed({}))).toBe(0);
  expect(findings(call({ began: 1_100, ended: 1_110 }), deed({}))).toBe(1);
  expect(findings(call({ fromNode: 'c' }), deed({}))).toBe(1);
  expect(findings(call({ ended: 1_001 }), deed({ began: 2_000 }))).toBe(1);
});

test('a kill explains neither what failed long after it nor what had been silent long before', () => {
  expect(findings(call({ ended: 2_400 }), deed({}))).toBe(0);
  expect(findings(call({ ended: 2_600 }), deed({}))).toBe(1);
  expect(findings(call({ ended: 9_000, heard: 6_000 }), deed({ began: 8_900 }))).toBe(0);
  expect(findings(call({ ended: 9_000 }), deed({ began: 8_900 }))).toBe(1);
});

test('what goes past a proxy has a reason: it was killed or stopped, or a pod was new', () => {
  const direct = call({ result: 'ok', port: 45_000 });
  const away = (node: string, kind: Deed['kind'] = 'proxy killed'): Deed => deed({ node, kind, began: 900, ended: 1_005 });
  const verdict = (done: readonly Deed[], one = direct) => judge([one], done, true).findings.length;
  expect(verdict([away('a'), away('b')])).toBe(0);
  expect(verdict([away('a'), away('b', 'proxy stopped')])).toBe(0);
  expect(verdict([away('a')])).toBe(1);
  expect(verdict([away('a', 'proxy upgraded'), away('b')])).toBe(1);
  expect(verdict([])).toBe(2);
  // Injected by the caller's proxy, past the other's.
  expect(verdict([away('b')], call({ result: 'ok', port: 20_001 }))).toBe(0);
  expect(verdict([away('a')], call({ result: 'ok', port: 20_001 }))).toBe(1);
  expect(verdict([], call({ result: 'ok', port: 20_001, toNode: 'a' }))).toBe(0);
  expect(verdict([], call({ result: 'ok', port: 26_000 }))).toBe(0);
  expect(judge([{ kind: 'ready', at: 500, from: 'p1' }, direct], [], true).findings).toEqual([]);
  expect(judge([{ kind: 'ready', at: -3_000, from: 'p1' }, direct], [], true).findings).toHaveLength(2);
  expect(judge([direct], [], false).findings).toEqual([]);
});

test('an upgrade, a proxy that was stopped for a while and an agent that goes explain nothing', () => {
  for (const kind of ['proxy stopped', 'proxy upgraded', 'agent killed', 'agent restarted', 'pod created'] as const)
    expect(findings(call({}), deed({ kind }))).toBe(1);
});

test('a wrong server is a finding whatever happened, unless the pod that was called has gone', () => {
  expect(findings(call({ result: 'answered by p3' }), deed({}))).toBe(1);
  expect(findings(call({ result: 'answered by p3' }), deed({ kind: 'pod deleted', token: 'p2' }))).toBe(0);
});

test('a server that heard another address is a finding always', () => {
  const heard = { kind: 'misattributed', at: 1_000, from: 'p1', to: 'p2', saw: '10.0.0.9', said: '10.0.0.1' } as const;
  expect(judge([heard], [deed({})], true).findings).toEqual(['p2 heard p1 from 10.0.0.9, which is not its address 10.0.0.1']);
});
