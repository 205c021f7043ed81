// `weft up --once`: a fixed load, the verdict on it, and a look at whether anything is left.
import { setTimeout as delay } from 'node:timers/promises';
import type { Palette } from '../../cli/terminal.js';
import type { Cluster } from './cluster.js';
import { CATALOG_V2_SHARE, SHOP_NAMESPACE, SHOP_PODS } from './shop/plan.js';
import { type Passes, TrafficReader } from './traffic.js';
import { type Check, type JudgedPod, judge, passesSince } from './verdict.js';

const CONCURRENCY = 16;
const LOAD_TIMEOUT_MS = 120_000;
/** Proxies count when an exchange ends, which may be after the client has its answer. */
const SETTLE_MS = 3_000;

export const JUDGED_PODS: readonly JudgedPod[] = SHOP_PODS.map(({ name, node, v4, v6 }) => ({
  ...{ name, node, workload: `${SHOP_NAMESPACE}/${name}`, addresses: [v4, v6] },
}));

/** Sends `requests` from web and judges all calls that follow from them. */
export async function runOnce(cluster: Cluster, requests: number): Promise<Check[]> {
  const reader = new TrafficReader(JUDGED_PODS);
  const before = reader.passes(await cluster.statuses());
  await cluster.shop.runLoad('web', { requests, concurrency: CONCURRENCY, rate: null }, LOAD_TIMEOUT_MS);
  const reports = await cluster.shop.reports();
  const evidence = (passes: Passes) => ({
    pods: JUDGED_PODS,
    reports,
    passes,
    split: { service: 'catalog', pod: 'catalog-v2', share: CATALOG_V2_SHARE },
  });
  for (let waited = 0; ; waited += 50) {
    const checks = judge(evidence(passesSince(before, reader.passes(await cluster.statuses()))));
    if (checks.every((check) => check.ok) || waited >= SETTLE_MS) return checks;
    await delay(50);
  }
}

export function formatCheck({ ok, title, detail }: Check, colours: Palette): string {
  const mark = ok ? colours.good('✓') : colours.bad('✗');
  return [`${mark} ${colours.strong(title)}`, ...detail.map((line) => `    ${line}`)].join('\n');
}
