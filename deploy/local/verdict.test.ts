// The judge finds what a mesh can get wrong, and nothing where it got all right.
import { describe, expect, test } from '@jest/globals';
import type { PodReport } from './shop/protocol.js';
import { type Evidence, judge, passesSince } from './verdict.js';

const PODS = [
  { name: 'web', workload: 'shop/web', node: 'node-a', addresses: ['10.0.1.1', 'fd00::1'] },
  { name: 'v1', workload: 'shop/v1', node: 'node-a', addresses: ['10.0.1.2', 'fd00::2'] },
  { name: 'v2', workload: 'shop/v2', node: 'node-b', addresses: ['10.0.2.1', 'fd00::3'] },
];

function report(workload: string, parts: Partial<PodReport>): PodReport {
  return { workload, calls: [], arrivals: [], failures: [], ...parts };
}

function call(workload: string, answered: number, family: 4 | 6) {
  return { service: 'catalog', family, workload, answered, failed: 0, mismatched: 0, foreignPeer: 0 };
}

/** 90 requests within the node over IPv4, 10 across over IPv6. */
function goodEvidence(): Evidence {
  return {
    pods: PODS,
    reports: [
      report('web', { calls: [call('v1', 90, 4), call('v2', 10, 6)] }),
      report('v1', { arrivals: [{ caller: 'web', peer: '10.0.1.1', arrived: 90, repeated: 0 }] }),
      report('v2', { arrivals: [{ caller: 'web', peer: 'fd00::1', arrived: 10, repeated: 0 }] }),
    ],
    passes: {
      outbound: new Map([
        ['shop/web shop/v1', 90],
        ['shop/web shop/v2', 10],
      ]),
      inbound: new Map([['shop/web shop/v2', 10]]),
      errors: 0,
    },
    split: { service: 'catalog', pod: 'v2', share: 0.1 },
  };
}

function failed(evidence: Evidence): string[] {
  return judge(evidence)
    .filter((check) => !check.ok)
    .map((check) => check.title);
}

describe('the verdict', () => {
  test('is good when clients, servers and proxies counted the same', () => {
    expect(failed(goodEvidence())).toEqual([]);
  });

  test('names a request that arrived twice', () => {
    const evidence = goodEvidence();
    const reports = [...evidence.reports];
    reports[1] = report('v1', { arrivals: [{ caller: 'web', peer: '10.0.1.1', arrived: 91, repeated: 1 }] });
    expect(failed({ ...evidence, reports })).toEqual(['Every request arrived exactly once']);
  });

  test('names requests that went past the mesh, or through it twice', () => {
    const evidence = goodEvidence();
    const past = { ...evidence.passes, outbound: new Map([['shop/web shop/v2', 10]]) };
    const twice = { ...evidence.passes, inbound: new Map([...evidence.passes.inbound, ['shop/web shop/v1', 90] as const]) };
    for (const passes of [past, twice])
      expect(failed({ ...evidence, passes })).toEqual(['Every request went through the mesh, and once only']);
  });

  test('names a server that saw an address other than the client pod has', () => {
    const evidence = goodEvidence();
    const reports = [...evidence.reports];
    reports[2] = report('v2', { arrivals: [{ caller: 'web', peer: '10.240.1.2', arrived: 10, repeated: 0 }] });
    expect(failed({ ...evidence, reports })).toEqual(["Every server saw the client pod's own address"]);
  });

  test('takes a split for broken only beyond 4.5 standard deviations', () => {
    const evidence = goodEvidence();
    // 100 requests at 10 %: one standard deviation is 3.
    const split = (share: number) => failed({ ...evidence, split: { service: 'catalog', pod: 'v2', share } });
    expect(split(0.2)).toEqual([]);
    expect(split(0.5)).toEqual(['The split of catalog holds']);
  });

  test('is bad for requests without an answer, and for a load over one family alone', () => {
    const evidence = goodEvidence();
    const withWeb = (web: PodReport) => ({ ...evidence, reports: [web, ...evidence.reports.slice(1)] });
    const unanswered = report('web', { calls: [call('v1', 90, 4), call('v2', 10, 6), { ...call('', 0, 4), failed: 1 }] });
    expect(failed(withWeb(unanswered))).toEqual(['Every request was answered']);
    expect(failed(withWeb(report('web', { calls: [call('v1', 90, 4), call('v2', 10, 4)] })))).toEqual(['Every request was answered']);
  });

  test('counts only the passes since the load began', () => {
    const before = { outbound: new Map([['a b', 5]]), inbound: new Map(), errors: 2 };
    const after = { outbound: new Map([['a b', 8]]), inbound: new Map([['a c', 1]]), errors: 2 };
    expect(passesSince(before, after)).toEqual({ outbound: new Map([['a b', 3]]), inbound: new Map([['a c', 1]]), errors: 0 });
  });
});
