// `npm run chaos -- redirect [--minutes N] [--seed N] [--capture MODE] [--deeds LIST]`: pods come and go, agents and proxies are killed, stopped, started
// again and upgraded at random, while all pods call each other, fail-open. Never may anybody be heard or answered by whom it did not ask;
// calls may fail only for what was in flight through a killed process; afterwards the hosts must be as they were.
import { cpSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { removeDead } from '../../deploy/local/instance.js';
import { NODES, type NodeName } from '../../deploy/local/layout.js';
import { chaosControl, SABOTAGES, type Sabotage } from './control.js';
import { etcdOutage } from './etcd-outage.js';
import { type Deed, judge, type Verdict } from './judge.js';
import { Mesh } from './mesh.js';
import { chaosTraffic } from './traffic.js';

const USAGE = `usage: npm run chaos -- control [--minutes N] [--seed N] [--sabotage lost-write|half-applied] [--logs FOLDER]
       npm run chaos -- control --scenario etcd-outage [--minutes N] [--logs FOLDER]
       npm run chaos -- redirect [--minutes N] [--seed N] [--capture auto|ebpf-tcx|ebpf-clsact|nftables|iptables] [--deeds LIST] [--logs FOLDER]
       npm run chaos -- traffic [--minutes N] [--seed N]
  --minutes N   how long (10)
  --seed N      the same deeds in the same order again (default: another each time; it is printed)
  --sabotage S  do in etcd itself what must never happen, to see that it is found: exits 1
  --scenario S  etcd-outage: a whole mesh whose etcd answers nobody, for so long
  --capture M   as of \`weft agent\` (auto)
  --deeds LIST  only these, by commas, to look at one thing: kill, stop, upgrade, agent, pods
  --logs FOLDER keeps a copy of every process's log`;
const INSTANCES = 'chaos-';
/** What is done, and how often beside the others. */
const DEEDS = { kill: 1, stop: 1, upgrade: 2, agent: 2, pods: 2 } as const;
type DeedName = keyof typeof DEEDS;
const SHOWN_FINDINGS = 20;
const SHOWN_DIFFERENCES = 5;

/** mulberry32: small, and the same everywhere. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

class Chaos {
  readonly deeds: Deed[] = [];

  constructor(
    private readonly mesh: Mesh,
    private readonly random: () => number,
    private readonly names: readonly DeedName[],
  ) {}

  private below(limit: number): number {
    return Math.floor(this.random() * limit);
  }

  private begin(kind: Deed['kind'], node: string, token = ''): Deed {
    const deed: Deed = { kind, node, token, began: Date.now(), ended: Number.POSITIVE_INFINITY };
    this.deeds.push(deed);
    return deed;
  }

  /** One thing after another: what two at a time do is less than anybody could explain. */
  async run(untilMs: number): Promise<void> {
    while (Date.now() < untilMs) {
      const deed = await this.next();
      if (deed !== null) deed.ended = Date.now();
      await sleep(300 + this.below(1_200));
    }
  }

  private next(): Promise<Deed | null> {
    const node = NODES[this.below(NODES.length)]!;
    const turns = this.names.flatMap((name) => Array.from({ length: DEEDS[name] }, () => name));
    switch (turns[this.below(turns.length)]!) {
      case 'kill':
        return this.killProxy(node);
      case 'stop':
        return this.stopProxy(node);
      case 'upgrade':
        return this.upgradeProxy(node);
      case 'agent':
        return this.endAgent(node, this.random() < 0.5 ? 'SIGKILL' : 'SIGTERM');
      case 'pods':
        return this.changePods();
    }
  }

  private async killProxy(node: NodeName): Promise<Deed> {
    const deed = this.begin('proxy killed', node);
    const proxy = this.mesh.proxy(node);
    proxy.signal('SIGKILL');
    await proxy.exited;
    deed.gone = Date.now();
    await sleep(this.below(1_500));
    await this.mesh.startProxy(node);
    await this.serving(node);
    return deed;
  }

  private async stopProxy(node: NodeName): Promise<Deed> {
    const deed = this.begin('proxy stopped', node);
    this.mesh.proxy(node).signal('SIGSTOP');
    await sleep(200 + this.below(3_000));
    this.mesh.proxy(node).signal('SIGCONT');
    return deed;
  }

  private async upgradeProxy(node: NodeName): Promise<Deed> {
    const deed = this.begin('proxy upgraded', node);
    await this.mesh.upgradeProxy(node);
    await this.serving(node);
    return deed;
  }

  private async endAgent(node: NodeName, signal: 'SIGKILL' | 'SIGTERM'): Promise<Deed> {
    const deed = this.begin(signal === 'SIGKILL' ? 'agent killed' : 'agent restarted', node);
    const agent = this.mesh.agent(node);
    agent.signal(signal);
    await agent.exited;
    // Pods come and go meanwhile: what returns must find out.
    if (this.random() < 0.5) await this.changePods();
    await this.mesh.startAgent(node);
    return deed;
  }

  private async changePods(): Promise<Deed | null> {
    const slots = this.mesh.slots();
    const slot = slots[this.below(slots.length)]!;
    const running = this.mesh.pods.get(slot.name);
    if (running === undefined) {
      const deed = this.begin('pod created', slot.node);
      await this.mesh.createPod(slot);
      return deed;
    }
    // Some must be left to talk.
    if (this.mesh.pods.size <= slots.length / 2) return null;
    let deed: Deed | null = null;
    await this.mesh.deletePod(slot.name, () => {
      deed = this.begin('pod deleted', slot.node, running.token);
    });
    return deed;
  }

  private async serving(node: NodeName): Promise<void> {
    const deadline = Date.now() + 20_000;
    while (!(await this.mesh.captured(node))) {
      if (Date.now() > deadline) throw new Error(`the proxy of ${node} does not serve:\n${this.mesh.proxy(node).lastLines()}`);
      await sleep(50);
    }
  }
}

