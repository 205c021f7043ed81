import { describe, expect, test } from '@jest/globals';
import { COMPLETION_REASONS, COMPLETION_WORDS, Completion, CompletionKind } from '../../native/engine.js';
import { EndpointStates } from '../endpoint-states.js';
import { Gate, TOKEN_ROW_BITS } from './gate.js';
import { OutlierDetector, type OutlierPolicy } from './outlier-detector.js';
import { allocateShare, ResilienceState, ROW_WORDS, Row } from './state.js';

const ROW = 3;
const POLICY: OutlierPolicy = {
  consecutive5xx: 5,
  consecutiveGateway: 0,
  consecutiveLocal: 0,
  splitsLocal: false,
  intervalMs: 10_000,
  baseEjectionMs: 30_000,
  maxEjectionMs: 60_000,
  maxEjectionPercent: 100,
  successRate: null,
  failurePercentage: null,
  trialRequests: 3,
};

/** What workers count, by the code that they run, and the detector with a clock of the test's. */
class Bed {
  now = 0;
  readonly state = new ResilienceState(ResilienceState.allocate());
  readonly gate = new Gate(this.state, allocateShare());
  readonly endpoints = new EndpointStates(EndpointStates.allocate());
  readonly detector: OutlierDetector;

  constructor(policy: Partial<OutlierPolicy> = {}, endpoints: readonly number[] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]) {
    this.detector = new OutlierDetector({ ...POLICY, ...policy }, this.state, this.endpoints, ROW, 0);
    this.detector.configure({ ...POLICY, ...policy }, [endpoints]);
    if (policy.splitsLocal === true) this.state.rows[ROW * ROW_WORDS + Row.SplitsLocal] = 1;
  }

  /** `flag`: of the completion; an answer came unless it says otherwise. */
  result(endpoint: number, status: number, flag = '', grpcStatus = -1): void {
    const token = this.gate.begin(ROW, false);
    const words = new Int32Array(COMPLETION_WORDS);
    words[Completion.Target] = endpoint;
    words[Completion.Token] = token;
    words[Completion.Status] = status;
    words[Completion.Reason] = (COMPLETION_REASONS as readonly string[]).indexOf(flag);
    words[Completion.FirstByteUs] = flag === '' ? 1_000 : -1;
    words[Completion.GrpcStatus] = grpcStatus;
    words[Completion.Kind] = CompletionKind.Ended;
    this.gate.settle(words, 0);
  }

  results(endpoint: number, good: number, bad: number): void {
    for (let i = 0; i < Math.max(good, bad); i++) {
      if (i < good) this.result(endpoint, 200);
      if (i < bad) this.result(endpoint, 503);
    }
  }

  sweep(afterMs = 20): string[] {
    this.now += afterMs;
    return this.detector.sweep(this.now).map((event) => `${event.endpoint} ${event.kind === 'ejected' ? event.reason : event.kind}`);
  }

  get ejected(): number[] {
    return Array.from({ length: 64 }, (_, endpoint) => endpoint).filter((endpoint) => this.endpoints.unavailable[endpoint] === 1);
  }

  /** The request that is given to an endpoint on trial. */
  trial(status: number): number {
    const endpoint = this.gate.trial(ROW);
    if (endpoint < 0 || !this.gate.takeTrial(ROW, endpoint)) return -1;
    this.result(endpoint, status);
    return endpoint;
  }
}

describe('consecutive failures', () => {
  test('eject at the limit, not before, and a success in between begins anew', () => {
    const bed = new Bed();
    bed.results(1, 0, 4);
    expect(bed.sweep()).toEqual([]);
    bed.result(1, 200);
    bed.results(1, 0, 4);
    expect(bed.sweep()).toEqual([]);
    bed.result(1, 500);
    expect(bed.sweep()).toEqual(['1 consecutive_5xx']);
    expect(bed.ejected).toEqual([1]);
  });

  test('of gateways are 502, 503 and 504; another 5xx begins them anew', () => {
    const bed = new Bed({ consecutive5xx: 0, consecutiveGateway: 3 });
    for (const status of [502, 503, 500, 504, 503]) bed.result(2, status);
    expect(bed.sweep()).toEqual([]);
    bed.result(2, 502);
    expect(bed.sweep()).toEqual(['2 consecutive_gateway_failure']);
  });

  test('are those of gRPC, too', () => {
    const bed = new Bed();
    for (let i = 0; i < 5; i++) bed.result(2, 200, '', 14);
    for (let i = 0; i < 50; i++) bed.result(3, 200, '', 5);
    expect(bed.sweep()).toEqual(['2 consecutive_5xx']);
  });

  test('count what the proxy finds as 5xx, unless that is split; then it has a limit of its own', () => {
    const whole = new Bed();
    for (const flag of ['UF', 'UC', 'UT', 'UF', 'UF']) whole.result(4, 503, flag);
    expect(whole.sweep()).toEqual(['4 consecutive_5xx']);
    const split = new Bed({ splitsLocal: true, consecutiveLocal: 3 });
    for (let i = 0; i < 2; i++) split.result(4, 503, 'UF');
    split.result(4, 500);
    for (let i = 0; i < 2; i++) split.result(4, 503, 'UF');
    expect(split.sweep()).toEqual([]);
    split.result(4, 503, 'UC');
    expect(split.sweep()).toEqual(['4 consecutive_local_origin_failure']);
  });

  test('of a client that went away, or was refused here, say nothing of the endpoint', () => {
    const bed = new Bed();
    for (let i = 0; i < 20; i++) bed.result(1, 0, 'DC');
    for (let i = 0; i < 20; i++) bed.result(1, 503, 'UO');
    expect(bed.sweep()).toEqual([]);
  });
});

