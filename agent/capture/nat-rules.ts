// The text of the fallback's firewall rules: what captures a pod's TCP connections by address translation inside its own network namespace,
// for nft(8) and for iptables-restore(8). Pure: runs nothing, reads nothing. One table or two chains named weft, and nothing else:
// no routing rule, no route, no sysctl.
//
// Why REDIRECT both ways and not TPROXY: TPROXY needs a routing rule, a table and a sysctl in the pod. The price: the pod's server sees
// the pod's own address as its peer, as a captured process of the host does.
import type { CaptureSpec } from '../native/capture.js';

export type NatSpec = Pick<
  CaptureSpec,
  | 'outbound'
  | 'inbound'
  | 'failClosed'
  | 'excludeOutboundPorts'
  | 'excludeInboundPorts'
  | 'excludeOutboundCidrs'
  | 'includeOutboundCidrs'
  | 'excludeInboundCidrs'
  | 'includeInboundCidrs'
>;

export interface NatListeners {
  /** On the loopback of the pod's namespace: the kernel redirects what the pod sends to 127.0.0.1 and ::1. */
  readonly outboundPort: number;
  /** On all addresses of it: what arrives is redirected to the address of its interface. */
  readonly inboundPort: number;
  /**
   * SO_MARK bit of the proxy's own connections out of the pod's namespace. A process of the pod with CAP_NET_RAW (Linux 5.17) or
   * CAP_NET_ADMIN can set it too, and then goes direct: outbound capture by these rules is no security boundary, fail-closed or not.
   */
  readonly mark: number;
}

type Family = 4 | 6;

/** What becomes of a connection, the first that matches: the order of from_pod and to_pod. */
type Step =
  | { readonly match: 'own' }
  | { readonly match: 'port'; readonly ports: readonly number[] }
  | { readonly match: 'cidr'; readonly cidr: string; readonly family: Family; readonly excluded: boolean };

type Direction = 'outbound' | 'inbound';

function family(cidr: string): Family {
  return cidr.includes(':') ? 6 : 4;
}

function prefixLength(cidr: string): number {
  const length = cidr.split('/')[1];
  return length === undefined ? (family(cidr) === 6 ? 128 : 32) : Number(length);
}

/** The longest prefix decides, so it comes first; of two alike, the one that captures. */
function networks(excluded: readonly string[], included: readonly string[]): Step[] {
  const steps = [
    ...included.map((cidr) => ({ match: 'cidr' as const, cidr, family: family(cidr), excluded: false })),
    ...excluded.map((cidr) => ({ match: 'cidr' as const, cidr, family: family(cidr), excluded: true })),
  ];
  return steps.sort((a, b) => prefixLength(b.cidr) - prefixLength(a.cidr));
}

function stepsOf(spec: NatSpec, direction: Direction): Step[] {
  const isOut = direction === 'outbound';
  const ports = isOut ? spec.excludeOutboundPorts : spec.excludeInboundPorts;
  const excluded = isOut ? spec.excludeOutboundCidrs : spec.excludeInboundCidrs;
  const included = isOut ? spec.includeOutboundCidrs : spec.includeInboundCidrs;
  return [{ match: 'own' }, ...(ports.length > 0 ? [{ match: 'port' as const, ports }] : []), ...networks(excluded, included)];
}

function directions(spec: NatSpec): Direction[] {
  return (['outbound', 'inbound'] as const).filter((direction) => spec[direction]);
}

const hex = (mark: number): string => `0x${mark.toString(16)}`;

// ── nftables ──

function nftStep(step: Step, direction: Direction, { mark }: NatListeners): string[] {
  switch (step.match) {
    case 'own':
      if (direction === 'inbound') return ['iifname "lo" return'];
      return [`meta mark & ${hex(mark)} == ${hex(mark)} return`, 'fib daddr type local return'];
    case 'port':
      return [`tcp dport { ${step.ports.join(', ')} } counter name ${direction}_bypass_excluded_port return`];
    case 'cidr': {
      const match = `${step.family === 6 ? 'ip6' : 'ip'} ${direction === 'outbound' ? 'daddr' : 'saddr'} ${step.cidr}`;
      return [`${match} ${step.excluded ? `counter name ${direction}_bypass_excluded_cidr return` : `goto capture_${direction}`}`];
    }
  }
}

