// Parts of a VirtualService's rule for HTTP → the model's: matches, header changes, rewrites, answers. Pure.
import {
  type Answer,
  type HeaderMutation,
  type HttpMatch,
  type PathMatch,
  PathMatch_Type,
  PathRewrite_Kind,
  Redirect_PortFrom,
  type Rewrite,
  type ValueMatch,
  ValueMatch_Type,
} from '../gen/mesh/v1/model.js';
import { formattedHeader } from '../resources/header-format.js';
import { goDurationMs } from '../resources/istio-common.js';
import { OWNED_BY_PROXY } from '../resources/syntax.js';
import { ANY_REQUEST, MAX_TIMEOUT_MS } from './http-route.js';
import type { HttpEntry } from './virtual-service.js';

type Match = NonNullable<HttpEntry['match']>[number];
interface StringMatch {
  readonly exact?: string | undefined;
  readonly prefix?: string | undefined;
  readonly regex?: string | undefined;
}

/** 0s is no limit; 0: nothing said. */
export function limitMs(duration: string | undefined): number {
  if (duration === undefined) return 0;
  return Math.min(Math.ceil(goDurationMs(duration) ?? 0), MAX_TIMEOUT_MS) || MAX_TIMEOUT_MS;
}

/** Without any of the three: that it is there. */
export function compileString(name: string, { exact, prefix, regex }: StringMatch, inverted = false): ValueMatch {
  if (exact !== undefined) return { name, value: exact, type: ValueMatch_Type.EXACT, inverted };
  if (prefix !== undefined) return { name, value: prefix, type: ValueMatch_Type.PREFIX, inverted };
  if (regex !== undefined) return { name, value: regex, type: ValueMatch_Type.REGEX, inverted };
  return { name, value: '', type: ValueMatch_Type.PRESENT, inverted };
}

export function compileMatch(match: Match): HttpMatch {
  const { uri, scheme, method, authority, headers, withoutHeaders, queryParams, port, sourceLabels, sourceNamespace, ignoreUriCase } =
    match;
  // Without "*": without the header at all.
  const absent = Object.fromEntries(Object.entries(withoutHeaders ?? {}).map(([name, value]) => [name, value.regex === '*' ? {} : value]));
  const byName = (values: Readonly<Record<string, StringMatch>> | undefined, inverted: boolean): ValueMatch[] =>
    Object.entries(values ?? {}).map(([name, value]) => compileString(name.toLowerCase(), value, inverted));
  const source =
    sourceLabels === undefined && sourceNamespace === undefined
      ? undefined
      : { namespace: sourceNamespace ?? '', labels: { ...sourceLabels } };
  return {
    ...ANY_REQUEST,
    path: uri === undefined ? undefined : compileUri(uri, ignoreUriCase ?? false),
    headers: [...byName(headers, false), ...byName(absent, true)],
    query: Object.entries(queryParams ?? {}).map(([name, value]) => compileString(name, value)),
    method: method?.exact ?? '',
    methodPattern: method === undefined || method.exact !== undefined ? undefined : compileString('', method),
    scheme: scheme === undefined ? undefined : compileString('', scheme),
    authority: authority === undefined ? undefined : compileString('', authority),
    port: port ?? 0,
    source,
  };
}

function compileUri({ exact, prefix, regex }: StringMatch, ignoreCase: boolean): PathMatch | undefined {
  if (exact !== undefined) return { type: PathMatch_Type.EXACT, value: exact, ignoreCase };
  if (prefix !== undefined) return { type: PathMatch_Type.TEXT_PREFIX, value: prefix, ignoreCase };
  return regex === undefined ? undefined : { type: PathMatch_Type.REGEX, value: regex, ignoreCase };
}

/** Of a rule and of the one that delegates to it: both must hold. What both say of one thing must be the same, or the pair is left out. */
export function mergedMatches(outer: readonly (HttpMatch | null)[], inner: readonly (HttpMatch | null)[]): (HttpMatch | null)[] {
  return outer.flatMap((one) =>
    inner.flatMap((other) => {
      if (one === null || other === null) return [one ?? other];
      const merged = merge(one, other);
      return merged === null ? [] : [merged];
    }),
  );
}

function merge(one: HttpMatch, other: HttpMatch): HttpMatch | null {
  const isSame = <T>(a: T | undefined, b: T | undefined): boolean =>
    a === undefined || b === undefined || JSON.stringify(a) === JSON.stringify(b);
  const narrowed = narrowedPath(one.path, other.path);
  if (narrowed === null || !isSame(one.scheme, other.scheme) || !isSame(one.authority, other.authority)) return null;
  if (one.method !== '' && other.method !== '' && one.method !== other.method) return null;
  if (!isSame(one.methodPattern, other.methodPattern)) return null;
  if (one.port !== 0 && other.port !== 0 && one.port !== other.port) return null;
  const source = mergedSource(one.source, other.source);
  if (source === null) return null;
  return {
    ...ANY_REQUEST,
    path: narrowed,
    headers: [...one.headers, ...other.headers],
    query: [...one.query, ...other.query],
    method: one.method || other.method,
    methodPattern: other.methodPattern ?? one.methodPattern,
    scheme: other.scheme ?? one.scheme,
    authority: other.authority ?? one.authority,
    port: one.port || other.port,
    source,
  };
}

