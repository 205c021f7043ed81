// Gateway API match precedence as one pure comparator. Everything that tries routes in order sorts with it; nothing else may define an order.
// Source: Gateway API v1, HTTPRouteRule.matches and Listener.hostname.
import { type HttpMatch, PathMatch_Type } from '../gen/mesh/v1/model.js';

/** One match of one rule of one route under one hostname: the unit that is tried. */
export interface RouteCandidate {
  /** Lower case: exact, "*.suffix", or empty for every host. */
  readonly hostname: string;
  /** Null for a rule without matches: it matches everything, as the path prefix "/". */
  readonly match: HttpMatch | null;
  /** Creation of the route, milliseconds since the epoch. */
  readonly createdAtMs: number;
  /** "<namespace>/<name>" */
  readonly route: string;
  readonly ruleIndex: number;
  /** Position within the rule's matches. */
  readonly matchIndex: number;
  /** Of a route whose rules are tried in their order (Istio). */
  readonly inOrder?: boolean;
}

/**
 * Negative when `a` is tried before `b`. A total order: 0 only for the same candidate.
 * 1 hostname (exact, then the longest wildcard, then any)  2 exact path, then regular expressions (the Gateway API leaves their place open)
 * 3 longest path prefix, or expression; of gRPC, then the longest method  4 a method
 * 5 most headers  6 most query parameters  7 oldest route  8 namespace/name  9 rule  10 match
 */
export function compareCandidates(a: RouteCandidate, b: RouteCandidate): number {
  if (a.inOrder === true || b.inOrder === true) return compareHostnames(a.hostname, b.hostname) || compareInOrder(a, b);
  return (
    compareHostnames(a.hostname, b.hostname) /* 1 */ ||
    comparePaths(a.match, b.match) /* 2, 3 */ ||
    grpcMethodLength(b.match) - grpcMethodLength(a.match) /* 3 */ ||
    methodRank(b.match) - methodRank(a.match) /* 4 */ ||
    (b.match?.headers.length ?? 0) - (a.match?.headers.length ?? 0) /* 5 */ ||
    (b.match?.query.length ?? 0) - (a.match?.query.length ?? 0) /* 6 */ ||
    a.createdAtMs - b.createdAtMs /* 7 */ ||
    compareText(a.route, b.route) /* 8 */ ||
    a.ruleIndex - b.ruleIndex /* 9 */ ||
    a.matchIndex - b.matchIndex /* 10 */
  );
}

/** 7 to 10 alone, the routes that have an order first, and what takes everything last: several may have one host of a gateway (Istio). */
function compareInOrder(a: RouteCandidate, b: RouteCandidate): number {
  return (
    Number(b.inOrder === true) - Number(a.inOrder === true) ||
    Number(takesEverything(a.match)) - Number(takesEverything(b.match)) ||
    a.createdAtMs - b.createdAtMs ||
    compareText(a.route, b.route) ||
    a.ruleIndex - b.ruleIndex ||
    a.matchIndex - b.matchIndex
  );
}

/** Null does. */
export function takesEverything(match: HttpMatch | null): boolean {
  if (match === null) return true;
  const { path, headers, query, method, grpcMethod, authority, scheme, methodPattern, port, source } = match;
  const isAnyPath = path === undefined || (path.type === PathMatch_Type.TEXT_PREFIX && path.value === '/');
  const asks = method !== '' || grpcMethod !== '' || port !== 0 || headers.length + query.length > 0;
  return isAnyPath && !asks && [authority, scheme, methodPattern, source].every((each) => each === undefined);
}

/** Most specific first. Two different hostnames of one length never both match a host of that rank; the text only makes the order total. */
export function compareHostnames(a: string, b: string): number {
  return hostnameRank(a) - hostnameRank(b) || b.length - a.length || compareText(a, b);
}

/** By code unit, so that every process orders alike whatever its locale. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Whether `host` (lower case, no port) is covered by `pattern`. "*.a.b" covers "x.a.b" and "y.x.a.b", not "a.b". */
export function hostnameMatches(pattern: string, host: string): boolean {
  if (pattern === '') return true;
  if (!pattern.startsWith('*.')) return pattern === host;
  return host.length > pattern.length - 1 && host.endsWith(pattern.slice(1));
}

function hostnameRank(hostname: string): number {
  if (hostname === '') return 2;
  return hostname.startsWith('*.') ? 1 : 0;
}

function comparePaths(a: HttpMatch | null, b: HttpMatch | null): number {
  return exactRank(b) - exactRank(a) || pathLength(b) - pathLength(a);
}

function exactRank(match: HttpMatch | null): number {
  const type = match?.path?.type;
  return type === PathMatch_Type.EXACT ? 2 : type === PathMatch_Type.REGEX ? 1 : 0;
}

/** Exact paths have no length here: two different ones never both match. A prefix's trailing slash doesn't count: "/a/" is "/a". */
function pathLength(match: HttpMatch | null): number {
  const path = match?.path;
  if (path === undefined) return 0;
  if (path.type === PathMatch_Type.EXACT) return 0;
  return path.value.endsWith('/') ? path.value.length - 1 : path.value.length;
}

function grpcMethodLength(match: HttpMatch | null): number {
  return match?.grpcMethod.length ?? 0;
}

function methodRank(match: HttpMatch | null): number {
  return match === null || match.method === '' ? 0 : 1;
}