function nftDirection(spec: NatSpec, direction: Direction, listeners: NatListeners): string {
  const port = direction === 'outbound' ? listeners.outboundPort : listeners.inboundPort;
  const hook = direction === 'outbound' ? 'output' : 'prerouting';
  const rules = stepsOf(spec, direction).flatMap((step) => nftStep(step, direction, listeners));
  const stale = `meta l4proto != @alive counter name ${direction}_bypass_stale_worker return`;
  // Sent again by its client: a second later, then three.
  const held = `meta l4proto @held counter name ${direction}_held drop`;
  const capture = [spec.failClosed ? held : stale, `counter name ${direction}_captured meta l4proto tcp redirect to :${port}`];
  const counters = ['captured', 'bypass_excluded_port', 'bypass_excluded_cidr', 'bypass_stale_worker', 'held'];
  return `${counters.map((name) => `  counter ${direction}_${name} {}\n`).join('')}  chain capture_${direction} {
    ${capture.join('\n    ')}
  }
  chain ${direction} {
    type nat hook ${hook} priority -105; policy accept;
    meta l4proto != tcp return
    tcp flags & (fin | syn | rst | ack) != syn return
    ${rules.join('\n    ')}
    goto capture_${direction}
  }
`;
}

/** For how long, ms; 0: not at all. */
export interface NftLives {
  /** A beat holds. */
  readonly aliveMs: number;
  /** The first connections of a fail-closed pod wait, unless they are released before (nftRelease). */
  readonly heldMs: number;
}

/** Script that replaces the whole table in one transaction. */
export function nftTable(spec: NatSpec, listeners: NatListeners, { aliveMs, heldMs }: NftLives, comment: string): string {
  const elements = (ms: number): string => (ms === 0 ? '' : ` elements = { tcp timeout ${ms}ms }`);
  const chains = directions(spec).map((direction) => nftDirection(spec, direction, listeners));
  return `table inet weft {}
delete table inet weft
table inet weft {
  comment "${comment}"
  set alive { type inet_proto; flags timeout;${elements(aliveMs)} }
  set held { type inet_proto; flags timeout;${elements(heldMs)} }
${chains.join('')}}
`;
}

/** Open captured connections are reset with the table's translation; nftTable() over a table that is there leaves them be. */
export const NFT_REMOVAL = 'table inet weft {}\ndelete table inet weft\n';

// ── iptables ──

/** The first is passed first. */
const IPTABLES_TABLES = ['raw', 'nat'] as const;
const CHAINS = { outbound: { chain: 'WEFT-OUTBOUND', hook: 'OUTPUT' }, inbound: { chain: 'WEFT-INBOUND', hook: 'PREROUTING' } } as const;

/** Rules with such a comment are counted by it: `iptables-save -c` shows them. */
const counted = (direction: Direction, reason: string): string => `-m comment --comment ${direction}_${reason} `;
const uncounted = (): string => '';

function iptablesStep(
  step: Step,
  direction: Direction,
  of: Family,
  { mark }: NatListeners,
  capture: readonly string[],
  count: typeof counted,
): string[] {
  switch (step.match) {
    case 'own':
      if (direction === 'inbound') return ['-i lo -j RETURN'];
      return [`-m mark --mark ${hex(mark)}/${hex(mark)} -j RETURN`, '-m addrtype --dst-type LOCAL -j RETURN'];
    case 'port':
      return step.ports.map((port) => `-p tcp --dport ${port} ${count(direction, 'bypass_excluded_port')}-j RETURN`);
    case 'cidr': {
      if (step.family !== of) return [];
      const match = `${direction === 'outbound' ? '-d' : '-s'} ${step.cidr}`;
      return step.excluded ? [`${match} ${count(direction, 'bypass_excluded_cidr')}-j RETURN`] : capture.map((rule) => `${match} ${rule}`);
    }
  }
}

/** What connection tracking, which begins with the rules, takes for new of a connection that is older than they are: it stays direct. */
const NOT_FIRST = '-p tcp ! --syn -j RETURN';

/** Of xt_recent: a file in /proc/net/xt_recent, to which ANY is written as the beat. */
export const RECENT = { 4: { name: 'weft4', any: '0.0.0.0' }, 6: { name: 'weft6', any: '::' } } as const;
/** The same, while the first connections of a fail-closed pod wait: for so long at most, from when it was written. */
export const HELD = { 4: { name: 'weftheld4', any: '0.0.0.0' }, 6: { name: 'weftheld6', any: '::' } } as const;
const HELD_SECONDS = 5;

