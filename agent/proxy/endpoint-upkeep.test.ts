import { expect, test } from '@jest/globals';
import { EndpointHealth, type LoadBalancing, LoadBalancing_Algorithm } from '../../api/gen/mesh/v1/model.js';
import { EndpointStates } from './endpoint-states.js';
import { EndpointUpkeep } from './endpoint-upkeep.js';
import { compiled, endpoint, modelOf, newIds, service } from './testing/models.js';

const WARM = 65_536;

function harness(loadBalancing: Parameters<typeof LoadBalancing.fromPartial>[0]) {
  const ids = newIds();
  const states = new EndpointStates(EndpointStates.allocate());
  const clock = { now: 1_000 };
  const upkeep = new EndpointUpkeep(states, () => clock.now);
  let generation = 0;
  const prepare = (...ready: boolean[]): void => {
    const endpoints = ready.map((isReady, index) =>
      endpoint('s', `e${index}`, `10.1.0.${index + 1}`, { health: isReady ? EndpointHealth.READY : EndpointHealth.UNHEALTHY }),
    );
    const model = modelOf(service('s', '10.0.0.1', { policies: [{ policy: { loadBalancing } }] }), ...endpoints);
    generation += 1;
    const { clusters, variants } = compiled(model, 'a', generation, ids);
    upkeep.prepare([...clusters, ...variants]);
  };
  const warmth = (): number[] => [0, 1, 2].map((id) => Math.round((100 * (WARM - states.coldness[id]!)) / WARM));
  return { states, clock, upkeep, prepare, warmth };
}

test('an endpoint that joins others begins at the minimum and is warm at the end of the window', () => {
  const { clock, upkeep, prepare, warmth } = harness({ slowStart: { windowMs: 10_000, minimumPercent: 20 } });
  prepare(true, true);
  expect([warmth(), upkeep.isWarming]).toEqual([[100, 100, 100], false]);
  prepare(true, true, true);
  expect(warmth()).toEqual([100, 100, 20]);
  clock.now += 5_000;
  upkeep.warm();
  expect(warmth()).toEqual([100, 100, 50]);
  clock.now += 5_000;
  upkeep.warm();
  expect([warmth(), upkeep.isWarming]).toEqual([[100, 100, 100], false]);
});

test('one that becomes ready again begins anew; one that goes is forgotten; where none was, all are warm', () => {
  const { upkeep, prepare, warmth } = harness({ slowStart: { windowMs: 10_000, minimumPercent: 10 } });
  prepare(true, true);
  prepare(true, false);
  prepare(true, true);
  expect(warmth()).toEqual([100, 10, 100]);
  prepare(true, false);
  expect([warmth(), upkeep.isWarming]).toEqual([[100, 100, 100], false]);
  prepare(false, false);
  prepare(true, true);
  expect(warmth()).toEqual([100, 100, 100]);
});

test('one that comes back from an ejection begins anew, where the policy has a slow start', () => {
  const { clock, upkeep, prepare, warmth } = harness({ slowStart: { windowMs: 10_000, minimumPercent: 10 } });
  prepare(true, true);
  upkeep.restart(1);
  expect([warmth(), upkeep.isWarming]).toEqual([[100, 10, 100], true]);
  clock.now += 10_000;
  upkeep.warm();
  expect(warmth()).toEqual([100, 100, 100]);
  prepare(true, false);
  upkeep.restart(1);
  expect(upkeep.isWarming).toBe(false);
});

test('aggression bends the line: part of the window, to the power of its inverse', () => {
  const { clock, upkeep, prepare, warmth } = harness({ slowStart: { windowMs: 10_000, aggression: 2, minimumPercent: 0 } });
  prepare(true);
  prepare(true, true);
  clock.now += 2_500;
  upkeep.warm();
  expect(warmth()[1]).toBe(50);
});

test('endpoints are observed while a policy goes by their response times', () => {
  const { states, prepare } = harness({ algorithm: LoadBalancing_Algorithm.PEAK_EWMA, decayMs: 3_000 });
  prepare(true, true);
  expect([...states.decayUs.slice(0, 3)]).toEqual([3e6, 3e6, 0]);
  prepare(true);
  expect([...states.decayUs.slice(0, 3)]).toEqual([3e6, 0, 0]);
});
