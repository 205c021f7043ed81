// What rules do with requests → rows of actions, their backends and what few rules have besides; and what the engine is told of it: changes of
// headers, paths and hosts, answers of our own, CORS, which answers are declined. Knows neither matches nor clusters but by name.
import {
  type Answer,
  type Backend,
  type Cors,
  type Fault,
  type HeaderMutation,
  type HttpMatch,
  type HttpRule,
  PathMatch_Type,
  type PathRewrite,
  PathRewrite_Kind,
  type RateLimit,
  type Redirect,
  Redirect_PortFrom,
  type Retry,
  type Rewrite,
  type SessionPersistence,
  SessionPersistence_Type,
} from '../../../api/gen/mesh/v1/model.js';
import {
  COMPLETION_REASONS,
  type CorsSpec,
  type LocalReplySpec,
  type MutationSpec,
  type PathChange,
  PORT_OF_REQUEST,
  type RetrySpec,
  type RewriteSpec,
} from '../../native/engine.js';
import type { FilterChains } from '../filters/filter-tables.js';
import type { LimitPlan } from '../rate-limit/plan.js';
import type { SessionSpec } from '../sessions.js';
import { type Variant, variantName } from './clusters.js';
import type { Conditions } from './conditions.js';
import { Interner } from './interner.js';
import { ACTION_WORDS, BACKEND_WORDS, EXTRAS_WORDS, MIRROR_WORDS, PASS_ON, RetryPlace } from './layout.js';
import { AS_SENT } from './outside.js';

/** Where requests come in. */
export interface Entrance {
  readonly scheme: 'http' | 'https';
  readonly port: number;
  /** Names of filters, beside those of the rules. */
  readonly filters: readonly string[];
  /** Of the gateway. */
  readonly rateLimits: readonly RateLimit[];
}

type Destination = Pick<Backend, 'service' | 'port' | 'labels'>;

const PLAIN_TEXT = [['content-type', 'text/plain; charset=utf-8']] as const;
const plainReply = (body: string): LocalReplySpec => ({ headers: PLAIN_TEXT, body, redirect: null, grpcStatus: -1, reason: 0 });
const RESOURCE_EXHAUSTED = 8;
/** In the order of Reply. */
const LOCAL_REPLIES: readonly LocalReplySpec[] = [
  plainReply('weft: no route matches this request\n'),
  plainReply('weft: no endpoint of the service is ready\n'),
  plainReply('weft: the route has no valid backend\n'),
  plainReply('weft: this connection is for another host: its TLS server name belongs to another listener\n'),
  { headers: [['vary', 'origin']], body: '', redirect: null, grpcStatus: -1, reason: 0 },
  plainReply('weft: the route rewrites the path, and what comes of this one is too long\n'),
  {
    // Whoever asks again makes it worse: Envoys, and ours, don't.
    headers: [...PLAIN_TEXT, ['x-envoy-overloaded', 'true']],
    body: 'weft: the service has too many requests in flight\n',
    redirect: null,
    grpcStatus: -1,
    reason: 0,
  },
  plainReply('weft: this destination is in no registry, and the workload may reach no other (outboundTrafficPolicy: REGISTRY_ONLY)\n'),
  {
    ...plainReply('weft: too many requests\n'),
    grpcStatus: RESOURCE_EXHAUSTED,
    reason: COMPLETION_REASONS.indexOf('RL'),
  },
  { ...plainReply('weft: a filter of this request failed\n'), reason: COMPLETION_REASONS.indexOf('FF') },
  { ...plainReply('weft: the rate limit service gives no answer\n'), reason: COMPLETION_REASONS.indexOf('RLSE') },
  plainReply('weft: the body is larger than a filter of this request takes\n'),
];
/** What the CORS filter says itself. */
const CORS_HEADERS = [
  'access-control-allow-origin',
  'access-control-allow-credentials',
  'access-control-expose-headers',
  'access-control-allow-methods',
  'access-control-allow-headers',
  'access-control-max-age',
];
/** What is answered depends on who asks, whether he may know or not: caches must hear of it. */
const VARIES_BY_ORIGIN: HeaderMutation = { set: [], add: [{ name: 'vary', value: 'origin' }], remove: [] };
const byText = (item: unknown): string => JSON.stringify(item);
const MILLION = 1_000_000;
const MAX_MIRRORS = 16;

