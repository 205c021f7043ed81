import { describe, expect, test } from '@jest/globals';
import { COMPLETION_WORDS, Completion, CompletionKind } from '../../native/engine.js';
import { EndpointStates } from '../endpoint-states.js';
import { Gate, giveBack } from './gate.js';
import { Resilience, type ResiliencePolicy } from './resilience.js';
import { allocateShare, ResilienceState, ROW_WORDS, Row, SAMPLE_BUCKETS, sampleBoundUs, sampleBucket } from './state.js';

const ROW = 5;
const NOTHING: ResiliencePolicy = { outliers: null, circuitBreaker: null, retryBudget: null, admission: null };

class Bed {
  now = 0;
  readonly state = new ResilienceState(ResilienceState.allocate());
  readonly shares = [allocateShare(), allocateShare()];
  readonly workers = this.shares.map((share) => new Gate(this.state, share));
  readonly resilience: Resilience;

  constructor(policy: Partial<ResiliencePolicy>) {
    this.resilience = new Resilience(this.state, new EndpointStates(EndpointStates.allocate()), {
      now: () => this.now,
      random: () => 0.5,
      onEvent: () => undefined,
    });
    this.configure(policy);
  }

  configure(policy: Partial<ResiliencePolicy>): void {
    this.resilience.configure([{ row: ROW, name: 'shop', isInbound: false, policy: { ...NOTHING, ...policy }, endpoints: [[1, 2]] }]);
    this.resilience.stop();
  }

  /** Returns the token. */
  begin(isRetry = false, worker = 0): number {
    return this.workers[worker]!.begin(ROW, isRetry);
  }

  end(token: number, kind = CompletionKind.Ended, worker = 0, target = 1): void {
    const words = new Int32Array(COMPLETION_WORDS);
    words[Completion.Target] = target;
    words[Completion.Token] = token;
    words[Completion.Status] = 200;
    words[Completion.Kind] = kind;
    this.workers[worker]!.settle(words, 0);
  }

  word(word: Row): number {
    return this.state.rows[ROW * ROW_WORDS + word]!;
  }

  pass(ms: number): void {
    for (let at = 0; at < ms; at += 20) {
      this.now += 20;
      this.resilience.sweep();
    }
  }
}

describe('attempts in flight', () => {
  test('are those of all workers, whatever becomes of them, and each is counted once', () => {
    const bed = new Bed({ circuitBreaker: { maxRequests: 3, maxRetries: null, maxEndpointRequests: null } });
    const [one, two, three] = [bed.begin(), bed.begin(true), bed.begin(false, 1)];
    expect([bed.word(Row.Active), bed.word(Row.Retrying)]).toEqual([3, 1]);
    expect(bed.workers[1]!.admits(ROW, 0, 0)).toBe(false);
    bed.end(one, CompletionKind.Failed);
    // The request ends while it waits for another attempt: the one that failed is over.
    bed.end(one, CompletionKind.Ended, 0, -1);
    bed.end(two, CompletionKind.Abandoned);
    expect([bed.word(Row.Active), bed.word(Row.Retrying)]).toEqual([1, 0]);
    expect(bed.workers[0]!.admits(ROW, 0, 0)).toBe(true);
    bed.end(three, CompletionKind.Ended, 1);
    expect(bed.word(Row.Active)).toBe(0);
    expect(bed.resilience.report()[0]).toMatchObject({ refusedRequests: 1, retries: 1 });
  });

  test('of a worker that crashed are given back, and no other’s', () => {
    const bed = new Bed({});
    for (let i = 0; i < 5; i++) bed.begin(i % 2 === 0);
    const other = bed.begin(false, 1);
    giveBack(bed.state, bed.shares[0]!);
    expect([bed.word(Row.Active), bed.word(Row.Retrying)]).toEqual([1, 0]);
    bed.end(other, CompletionKind.Ended, 1);
    giveBack(bed.state, bed.shares[0]!);
    expect(bed.word(Row.Active)).toBe(0);
  });
});