function differences(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): string[] {
  return [...before].flatMap(([what, text]) => {
    const [was, is] = [text.split('\n'), (after.get(what) ?? '').split('\n')];
    const changed = [
      ...was.filter((line) => !is.includes(line)).map((line) => `- ${line}`),
      ...is.filter((line) => !was.includes(line)).map((line) => `+ ${line}`),
    ];
    return changed.length === 0 ? [] : [`${what} is not as before:\n    ${changed.slice(0, SHOWN_DIFFERENCES).join('\n    ')}`];
  });
}

interface Plan {
  readonly minutes: number;
  readonly seed: number;
  readonly capture: string;
  readonly deeds: readonly DeedName[];
  readonly logs: string | undefined;
  readonly sabotage: Sabotage | undefined;
}

async function chaos(plan: Plan): Promise<string[]> {
  for (const what of await removeDead((name) => name.startsWith(INSTANCES)))
    console.log(`left by a run that was killed, and removed: ${what}`);
  const mesh = await Mesh.create(`${INSTANCES}${process.pid}`, plan.capture);
  const interrupted = (): void => {
    console.log('interrupted: removing the hosts');
    // What was going on fails meanwhile, which nobody needs to know.
    void mesh.lab.close().finally(() => process.exit(130));
  };
  process.once('SIGINT', interrupted).once('SIGTERM', interrupted);
  try {
    const before = await mesh.snapshot();
    await mesh.start();
    for (const slot of mesh.slots()) await mesh.createPod(slot);
    const one = new Chaos(mesh, randomOf(plan.seed), plan.deeds);
    await one.run(Date.now() + plan.minutes * 60_000);
    await sleep(1_000);
    const over = Date.now();
    const counters = new Map(await Promise.all(NODES.map(async (node) => [node, await mesh.counters(node)] as const)));
    const kept = await mesh.uninstall();
    const verdict = judge(mesh.outcomes(), one.deeds, mesh.isTransparent, over);
    report(one.deeds, verdict, counters);
    const left = differences(before, await mesh.snapshot());
    const miscounted = mesh.isTransparent ? [...counters].flatMap(([node, counted]) => miscounts(node, counted, verdict)) : [];
    return [...(verdict.ok === 0 ? ['no call went well'] : []), ...verdict.findings, ...miscounted, ...kept, ...left];
  } finally {
    if (plan.logs !== undefined) cpSync(mesh.lab.layout.logDir, plan.logs, { recursive: true });
    await mesh.lab.close();
    process.off('SIGINT', interrupted).off('SIGTERM', interrupted);
  }
}

/** Of all that kept a connection from a proxy. */
function bypassCounters(counted: ReadonlyMap<string, number>): [name: string, value: number][] {
  return [...counted].filter(([name, value]) => value > 0 && /(^|[.])(bypass|refused|held|dropped|assign_failed)/.test(name));
}