export class Actions {
  readonly mutations = new Interner<MutationSpec>(byText);
  readonly replies = new Interner<LocalReplySpec>(byText);
  readonly rewrites = new Interner<RewriteSpec>(byText);
  readonly cors = new Interner<CorsSpec>(byText);
  readonly retries = new Interner<RetrySpec>(byText);
  readonly rows: number[] = [];
  readonly backends: number[] = [];
  readonly extras: number[] = [];
  readonly mirrors: number[] = [];
  readonly origins: number[] = [];
  readonly sessions: SessionSpec[] = [];
  private readonly known = new Map<HttpRule, Map<string, number>>();

  constructor(
    private readonly clusterRows: ReadonlyMap<string, number>,
    private readonly conditions: Conditions,
    private readonly limits: LimitPlan,
    private readonly filters: FilterChains,
  ) {
    for (const reply of LOCAL_REPLIES) this.replies.add(reply);
  }

  /** Row of the rule's action under one match of it. `shownBy`: the gateway whose certificate backends are shown; empty: none is. */
  ofRule(rule: HttpRule, match: HttpMatch | null, variant: Variant, shownBy: string, entrance: Entrance): number {
    const limits = this.limits.setOf([...entrance.rateLimits, ...rule.rateLimits]);
    const filters = this.filters.of([...entrance.filters, ...rule.filters]);
    const prefix = rule.backends.some(changesPrefix) ? (match?.path?.value ?? '/') + (match?.path?.type ?? '') : '';
    const redirects = rule.backends.some(({ answer }) => answer?.redirect !== undefined);
    const key = `${shownBy} ${prefix} ${redirects ? `${entrance.scheme}:${entrance.port}` : ''} ${limits} ${filters}`;
    const ofRule = this.known.get(rule) ?? new Map<string, number>();
    this.known.set(rule, ofRule);
    const known = ofRule.get(key);
    if (known !== undefined) return known;
    const cluster = (of: Destination): number => this.clusterOf(of, variant, shownBy);
    const isShared = rule.backends.every(({ cors, mirrors }) => cors === undefined && mirrors.length === 0);
    const row = this.add(
      rule.backends,
      (backend) => {
        const cors = backend.cors ?? rule.cors;
        const varying = cors === undefined ? [] : [VARIES_BY_ORIGIN];
        return [
          cluster(backend),
          this.mutationOf([rule.requestHeaders, backend.requestHeaders], []),
          this.mutationOf([rule.responseHeaders, backend.responseHeaders, ...varying], cors === undefined ? [] : CORS_HEADERS),
          ...this.rewriteOf(backend.rewrite, match),
          ...this.replyOf(backend.answer, [rule.responseHeaders, ...varying], match, entrance),
          isShared ? -1 : this.extrasOf(ofBackend(rule, backend), match, cluster, -1, -1),
        ];
      },
      rule.requestTimeoutMs,
      rule.backendTimeoutMs,
      this.extrasOf(isShared ? rule : { ...rule, cors: undefined, mirrors: [] }, match, cluster, limits, filters),
    );
    ofRule.set(key, row);
    return row;
  }

  /** Of a rule for whole connections. */
  ofConnections(backends: readonly Backend[], variant: Variant, shownBy: string): number {
    return this.add(backends, (backend) => [this.clusterOf(backend, variant, shownBy), -1, -1, -1, -1, -1, 0, -1], 0, 0, -1);
  }

  /** Its row; -1: there is none. */
  private clusterOf({ service, port, labels }: Destination, variant: Variant, shownBy: string): number {
    if (service === AS_SENT) return PASS_ON;
    return (
      this.clusterRows.get(variantName(service, port, variant, shownBy, labels)) ??
      this.clusterRows.get(variantName(service, port, variant, '', labels)) ??
      -1
    );
  }

  private add(
    backends: readonly Backend[],
    wordsOf: (backend: Backend) => readonly number[],
    timeoutMs: number,
    attemptTimeoutMs: number,
    extras: number,
  ): number {
    const first = this.backends.length / BACKEND_WORDS;
    let total = 0;
    for (const backend of backends) {
      if (backend.weight === 0) continue;
      total += backend.weight;
      this.backends.push(total, ...wordsOf(backend));
    }
    const row = this.rows.length / ACTION_WORDS;
    this.rows.push(first, this.backends.length / BACKEND_WORDS - first, total, timeoutMs, attemptTimeoutMs, extras);
    return row;
  }

