// What Weft says of an object of the Gateway API in its status, from what the compilation said of it. Pure. Owner: Gateway API v1 (conditions of
// GatewayClass, Gateway, routes; policy status).
import { isUnchecked, textOf, type Unchecked } from '../resources/schema.js';
import type { Attachments } from './attachments.js';
import type { ConditionReason, Problem } from './problem.js';

/** Of GatewayClasses: theirs are the Gateways that Weft serves. Also who says what Weft says in a status. */
export const CONTROLLER_NAME = 'weft.dev/gateway';

/** An object as it was written or read, with the status that it has. */
export interface Subject {
  readonly metadata: {
    readonly namespace: string;
    readonly name: string;
    /** 0: nobody counts them. */
    readonly generation: number;
  };
  readonly body: Unchecked;
}

export interface Judged {
  readonly kind: string;
  readonly object: Subject;
  /** Of this object, of a compilation that has seen its generation. */
  readonly problems: readonly Problem[];
  /** Whether the Gateway, or the one of the ListenerSet, of that name ("<namespace>/<name>") is one that Weft serves. */
  readonly isOurGateway: (name: string, kind: 'Gateway' | 'ListenerSet') => boolean;
  readonly attachments: Attachments;
  /** Of the nodes that a Gateway runs on, by "<namespace>/<gateway>". */
  readonly nodeAddresses: ReadonlyMap<string, readonly string[]>;
}

/**
 * What the status should be, in the words of its kind; null: the Gateway API says nothing of it. `nowText` is when conditions change that do; empty:
 * nobody remembers when they did.
 */
export function statusOf(judged: Judged, nowText: string): Unchecked | null {
  switch (judged.kind) {
    case 'GatewayClass':
      return classStatus(judged, nowText);
    case 'Gateway':
      return gatewayStatus(judged, nowText);
    case 'ListenerSet':
      return listenerSetStatus(judged, nowText);
    case 'HTTPRoute':
    case 'GRPCRoute':
    case 'TLSRoute':
    case 'TCPRoute':
    case 'UDPRoute':
      return routeStatus(judged, nowText);
    case 'BackendTLSPolicy':
    case 'XBackendTrafficPolicy':
      return policyStatus(judged, nowText);
    default:
      return null;
  }
}

interface Condition {
  readonly type: string;
  readonly isTrue: boolean;
  readonly reason: string;
  readonly message: string;
}

/** Weft's, and there only while it is true. */
const PARTIALLY_INVALID = 'PartiallyInvalid';
const LISTENERS_NOT_VALID = 'ListenersNotValid';
const MAX_MESSAGE = 1_024;
const MAX_ANCESTORS = 16;
const MAX_ADDRESSES = 16;
const RESOLVED_REASONS: readonly ConditionReason[] = [
  'RefNotPermitted',
  'BackendNotFound',
  'InvalidCertificateRef',
  'InvalidCACertificateRef',
  'InvalidKind',
];

/** True unless one of the problems says otherwise. */
function condition(type: string, good: string, problem: Problem | undefined, bad: string = problem?.reason ?? 'Invalid'): Condition {
  if (problem === undefined) return { type, isTrue: true, reason: good, message: '' };
  const { path, message } = problem;
  return { type, isTrue: false, reason: bad, message: `${path === '' ? '' : `${path}: `}${message}`.slice(0, MAX_MESSAGE) };
}

/** In the place of those of the same types in `before`; the time is that of the last change from true to false or back. */
function merged(before: unknown, conditions: readonly Condition[], generation: number, nowText: string): unknown[] {
  const earlier = itemsOf(before);
  const others = earlier.filter(({ type }) => type !== PARTIALLY_INVALID && !conditions.some((own) => own.type === type));
  const own = conditions.map(({ type, isTrue, reason, message }) => {
    const status = isTrue ? 'True' : 'False';
    const known = earlier.find((each) => each.type === type);
    const lastTransitionTime = known?.status === status ? (textOf(known, 'lastTransitionTime') ?? nowText) : nowText;
    const seen = generation === 0 ? {} : { observedGeneration: generation };
    return { type, status, ...seen, ...(lastTransitionTime === '' ? {} : { lastTransitionTime }), reason, message };
  });
  return [...others, ...own];
}