/** Every bypass that a server saw has been counted, and with a reason that there was: no proxy, or one that hung. */
function miscounts(node: string, counted: ReadonlyMap<string, number>, { bypasses }: Verdict): string[] {
  const expected = /bypass_(no_listener|stale_worker)$/;
  const counts = bypassCounters(counted);
  const total = counts.reduce((sum, [name, value]) => sum + (expected.test(name) ? value : 0), 0);
  const seen = bypasses.get(node) ?? 0;
  return [
    ...(total < seen ? [`${node}: ${seen} calls went past its proxy, ${total} were counted`] : []),
    // What a proxy still sends for a pod that has just gone has no workload any more.
    ...counts.flatMap(([name, value]) =>
      expected.test(name) || name.endsWith('dropped_no_workload') ? [] : [`${node}: ${name} counted ${value} times`],
    ),
  ];
}

function report(deeds: readonly Deed[], verdict: Verdict, counters: ReadonlyMap<string, ReadonlyMap<string, number>>): void {
  const kinds = [...new Set(deeds.map(({ kind }) => kind))].sort();
  console.table(
    kinds.map((kind) => ({
      deed: kind,
      times: deeds.filter((deed) => deed.kind === kind).length,
      'calls it cost': verdict.explained.get(kind) ?? 0,
    })),
  );
  console.log(`${verdict.calls} calls, ${verdict.ok} went well`);
  for (const [node, counted] of counters) {
    const counts = bypassCounters(counted).map(([name, value]) => `${name} ${value}`);
    console.log(`${node}: ${verdict.bypasses.get(node) ?? 0} calls seen to pass its proxy by; counted: ${counts.join(', ') || 'none'}`);
  }
}

/** null: names that are none. */
function deedsOf(list: string): DeedName[] | null {
  const names = list.split(',');
  return names.every((name) => name in DEEDS) ? (names as DeedName[]) : null;
}

async function control({ minutes, seed, logs, sabotage }: Plan): Promise<readonly string[]> {
  const { deeds, acknowledged, refused, updates, findings } = await chaosControl({ minutes, random: randomOf(seed), logs, sabotage });
  console.table([...deeds].sort().map(([deed, times]) => ({ deed, times })));
  console.log(`${acknowledged} writes acknowledged, ${refused} refused and tried again, ${updates} updates looked at`);
  return findings;
}

async function traffic({ minutes, seed }: Plan): Promise<readonly string[]> {
  const { requests, deeds, ejections, findings } = await chaosTraffic({ minutes, random: randomOf(seed) });
  console.table([...deeds].map(([deed, { times, longestMs }]) => ({ deed, times, 'longest request, ms': Math.round(longestMs) })));
  console.log(`${requests} requests, ${findings.length} failed; ${ejections} ejections`);
  return findings;
}

/** By what stands on the command line: name, scenario. */
const RUNS: ReadonlyMap<string, (plan: Plan) => Promise<readonly string[]>> = new Map([
  ['redirect', chaos],
  ['control', control],
  ['traffic', traffic],
  ['control etcd-outage', ({ minutes, logs }: Plan) => etcdOutage(`${INSTANCES}${process.pid}`, minutes, logs)],
]);

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      minutes: { type: 'string' },
      seed: { type: 'string' },
      capture: { type: 'string' },
      deeds: { type: 'string' },
      scenario: { type: 'string' },
      sabotage: { type: 'string' },
      logs: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help === true) {
    console.log(USAGE);
    return 0;
  }
  const minutes = Number(values.minutes ?? 10);
  const seed = Number(values.seed ?? Date.now() % 1_000_000);
  const deeds = deedsOf(values.deeds ?? Object.keys(DEEDS).join(','));
  const { logs } = values;
  const sabotage = values.sabotage === undefined ? undefined : SABOTAGES.find((each) => each === values.sabotage);
  const run = RUNS.get([...positionals, ...(values.scenario === undefined ? [] : [values.scenario])].join(' '));
  if (run === undefined || sabotage !== values.sabotage || !(minutes > 0) || !Number.isInteger(seed) || deeds === null) {
    console.error(USAGE);
    return 2;
  }
  const capture = values.capture ?? 'auto';
  process.env.WEFT_CAPTURE = capture;
  console.log(`chaos for ${minutes} minutes, --seed ${seed}`);
  const findings = await run({ minutes, seed, capture, deeds, logs, sabotage });
  for (const finding of findings.slice(0, SHOWN_FINDINGS)) console.log(`finding: ${finding}`);
  console.log(findings.length === 0 ? 'no finding' : `${findings.length} findings`);
  return findings.length === 0 ? 0 : 1;
}

process.exitCode = await main().catch((error: Error) => {
  console.error(error.message);
  return error instanceof TypeError && 'code' in error ? 2 : 1;
});