describe('a retry budget', () => {
  test('of the requests in flight allows a share of them, and some in any case', () => {
    const bed = new Bed({ retryBudget: { active: { percent: 20, least: 2 }, interval: null } });
    const gate = bed.workers[0]!;
    const retries = (): number => {
      let made = 0;
      while (gate.admitsRetry(ROW) && made < 100) {
        bed.begin(true);
        made++;
      }
      return made;
    };
    expect(retries()).toBe(2);
    for (let i = 0; i < 38; i++) bed.begin();
    // A fifth of all that are in flight, retries too.
    expect(retries()).toBe(8);
    expect(bed.word(Row.Retrying)).toBe(10);
  });

  test('of an interval allows a share of its requests, and some in any case, saved no longer than that', () => {
    const bed = new Bed({ retryBudget: { active: null, interval: { percent: 10, least: 5, ms: 1_000 } } });
    const retries = (): number => {
      let made = 0;
      for (; made < 1_000 && bed.workers[made % 2]!.mayRetry(ROW); made++)
        bed.end(bed.begin(true, made % 2), CompletionKind.Ended, made % 2);
      return made;
    };
    bed.pass(10_000);
    expect(retries()).toBeGreaterThanOrEqual(5);
    expect(retries()).toBe(0);
    bed.pass(1_000);
    expect(retries()).toBeLessThanOrEqual(6);
    // A thousand requests in a second: a tenth of them, and five.
    let made = 0;
    for (let step = 0; step < 50; step++) {
      for (let i = 0; i < 20; i++) bed.end(bed.begin());
      made += retries();
      bed.pass(20);
    }
    expect(made).toBeGreaterThanOrEqual(100);
    expect(made).toBeLessThanOrEqual(106);
  });

  test('of an hour holds what its rate adds up to, and what a busy minute pays in', () => {
    const hour = 3_600_000;
    const rich = new Bed({ retryBudget: { active: null, interval: { percent: 20, least: 1_000 * 3_600, ms: hour } } });
    expect(rich.workers[0]!.mayRetry(ROW)).toBe(true);
    rich.pass(hour);
    expect(rich.workers[0]!.mayRetry(ROW)).toBe(true);
    const busy = new Bed({ retryBudget: { active: null, interval: { percent: 100, least: 1, ms: hour } } });
    for (let second = 0; second < 60; second++) {
      for (let i = 0; i < 50_000; i++) busy.end(busy.begin());
      busy.pass(1_000);
    }
    expect(busy.workers[0]!.mayRetry(ROW)).toBe(true);
    const slow = new Bed({ retryBudget: { active: null, interval: { percent: 0, least: 1, ms: hour } } });
    slow.begin(true);
    expect(slow.workers[0]!.mayRetry(ROW)).toBe(false);
    for (let second = 0; second <= 3_600; second++) slow.pass(1_000);
    expect(slow.workers[0]!.mayRetry(ROW)).toBe(true);
  });

  test('that is taken away allows any number', () => {
    const bed = new Bed({ retryBudget: { active: null, interval: { percent: 0, least: 0, ms: 1_000 } } });
    expect(bed.workers[0]!.mayRetry(ROW)).toBe(false);
    bed.configure({ circuitBreaker: { maxRequests: 1, maxRetries: null, maxEndpointRequests: null } });
    expect(bed.workers[0]!.mayRetry(ROW)).toBe(true);
  });
});

test('buckets of latencies lie one behind the other, each an eighth wide at most', () => {
  for (let bucket = 1; bucket < SAMPLE_BUCKETS; bucket++) {
    const bound = sampleBoundUs(bucket);
    expect(sampleBucket(bound * 1.0001)).toBe(bucket);
    expect(sampleBucket(sampleBoundUs(bucket + 1) * 0.9999)).toBe(bucket);
    expect(sampleBoundUs(bucket + 1) / bound).toBeLessThanOrEqual(1.126);
  }
  expect([sampleBucket(0), sampleBucket(16), sampleBucket(2 ** 31 - 1)]).toEqual([0, 0, SAMPLE_BUCKETS - 1]);
});