  private extrasOf(rule: HttpRule, match: HttpMatch | null, cluster: (of: Destination) => number, limits: number, filters: number): number {
    const { cors, mirrors, retry, fault, sessionPersistence: session } = rule;
    if (mirrors.length === 0 && limits < 0 && filters < 0 && [cors, retry, fault, session].every((each) => each === undefined)) return -1;
    const firstMirror = this.mirrors.length / MIRROR_WORDS;
    const wanted = mirrors.slice(0, MAX_MIRRORS);
    // As the first backend would get it.
    const [rewrite] = this.rewriteOf(rule.backends[0]?.rewrite, match);
    for (const mirror of wanted)
      this.mirrors.push(cluster(mirror), mirror.partsPerMillion, this.mutationOf([rule.requestHeaders], []), rewrite);
    const row = this.extras.length / EXTRAS_WORDS;
    this.extras.push(
      cors === undefined ? -1 : this.corsOf(cors),
      firstMirror,
      wanted.length,
      ...this.retryOf(retry),
      ...this.faultOf(fault),
      limits,
      session === undefined ? -1 : this.sessionOf(session),
      filters,
      placeOfRetries(retry),
    );
    return row;
  }

  private corsOf({ origins, credentials, methods, headers, expose, maxAgeSeconds, forwardsUnmatched }: Cors): number {
    const at = this.origins.length;
    const spec = { credentials, methods, headers, expose, maxAge: maxAgeSeconds };
    const patterns = origins.map(({ type, value }) => this.conditions.patternOf(type, value));
    const subjects = [this.conditions.valueOf('header', 'origin'), this.conditions.valueOf('header', 'access-control-request-method')];
    this.origins.push(this.cors.add(spec), forwardsUnmatched ? 1 : 0, ...subjects, patterns.length, ...patterns);
    return at;
  }

  private sessionOf({ type, name, absoluteSeconds, idleSeconds, permanent, key }: SessionPersistence): number {
    const isCookie = type === SessionPersistence_Type.COOKIE;
    const subject = this.conditions.valueOf('header', isCookie ? 'cookie' : name);
    return this.sessions.push({ subject, name, isCookie, absoluteSeconds, idleSeconds, isPermanent: permanent, key }) - 1;
  }

  retryOf(retry: Retry | undefined): [retry: number, attempts: number] {
    if (retry === undefined) return [-1, -1];
    const { attempts, repeatsEndpoints, remoteLocalities, ...spec } = retry;
    return [this.retries.add(spec), attempts];
  }

  private faultOf(fault: Fault | undefined): [delayMs: number, delayParts: number, reply: number, status: number, abortParts: number] {
    if (fault === undefined) return [0, 0, -1, 0, 0];
    const { delayMs, delayPartsPerMillion, abort, abortPartsPerMillion } = fault;
    const [reply, status] = this.replyOf(abort, [], null, { scheme: 'http', port: 80, rateLimits: [], filters: [] });
    return [
      delayMs,
      Math.min(delayPartsPerMillion, MILLION),
      reply,
      status,
      abort === undefined ? 0 : Math.min(abortPartsPerMillion, MILLION),
    ];
  }

  /** Index in TableSpec.rewrites, and a pattern that makes the path anew; -1: none. */
  private rewriteOf(rewrite: Rewrite | undefined, match: HttpMatch | null): [rewrite: number, pattern: number] {
    if (rewrite === undefined) return [-1, -1];
    const { host, path } = rewrite;
    const pattern = path?.kind === PathRewrite_Kind.REGEX ? this.conditions.replacement(path.pattern, path.value) : -1;
    const spec = { authority: host, path: pathChange(path, match) };
    return [spec.authority === '' && spec.path === null ? -1 : this.rewrites.add(spec), pattern];
  }

  private replyOf(
    answer: Answer | undefined,
    headers: readonly (HeaderMutation | undefined)[],
    match: HttpMatch | null,
    entrance: Entrance,
  ): [reply: number, status: number] {
    if (answer === undefined) return [-1, 0];
    const { status, body, redirect, grpcStatusPlusOne } = answer;
    const added = headers.flatMap((each) => (each === undefined ? [] : [...each.set, ...each.add]));
    const reply = this.replies.add({
      headers: added.map(({ name, value }) => [name, value] as const),
      body: Buffer.from(body).toString(),
      redirect: redirect === undefined ? null : { ...destinationOf(redirect, entrance), path: pathChange(redirect.path, match) },
      grpcStatus: grpcStatusPlusOne - 1,
      reason: 0,
    });
    return [reply, status];
  }

