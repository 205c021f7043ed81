// Carries out what the rule says that the request met: its filters, extras and limits, the backend that its weights draw or its client's session
// stays with, and how the path is changed. Hot path: nothing allocated.
import { Decision, Descriptor, Header } from '../../native/engine.js';
import type { Cells } from '../metrics/cells.js';
import { below, mix } from '../pick.js';
import type { RequestText } from '../request-text.js';
import { type SessionSpec, Sessions } from '../sessions.js';
import {
  ACTION_WORDS,
  ActionWord,
  BACKEND_WORDS,
  BackendWord,
  CLUSTER_WORDS,
  ClusterWord,
  EXTRAS_WORDS,
  ExtrasWord,
  MEMBER_WORDS,
  MemberWord,
  NodeWord,
  PASS_ON,
  Reply,
} from '../tables/layout.js';
import type { Draft } from './draft.js';
import { type EndpointChoice, memberOf } from './endpoint-choice.js';
import type { Filtering } from './filtering.js';
import type { Forward } from './forward.js';
import type { Limiting } from './limiting.js';
import { clusterFor } from './route-match.js';
import { RuleExtras } from './rule-extras.js';

const D_ATTEMPT = Descriptor.Attempt as number;
const D_PREVIOUS = Descriptor.PreviousTarget as number;
const D_RANDOM = Descriptor.Random as number;
const D_PATH_OFFSET = Descriptor.PathOffset as number;
const D_PATH_LENGTH = Descriptor.PathLength as number;
const N_ACTION = NodeWord.Action as number;
const N_RULE = NodeWord.RuleId as number;
const B_UP_TO = BackendWord.UpTo as number;
const B_CLUSTER = BackendWord.Cluster as number;
const ROOT_TEXT = Buffer.from('/');

export class RuleAction {
  private readonly extras: RuleExtras;
  private readonly sessions = new Sessions();

  constructor(
    private readonly draft: Draft,
    private readonly text: RequestText,
    private readonly filtering: Filtering,
    private readonly limiting: Limiting,
    private readonly choice: EndpointChoice,
    private readonly forward: Forward,
    private readonly cells: Cells,
  ) {
    this.extras = new RuleExtras(draft, text);
  }

  /** Of the node at word `node`; `service`: label of what the request is for. */
  run(node: number, service: number): void {
    const { draft } = this;
    const { nodes, actions, extras } = draft.tables;
    const action = nodes[node + N_ACTION]! * ACTION_WORDS;
    const rule = nodes[node + N_RULE]!;
    draft.set(Decision.RouteId, rule);
    draft.set(Decision.TimeoutMs, actions[action + ActionWord.TimeoutMs]!);
    const row = actions[action + ActionWord.Extras]! * EXTRAS_WORDS;
    if (row >= 0 && extras[row + ExtrasWord.Filters]! >= 0 && this.filtering.stops(extras[row + ExtrasWord.Filters]!, service)) return;
    if (rule >= 0 && draft.isFirst) this.cells.ruleRequests[rule]! += 1;
    draft.set(Decision.AttemptTimeoutMs, actions[action + ActionWord.AttemptTimeoutMs]!);
    if (row < 0) {
      this.useBackend(this.drawBackend(action), -1, -1, service);
      return;
    }
    if (this.extras.answer(row, service) || this.limiting.refuses(extras[row + ExtrasWord.Limits]!, service)) return;
    const retries = extras[row + ExtrasWord.RetryAttempts]!;
    const session = extras[row + ExtrasWord.Session]!;
    // An array asked for what lies before it makes a string of the index and looks for a property of that name.
    if (session < 0) this.useBackend(this.drawBackend(action), -1, retries, service);
    else this.useSession(draft.tables.sessions[session]!, action, retries, service);
  }

  /** What the backend's row says; -1: there is none. `kept`, `retries`: as Forward.to() has them. */
  private useBackend(row: number, kept: number, retries: number, service: number): void {
    const { draft } = this;
    const { backends } = draft.tables;
    const backend = row * BACKEND_WORDS;
    const cluster = row < 0 ? -1 : backends[backend + B_CLUSTER]!;
    const extras = row < 0 ? -1 : backends[backend + BackendWord.Extras]!;
    if (extras >= 0 && this.extras.answerForBackend(extras * EXTRAS_WORDS, service)) return;
    if (cluster === PASS_ON) {
      this.forward.passOn(true);
      return;
    }
    if (cluster < 0) {
      const reply = row < 0 ? -1 : backends[backend + BackendWord.Reply]!;
      // A connection that is reset has no status but its flag: 503 is told as UH.
      const status = draft.isOpaque ? 503 : reply < 0 ? 500 : backends[backend + BackendWord.Status]!;
      draft.answer(status, reply < 0 ? Reply.NoBackend : reply, service);
      return;
    }
    draft.set(Decision.RequestMutation, backends[backend + BackendWord.RequestMutation]!);
    draft.set(Decision.ResponseMutation, backends[backend + BackendWord.ResponseMutation]!);
    const rewrite = backends[backend + BackendWord.Rewrite]!;
    if (rewrite >= 0) draft.extend(Decision.Rewrite, rewrite);
    const replacement = backends[backend + BackendWord.Replacement]!;
    const fault = replacement < 0 ? 0 : this.replacePath(replacement);
    if (fault === 0) this.forward.to(cluster, mix(draft.of(D_RANDOM)), retries, kept);
    else draft.answer(fault, Reply.NotRewritten, service);
  }