/** What a packet passes before nat, which takes no DROP: by the same steps, uncounted. */
function iptablesHolds(spec: NatSpec, listeners: NatListeners, of: Family): string[] {
  if (!spec.failClosed) return [];
  const { name, any } = HELD[of];
  return directions(spec).map((direction) => {
    const drop = [`-p tcp -m recent --name ${name} --mask ${any} --rcheck --seconds ${HELD_SECONDS} ${counted(direction, 'held')}-j DROP`];
    const steps = stepsOf(spec, direction).flatMap((step) => iptablesStep(step, direction, of, listeners, drop, uncounted));
    return [NOT_FIRST, ...steps, ...drop].map((rule) => `-A ${CHAINS[direction].chain} ${rule}\n`).join('');
  });
}

function iptablesTable(table: 'nat' | 'raw', rules: readonly string[]): string {
  const chains = Object.values(CHAINS).map(({ chain }) => `:${chain} - [0:0]\n`);
  return `*${table}\n${chains.join('')}${rules.join('')}COMMIT\n`;
}

/**
 * Input for `iptables-restore --noflush`, or ip6tables-restore. Replaces the chains' rules, each table's in one transaction, first the one
 * with the comment, by which it is known whose they are; the beats go on. xt_recent
 * counts in seconds: an iptables rule can't be given a life, but it can ask how long ago an address, here that of everybody, was seen.
 */
export function iptablesRules(spec: NatSpec, listeners: NatListeners, of: Family, aliveMs: number, comment: string): string {
  const { name, any } = RECENT[of];
  const alive = spec.failClosed ? '' : `-m recent --name ${name} --mask ${any} --rcheck --seconds ${Math.ceil(aliveMs / 1000)} `;
  const chains = directions(spec).map((direction) => {
    const port = direction === 'outbound' ? listeners.outboundPort : listeners.inboundPort;
    const stale = spec.failClosed ? [] : [`-p tcp ${counted(direction, 'bypass_stale_worker')}-j RETURN`];
    const capture = [`-p tcp ${alive}${counted(direction, 'captured')}-j REDIRECT --to-ports ${port}`, ...stale];
    const steps = stepsOf(spec, direction).flatMap((step) => iptablesStep(step, direction, of, listeners, capture, counted));
    const { chain } = CHAINS[direction];
    return [NOT_FIRST, ...steps, ...capture].map((rule) => `-A ${chain} ${rule}\n`).join('');
  });
  const mark = `-A ${CHAINS.outbound.chain} -m comment --comment "${comment}"\n`;
  return iptablesTable('nat', [mark, ...chains]) + iptablesTable('raw', iptablesHolds(spec, listeners, of));
}

/** A table's part of what iptables-save says; empty: there is none. */
function tableOf(saved: string, table: string): string {
  return saved.split(/^\*/m).find((part) => part.startsWith(`${table}\n`)) ?? '';
}

function hasJump(saved: string, table: string, { chain, hook }: (typeof CHAINS)[Direction]): boolean {
  return tableOf(saved, table).includes(`-A ${hook} -p tcp -j ${chain}\n`);
}

function hasChains(saved: string, table: string): boolean {
  return tableOf(saved, table).includes(`:${CHAINS.outbound.chain} `);
}

/** Whether all is there that iptablesRules() and iptablesJumps() write: whoever wrote it may have been killed in the middle. `saved`: of iptables-save. */
export function isWhole(saved: string): boolean {
  return IPTABLES_TABLES.every((table) => hasChains(saved, table)) && iptablesJumps(saved) === '';
}

/** After the chains are there: what leads into them, where `saved` (iptables-save) lacks it. Empty: nowhere. */
export function iptablesJumps(saved: string): string {
  return IPTABLES_TABLES.map((table) => {
    const missing = Object.values(CHAINS).filter((each) => !hasJump(saved, table, each));
    const jumps = missing.map(({ chain, hook }) => `-I ${hook} 1 -p tcp -j ${chain}\n`);
    return jumps.length === 0 ? '' : `*${table}\n${jumps.join('')}COMMIT\n`;
  }).join('');
}

/** Of what `saved` (iptables-save) has. Last the table with the comment: until then it is known whose it is. */
export function iptablesRemoval(saved: string): string {
  const all = Object.values(CHAINS);
  return IPTABLES_TABLES.filter((table) => hasChains(saved, table))
    .map((table) => {
      const jumps = all.filter((each) => hasJump(saved, table, each)).map(({ chain, hook }) => `-D ${hook} -p tcp -j ${chain}\n`);
      const chains = all.map(({ chain }) => `-F ${chain}\n-X ${chain}\n`);
      return `*${table}\n${jumps.join('')}${chains.join('')}COMMIT\n`;
    })
    .join('');
}