function statusBefore({ body }: Subject): Unchecked {
  return isUnchecked(body.status) ? body.status : {};
}

function specOf({ body }: Subject): Unchecked {
  return isUnchecked(body.spec) ? body.spec : {};
}

/** The whole object was left out. */
function invalidity(problems: readonly Problem[]): Problem | undefined {
  return problems.find(({ path, reason }) => reason === 'Invalid' && !/^spec\.listeners\[\d+\]$/.test(path));
}

function classStatus({ object, problems }: Judged, nowText: string): Unchecked {
  const invalid = invalidity(problems);
  const bad = invalid?.path.startsWith('spec.parametersRef') ? 'InvalidParameters' : 'Unsupported';
  const conditions = [condition('Accepted', 'Accepted', invalid, bad)];
  return { conditions: merged(statusBefore(object).conditions, conditions, object.metadata.generation, nowText) };
}

const KINDS_OF_PROTOCOL: Readonly<Record<string, readonly string[]>> = {
  HTTP: ['HTTPRoute', 'GRPCRoute'],
  HTTPS: ['HTTPRoute', 'GRPCRoute'],
  TLS: ['TLSRoute', 'TCPRoute'],
  TCP: ['TCPRoute'],
};
const CONFLICTS: readonly ConditionReason[] = ['ProtocolConflict', 'HostnameConflict'];
const GROUP = 'gateway.networking.k8s.io';

function gatewayStatus(judged: Judged, nowText: string): Unchecked {
  const { object, problems } = judged;
  const before = statusBefore(object);
  const invalid = invalidity(problems);
  const refused = invalid ?? problems.find(({ reason }) => reason === 'UnsupportedAddress' || reason === 'InvalidParameters');
  const { tls, backendTLS } = specOf(object);
  const showsCertificate = backendTLS !== undefined || (isUnchecked(tls) && tls.backend !== undefined);
  const unresolved = problems.find(({ path }) => /^spec\.(?:tls\.backend|backendTLS)\b/.test(path));
  const listenersBefore = itemsOf(before.listeners);
  const listeners = itemsOf(specOf(object).listeners).map((listener, position) =>
    listenerStatus(judged, listener, position, '', listenersBefore.find(({ name }) => name === listener.name)?.conditions, nowText),
  );
  const conditions = [
    ...(refused === undefined
      ? acceptedWith(listeners)
      : [condition('Accepted', 'Accepted', refused), condition('Programmed', 'Programmed', refused, 'Invalid')]),
    // Of references of the Gateway as a whole.
    ...(showsCertificate ? [condition('ResolvedRefs', 'ResolvedRefs', unresolved)] : []),
  ];
  const addresses = refused === undefined ? addressesOf(judged) : [];
  const { namespace, name, generation } = object.metadata;
  const sets = judged.attachments.listenerSets.get(`${namespace}/${name}`) ?? 0;
  return {
    addresses,
    conditions: merged(before.conditions, conditions, generation, nowText),
    listeners,
    // A cluster without ListenerSets may know no such field.
    ...(sets > 0 || before.attachedListenerSets !== undefined ? { attachedListenerSets: sets } : {}),
  };
}

/** Gateway API: accepted as long as one listener is, and the reason says whether all are. */
function acceptedWith(listeners: readonly Unchecked[]): Condition[] {
  const refused = listeners.filter((listener) => !holds(listener, 'Accepted'));
  const areAll = refused.length === listeners.length && listeners.length > 0;
  const names = refused.map(({ name }) => String(name)).join(', ');
  const message = refused.length === 0 ? '' : `not accepted: ${names}`.slice(0, MAX_MESSAGE);
  return [
    { type: 'Accepted', isTrue: !areAll, reason: refused.length === 0 ? 'Accepted' : LISTENERS_NOT_VALID, message },
    { type: 'Programmed', isTrue: !areAll, reason: areAll ? 'Invalid' : 'Programmed', message: areAll ? message : '' },
  ];
}

function holds({ conditions }: Unchecked, type: string): boolean {
  return itemsOf(conditions).some((each) => each.type === type && each.status === 'True');
}

