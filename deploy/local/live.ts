// The live view of `weft up`: who calls whom, by which path, how fast; the split of catalog; what to try next. Text only; where it is
// drawn is decided in command.ts.
import type { StatusResponse } from '../../api/gen/mesh/v1/status.js';
import { type Palette, plural, table } from '../../cli/terminal.js';
import { SHOP_NAMESPACE, SHOP_PODS } from './shop/plan.js';
import { splitOf, type TrafficReader, type TrafficRow, wantedSplit } from './traffic.js';

const CATALOG = `${SHOP_NAMESPACE}/catalog:80`;
const CATALOG_WORKLOADS = SHOP_PODS.filter((pod) => pod.service === 'catalog').map((pod) => `${SHOP_NAMESPACE}/${pod.name}`);

/** What the table takes with all of its columns. */
const WIDE_COLUMNS = 95;

export class LiveView {
  #last = new Map<string, number>();
  #lastAtMs = 0;
  #rates = new Map<string, number>();

  constructor(
    readonly reader: TrafficReader,
    readonly colours: Palette,
  ) {}

  /** `nowMs`: any monotonic clock. Rates are over the time since the last call. */
  draw(statuses: readonly StatusResponse[], nowMs: number, terminalColumns: number): string {
    const rows = this.reader.rows(statuses);
    this.#measure(rows, nowMs);
    const parts = [
      rows.length === 0 ? 'No traffic has passed the proxies yet.' : this.#table(rows, terminalColumns),
      this.#split(rows, statuses),
    ];
    const down = statuses.filter((status) => status.proxy === undefined);
    for (const { node } of down)
      parts.push(this.colours.bad(`! the proxy of ${node} is down: its pods' traffic goes direct, past the mesh`));
    return parts.join('\n\n');
  }

  #measure(rows: readonly TrafficRow[], nowMs: number): void {
    const seconds = (nowMs - this.#lastAtMs) / 1000;
    const counts = new Map(rows.map((row) => [keyOf(row), row.outbound]));
    if (this.#lastAtMs > 0 && seconds > 0) {
      // A proxy that started again counts from zero.
      this.#rates = new Map([...counts].map(([key, count]) => [key, Math.max(0, count - (this.#last.get(key) ?? 0)) / seconds]));
    }
    this.#last = counts;
    this.#lastAtMs = nowMs;
  }

  #table(rows: readonly TrafficRow[], terminalColumns: number): string {
    const right = { align: 'right' as const };
    const isWide = terminalColumns >= WIDE_COLUMNS;
    const columns = [
      ...['FROM', 'TO', ...(isWide ? ['ANSWERED BY'] : []), 'PATH'].map((title) => ({ title })),
      ...['REQUESTS', 'RATE/S', 'P50 MS', 'P99 MS', 'ERRORS'].map((title) => ({ title, ...right })),
    ];
    const short = (name: string) => (name.startsWith(`${SHOP_NAMESPACE}/`) ? name.slice(SHOP_NAMESPACE.length + 1) : name);
    const cells = rows.map((row) => [
      short(row.source),
      short(row.destination),
      ...(isWide ? [short(row.answeredBy)] : []),
      row.path,
      String(row.outbound),
      (this.#rates.get(keyOf(row)) ?? 0).toFixed(1),
      row.p50Ms.toFixed(2),
      row.p99Ms.toFixed(2),
      row.errors > 0 ? this.colours.bad(String(row.errors)) : '0',
    ]);
    return table(columns, cells, this.colours);
  }

  #split(rows: readonly TrafficRow[], statuses: readonly StatusResponse[]): string {
    const split = splitOf(rows, CATALOG_WORKLOADS);
    const total = [...split.values()].reduce((sum, count) => sum + count, 0);
    const share = (count: number) => (total === 0 ? '-' : `${((count / total) * 100).toFixed(1)} %`);
    const shares = [...split].map(([workload, count]) => `${workload} ${share(count)} (${count})`).join(', ');
    return `${this.colours.strong('Split of catalog')}, of ${plural(total, 'request')}: ${shares}. Route: ${wantedSplit(statuses, `service ${CATALOG}`)}`;
  }
}

function keyOf(row: TrafficRow): string {
  return `${row.source} ${row.destination} ${row.answeredBy}`;
}

/** Commands that work as they stand, in another terminal. */
export function whatToTry(instance: string, controllerAddress: string, colours: Palette): string {
  const weft = instance === 'weft' ? 'npx weft' : `npx weft --controller ${controllerAddress}`;
  const route = 'deploy/local/shop/manifests/catalog-route.yaml';
  const lines = [
    [`${weft} status`, 'the nodes, and whatever is wrong'],
    [
      `sed 's/weight: 90/weight: 50/; s/weight: 10/weight: 50/' ${route} | ${weft} apply -f - --wait`,
      'half of catalog to version 2, at once',
    ],
    [`${weft} routes node-a`, 'the routes in the order in which they are tried'],
    [`${weft} endpoints node-b`, 'where node-b sends requests, with health and load'],
    [`${weft} capture node-a`, 'how traffic is captured, pod by pod'],
    [
      `kill -9 $(${weft} status node-a -o json | jq .nodes[0].status.proxy.pid)`,
      'the traffic goes on, past the mesh, until the proxy is back',
    ],
  ];
  return [
    colours.strong('To try, in another terminal:'),
    ...lines.flatMap(([command, meaning]) => [`  ${command}`, colours.faint(`      ${meaning}`)]),
  ].join('\n');
}
