// What a ClusterPolicy says of balancing, beyond which algorithm it is → rows of balancers and groups, tables of hashes, cookies. On the main
// thread. Knows no services, no addresses; a cluster that needs none of it has no row.
import { type ClusterPolicy, Failover, type HashKey, type LoadBalancing, LoadWeights_Source } from '../../../api/gen/mesh/v1/model.js';
import type { Conditions } from './conditions.js';
import { DEFAULT_MAGLEV, DEFAULT_RING_MIN, type HashSpec, type HashTables, MAX_RING } from './hash-tables.js';
import { ALL_CHOICES, BALANCER_WORDS, Balancing, GROUP_WORDS, Subject } from './layout.js';
import { type Grouping, grouped, type Located, type OwnPlace } from './localities.js';

/** An endpoint as balancers tell it from others. */
export interface Candidate extends Located {
  /** Of its socket. */
  readonly name: string;
  readonly weight: number;
  readonly isReady: boolean;
}

/** Words of all tables of hashes of one generation: 64 MiB. */
const MAX_TABLE_WORDS = 16_777_216;
const ALL = 0xffff_ffff;

export class BalancerRows {
  readonly balancers: number[] = [];
  readonly groups: number[] = [];
  readonly cookies: number[] = [];
  readonly warnings = new Set<string>();
  private readonly offsets = new Map<Int32Array, number>();
  private tableWords = 0;

  constructor(
    private readonly conditions: Conditions,
    private readonly hashTables: HashTables,
    readonly own: OwnPlace,
  ) {}

  /** Null: the cluster's own words say all of it. */
  plan<Member extends Candidate>(
    balancing: Balancing,
    policy: ClusterPolicy | undefined,
    members: readonly Member[],
  ): Grouping<Member> | null {
    const setting = policy?.loadBalancing;
    if (policy === undefined && balancing <= Balancing.LeastRequest) return null;
    // A group's ready ones come first: tables of hashes are of them.
    const readyFirst = [...members.filter(({ isReady }) => isReady), ...members.filter(({ isReady }) => !isReady)];
    const grouping = grouped(readyFirst, setting?.locality, this.own);
    const isPlain =
      balancing <= Balancing.LeastRequest &&
      (setting === undefined ||
        (setting.choices === 0 && setting.slowStart === undefined && setting.panicPercent === 0 && setting.weights === undefined)) &&
      grouping.groups.length === 1 &&
      // Who ejects wants it heeded (EndpointStates.unavailable).
      policy?.outlierDetection === undefined;
    return isPlain ? null : grouping;
  }

  /** Its row. `first`: of the groups' members in `members`, where they lie one group behind the other. */
  add(
    cluster: string,
    balancing: Balancing,
    setting: LoadBalancing | undefined,
    { spread, groups }: Grouping<Candidate>,
    first: number,
  ): number {
    const firstGroup = this.groups.length / GROUP_WORDS;
    let at = first;
    for (const { members, share } of groups) {
      const [table, size] = this.tableOf(
        cluster,
        balancing,
        setting,
        members.filter(({ isReady }) => isReady),
      );
      this.groups.push(at, members.length, share, table, size);
      at += members.length;
    }
    const row = this.balancers.length / BALANCER_WORDS;
    const [subject, cookie] = this.keyOf(setting?.hash);
    this.balancers.push(
      balancing,
      setting?.choices === ALL ? ALL_CHOICES : (setting?.choices ?? 0),
      subject,
      cookie,
      setting?.failover ?? Failover.CONSISTENT,
      setting?.panicPercent ?? 0,
      firstGroup,
      groups.length,
      spread === 'shares' ? 1 : 0,
      setting?.slowStart === undefined ? 0 : 1,
      asksForReports(setting) ? 1 : 0,
    );
    return row;
  }

  get hashWords(): Int32Array {
    const all = new Int32Array(this.tableWords);
    for (const [table, offset] of this.offsets) all.set(table, offset);
    return all;
  }

  private tableOf(
    cluster: string,
    balancing: Balancing,
    setting: LoadBalancing | undefined,
    members: readonly Candidate[],
  ): [offset: number, size: number] {
    const spec = specOf(balancing, setting);
    if (spec === null || members.length === 0) return [0, 0];
    const table = this.hashTables.of(members, spec);
    const size = spec.kind === 'ring' ? table.length / 2 : table.length;
    const known = this.offsets.get(table);
    if (known !== undefined) return [known, size];
    if (this.tableWords + table.length > MAX_TABLE_WORDS) {
      this.warnings.add(`${cluster}: no room for its table of hashes: keys move more than they need to when its endpoints change`);
      return [0, 0];
    }
    const offset = this.tableWords;
    this.offsets.set(table, offset);
    this.tableWords += table.length;
    return [offset, size];
  }

  private keyOf(hash: HashKey | undefined): [subject: number, cookie: number] {
    const key = hash?.key;
    switch (key?.$case) {
      case 'header':
        return [this.conditions.valueOf('header', key.value), -1];
      case 'query':
        return [this.conditions.valueOf('query', key.value), -1];
      case 'path':
        return [Subject.Path, -1];
      case 'cookie':
        return [this.conditions.valueOf('header', 'cookie'), this.cookieOf(key.value)];
      case 'sourceAddress':
        return [this.conditions.valueOf('clientAddress', ''), -1];
      default:
        return [Subject.Nothing, -1];
    }
  }

  private cookieOf({
    name,
    ttlSeconds,
    path,
    attributes,
  }: {
    name: string;
    ttlSeconds?: number | undefined;
    path: string;
    attributes: readonly { name: string; value: string }[];
  }): number {
    const at = this.cookies.length;
    const said = [
      ...(ttlSeconds === undefined || ttlSeconds === 0 ? [] : [`Max-Age=${ttlSeconds}`]),
      ...(path === '' ? [] : [`Path=${path}`]),
      'HttpOnly',
      ...attributes.map((attribute) => (attribute.value === '' ? attribute.name : `${attribute.name}=${attribute.value}`)),
    ];
    const prefix = ttlSeconds === undefined ? '' : `set-cookie: ${name}=`;
    const suffix = ttlSeconds === undefined ? '' : `${said.map((part) => `; ${part}`).join('')}\r\n`;
    const texts = [name, prefix, suffix].map((text) => Buffer.from(text));
    this.cookies.push(...texts.map(({ length }) => length), ...texts.flatMap((bytes) => [...bytes]));
    return at;
  }
}

/** Whether endpoints are weighed by what they say of themselves. */
export function asksForReports(setting: LoadBalancing | undefined): boolean {
  return setting?.weights?.source === LoadWeights_Source.ORCA;
}

function specOf(balancing: Balancing, setting: LoadBalancing | undefined): HashSpec | null {
  if (balancing === Balancing.Maglev) return { kind: 'maglev', size: setting?.tableSize || DEFAULT_MAGLEV };
  if (balancing !== Balancing.RingHash) return null;
  const maxSize = Math.min(setting?.maxRingSize || MAX_RING, MAX_RING);
  return { kind: 'ring', minSize: Math.min(setting?.minRingSize || DEFAULT_RING_MIN, maxSize), maxSize };
}