/** Those that it asks for, else those of the nodes on which it listens on every address. */
function addressesOf({ object, nodeAddresses }: Judged): Unchecked[] {
  const asked = itemsOf(specOf(object).addresses).flatMap(({ value }) => (typeof value === 'string' ? [value] : []));
  const { namespace, name } = object.metadata;
  const found = asked.length > 0 ? asked : (nodeAddresses.get(`${namespace}/${name}`) ?? []);
  return found.slice(0, MAX_ADDRESSES).map((value) => ({ type: 'IPAddress', value }));
}

/** Of listeners that may be none at all, where the Gateway doesn't take them. */
function listenerSetStatus(judged: Judged, nowText: string): Unchecked {
  const { object, problems } = judged;
  const before = statusBefore(object);
  const { namespace, name, generation } = object.metadata;
  const { parentRef } = specOf(object);
  const parent = isUnchecked(parentRef) ? parentRef : {};
  const gateway = `${textOf(parent, 'namespace') ?? namespace}/${String(parent.name)}`;
  const refused = invalidity(problems) ?? problems.find(({ path }) => path === 'spec.parentRef');
  const listenersBefore = itemsOf(before.listeners);
  const listeners = itemsOf(specOf(object).listeners).map((listener, position) =>
    listenerStatus(
      judged,
      listener,
      position,
      `${gateway}/${namespace}/${name}/`,
      listenersBefore.find((each) => each.name === listener.name)?.conditions,
      nowText,
    ),
  );
  const noneLeft = listeners.some((listener) => holds(listener, 'Programmed')) ? undefined : problems[0];
  const bad = refused === undefined ? LISTENERS_NOT_VALID : refused.reason === 'NotAllowed' ? 'NotAllowed' : 'Invalid';
  const conditions = [
    condition('Accepted', 'Accepted', refused ?? noneLeft, bad),
    condition('Programmed', 'Programmed', refused ?? noneLeft, bad),
  ];
  // Of what is not taken there are no listeners.
  return {
    conditions: merged(before.conditions, conditions, generation, nowText),
    ...(refused === undefined ? { listeners } : {}),
  };
}

/** `prefix`: of its name among the Gateway's listeners; empty: it is the Gateway's own. */
function listenerStatus(
  { object, problems, attachments }: Judged,
  listener: Unchecked,
  position: number,
  prefix: string,
  before: unknown,
  nowText: string,
): Unchecked {
  const { namespace, name, generation } = object.metadata;
  const path = `spec.listeners[${position}]`;
  const invalid = invalidity(problems);
  const conflict = problems.find((problem) => problem.path === path && CONFLICTS.includes(problem.reason));
  const unknownProtocol = problems.find((problem) => problem.path === `${path}.protocol` && problem.reason === 'UnsupportedProtocol');
  const untrusted = problems.find((problem) => problem.path === path && problem.reason === 'NoValidCACertificate');
  const mine = (invalid?.path.startsWith(path) ? invalid : undefined) ?? conflict ?? unknownProtocol ?? untrusted;
  const closed = problems.find((problem) => problem.path === path && problem.reason === 'Invalid');
  const unresolved =
    problems.find((problem) => problem.path.startsWith(`${path}.tls`) && isReference(problem)) ??
    unresolvedTrust(object, listener, problems);
  const { supported, unknown } = routeKinds(listener);
  const badKind: Problem | undefined =
    unknown === undefined
      ? undefined
      : {
          kind: '',
          namespace,
          name,
          path: `${path}.allowedRoutes.kinds`,
          reason: 'InvalidKind',
          message: `a listener of protocol ${String(listener.protocol)} takes no ${unknown}`,
        };
  const resolved =
    badKind === undefined
      ? condition('ResolvedRefs', 'ResolvedRefs', unresolved, unresolved?.reason === 'InvalidKind' ? 'InvalidCACertificateKind' : undefined)
      : condition('ResolvedRefs', 'ResolvedRefs', badKind, 'InvalidRouteKinds');
  const conditions = [
    condition('Accepted', 'Accepted', mine),
    condition('Programmed', 'Programmed', invalid ?? mine ?? closed, 'Invalid'),
    resolved,
    conflict === undefined
      ? { type: 'Conflicted', isTrue: false, reason: 'NoConflicts', message: '' }
      : { type: 'Conflicted', isTrue: true, reason: conflict.reason, message: conflict.message },
  ];
  return {
    name: listener.name,
    supportedKinds: supported.map((kind) => ({ group: GROUP, kind })),
    attachedRoutes: attachments.routes.get(`${prefix === '' ? `${namespace}/${name}/` : prefix}${String(listener.name)}`) ?? 0,
    conditions: merged(before, conditions, generation, nowText),
  };
}

