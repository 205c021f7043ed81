// Judges a finished load: do the counts of clients, servers and proxies agree, exactly; does the split hold, statistically. Pure.
import type { ArrivalCount, PodReport } from './shop/protocol.js';
import type { Passes } from './traffic.js';

export interface Check {
  readonly ok: boolean;
  readonly title: string;
  /** What was counted, or what is wrong. */
  readonly detail: readonly string[];
}

export interface JudgedPod {
  readonly name: string;
  /** "<namespace>/<name>" */
  readonly workload: string;
  readonly node: string;
  readonly addresses: readonly string[];
}

export interface Evidence {
  readonly pods: readonly JudgedPod[];
  /** Since the processes started; only this load ran. */
  readonly reports: readonly PodReport[];
  /** During the load alone. */
  readonly passes: Passes;
  readonly split: { readonly service: string; readonly pod: string; readonly share: number };
}

/** |z| beyond which a split is no chance: 1 in 150,000 runs for a fair split. */
const MAX_SIGMA = 4.5;
const MAX_DETAILS = 8;

export function judge(evidence: Evidence): Check[] {
  return [answered(evidence), deliveredOnce(evidence), passedOnce(evidence), sawClient(evidence), split(evidence)];
}

/** Differences of two counts by key. */
export function passesSince(before: Passes, after: Passes): Passes {
  const minus = (now: ReadonlyMap<string, number>, then: ReadonlyMap<string, number>) =>
    new Map([...now].map(([key, count]): [string, number] => [key, count - (then.get(key) ?? 0)]).filter(([, count]) => count !== 0));
  return {
    outbound: minus(after.outbound, before.outbound),
    inbound: minus(after.inbound, before.inbound),
    errors: after.errors - before.errors,
  };
}

function answered({ reports }: Evidence): Check {
  const calls = reports.flatMap((report) => report.calls);
  const sum = (of: 'answered' | 'failed' | 'mismatched', family: number | null = null) =>
    calls.filter((call) => family === null || call.family === family).reduce((total, call) => total + call[of], 0);
  const wrong = sum('failed') + sum('mismatched');
  const families = [4, 6].map((family) => `${sum('answered', family)} over IPv${family}`);
  const bothFamilies = sum('answered', 4) > 0 && sum('answered', 6) > 0;
  const complaints = reports.flatMap((report) => report.failures);
  return check(
    'Every request was answered',
    wrong === 0 && bothFamilies,
    [`${sum('answered')} answered: ${families.join(', ')}`],
    [
      ...(bothFamilies ? [] : [families.join(', ')]),
      `${sum('failed')} failed, ${sum('mismatched')} got the answer to another request`,
      ...complaints,
    ],
  );
}

/** What the clients counted by who answered is what those servers counted by who called. */
function deliveredOnce({ reports }: Evidence): Check {
  const arrivals = (server: string, caller: string) => arrivalsOf(reports, server).filter((arrival) => arrival.caller === caller);
  const complaints: string[] = [];
  let total = 0;
  for (const [key, count] of answeredPairs(reports)) {
    const [caller = '', server = ''] = key.split(' ');
    const arrived = arrivals(server, caller).reduce((sum, arrival) => sum + arrival.arrived, 0);
    total += arrived;
    if (arrived !== count) complaints.push(`${caller} got ${count} answers from ${server}, which saw ${arrived} requests`);
  }
  const all = reports.flatMap((report) => report.arrivals);
  const repeated = all.reduce((sum, arrival) => sum + arrival.repeated, 0);
  const stray = all.reduce((sum, arrival) => sum + arrival.arrived, 0) - total;
  if (repeated > 0) complaints.push(`${repeated} requests arrived more than once`);
  if (stray !== 0) complaints.push(`${stray} requests arrived that no client got an answer for`);
  return check(
    'Every request arrived exactly once',
    complaints.length === 0,
    [`clients and servers agree on ${total}, pair by pair`],
    complaints,
  );
}

