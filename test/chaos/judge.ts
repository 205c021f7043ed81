// Which failures of the chaos test are explained by what was done to the mesh at that time, and which are findings; and whether what went
// past the proxies had a reason to. Pure.
import type { Call, Outcome } from './protocol.js';

/** Something that was done. Times as in Outcome. */
export interface Deed {
  readonly kind: 'proxy killed' | 'proxy stopped' | 'proxy upgraded' | 'agent killed' | 'agent restarted' | 'pod deleted' | 'pod created';
  readonly node: string;
  /** Of the pod. */
  readonly token: string;
  readonly began: number;
  ended: number;
  /** Of a killed proxy: when it was no more. */
  gone?: number;
}

/** A killed proxy's listeners are gone, and connections direct, after so long; without an agent the fallback's last beat has to expire. */
const DIRECT_AFTER_KILL_MS = 50;
const DIRECT_AFTER_BEAT_MS = 1_100;
/** What was in flight through it is told so at once. */
const FAILS_AFTER_KILL_MS = 1_500;
/** A stopped proxy's connections wait for it at most that long: silence before is another's fault. */
const LONGEST_STOP_MS = 4_000;
/** Clocks are read before and after what they time. */
const SLACK_MS = 250;
/** Namespaces are polled; a proxy that serves again beats, and one that went on does. */
const CAPTURED_AFTER_MS = 3_000;
/** Of the mesh namespaces (native/src/core/socket.cc): how a call came to its server is seen by its source port. */
const INJECTED = { from: 20_000, to: 25_999 } as const;
const DELIVERED = { from: 26_000, to: 31_999 } as const;

/** Told with a finding. */
const SHOWN_DEEDS = 4;

export interface Verdict {
  readonly calls: number;
  readonly ok: number;
  /** Failed calls by the kind of deed that explains them. */
  readonly explained: ReadonlyMap<Deed['kind'], number>;
  /** Calls that went past the proxy of a node, by node. */
  readonly bypasses: ReadonlyMap<string, number>;
  readonly findings: readonly string[];
}

/** `over`: when everything was taken down. `isTransparent`: ports tell the way of a call. */
export function judge(
  outcomes: readonly Outcome[],
  deeds: readonly Deed[],
  isTransparent: boolean,
  over = Number.POSITIVE_INFINITY,
): Verdict {
  const explained = new Map<Deed['kind'], number>();
  const bypasses = new Map<string, number>();
  const findings: string[] = [];
  const calls = outcomes.filter((outcome) => outcome.kind === 'call' && outcome.ended < over) as Call[];
  const ready = new Map(outcomes.flatMap((outcome) => (outcome.kind === 'ready' ? [[outcome.from, outcome.at] as const] : [])));
  for (const outcome of outcomes) {
    if (outcome.kind === 'misattributed')
      findings.push(`${outcome.to} heard ${outcome.from} from ${outcome.saw}, which is not its address ${outcome.said}`);
  }
  for (const call of calls) {
    if (call.result !== 'ok') {
      const deed = deeds.find((each) => explains(each, call, isTransparent));
      if (deed !== undefined) explained.set(deed.kind, (explained.get(deed.kind) ?? 0) + 1);
      else findings.push(told(call, call.result, deeds));
    } else if (isTransparent) {
      for (const node of bypassed(call)) {
        if (isNew(call, ready, deeds)) continue;
        bypasses.set(node, (bypasses.get(node) ?? 0) + 1);
        if (!deeds.some((each) => isAway(each, node, call.began))) findings.push(told(call, `went past the proxy of ${node}`, deeds));
      }
    }
  }
  return { calls: calls.length, ok: calls.filter(({ result }) => result === 'ok').length, explained, bypasses, findings };
}

function told(call: Call, what: string, deeds: readonly Deed[]): string {
  const before = deeds.filter(({ began }) => began <= call.ended).slice(-SHOWN_DEEDS);
  const story = before.map(({ kind, node, began, ended }) => `${kind} (${node}) ${began - call.ended} to ${ended - call.ended} ms`);
  const times = `after ${call.ended - call.began} ms, ${call.ended - call.heard} ms of silence`;
  return `${call.from} to ${call.to} (${call.family}, port ${call.port}) at ${call.began}: ${what} ${times}; before: ${story.join(', ')}`;
}

/** Only what was in flight through a killed process, or to or from a pod that went, may fail. */
function explains(deed: Deed, call: Call, isTransparent: boolean): boolean {
  const { gone = deed.began } = deed;
  const isWrongServer = call.result.startsWith('answered by') || call.result === 'another word came back';
  switch (deed.kind) {
    case 'proxy killed':
      return (
        (deed.node === call.fromNode || deed.node === call.toNode) &&
        !isWrongServer &&
        call.began <= gone + (isTransparent ? DIRECT_AFTER_KILL_MS : DIRECT_AFTER_BEAT_MS) &&
        call.ended >= deed.began - SLACK_MS &&
        call.ended <= gone + FAILS_AFTER_KILL_MS &&
        call.heard >= deed.began - LONGEST_STOP_MS
      );
    case 'pod deleted':
      // A call that is tried again by TCP may reach the next pod of that address, which says so: the caller's error, not the mesh's.
      return (deed.token === call.to || deed.token === call.from) && call.ended >= deed.began - SLACK_MS;
    // What a stopped proxy has waits for it.
    case 'proxy stopped':
    case 'proxy upgraded':
    case 'agent killed':
    case 'agent restarted':
    case 'pod created':
      return false;
  }
}

/** Nodes whose proxy the call did not pass. Of two on the way the delivering one hides the other; within a node it is one. */
function bypassed({ port, fromNode, toNode }: Call): readonly string[] {
  if (port >= DELIVERED.from && port <= DELIVERED.to) return [];
  if (port >= INJECTED.from && port <= INJECTED.to) return fromNode === toNode ? [] : [toNode];
  return fromNode === toNode ? [toNode] : [fromNode, toNode];
}

/** Whether one of its pods was not captured yet: what comes while the agent is away waits for it. */
function isNew(call: Call, ready: ReadonlyMap<string, number>, deeds: readonly Deed[]): boolean {
  const ends = [
    [call.from, call.fromNode],
    [call.to, call.toNode],
  ] as const;
  return ends.some(([token, node]) => {
    const at = ready.get(token) ?? Number.NEGATIVE_INFINITY;
    const agentAway = deeds.find(
      ({ kind, node: of, began, ended }) => kind.startsWith('agent') && of === node && began <= at && at <= ended,
    );
    return call.began <= Math.max(at, agentAway?.ended ?? at) + CAPTURED_AFTER_MS;
  });
}

function isAway({ kind, node: of, began, ended }: Deed, node: string, at: number): boolean {
  return (kind === 'proxy killed' || kind === 'proxy stopped') && of === node && at >= began - SLACK_MS && at <= ended + CAPTURED_AFTER_MS;
}
