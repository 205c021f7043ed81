// Endpoints by where they are, seen from this node: in priorities, as failover wants them, or with shares, as a distribution says. Owner: Istio
// (LocalityLoadBalancerSetting). Pure.
import type { LocalityBalancing } from '../../../api/gen/mesh/v1/model.js';

/** Empty where unknown. */
export interface Locality {
  readonly region: string;
  readonly zone: string;
}

/** An endpoint as far as that goes. */
export interface Located extends Locality {
  readonly node: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Of the node whose proxy asks. */
export interface OwnPlace extends Locality {
  readonly node: string;
}

export interface Group<Member> {
  readonly members: readonly Member[];
  /** Of a distribution: its weight against the others'; of priorities 0. */
  readonly share: number;
}

/** Priorities: the first group is the first to be used, the others as far as it can't take everything. */
export interface Grouping<Member> {
  readonly spread: 'priorities' | 'shares';
  readonly groups: readonly Group<Member>[];
}

export function grouped<Member extends Located>(
  members: readonly Member[],
  setting: LocalityBalancing | undefined,
  own: OwnPlace,
): Grouping<Member> {
  if (setting === undefined) return { spread: 'priorities', groups: [{ members, share: 0 }] };
  const distribution = setting.distributions.find(({ from }) => matches(own, from));
  if (distribution !== undefined) return { spread: 'shares', groups: shares(members, distribution.to) };
  if (setting.distributions.length > 0) return { spread: 'priorities', groups: [{ members, share: 0 }] };
  const rank =
    setting.priorityLabels.length > 0
      ? (member: Member): number => rankByLabels(member, setting.priorityLabels, own)
      : (member: Member): number => rankByPlace(member, setting.failovers, own);
  const ranks = members.map(rank);
  const groups = [...new Set(ranks)]
    .sort((a, b) => a - b)
    .map((wanted) => ({ members: members.filter((_, index) => ranks[index] === wanted), share: 0 }));
  return { spread: 'priorities', groups };
}

/** What endpoints of the node say of its place, where nobody else does. */
export function placeFound(node: string, endpoints: Iterable<Located>): Locality {
  for (const { node: of, region, zone } of endpoints) if (of === node && (region !== '' || zone !== '')) return { region, zone };
  return { region: '', zone: '' };
}

/** "region/zone" */
export function localityName({ region, zone }: Locality): string {
  return zone === '' ? region : `${region}/${zone}`;
}

const SUBZONE_LABEL = 'topology.istio.io/subzone';

/** "region/zone/subzone"; "*" and what is left out match anything. */
function matches(place: Locality & { readonly labels?: Readonly<Record<string, string>> }, pattern: string): boolean {
  const [region = '*', zone = '*', subzone = '*'] = pattern.split('/');
  const fits = (wanted: string, found: string): boolean => wanted === '*' || wanted === '' || wanted === found;
  return fits(region, place.region) && fits(zone, place.zone) && fits(subzone, place.labels?.[SUBZONE_LABEL] ?? '');
}

/** Each endpoint is of the most specific locality that it matches; of none: it gets nothing. */
function shares<Member extends Located>(members: readonly Member[], to: Readonly<Record<string, number>>): Group<Member>[] {
  const specificity = (pattern: string): number => pattern.split('/').filter((part) => part !== '*' && part !== '').length;
  const patterns = Object.keys(to).sort((a, b) => specificity(b) - specificity(a) || (a < b ? -1 : 1));
  const of = members.map((member) => patterns.find((pattern) => matches(member, pattern)));
  return patterns
    .map((pattern) => ({ members: members.filter((_, index) => of[index] === pattern), share: to[pattern]! }))
    .filter((group) => group.members.length > 0 && group.share > 0);
}

/** A node that doesn't know where it is prefers nothing. */
function rankByPlace({ region, zone }: Located, failovers: LocalityBalancing['failovers'], own: OwnPlace): number {
  if (own.region === '' && own.zone === '') return 0;
  if (region === own.region) return zone === own.zone ? 0 : 1;
  return failovers.some(({ from, to }) => from === own.region && to === region) ? 2 : 3;
}

/** By how many of the labels, from the first on, are as the client's. A region that neither knows is the same. */
function rankByLabels(endpoint: Located, labels: readonly string[], own: OwnPlace): number {
  if (own.region === '' && own.zone === '') return 0;
  const differing = labels.findIndex((label) => {
    const [key = '', ...rest] = label.split('=');
    const wanted = rest.length > 0 ? rest.join('=') : placeLabel(key, own);
    const found = placeLabel(key, endpoint) ?? endpoint.labels[key];
    return wanted === undefined || wanted !== (found ?? '');
  });
  return differing < 0 ? 0 : labels.length - differing;
}

/** Undefined: it says nothing of a place. */
function placeLabel(key: string, { region, zone, node }: OwnPlace): string | undefined {
  switch (key) {
    case 'topology.kubernetes.io/region':
    case 'failure-domain.beta.kubernetes.io/region':
      return region;
    case 'topology.kubernetes.io/zone':
    case 'failure-domain.beta.kubernetes.io/zone':
      return zone;
    case 'kubernetes.io/hostname':
      return node;
    default:
      return undefined;
  }
}
