// Answers of rate limit services, whole and hostile ones.
import { expect, test } from '@jest/globals';
import {
  RateLimitResponse_Code as Code,
  RateLimitResponse,
  RateLimitResponse_RateLimit_Unit as Unit,
} from '../../../api/gen/envoy/service/ratelimit/v3/rls.js';
import { readAnswer } from './service-answer.js';

const answer = (response: Parameters<typeof RateLimitResponse.fromPartial>[0], names = ['a', 'b'], untold = '') =>
  readAnswer(
    Buffer.from(RateLimitResponse.encode(RateLimitResponse.fromPartial(response)).finish()),
    names.map((name) => ({ name, isTold: name !== untold })),
  );
const ONE = [{ name: 'a', isTold: true }];
const limit = (requestsPerUnit: number, unit: Unit, name = '') => ({ requestsPerUnit, unit, name });

test('the nearest of its limits is told, each by its name or that of ours', () => {
  const statuses = [
    {
      code: Code.OK,
      currentLimit: limit(100, Unit.MINUTE, 'per "key"\u00e9'),
      limitRemaining: 7,
      durationUntilReset: { seconds: 3, nanos: 1 },
    },
    { code: Code.OK, currentLimit: limit(5, Unit.DAY), limitRemaining: 2, durationUntilReset: { seconds: 60, nanos: 0 } },
    { code: Code.OK },
  ];
  expect(answer({ overallCode: Code.OK, statuses }, ['a', 'b', 'c'])).toMatchObject({
    passes: true,
    over: [false, false, false],
    forAnswer: [
      '+ratelimit-policy: "per _key__";q=100;w=60, "b";q=5;w=86400',
      '+ratelimit: "b";r=2;t=60',
      '+x-ratelimit-limit: 5, 100;w=60;name="per _key__", 5;w=86400;name="b"',
      '+x-ratelimit-remaining: 2',
      '+x-ratelimit-reset: 60',
    ],
  });
});

test('of a limit that is not told nothing is said but when to come again', () => {
  const status = (limitRemaining: number) => ({ code: Code.OK, currentLimit: limit(5, Unit.DAY), limitRemaining });
  const found = answer({ overallCode: Code.OK, statuses: [status(4), status(2)] }, ['a', 'b'], 'b');
  expect(found?.forAnswer.slice(0, 2)).toEqual(['+ratelimit-policy: "a";q=5;w=86400', '+ratelimit: "a";r=4;t=0']);
  const over = { ...status(0), code: Code.OVER_LIMIT, durationUntilReset: { seconds: 9, nanos: 0 } };
  const refused = answer({ overallCode: Code.OVER_LIMIT, statuses: [over] }, ['b'], 'b');
  expect(refused).toMatchObject({ over: [true], forAnswer: ['+x-envoy-ratelimited: true', '+retry-after: 9'] });
});

test('a refusal says when to come again, by the limit that lasts longest, unless the service says so itself', () => {
  const over = (seconds: number) => ({ code: Code.OVER_LIMIT, durationUntilReset: { seconds, nanos: 0 } });
  const refusal = { overallCode: Code.OVER_LIMIT, statuses: [over(0), over(9)] };
  expect(answer(refusal)?.forAnswer).toEqual(['+x-envoy-ratelimited: true', '+retry-after: 9']);
  const own = [{ key: 'Retry-After', value: '5' }];
  expect(answer({ ...refusal, responseHeadersToAdd: own })?.forAnswer).toEqual(['+x-envoy-ratelimited: true', '+retry-after: 5']);
  expect(answer({ overallCode: Code.OVER_LIMIT, rawBody: Buffer.alloc(100_000, 'x') })).toMatchObject({ passes: false, over: [] });
  expect(answer({ overallCode: Code.OVER_LIMIT, rawBody: Buffer.alloc(100_000, 'x') })?.body).toHaveLength(65_536);
});

test('what can’t stand in a message is left out, and there is a bound to all of it', () => {
  const headers = [
    { key: 'x-ok', value: 'sch\u00f6n' },
    { key: 'x-raw', rawValue: Buffer.from([0xff]) },
    { key: 'x-cut', value: 'a\nx-b: c' },
    { key: ':path', value: '/' },
    { key: '', value: 'a' },
    { key: 'x-long', value: 'x'.repeat(5_000) },
  ];
  expect(answer({ overallCode: Code.OK, requestHeadersToAdd: headers })?.forRequest).toEqual(['+x-ok: sch\u00c3\u00b6n', '+x-raw: \u00ff']);
  const many = Array.from({ length: 100 }, (_, i) => ({ key: `x-${i}`, value: '1' }));
  expect(answer({ overallCode: Code.OK, responseHeadersToAdd: many })?.forAnswer).toHaveLength(32);
  const statuses = Array.from({ length: 100 }, () => ({ code: Code.OK, currentLimit: limit(1, Unit.UNKNOWN), limitRemaining: 1 }));
  expect(answer({ overallCode: Code.OK, statuses })?.forAnswer[0]).toBe('+ratelimit-policy: "a";q=1;w=0, "b";q=1;w=0');
});

test('what is no answer is none', () => {
  expect(readAnswer(null, ONE)).toBeNull();
  expect(readAnswer(Buffer.alloc(0), ONE)).toBeNull();
  expect(readAnswer(Buffer.from([0x12, 0xff, 0xff, 0xff, 0xff, 0x0f]), ONE)).toBeNull();
  expect(answer({ statuses: [{ code: Code.OK }] })).toBeNull();
});
