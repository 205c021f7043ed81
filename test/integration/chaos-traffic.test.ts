// A run of seconds of `npm run chaos -- traffic`.
import { expect, test } from '@jest/globals';
import { chaosTraffic } from '../chaos/traffic.js';

test('no request fails while endpoints are killed, stalled, slowed, failing and flapping one after the other', async () => {
  let state = 3;
  const random = (): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return state / 0x80000000;
  };
  const report = await chaosTraffic({ minutes: 0.1, random });
  expect(report.findings).toEqual([]);
  expect(report.requests).toBeGreaterThan(100);
  expect(report.deeds.size).toBeGreaterThanOrEqual(2);
});