  /** Row of the backend that the weights draw; further attempts stay with the one drawn first, or the split would lean. -1: none. */
  private drawBackend(action: number): number {
    const { draft } = this;
    const { actions, backends } = draft.tables;
    const total = actions[action + ActionWord.TotalWeight]!;
    if (total === 0) return -1;
    let row = actions[action + ActionWord.Backends]!;
    if (draft.of(D_ATTEMPT) > 0) {
      const failed = draft.of(D_PREVIOUS);
      const end = row + actions[action + ActionWord.BackendCount]!;
      for (let each = row; each < end; each++)
        if (memberOf(draft.tables, clusterFor(draft.tables, backends[each * BACKEND_WORDS + B_CLUSTER]!, draft.client), failed) >= 0)
          return each;
    }
    const drawn = below(total, draft.of(D_RANDOM));
    while (backends[row * BACKEND_WORDS + B_UP_TO]! <= drawn) row++;
    return row;
  }

  /** As useBackend(), with the endpoint that the client's session names, and telling it of the one that it gets. */
  private useSession(session: SessionSpec, action: number, retries: number, service: number): void {
    const { draft } = this;
    const { batch, tables } = draft;
    const isOfSession = this.sessions.read(batch, tables, draft.d, this.text, session);
    const member = isOfSession && draft.of(D_ATTEMPT) === 0 ? this.findSession(action) : null;
    this.useBackend(member?.row ?? this.drawBackend(action), member?.endpoint ?? -1, retries, service);
    this.keepSession(session, isOfSession);
  }

  /** Row of the backend with the endpoint of the session; null: it has gone, or takes no work while others do. */
  private findSession(action: number): { readonly row: number; readonly endpoint: number } | null {
    const { actions, backends, clusters, members, sessionEndpoints } = this.draft.tables;
    const { client } = this.draft;
    const { high, low } = this.sessions;
    const first = actions[action + ActionWord.Backends]!;
    for (let row = first; row < first + actions[action + ActionWord.BackendCount]!; row++) {
      const cluster = clusterFor(this.draft.tables, backends[row * BACKEND_WORDS + B_CLUSTER]!, client);
      if (cluster < 0) continue;
      const member = clusters[cluster * CLUSTER_WORDS + ClusterWord.Members]!;
      const end = member + clusters[cluster * CLUSTER_WORDS + ClusterWord.MemberCount]!;
      for (let at = member; at < end; at++) {
        const endpoint = members[at * MEMBER_WORDS + MemberWord.EndpointId]!;
        if (sessionEndpoints[endpoint * 2] !== high || sessionEndpoints[endpoint * 2 + 1] !== low) continue;
        return this.choice.takesWork(cluster, at) ? { row, endpoint } : null;
      }
    }
    return null;
  }

  /** The client is told of an endpoint that is new to it, and again before the token is idle for too long. */
  private keepSession(session: SessionSpec, isOfSession: boolean): void {
    const { draft, sessions } = this;
    const { sessionEndpoints } = draft.tables;
    const endpoint = draft.decisions[draft.q]!;
    if (endpoint < 0) return;
    const [high, low] = [sessionEndpoints[endpoint * 2]!, sessionEndpoints[endpoint * 2 + 1]!];
    const isSame = isOfSession && high === sessions.high && low === sessions.low;
    if (isSame && !sessions.isOld(session)) return;
    const lines = sessions.give(draft.batch, draft.d, session, high, low, isSame);
    if (lines !== 0) draft.addAnswerLines(lines);
  }

  /** 0, or the status to answer: as it came the path may lead where the rule is there to keep it from. */
  private replacePath(pattern: number): number {
    const { draft } = this;
    const { header, texts, arena } = draft.batch;
    const replaced = draft.tables.patterns.replace(pattern, arena, draft.of(D_PATH_OFFSET), draft.of(D_PATH_LENGTH));
    if (replaced === null) return 414;
    const path = replaced.length === 0 ? ROOT_TEXT : replaced;
    const at = header[Header.TextBytes]!;
    if (at + path.length > texts.length - 1) return 500;
    texts.set(path, at);
    header[Header.TextBytes] = at + path.length;
    draft.extend(Decision.Text, (at << 16) | path.length);
    return 0;
  }
}