describe('ejection', () => {
  test('lasts the base time, longer each time in a row, up to the longest', () => {
    const bed = new Bed({ trialRequests: 1 });
    const times: number[] = [];
    for (let i = 0; i < 4; i++) {
      bed.results(1, 0, 5);
      if (i === 0) bed.sweep();
      const from = bed.now;
      while (bed.gate.trial(ROW) !== 1) bed.sweep(100);
      times.push(Math.round((bed.now - from) / 1000));
      expect(bed.trial(500)).toBe(1);
      bed.sweep();
    }
    expect(times).toEqual([30, 60, 60, 60]);
  });

  test('is shorter again after intervals that go well', () => {
    const bed = new Bed({ trialRequests: 1 });
    const ejectionMs = (): number => {
      bed.results(1, 0, 5);
      bed.sweep();
      const from = bed.now;
      while (bed.gate.trial(ROW) !== 1) bed.sweep(100);
      bed.trial(200);
      expect(bed.sweep()).toEqual(['1 returned']);
      return Math.round((bed.now - from) / 1000);
    };
    expect(ejectionMs()).toBe(30);
    bed.sweep(10_000);
    bed.sweep(10_000);
    expect(ejectionMs()).toBe(30);
    expect(ejectionMs()).toBe(60);
  });

  test('leaves the share that may not be ejected; one endpoint may be always', () => {
    const bed = new Bed({ maxEjectionPercent: 20 });
    for (const endpoint of [0, 1, 2, 3]) bed.results(endpoint, 0, 5);
    expect(bed.sweep()).toEqual(['0 consecutive_5xx', '1 consecutive_5xx']);
    expect([bed.ejected, bed.detector.overflows]).toEqual([[0, 1], 2]);
    const small = new Bed({ maxEjectionPercent: 10 }, [1, 2, 3]);
    for (const endpoint of [1, 2]) small.results(endpoint, 0, 5);
    small.sweep();
    expect(small.ejected).toEqual([1]);
  });

  test('ends with the endpoint, or the policy', () => {
    const bed = new Bed();
    bed.results(1, 0, 5);
    bed.results(2, 0, 5);
    bed.sweep();
    bed.detector.configure(POLICY, [[0, 2]]);
    expect(bed.ejected).toEqual([2]);
    bed.detector.close();
    expect(bed.ejected).toEqual([]);
  });
});

