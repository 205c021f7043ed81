import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { HttpMatch, PathMatch_Type } from '../gen/mesh/v1/model.js';
import { compareCandidates, hostnameMatches, type RouteCandidate } from './route-order.js';

const header = (name: string) => ({ name, value: 'x' });

function candidate(text: Partial<RouteCandidate>, match: Parameters<typeof HttpMatch.fromPartial>[0] | null = {}): RouteCandidate {
  const own = match === null ? null : HttpMatch.fromPartial(match);
  return { hostname: '', match: own, createdAtMs: 0, route: 'a/a', ruleIndex: 0, matchIndex: 0, ...text };
}

const exact = (value: string) => ({ path: { type: PathMatch_Type.EXACT, value } });
const prefix = (value: string) => ({ path: { type: PathMatch_Type.PREFIX, value } });

test('candidates are tried in the order of the Gateway API', () => {
  const expected = [
    candidate({ hostname: 'a.example.com', createdAtMs: 9 }),
    candidate({ hostname: '*.a.example.com' }),
    candidate({ hostname: '*.example.com' }, exact('/')),
    candidate({}, exact('/')),
    candidate({}, { ...prefix('/long/prefix') }),
    candidate({}, { ...prefix('/a'), grpcMethod: 'GetAll', headers: [header('x')] }),
    candidate({}, { ...prefix('/a'), grpcMethod: 'Get' }),
    candidate({}, { ...prefix('/a'), method: 'GET' }),
    candidate({}, { ...prefix('/a'), headers: [header('x'), header('y')] }),
    candidate({}, { ...prefix('/a'), headers: [header('x')], query: [header('q')] }),
    candidate({ createdAtMs: 5 }, { ...prefix('/a'), headers: [header('x')] }),
    candidate({ createdAtMs: 5 }, prefix('/a')),
    candidate({ createdAtMs: 6, route: 'a/a' }, prefix('/a/')),
    candidate({ createdAtMs: 6, route: 'a/b' }, prefix('/a')),
    candidate({ createdAtMs: 6, route: 'a/b', ruleIndex: 1 }, prefix('/a')),
    candidate({ createdAtMs: 6, route: 'a/b', ruleIndex: 1, matchIndex: 1 }, prefix('/a')),
    candidate({ createdAtMs: 7 }, null),
  ];
  expect([...expected].reverse().sort(compareCandidates)).toEqual(expected);
});

test('a wildcard covers one label or more, never the bare suffix', () => {
  expect(hostnameMatches('*.b.c', 'a.b.c')).toBe(true);
  expect(hostnameMatches('*.b.c', 'x.a.b.c')).toBe(true);
  expect(hostnameMatches('*.b.c', 'b.c')).toBe(false);
  expect(hostnameMatches('*.b.c', '.b.c')).toBe(false);
  expect(hostnameMatches('*.b.c', 'ab.c')).toBe(false);
  expect(hostnameMatches('', 'anything')).toBe(true);
});

const arbitrary: fc.Arbitrary<RouteCandidate> = fc.record({
  hostname: fc.constantFrom('', 'a.b', 'c.b', '*.b', '*.a.b', 'x.a.b'),
  match: fc.option(
    fc
      .record({
        path: fc.option(
          fc.record({
            type: fc.constantFrom(PathMatch_Type.EXACT, PathMatch_Type.PREFIX, PathMatch_Type.REGEX),
            value: fc.constantFrom('/', '/a', '/a/', '/b', '/a/b'),
          }),
          {
            nil: undefined,
          },
        ),
        headers: fc.array(fc.constant(header('x')), { maxLength: 2 }),
        query: fc.array(fc.constant(header('q')), { maxLength: 2 }),
        method: fc.constantFrom('', 'GET'),
        grpcMethod: fc.constantFrom('', 'Get', 'GetAll'),
      })
      .map((match) => HttpMatch.fromPartial(match)),
  ),
  createdAtMs: fc.nat(2),
  route: fc.constantFrom('a/a', 'a/b', 'b/a'),
  ruleIndex: fc.nat(2),
  matchIndex: fc.nat(2),
});

test('the comparator is a total order', () => {
  const sign = (a: RouteCandidate, b: RouteCandidate) => Math.sign(compareCandidates(a, b));
  fc.assert(
    fc.property(arbitrary, arbitrary, arbitrary, (a, b, c) => {
      expect(sign(a, a)).toBe(0);
      expect(sign(a, b) + sign(b, a)).toBe(0);
      if (sign(a, b) <= 0 && sign(b, c) <= 0) expect(sign(a, c)).toBeLessThanOrEqual(0);
      if (sign(a, b) === 0)
        expect([a.route, a.ruleIndex, a.matchIndex, a.hostname]).toEqual([b.route, b.ruleIndex, b.matchIndex, b.hostname]);
    }),
    { numRuns: 2000 },
  );
});