/** Same node: one outbound pass. Across nodes: one outbound pass there, one inbound pass here. */
function passedOnce({ pods, reports, passes }: Evidence): Check {
  const byName = new Map(pods.map((pod) => [pod.name, pod]));
  const complaints: string[] = [];
  const counted = { same: 0, across: 0 };
  const outboundLeft = new Map(passes.outbound);
  const inboundLeft = new Map(passes.inbound);
  for (const [key, count] of answeredPairs(reports)) {
    const [from, to] = key.split(' ').map((name) => byName.get(name));
    if (from === undefined || to === undefined) continue;
    const pair = `${from.workload} ${to.workload}`;
    const isAcross = from.node !== to.node;
    counted[isAcross ? 'across' : 'same'] += count;
    const expectedInbound = isAcross ? count : 0;
    const outbound = take(outboundLeft, pair);
    const inbound = take(inboundLeft, pair);
    if (outbound !== count || inbound !== expectedInbound) {
      const path = isAcross ? `${from.node} to ${to.node}` : `within ${from.node}`;
      complaints.push(
        `${pair.replace(' ', ' → ')} (${path}): ${count} requests made ${outbound} outbound and ${inbound} inbound passes, expected ${count} and ${expectedInbound}`,
      );
    }
  }
  for (const [pair, count] of [...outboundLeft, ...inboundLeft])
    complaints.push(`${pair.replace(' ', ' → ')}: ${count} passes that belong to no answered request`);
  if (passes.errors > 0) complaints.push(`the proxies counted ${passes.errors} errors`);
  const good = [
    `${counted.same} within a node: 1 outbound pass each`,
    `${counted.across} across nodes: 1 outbound and 1 inbound pass each`,
  ];
  return check(
    'Every request went through the mesh, and once only',
    complaints.length === 0 && counted.same > 0 && counted.across > 0,
    good,
    complaints,
  );
}

function take(counts: Map<string, number>, key: string): number {
  const count = counts.get(key) ?? 0;
  counts.delete(key);
  return count;
}

function sawClient({ pods, reports }: Evidence): Check {
  const addresses = new Map(pods.map((pod) => [pod.name, pod.addresses]));
  const complaints: string[] = [];
  let right = 0;
  for (const report of reports) {
    for (const { caller, peer, arrived } of report.arrivals) {
      if (addresses.get(caller)?.includes(peer) === true) right += arrived;
      else
        complaints.push(
          `${report.workload} saw ${peer} as the source of ${arrived} requests of ${caller} (${addresses.get(caller)?.join(', ') ?? 'no pod'})`,
        );
    }
  }
  return check("Every server saw the client pod's own address", complaints.length === 0 && right > 0, [`${right} requests`], complaints);
}

function split({ reports, split: { service, pod, share } }: Evidence): Check {
  const calls = reports.flatMap((report) => report.calls).filter((call) => call.service === service);
  const total = calls.reduce((sum, call) => sum + call.answered, 0);
  const hits = calls.filter((call) => call.workload === pod).reduce((sum, call) => sum + call.answered, 0);
  const sigma = total === 0 ? Number.POSITIVE_INFINITY : (hits - total * share) / Math.sqrt(total * share * (1 - share));
  const percent = (of: number) => `${(of * 100).toFixed(1)} %`;
  const said = `${hits} of ${total} went to ${pod}: ${percent(total === 0 ? 0 : hits / total)}, wanted ${percent(share)}, ${sigma.toFixed(1)} σ off (at most ${MAX_SIGMA})`;
  return check(`The split of ${service} holds`, Math.abs(sigma) <= MAX_SIGMA, [said], [said]);
}

/** Answers by "<caller> <server>". */
function answeredPairs(reports: readonly PodReport[]): Map<string, number> {
  const pairs = new Map<string, number>();
  for (const report of reports) {
    for (const call of report.calls) {
      if (call.answered === 0) continue;
      const key = `${report.workload} ${call.workload}`;
      pairs.set(key, (pairs.get(key) ?? 0) + call.answered);
    }
  }
  return pairs;
}

function arrivalsOf(reports: readonly PodReport[], server: string): readonly ArrivalCount[] {
  return reports.find((report) => report.workload === server)?.arrivals ?? [];
}

function check(title: string, ok: boolean, good: readonly string[], bad: readonly string[]): Check {
  const detail = ok ? good : bad;
  const more = detail.length - MAX_DETAILS;
  return { ok, title, detail: more > 0 ? [...detail.slice(0, MAX_DETAILS), `… and ${more} more`] : detail };
}
