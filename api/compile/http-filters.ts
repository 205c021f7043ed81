// Filters of a rule, or of one backend, of an HTTPRoute or GRPCRoute → what the model has for them. One list at a time.
import {
  type Answer,
  type Cors,
  type HeaderMutation,
  type Mirror,
  type PathRewrite,
  PathRewrite_Kind,
  Redirect_PortFrom,
  type Rewrite,
  type ValueMatch,
  ValueMatch_Type,
} from '../gen/mesh/v1/model.js';
import { FILTERS_ACTED_ON } from '../resources/http-filter.js';
import { OWNED_BY_PROXY } from '../resources/syntax.js';
import { type BackendIndex, compileBackend } from './backend.js';
import type { ObjectIndex, Stored } from './input.js';
import type { ReportProblem } from './problem.js';

type HttpFilter = NonNullable<Stored<'HTTPRoute'>['manifest']['spec']['rules'][number]['filters']>[number];
type GrpcFilter = NonNullable<Stored<'GRPCRoute'>['manifest']['spec']['rules'][number]['filters']>[number];
export type Filter = HttpFilter | GrpcFilter;

export interface Changes {
  readonly requestHeaders: HeaderMutation | undefined;
  readonly responseHeaders: HeaderMutation | undefined;
  readonly rewrite: Rewrite | undefined;
  /** The request is answered and goes nowhere. */
  readonly answer: Answer | undefined;
  readonly mirrors: Mirror[];
  readonly cors: Cors | undefined;
  /** Names of Filters. */
  readonly filters: string[];
  /** A filter that can't be acted on, in words: what it is for must answer 500 (Gateway API). */
  readonly unsupported: string | undefined;
}

const ACTED_ON: ReadonlySet<string> = new Set(FILTERS_ACTED_ON);
const MILLION = 1_000_000;

/** `path`: of the object that has the filters, for reports. */
export function compileFilters(
  route: Stored<'HTTPRoute'> | Stored<'GRPCRoute'>,
  filters: readonly Filter[],
  path: string,
  index: BackendIndex & Pick<ObjectIndex, 'filterTargets'>,
  report: ReportProblem,
): Changes {
  const of = (type: string): Partial<HttpFilter> | undefined => filters.find((filter) => filter.type === type);
  const { requestRedirect } = of('RequestRedirect') ?? {};
  const { urlRewrite } = of('URLRewrite') ?? {};
  const { cors } = of('CORS') ?? {};
  const extensions = filters.flatMap(({ extensionRef }) =>
    extensionRef === undefined ? [] : [{ reference: extensionRef, name: index.filterTargets.referredTo(route, extensionRef) }],
  );
  return {
    requestHeaders: compileHeaders(of('RequestHeaderModifier')?.requestHeaderModifier),
    responseHeaders: compileHeaders(of('ResponseHeaderModifier')?.responseHeaderModifier),
    rewrite: urlRewrite === undefined ? undefined : { host: urlRewrite.hostname ?? '', path: compilePath(urlRewrite.path) },
    answer: requestRedirect === undefined ? undefined : compileRedirect(requestRedirect),
    mirrors: filters.flatMap((filter, at) =>
      compileMirror(route, filter, `${path}.filters[${at}].requestMirror.backendRef`, index, report),
    ),
    cors: cors === undefined ? undefined : compileCors(cors),
    filters: extensions.flatMap(({ name }) => name ?? []),
    unsupported: unsupportedOf(filters, extensions),
  };
}

interface Extension {
  readonly reference: NonNullable<HttpFilter['extensionRef']>;
  readonly name: string | null;
}

function unsupportedOf(filters: readonly Filter[], extensions: readonly Extension[]): string | undefined {
  const type = filters.find((filter) => !ACTED_ON.has(filter.type))?.type;
  if (type !== undefined) return `filters of type ${type} are not supported yet`;
  const missing = extensions.find(({ name }) => name === null)?.reference;
  return missing === undefined
    ? undefined
    : `${missing.kind} ${missing.name} (group ${missing.group}) doesn't exist in the route's namespace`;
}

type Modifier = NonNullable<HttpFilter['requestHeaderModifier']>;

function compileHeaders(modifier: Modifier | undefined): HeaderMutation | undefined {
  if (modifier === undefined) return undefined;
  const named = (list: Modifier['set']) =>
    (list ?? []).map(({ name, value }) => ({ name: name.toLowerCase(), value })).filter(({ name }) => !OWNED_BY_PROXY.has(name));
  return {
    set: named(modifier.set),
    add: named(modifier.add),
    remove: (modifier.remove ?? []).map((name) => name.toLowerCase()).filter((name) => !OWNED_BY_PROXY.has(name)),
  };
}

type PathModifier = NonNullable<NonNullable<HttpFilter['urlRewrite']>['path']>;

function compilePath(path: PathModifier | undefined): PathRewrite | undefined {
  if (path === undefined) return undefined;
  return path.type === 'ReplaceFullPath'
    ? { kind: PathRewrite_Kind.FULL, value: path.replaceFullPath ?? '', pattern: '' }
    : { kind: PathRewrite_Kind.PREFIX, value: path.replacePrefixMatch ?? '', pattern: '' };
}

function compileRedirect({ scheme, hostname, port, path, statusCode }: NonNullable<HttpFilter['requestRedirect']>): Answer {
  return {
    status: statusCode,
    body: Buffer.alloc(0),
    redirect: {
      scheme: scheme ?? '',
      host: hostname ?? '',
      port: port ?? 0,
      path: compilePath(path),
      portFrom: Redirect_PortFrom.LISTENER,
    },
    grpcStatusPlusOne: 0,
  };
}

/** One that resolves to nothing is left out: what is mirrored goes on. */
function compileMirror(
  route: Stored<'HTTPRoute'> | Stored<'GRPCRoute'>,
  { type, requestMirror }: Filter,
  path: string,
  index: BackendIndex,
  report: ReportProblem,
): Mirror[] {
  if (type !== 'RequestMirror' || requestMirror === undefined) return [];
  const { backendRef, percent, fraction } = requestMirror;
  const { service, port } = compileBackend(route, { ...backendRef, weight: 1 }, index, (message, reason) =>
    report(path, `${message}: nothing is mirrored there`, reason),
  );
  if (service === '') return [];
  const parts = fraction === undefined ? (percent ?? 100) * (MILLION / 100) : (fraction.numerator / fraction.denominator) * MILLION;
  return [{ service, port, partsPerMillion: Math.round(parts), labels: {} }];
}

function compileCors({
  allowOrigins,
  allowCredentials,
  allowMethods,
  allowHeaders,
  exposeHeaders,
  maxAge,
}: NonNullable<HttpFilter['cors']>): Cors {
  return {
    origins: (allowOrigins ?? []).map(compileOrigin),
    credentials: allowCredentials ?? false,
    methods: [...(allowMethods ?? [])],
    headers: [...(allowHeaders ?? [])],
    expose: [...(exposeHeaders ?? [])],
    maxAgeSeconds: maxAge ?? 5,
    forwardsUnmatched: false,
  };
}

/** "*" in a host stands for one label or more. */
function compileOrigin(origin: string): ValueMatch {
  const of = (type: ValueMatch_Type, value: string): ValueMatch => ({ name: '', value, type, inverted: false });
  if (origin === '*') return of(ValueMatch_Type.PRESENT, '');
  if (!origin.includes('*')) return of(ValueMatch_Type.EXACT, origin);
  const quoted = origin.replace(/[\\^$.|?+()[\]{}]/g, '\\$&');
  return of(ValueMatch_Type.REGEX, quoted.replace(/\*/g, '.+'));
}