/** Of the CA certificates that clients of the listener are verified by: those for its port, else the Gateway's for all. */
function unresolvedTrust(object: Subject, { protocol, port, tls: own }: Unchecked, problems: readonly Problem[]): Problem | undefined {
  if (protocol !== 'HTTPS' && (protocol !== 'TLS' || (isUnchecked(own) && own.mode === 'Passthrough'))) return undefined;
  const { tls } = specOf(object);
  const frontend = isUnchecked(tls) && isUnchecked(tls.frontend) ? tls.frontend : {};
  const position = itemsOf(frontend.perPort).findIndex((each) => each.port === port);
  const path = `spec.tls.frontend.${position < 0 ? 'default' : `perPort[${position}]`}.`;
  return problems.find((problem) => problem.path.startsWith(path) && isReference(problem));
}

/** Of those that the listener allows, or its protocol takes; `unknown`: one that is allowed and none of these. */
function routeKinds({ protocol, allowedRoutes, tls }: Unchecked): {
  readonly supported: readonly string[];
  readonly unknown: string | undefined;
} {
  const passes = protocol === 'TLS' && isUnchecked(tls) && tls.mode === 'Passthrough';
  // What is in TLS that passes through nobody sees but for its server name.
  const taken = passes ? ['TLSRoute'] : (KINDS_OF_PROTOCOL[String(protocol)] ?? []);
  const allowed = isUnchecked(allowedRoutes) ? itemsOf(allowedRoutes.kinds) : [];
  if (allowed.length === 0) return { supported: taken, unknown: undefined };
  const isTaken = ({ group, kind }: Unchecked): boolean => (group ?? GROUP) === GROUP && taken.includes(String(kind));
  const unknown = allowed.find((kind) => !isTaken(kind));
  return {
    supported: taken.filter((kind) => allowed.some((each) => isTaken(each) && each.kind === kind)),
    unknown: unknown && String(unknown.kind),
  };
}

function isReference({ reason }: Problem): boolean {
  return reason !== undefined && RESOLVED_REASONS.includes(reason);
}

/** One entry a parent that is Weft's to judge: a Service, or a Gateway of its classes. Those of others stay. */
function routeStatus({ object, problems, isOurGateway }: Judged, nowText: string): Unchecked | null {
  const { namespace, generation } = object.metadata;
  const invalid = invalidity(problems);
  const unresolved = problems.find((problem) => problem.path.startsWith('spec.rules[') && isReference(problem));
  const before = itemsOf(statusBefore(object).parents);
  const own = itemsOf(specOf(object).parentRefs).flatMap((parentRef, position) => {
    if (!isOurs(parentRef, namespace, isOurGateway)) return [];
    const refused = invalid ?? problems.find(({ path }) => path === `spec.parentRefs[${position}]`) ?? allRulesRefused(object, problems);
    const known = before.find((each) => each.controllerName === CONTROLLER_NAME && isSame(each.parentRef, parentRef));
    const conditions = [
      condition('Accepted', 'Accepted', refused, refused === invalid ? 'UnsupportedValue' : undefined),
      condition('ResolvedRefs', 'ResolvedRefs', unresolved),
      ...(refused === undefined ? partialInvalidity(problems) : []),
    ];
    return [{ parentRef, controllerName: CONTROLLER_NAME, conditions: merged(known?.conditions, conditions, generation, nowText) }];
  });
  const others = before.filter(({ controllerName }) => controllerName !== CONTROLLER_NAME);
  // Nothing to say, and nothing to take back.
  if (own.length === 0 && others.length === before.length) return null;
  return { parents: [...others, ...own] };
}

function refusedRules(problems: readonly Problem[]): readonly Problem[] {
  return problems.filter(({ path, reason }) => reason === 'UnsupportedValue' && path.startsWith('spec.rules['));
}

