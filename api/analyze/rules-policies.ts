// What is wrong with objects that select workloads (AuthorizationPolicy, Sidecar, Telemetry, …) among the other objects, what their own status says,
// and fields that their owner has given up. As Istio's analysis has it.
import { type FieldPath, ROOT_NAMESPACE } from '../resources/index.js';
import { isUnchecked, textOf, type Unchecked } from '../resources/schema.js';
import type { Code } from './codes.js';
import { type AnalysedObject, includes, itemsIn, nameOf, type Report, recordIn, texts, textsIn, type World } from './world.js';

const AUTHORIZATION = 'AuthorizationPolicy.security.istio.io';
const TELEMETRY = 'Telemetry.telemetry.istio.io';

function isTargeted({ spec }: AnalysedObject): boolean {
  return spec.targetRef !== undefined || spec.targetRefs !== undefined;
}

export function authorizedWorkloads(world: World, report: Report): void {
  for (const object of world.all(AUTHORIZATION)) {
    if (isTargeted(object)) continue;
    const selector = texts(recordIn(object.spec, 'selector').matchLabels);
    const isOfMesh = object.namespace === ROOT_NAMESPACE;
    if (isOfMesh && Object.keys(selector).length === 0) continue;
    const isMeant = ({ namespace, labels }: World['workloads'][number]): boolean =>
      (isOfMesh || namespace === object.namespace) && includes(labels, selector);
    if (world.workloads.some(isMeant)) continue;
    const path = Object.keys(selector).length === 0 ? ['metadata', 'namespace'] : ['spec', 'selector'];
    report(
      object,
      'NoMatchingWorkloadsFound',
      path,
      `no workload of ${isOfMesh ? 'the mesh' : `namespace ${object.namespace}`} is meant: the policy has no effect`,
    );
  }
}

export function authorizedNamespaces(world: World, report: Report): void {
  for (const object of world.all(AUTHORIZATION))
    for (const [index, rule] of itemsIn(object.spec, 'rules'))
      for (const [at, { source }] of itemsIn(rule, 'from'))
        for (const field of ['namespaces', 'notNamespaces'] as const) {
          if (!isUnchecked(source)) continue;
          textsIn(source, field).forEach((pattern, position) => {
            if ([...world.namespaces].some((namespace) => isLike(pattern, namespace))) return;
            report(
              object,
              'ReferencedResourceNotFound',
              ['spec', 'rules', index, 'from', at, 'source', field, position],
              `no namespace is ${pattern}`,
            );
          });
        }
}

/** "*" at the beginning or the end, or alone. */
function isLike(pattern: string, text: string): boolean {
  if (pattern === '*') return true;
  if (pattern.startsWith('*')) return text.endsWith(pattern.slice(1));
  return pattern.endsWith('*') ? text.startsWith(pattern.slice(0, -1)) : text === pattern;
}

interface Selecting {
  readonly type: string;
  readonly path: FieldPath;
  readonly selectorOf: (spec: Unchecked) => Readonly<Record<string, string>> | null;
  readonly several: Code;
  readonly conflicting: Code;
}

/** Of which one at most is for a workload. */
const SELECTING: readonly Selecting[] = [
  {
    type: 'Sidecar.networking.istio.io',
    path: ['spec', 'workloadSelector'],
    selectorOf: ({ workloadSelector }) => (isUnchecked(workloadSelector) ? texts(workloadSelector.labels) : null),
    several: 'MultipleSidecarsWithoutWorkloadSelectors',
    conflicting: 'ConflictingSidecarWorkloadSelectors',
  },
  {
    type: TELEMETRY,
    path: ['spec', 'selector'],
    selectorOf: ({ selector }) => (isUnchecked(selector) ? texts(selector.matchLabels) : null),
    several: 'MultipleTelemetriesWithoutWorkloadSelectors',
    conflicting: 'ConflictingTelemetryWorkloadSelectors',
  },
];

/** One at most of a namespace is for all of its workloads. */
export function defaults(world: World, report: Report): void {
  for (const { type, selectorOf, several } of SELECTING) {
    const objects = world.all(type).filter((object) => !isTargeted(object) && selectorOf(object.spec) === null);
    for (const object of objects) {
      const rivals = objects.filter((other) => other !== object && other.namespace === object.namespace);
      if (rivals.length === 0) continue;
      const message = `${object.kind} ${rivals.map(nameOf).join(', ')} is for all workloads of the namespace too: which of them holds is not defined`;
      report(object, several, ['metadata', 'name'], message);
    }
  }
}

export function selectors(world: World, report: Report): void {
  for (const kind of SELECTING) {
    const objects = world.all(kind.type).filter((object) => !isTargeted(object));
    for (const object of objects) checkSelector(world, kind, object, objects, report);
  }
}

function checkSelector(world: World, kind: Selecting, object: AnalysedObject, all: readonly AnalysedObject[], report: Report): void {
  const selector = kind.selectorOf(object.spec);
  if (selector === null) return;
  const mine = world.workloads.filter(({ namespace, labels }) => namespace === object.namespace && includes(labels, selector));
  if (mine.length === 0) {
    const message = `no workload of namespace ${object.namespace} has the labels ${JSON.stringify(selector)}`;
    report(object, 'ReferencedResourceNotFound', kind.path, message);
    return;
  }
  const rivals = all.filter((other) => {
    const theirs = other === object || other.namespace !== object.namespace ? null : kind.selectorOf(other.spec);
    return theirs !== null && mine.some(({ labels }) => includes(labels, theirs));
  });
  if (rivals.length === 0) return;
  const message = `${object.kind} ${rivals.map(nameOf).join(', ')} is for some of these workloads too: which of them holds is not defined`;
  report(object, kind.conflicting, kind.path, message);
}

