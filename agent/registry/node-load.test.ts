import { expect, test } from '@jest/globals';
import { type CpuTimes, cpuTimes, NodeLoad } from './node-load.js';

test('idle and waiting for disks is idle; guests are in their users’ time, and what the host took is none of ours', () => {
  expect(cpuTimes('cpu  100 10 50 800 40 0 0 0 30 0\ncpu0 1 2 3 4\n')).toEqual({ idle: 840, total: 1_000 });
  expect(cpuTimes('cpu  100 0 0 300 0 0 0 100 0 0\n')).toEqual({ idle: 300, total: 500 });
  expect(cpuTimes('cpu0 1 2 3 4\n')).toBeNull();
  expect(cpuTimes('')).toBeNull();
});

test('this machine says how busy it is', () => {
  const load = new NodeLoad({ onChange: () => {} });
  load.want(true);
  expect(load.idlePercent).toBeNull();
  // Some ticks, so that there is something to divide.
  const until = performance.now() + 50;
  while (performance.now() < until);
  load.sample();
  load.close();
  expect(load.idlePercent).toBeGreaterThanOrEqual(0);
  expect(load.idlePercent).toBeLessThan(100);
});

class Machine {
  nowMs = 0;
  private readonly times = { idle: 0, total: 0 };
  readonly told: (number | null)[] = [];
  readonly load = new NodeLoad({
    onChange: () => this.told.push(this.load.idlePercent),
    read: (): CpuTimes => ({ ...this.times }),
    nowMs: () => this.nowMs,
  });

  second(idle: number): void {
    this.nowMs += 1_000;
    this.times.total += 1_000;
    this.times.idle += Math.round(idle * 1_000);
    this.load.sample();
  }
}

test('small changes are not told, nor any soon after the last; a large one is told in steps until it is known', () => {
  const machine = new Machine();
  machine.load.sample();
  for (let second = 0; second < 60; second++) machine.second(0.5 + 0.04 * Math.sin(second));
  expect(machine.told).toHaveLength(1);
  for (let second = 0; second < 120; second++) machine.second(0.1);
  expect(machine.told.length).toBeLessThanOrEqual(9);
  expect(machine.load.idlePercent).toBeLessThanOrEqual(15);
});

test('nobody asks: nothing is told any more', () => {
  const machine = new Machine();
  machine.load.want(true);
  machine.second(0.5);
  machine.load.want(false);
  expect(machine.told).toEqual([50, null]);
});

/** Two nodes whose work is shared by what they have idle: how far shares still swing, and where they end. */
function shared(work: number, capacities: readonly [number, number], seconds: number): { swing: number; utilization: number[] } {
  const machines = [new Machine(), new Machine()];
  for (const { load } of machines) load.sample();
  const shares: number[] = [];
  let utilization = [0, 0];
  for (let second = 0; second < seconds; second++) {
    const weights = machines.map(({ load }) => Math.max(5, load.idlePercent ?? 50));
    const share = weights[0]! / (weights[0]! + weights[1]!);
    if (second > seconds / 2) shares.push(share);
    utilization = [share, 1 - share].map((part, index) => Math.min(1, (part * work) / capacities[index]!));
    utilization.forEach((busy, index) => void machines[index]!.second(1 - busy));
  }
  return { swing: Math.max(...shares) - Math.min(...shares), utilization };
}

test('weights that follow from the figure settle: a node of half the size has less to do, and shares stay where they are', () => {
  const before = 0.5 * 1.8;
  for (const work of [0.6, 1.2, 1.8]) {
    const { swing, utilization } = shared(work, [1, 2], 1_200);
    expect(swing).toBeLessThan(0.1);
    expect(utilization[0]).toBeLessThan(Math.min(1, 0.5 * work));
  }
  expect(shared(1.8, [1, 2], 1_200).utilization[0]).toBeLessThan(before - 0.15);
  // Of two that are alike, nearly worn out, neither is left to the other.
  expect(shared(1.7, [1, 1], 1_200).swing).toBeLessThan(0.2);
});