/** Null: nobody is of both. */
function mergedSource(one: HttpMatch['source'], other: HttpMatch['source']): HttpMatch['source'] | null {
  if (one === undefined || other === undefined) return one ?? other;
  const isOther = Object.entries(one.labels).some(([name, value]) => (other.labels[name] ?? value) !== value);
  if (isOther || (one.namespace !== '' && other.namespace !== '' && one.namespace !== other.namespace)) return null;
  return { namespace: one.namespace || other.namespace, labels: { ...one.labels, ...other.labels } };
}

/** The inner path must lie within the outer one (Istio: else the rules conflict); null: it does not. */
function narrowedPath(outer: PathMatch | undefined, inner: PathMatch | undefined): PathMatch | undefined | null {
  if (outer === undefined || inner === undefined) return inner ?? outer;
  if (JSON.stringify(outer) === JSON.stringify(inner)) return inner;
  const isWithin =
    outer.type === PathMatch_Type.TEXT_PREFIX &&
    (inner.type === PathMatch_Type.TEXT_PREFIX || inner.type === PathMatch_Type.EXACT) &&
    inner.value.startsWith(outer.value);
  return isWithin ? inner : null;
}

export interface HeaderChanges {
  readonly request: HeaderMutation | undefined;
  readonly response: HeaderMutation | undefined;
  /** Host to send; empty: as it came. */
  readonly host: string;
}

export function compileHeaders(headers: HttpEntry['headers'], refuse: (message: string) => void): HeaderChanges {
  const hostIn = (values: Readonly<Record<string, string>> | undefined): string | undefined =>
    Object.entries(values ?? {}).find(([name]) => ['host', ':authority'].includes(name.toLowerCase()))?.[1];
  const host = hostIn(headers?.request?.set) || hostIn(headers?.request?.add) || '';
  return { request: mutationOf(headers?.request, refuse), response: mutationOf(headers?.response, refuse), host };
}

function mutationOf(changes: NonNullable<HttpEntry['headers']>['request'], refuse: (message: string) => void): HeaderMutation | undefined {
  if (changes === undefined) return undefined;
  const isOurs = (name: string): boolean => {
    const lower = name.toLowerCase();
    if (lower === 'host' || lower === ':authority') return false;
    if (!lower.startsWith(':') && !OWNED_BY_PROXY.has(lower)) return true;
    refuse(`${name} can't be modified: the proxy writes it itself`);
    return false;
  };
  const pairs = (values: Readonly<Record<string, string>> | undefined) =>
    Object.entries(values ?? {}).flatMap(([name, value]) =>
      isOurs(name) ? [{ name: name.toLowerCase(), value: formattedHeader(value) }] : [],
    );
  return {
    set: pairs(changes.set),
    add: pairs(changes.add),
    remove: (changes.remove ?? []).filter(isOurs).map((name) => name.toLowerCase()),
  };
}

/** `host`: that header changes name. */
export function compileRewrite(rewrite: HttpEntry['rewrite'], host: string): Rewrite | undefined {
  if (rewrite === undefined) return host === '' ? undefined : { host, path: undefined };
  const { uri, authority, uriRegexRewrite } = rewrite;
  const path =
    uriRegexRewrite !== undefined
      ? { kind: PathRewrite_Kind.REGEX, value: uriRegexRewrite.rewrite, pattern: uriRegexRewrite.match }
      : uri === undefined || uri === ''
        ? undefined
        : { kind: PathRewrite_Kind.TEXT_PREFIX, value: uri, pattern: '' };
  return { host: authority || host, path };
}

/** Undefined: the rule forwards. */
export function answerOf({ redirect, directResponse }: HttpEntry): Answer | undefined {
  if (directResponse !== undefined) {
    const { string, bytes } = directResponse.body ?? {};
    const body = bytes === undefined ? Buffer.from(string ?? '') : Buffer.from(bytes, 'base64');
    return { status: directResponse.status, body, redirect: undefined, grpcStatusPlusOne: 0 };
  }
  if (redirect === undefined) return undefined;
  const { uri, authority, port, derivePort, scheme, redirectCode } = redirect;
  return {
    status: redirectCode ?? 301,
    body: Buffer.alloc(0),
    redirect: {
      scheme: scheme ?? '',
      host: authority ?? '',
      port: port ?? 0,
      path: uri === undefined || uri === '' ? undefined : { kind: PathRewrite_Kind.FULL, value: uri, pattern: '' },
      portFrom: derivePort === 'FROM_PROTOCOL_DEFAULT' ? Redirect_PortFrom.SCHEME : Redirect_PortFrom.REQUEST,
    },
    grpcStatusPlusOne: 0,
  };
}