/** Workloads of a Gateway of the Gateway API are meant by targetRefs alone. */
export function gatewaySelectors(world: World, report: Report): void {
  const types = [AUTHORIZATION, TELEMETRY, 'RequestAuthentication.security.istio.io', 'WasmPlugin.extensions.istio.io'];
  for (const object of types.flatMap((type) => world.all(type))) {
    const selector = texts(recordIn(object.spec, 'selector').matchLabels);
    if (isTargeted(object) || selector['gateway.networking.k8s.io/gateway-name'] === undefined) continue;
    report(
      object,
      'IneffectiveSelector',
      ['spec', 'selector'],
      'the workloads of a Gateway of the Gateway API are not selected by labels: name the Gateway in targetRefs',
    );
  }
}

/** There are no providers by default. */
export function telemetryProviders(world: World, report: Report): void {
  for (const object of world.all(TELEMETRY))
    for (const [index, { providers, disabled }] of itemsIn(object.spec, 'accessLogging'))
      if (providers === undefined && disabled !== true)
        report(
          object,
          'InvalidTelemetryProvider',
          ['spec', 'accessLogging', index],
          'names no provider, and there is none by default: nothing is logged for it',
        );
}

/** Good when they are False. */
const NEGATIVE = new Set(['Conflicted', 'OverlappingTLSConfig']);

/** What an object's own status says, in the words of Istio and the Gateway API. */
export function conditions(world: World, report: Report): void {
  for (const object of world.objects) {
    const status = recordIn(object.value, 'status');
    const found = [
      ...conditionsIn(status, ['status']),
      ...(['parents', 'ancestors', 'listeners'] as const).flatMap((list) =>
        itemsIn(status, list).flatMap(([index, each]) => conditionsIn(each, ['status', list, index])),
      ),
    ].find(({ condition }) => isBad(condition));
    if (found === undefined) continue;
    const { type, reason, message } = found.condition;
    report(object, 'NegativeConditionStatus', found.path, `${type} is ${found.condition.status}: ${reason}: ${message}`);
  }
}

function conditionsIn(holder: Unchecked, path: FieldPath): { readonly condition: Unchecked; readonly path: FieldPath }[] {
  return itemsIn(holder, 'conditions').map(([index, condition]) => ({ condition, path: [...path, 'conditions', index] }));
}

function isBad(condition: Unchecked): boolean {
  const type = textOf(condition, 'type') ?? '';
  const isKnown = !type.includes('/') || type.startsWith('istio.io/') || type.startsWith('gateway.networking.k8s.io/');
  if (!isKnown || NEGATIVE.has(type)) return false;
  return (
    condition.status === 'False' || condition.reason === 'PartiallyInvalid' || (type === 'PartiallyInvalid' && condition.status === 'True')
  );
}

/** Fields that their owner has given up; "*" is every item or name. */
const DEPRECATED: readonly (readonly [type: string, field: readonly string[], instead: string])[] = [
  ['VirtualService.networking.istio.io', ['http', '*', 'fault', 'delay', 'percent'], 'percentage'],
  ['VirtualService.networking.istio.io', ['http', '*', 'mirrorPercent'], 'mirrorPercentage'],
  ['VirtualService.networking.istio.io', ['http', '*', 'mirror_percent'], 'mirrorPercentage'],
  ['VirtualService.networking.istio.io', ['http', '*', 'corsPolicy', 'allowOrigin'], 'allowOrigins'],
  ['Sidecar.networking.istio.io', ['outboundTrafficPolicy', 'egressProxy'], ''],
  ['DestinationRule.networking.istio.io', ['trafficPolicy', 'outlierDetection', 'consecutiveErrors'], 'consecutive5xxErrors'],
  ['DestinationRule.networking.istio.io', ['trafficPolicy', 'loadBalancer', 'warmupDurationSecs'], 'warmup'],
  ['DestinationRule.networking.istio.io', ['trafficPolicy', 'loadBalancer', 'consistentHash', 'minimumRingSize'], 'ringHash'],
  ['Gateway.gateway.networking.k8s.io', ['backendTLS'], 'spec.tls.backend'],
];

export function deprecatedFields(world: World, report: Report): void {
  for (const [type, field, instead] of DEPRECATED)
    for (const object of world.all(type))
      for (const path of placesOf(object.spec, field, ['spec']))
        report(object, 'Deprecated', path, instead === '' ? 'given up by its owner' : `given up by its owner: use ${instead}`);
}

function placesOf(value: unknown, [first, ...rest]: readonly string[], path: FieldPath): FieldPath[] {
  if (first === undefined) return value === undefined ? [] : [path];
  if (first === '*') return Array.isArray(value) ? value.flatMap((item, index) => placesOf(item, rest, [...path, index])) : [];
  return isUnchecked(value) ? placesOf(value[first], rest, [...path, first]) : [];
}