function allRulesRefused(object: Subject, problems: readonly Problem[]): Problem | undefined {
  const refused = refusedRules(problems);
  const rules = new Set(refused.map(({ path }) => /^spec\.rules\[\d+\]/.exec(path)?.[0]));
  return rules.size >= Math.max(1, itemsOf(specOf(object).rules).length) ? refused[0] : undefined;
}

/** Present only where it is true (Gateway API v1, RouteConditionPartiallyInvalid). */
function partialInvalidity(problems: readonly Problem[]): Condition[] {
  const [first] = refusedRules(problems);
  if (first === undefined) return [];
  return [
    {
      type: PARTIALLY_INVALID,
      isTrue: true,
      reason: 'UnsupportedValue',
      message: `Dropped Rule ${first.path}: ${first.message}`.slice(0, MAX_MESSAGE),
    },
  ];
}

function isOurs(parentRef: Unchecked, namespace: string, isOurGateway: Judged['isOurGateway']): boolean {
  const kind = parentRef.kind ?? 'Gateway';
  const group = parentRef.group ?? GROUP;
  if (kind === 'Service') return group === '';
  if (group !== GROUP || (kind !== 'Gateway' && kind !== 'ListenerSet')) return false;
  return isOurGateway(`${textOf(parentRef, 'namespace') ?? namespace}/${String(parentRef.name)}`, kind);
}

/** One entry a Gateway that leads to a Service of the policy's (Gateway API: the ancestor); where none does, for the mesh alone, one that Service. */
function policyStatus({ object, problems, attachments }: Judged, nowText: string): Unchecked {
  const invalid = invalidity(problems);
  const unresolved = problems.find(isReference);
  const before = itemsOf(statusBefore(object).ancestors);
  const refusals = itemsOf(specOf(object).targetRefs).flatMap((target, position) => {
    const path = `spec.targetRefs[${position}]`;
    const refused = problems.find((problem) => problem.path.startsWith(path));
    return ancestorsOf(target, object, attachments).map((ancestorRef) => ({ ancestorRef, refused }));
  });
  const ancestors = new Map<string, (typeof refusals)[number]>();
  // Of a Gateway that leads to several of them: what is refused first.
  for (const each of refusals) {
    const key = JSON.stringify(each.ancestorRef);
    if (ancestors.get(key)?.refused === undefined) ancestors.set(key, each);
  }
  const untrusted = problems.find(({ reason }) => reason === 'NoValidCACertificate');
  const own = [...ancestors.values()].map(({ ancestorRef, refused: ofTarget }) => {
    const refused = invalid ?? ofTarget ?? untrusted;
    const known = before.find((each) => each.controllerName === CONTROLLER_NAME && isSame(each.ancestorRef, ancestorRef));
    const conditions = [condition('Accepted', 'Accepted', refused), condition('ResolvedRefs', 'ResolvedRefs', unresolved)];
    return {
      ancestorRef,
      controllerName: CONTROLLER_NAME,
      conditions: merged(known?.conditions, conditions, object.metadata.generation, nowText),
    };
  });
  const others = before.filter(({ controllerName }) => controllerName !== CONTROLLER_NAME);
  return { ancestors: [...others, ...own].slice(0, MAX_ANCESTORS) };
}

function ancestorsOf({ name, sectionName }: Unchecked, { metadata: { namespace } }: Subject, { gatewaysOf }: Attachments): Unchecked[] {
  const gateways = gatewaysOf.get(`${namespace}/${String(name)}`) ?? [];
  if (gateways.length === 0)
    return [{ group: '', kind: 'Service', namespace, name, ...(sectionName === undefined ? {} : { sectionName }) }];
  return gateways.map((gateway) => {
    const [ofNamespace, ofName] = gateway.split('/');
    return { group: GROUP, kind: 'Gateway', namespace: ofNamespace, name: ofName };
  });
}

function isSame(a: unknown, b: Unchecked): boolean {
  if (!isUnchecked(a)) return false;
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].every((field) => a[field] === b[field]);
}

/** The items that are objects. */
function itemsOf(value: unknown): Unchecked[] {
  return Array.isArray(value) ? value.filter(isUnchecked) : [];
}
