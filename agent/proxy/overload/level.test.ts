import { expect, test } from '@jest/globals';
import { LevelTrigger } from './level.js';

const THRESHOLDS = [0.8, 0.9, 0.95];

test('the level rises at once, over as many thresholds as the pressure has reached', () => {
  const trigger = new LevelTrigger(THRESHOLDS);
  expect(trigger.update(0.79, 0)).toBe(0);
  expect(trigger.update(0.8, 100)).toBe(1);
  expect(trigger.update(1.2, 200)).toBe(3);
});

test('it falls only when the pressure has been clearly below the threshold for two seconds', () => {
  const trigger = new LevelTrigger(THRESHOLDS);
  trigger.update(0.96, 0);
  // Below the threshold, above nine tenths of it.
  for (let now = 100; now < 10_000; now += 100) expect(trigger.update(0.9, now)).toBe(3);
  expect(trigger.update(0.83, 10_000)).toBe(3);
  expect(trigger.update(0.83, 11_900)).toBe(3);
  expect(trigger.update(0.83, 12_000)).toBe(2);
  expect(trigger.update(0.1, 12_100)).toBe(2);
  expect(trigger.update(0.1, 14_100)).toBe(0);
});

test('a pressure that returns while the level is held begins the two seconds anew', () => {
  const trigger = new LevelTrigger(THRESHOLDS);
  trigger.update(0.8, 0);
  expect(trigger.update(0.1, 1_000)).toBe(1);
  expect(trigger.update(0.75, 2_500)).toBe(1);
  expect(trigger.update(0.1, 3_500)).toBe(1);
  expect(trigger.update(0.1, 5_400)).toBe(1);
  expect(trigger.update(0.1, 5_500)).toBe(0);
});