  private mutationOf(mutations: readonly (HeaderMutation | undefined)[], alsoRemove: readonly string[]): number {
    const spec = mutations.reduce<MutationSpec>((before, mutation) => (mutation === undefined ? before : following(before, mutation)), {
      remove: [...alsoRemove],
      set: [],
      add: [],
    });
    return spec.remove.length + spec.set.length + spec.add.length === 0 ? -1 : this.mutations.add(spec);
  }
}

/** One mutation behind another, as one. */
function following(before: MutationSpec, mutation: HeaderMutation): MutationSpec {
  const pairs = (headers: HeaderMutation['set']) => headers.map(({ name, value }) => [name.toLowerCase(), value] as const);
  const next = { remove: mutation.remove.map((name) => name.toLowerCase()), set: pairs(mutation.set), add: pairs(mutation.add) };
  const gone = new Set([...next.remove, ...next.set.map(([name]) => name)]);
  const kept = (list: MutationSpec['set']) => list.filter(([name]) => !gone.has(name));
  return {
    remove: [...new Set([...before.remove, ...next.remove])],
    set: [...kept(before.set), ...next.set],
    add: [...kept(before.add), ...next.add],
  };
}

/** What requests to the backend have besides, where it differs from that of the rule's others. */
function ofBackend(rule: HttpRule, backend: Backend): HttpRule {
  const mirrors = [...rule.mirrors, ...backend.mirrors];
  return {
    ...rule,
    cors: backend.cors ?? rule.cors,
    mirrors,
    backends: [backend],
    retry: undefined,
    fault: undefined,
    sessionPersistence: undefined,
  };
}

function changesPrefix({ rewrite, answer }: Backend): boolean {
  const path = rewrite?.path ?? answer?.redirect?.path;
  return path?.kind === PathRewrite_Kind.PREFIX || path?.kind === PathRewrite_Kind.TEXT_PREFIX;
}

/** Null: it stays. */
function pathChange(path: PathRewrite | undefined, match: HttpMatch | null): PathChange | null {
  if (path === undefined || path.kind === PathRewrite_Kind.REGEX) return null;
  const whole = { value: path.value === '' ? '/' : path.value, skip: 0, keepsRest: false };
  if (path.kind === PathRewrite_Kind.FULL) return whole;
  const matched = match?.path?.value ?? '/';
  if (path.kind === PathRewrite_Kind.TEXT_PREFIX) {
    // Who asks for no path has every one that begins with "/" (Istio).
    if (match?.path !== undefined && match.path.type !== PathMatch_Type.TEXT_PREFIX) return whole;
    return { value: path.value, skip: Buffer.byteLength(matched), keepsRest: true };
  }
  // By whole elements: what follows the prefix begins with its slash, or is nothing.
  return { value: path.value.replace(/\/+$/, ''), skip: Buffer.byteLength(matched.replace(/\/+$/, '')), keepsRest: true };
}

const SCHEME_PORTS = { http: 80, https: 443 } as const;

function destinationOf(
  { scheme, host, port, portFrom }: Redirect,
  entrance: Entrance,
): { scheme: 'http' | 'https'; host: string; port: number } {
  const to = scheme === 'https' || scheme === 'http' ? scheme : entrance.scheme;
  if (port === 0 && portFrom === Redirect_PortFrom.REQUEST && scheme === '' && host === '')
    return { scheme: to, host, port: PORT_OF_REQUEST };
  const said = port !== 0 ? port : scheme === '' && portFrom === Redirect_PortFrom.LISTENER ? entrance.port : SCHEME_PORTS[to];
  return { scheme: to, host, port: said === SCHEME_PORTS[to] ? 0 : said };
}

function placeOfRetries(retry: Retry | undefined): RetryPlace {
  if (retry?.repeatsEndpoints === true) return RetryPlace.Anywhere;
  if (retry?.remoteLocalities === undefined) return RetryPlace.Untried;
  return retry.remoteLocalities ? RetryPlace.Remote : RetryPlace.Near;
}