describe('recovery', () => {
  const onTrial = (): Bed => {
    const bed = new Bed();
    bed.results(1, 0, 5);
    bed.sweep();
    bed.sweep(30_000);
    return bed;
  };

  test('takes one trial request at a time until enough went well', () => {
    const bed = onTrial();
    expect(bed.ejected).toEqual([1]);
    for (let i = 0; i < 3; i++) {
      expect(bed.trial(200)).toBe(1);
      expect(bed.trial(200)).toBe(-1);
      expect(bed.ejected).toEqual([1]);
      expect(bed.sweep()).toEqual(i < 2 ? [] : ['1 returned']);
    }
    expect(bed.ejected).toEqual([]);
    expect(bed.gate.trial(ROW)).toBe(-1);
  });

  test('takes as many requests where what the proxy finds is counted apart', () => {
    const bed = new Bed({ splitsLocal: true });
    bed.results(1, 0, 5);
    bed.sweep();
    bed.sweep(30_000);
    for (const event of [[], [], ['1 returned']]) {
      expect(bed.trial(200)).toBe(1);
      expect(bed.sweep()).toEqual(event);
    }
  });

  test('ends with the first failure, and the ejection is longer', () => {
    const bed = onTrial();
    bed.trial(200);
    bed.sweep();
    bed.trial(503);
    expect(bed.sweep()).toEqual(['1 trial']);
    bed.sweep(59_000);
    expect(bed.gate.trial(ROW)).toBe(-1);
    bed.sweep(2_000);
    expect(bed.gate.trial(ROW)).toBe(1);
  });

  test('ends with the first failure though more are ejected by now than may be, and begins again after the time', () => {
    const bed = new Bed({ maxEjectionPercent: 50 }, [0, 1, 2, 3]);
    bed.results(0, 0, 5);
    bed.results(1, 0, 5);
    expect(bed.sweep()).toEqual(['0 consecutive_5xx', '1 consecutive_5xx']);
    // It is scaled down meanwhile.
    bed.detector.configure({ ...POLICY, maxEjectionPercent: 50 }, [[0, 1, 2]]);
    bed.sweep(30_000);
    expect(bed.trial(503)).toBe(0);
    expect(bed.sweep()).toEqual(['0 trial']);
    expect(bed.trial(503)).toBe(1);
    expect(bed.sweep()).toEqual(['1 trial']);
    for (let turn = 0; turn < 10; turn++) expect([bed.sweep(), bed.trial(503)]).toEqual([[], -1]);
    expect(bed.detector.overflows).toBe(0);
    bed.sweep(60_000);
    expect(bed.trial(200)).toBe(0);
  });

  test('goes on when a trial request is lost', () => {
    const bed = onTrial();
    expect(bed.gate.takeTrial(ROW, 1)).toBe(true);
    bed.sweep();
    expect(bed.gate.trial(ROW)).toBe(-1);
    bed.sweep(10_000);
    expect(bed.gate.trial(ROW)).toBe(1);
  });

  test('is of one endpoint after the other', () => {
    const bed = new Bed();
    for (const endpoint of [1, 2]) bed.results(endpoint, 0, 5);
    bed.sweep();
    bed.sweep(30_000);
    const tried = Array.from({ length: 6 }, () => {
      const endpoint = bed.trial(200);
      bed.sweep();
      return endpoint;
    });
    expect(tried.toSorted()).toEqual([1, 1, 1, 2, 2, 2]);
    expect(bed.ejected).toEqual([]);
  });
});

describe('rates', () => {
  test('an endpoint far below the others’ mean is ejected at the end of the interval', () => {
    const bed = new Bed({ consecutive5xx: 0, successRate: { requests: 100, hosts: 5, deviations: 1.9 } });
    for (let endpoint = 0; endpoint < 10; endpoint++) bed.results(endpoint, endpoint === 7 ? 80 : 199, endpoint === 7 ? 120 : 1);
    expect(bed.sweep(5_000)).toEqual([]);
    expect(bed.sweep(5_000)).toEqual(['7 success_rate']);
  });

  test('too few requests or endpoints say nothing', () => {
    for (const [requests, endpoints] of [
      [90, 10],
      [200, 4],
    ] as const) {
      const bed = new Bed(
        { consecutive5xx: 0, successRate: { requests: 100, hosts: 5, deviations: 1.0 } },
        Array.from({ length: endpoints }, (_, endpoint) => endpoint),
      );
      for (let endpoint = 0; endpoint < endpoints; endpoint++)
        bed.results(endpoint, endpoint === 1 ? 0 : requests, endpoint === 1 ? requests : 0);
      expect(bed.sweep(10_000)).toEqual([]);
    }
  });

  test('a percentage of failures ejects, counted anew each interval', () => {
    const bed = new Bed({ consecutive5xx: 0, failurePercentage: { requests: 50, hosts: 1, threshold: 50 } });
    bed.results(3, 30, 20);
    bed.results(4, 25, 25);
    expect(bed.sweep(10_000)).toEqual(['4 failure_percentage']);
    bed.results(3, 10, 30);
    expect(bed.sweep(10_000)).toEqual([]);
  });

  test('are of what the proxy finds, too, where that is split', () => {
    const bed = new Bed({ consecutive5xx: 0, splitsLocal: true, failurePercentage: { requests: 10, hosts: 1, threshold: 80 } });
    for (let i = 0; i < 10; i++) bed.result(5, 503, 'UF');
    expect(bed.sweep(10_000)).toEqual(['5 failure_percentage_local_origin']);
  });
});

test('a token has room for the edge, the mark of a retry and every row', () => {
  const gate = new Gate(new ResilienceState(ResilienceState.allocate()), allocateShare());
  expect(gate.begin(4_095, true) >>> TOKEN_ROW_BITS).toBe(4_095);
  expect(gate.begin(1, true) & 0x7ff).toBe(0);
});
