// Which failures of the chaos test are explained by what was done to the mesh at that time, and which are findings. Pure.
import type { Call, Outcome } from './protocol.js';

/** Something that was done. Times as in Outcome. */
export interface Deed {
  readonly kind: 'proxy killed' | 'proxy stopped' | 'proxy upgraded' | 'agent killed' | 'agent restarted' | 'pod deleted' | 'pod created';
  readonly node: string;
  /** Of the pod. */
  readonly token: string;
  readonly began: number;
  ended: number;
}

/** A killed proxy's listeners are gone, and connections direct, after so long; a hung one's after the heartbeat's timeout. */
const DIRECT_AFTER_KILL_MS = 50;
const DIRECT_AFTER_HANG_MS = 1_100;
/** Clocks are read before and after what they time. */
const SLACK_MS = 250;

/** Told with a finding. */
const SHOWN_DEEDS = 4;

export interface Verdict {
  readonly calls: number;
  readonly ok: number;
  /** Failed calls by the kind of deed that explains them. */
  readonly explained: ReadonlyMap<Deed['kind'], number>;
  readonly findings: readonly string[];
}

/** `over`: when everything was taken down. */
export function judge(outcomes: readonly Outcome[], deeds: readonly Deed[], over = Number.POSITIVE_INFINITY): Verdict {
  const explained = new Map<Deed['kind'], number>();
  const findings: string[] = [];
  const calls = outcomes.filter((outcome) => outcome.kind === 'call' && outcome.ended < over) as Call[];
  for (const outcome of outcomes) {
    if (outcome.kind === 'misattributed')
      findings.push(`${outcome.to} heard ${outcome.from} from ${outcome.saw}, which is not its address ${outcome.said}`);
  }
  for (const call of calls) {
    if (call.result === 'ok') continue;
    const deed = deeds.find((each) => explains(each, call));
    if (deed !== undefined) explained.set(deed.kind, (explained.get(deed.kind) ?? 0) + 1);
    else findings.push(told(call, deeds));
  }
  return { calls: calls.length, ok: calls.filter(({ result }) => result === 'ok').length, explained, findings };
}

function told(call: Call, deeds: readonly Deed[]): string {
  const before = deeds.filter(({ began }) => began <= call.ended).slice(-SHOWN_DEEDS);
  const story = before.map(({ kind, node, began, ended }) => `${kind} (${node}) ${began - call.ended} to ${ended - call.ended} ms`);
  return `${call.from} to ${call.to} (${call.family}): ${call.result} after ${call.ended - call.began} ms; before: ${story.join(', ')}`;
}

/** Only what was in flight through a killed process, or to or from a pod that went, may fail. */
function explains(deed: Deed, call: Call): boolean {
  const concernsNode = deed.node === call.fromNode || deed.node === call.toNode;
  const isWrongServer = call.result.startsWith('answered by') || call.result === 'another word came back';
  switch (deed.kind) {
    case 'proxy killed':
      return concernsNode && !isWrongServer && call.began <= deed.began + DIRECT_AFTER_KILL_MS && call.ended >= deed.began - SLACK_MS;
    case 'proxy stopped':
      return concernsNode && !isWrongServer && call.began <= deed.began + DIRECT_AFTER_HANG_MS && call.ended >= deed.began - SLACK_MS;
    case 'pod deleted':
      // A call that is tried again by TCP may reach the next pod of that address, which says so: the caller's error, not the mesh's.
      return (deed.token === call.to || deed.token === call.from) && call.ended >= deed.began - SLACK_MS;
    case 'proxy upgraded':
    case 'agent killed':
    case 'agent restarted':
    case 'pod created':
      return false;
  }
}
