// Objects together → everything that is wrong between them, each with its place. Pure. Mistakes of single objects are among it.
import type { ManifestFile } from '../gen/mesh/v1/admin.js';
import {
  DEFAULT_NAMESPACE,
  type Finding,
  formatFieldPath,
  isHidden,
  parseSources,
  type ResourceObject,
  type SourceObject,
  validateObject,
} from '../resources/index.js';
import { isUnchecked, type Unchecked } from '../resources/schema.js';
import { type Code, SEVERITY_OF, type Severity } from './codes.js';
import { compiled } from './rules-compiled.js';
import * as gateway from './rules-istio-gateway.js';
import * as policies from './rules-policies.js';
import * as service from './rules-service.js';
import * as virtualService from './rules-virtual-service.js';
import { type AnalysedObject, type Report, type Rule, World } from './world.js';

export interface Diagnosis extends Finding {
  readonly code: Code;
  readonly severity: Severity;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

/** In the order in which they are asked; tests ask for one by its name. */
export const RULES = {
  'virtual-service-conflicting-hosts': virtualService.conflictingHosts,
  'virtual-service-destination-hosts': virtualService.destinationHosts,
  'virtual-service-subsets': virtualService.subsets,
  'virtual-service-gateways': virtualService.gateways,
  'virtual-service-claim-routing': virtualService.claimRouting,
  'virtual-service-rules-of-mesh': virtualService.rulesOfMesh,
  'virtual-service-unreachable-rules': virtualService.unreachableRules,
  'gateway-ports': gateway.ports,
  'gateway-credentials': gateway.credentials,
  'gateway-private-keys': gateway.privateKeys,
  'gateway-shared-certificates': gateway.sharedCertificates,
  'gateway-conflicts': gateway.conflicts,
  'service-port-names': service.portNames,
  'service-entry-addresses': service.entryAddresses,
  'service-entry-protocols': service.entryProtocols,
  'destination-rule-hosts': service.ruleHosts,
  'destination-rule-subsets': service.ruleSubsets,
  'authorization-workloads': policies.authorizedWorkloads,
  'authorization-namespaces': policies.authorizedNamespaces,
  selectors: policies.selectors,
  'default-selectors': policies.defaults,
  'gateway-selectors': policies.gatewaySelectors,
  'telemetry-providers': policies.telemetryProviders,
  conditions: policies.conditions,
  'deprecated-fields': policies.deprecatedFields,
} as const satisfies Readonly<Record<string, Rule>>;

export type RuleName = keyof typeof RULES;

const RANK: Readonly<Record<Severity, number>> = { error: 0, warning: 1, info: 2 };

/** Findings by file and place. `nowMs`: for what expires. `stored`: manifests beside the files, which replace those of the same name among them. */
export function analyze(files: readonly ManifestFile[], nowMs: number, stored: readonly unknown[] = []): readonly Diagnosis[] {
  const parsed = parseSources(files);
  const { findings, warnings } = parsed;
  const given = new Set(parsed.sources.map(({ value }) => identityOf(value)));
  const others = stored.filter(isUnchecked).filter((value) => !given.has(identityOf(value)));
  const sources = [...parsed.sources, ...others.map((value) => ({ file: '', value, locate: () => NOWHERE }))];
  const objects = [...parsed.objects, ...others.flatMap(storedObject)];
  const found: Diagnosis[] = [
    ...findings.map((finding) => ofOneObject(finding, 'Invalid')),
    ...warnings.filter(isWorthTelling).map((warning) => ofOneObject(warning, 'NotActedOn')),
  ];
  const world = new World(sources, nowMs);
  const report = reportTo(found);
  for (const rule of Object.values(RULES)) rule(world, report);
  compiled(world, objects, report, (object, path) => isTold(found, object, path));
  return found.sort((a, b) => compare(a.file, b.file) || a.line - b.line || a.column - b.column || RANK[a.severity] - RANK[b.severity]);
}

/** One rule alone. */
export function analyzeBy(rule: RuleName, sources: readonly SourceObject[], nowMs: number): readonly Diagnosis[] {
  const found: Diagnosis[] = [];
  RULES[rule](new World(sources, nowMs), reportTo(found));
  return found;
}

/** A Secret comes without its values; it was validated with them. */
function storedObject(value: Unchecked): ResourceObject[] {
  const isSecret = value.kind === 'Secret' && isHidden(value);
  const result = validateObject(isSecret ? { ...value, data: undefined, stringData: undefined, type: 'Opaque' } : value);
  if (!result.ok) return [];
  return [isSecret ? ({ ...result.object, manifest: value } as unknown as ResourceObject) : result.object];
}

const NOWHERE = { line: 0, column: 0 };

function identityOf(value: Unchecked): string {
  const metadata = isUnchecked(value.metadata) ? value.metadata : {};
  const group = String(value.apiVersion).split('/');
  return `${group.length > 1 ? group[0] : ''} ${value.kind} ${metadata.namespace ?? DEFAULT_NAMESPACE} ${metadata.name}`;
}

function reportTo(found: Diagnosis[]): Report {
  return ({ kind, namespace, name, source }, code, path, message) => {
    const place = source.locate(path, 'value');
    found.push({
      file: source.file,
      ...place,
      path: formatFieldPath(path),
      message,
      code,
      severity: SEVERITY_OF[code],
      kind,
      namespace,
      name,
    });
  };
}

/** Whether a rule reported it already, there or of a part of it. */
function isTold(found: readonly Diagnosis[], { kind, namespace, name }: AnalysedObject, path: string): boolean {
  return found.some(
    (each) =>
      each.name === name &&
      each.namespace === namespace &&
      each.kind === kind &&
      (each.code === 'ReferencedResourceNotFound' || each.code === 'UnknownDestinationRuleHost') &&
      (each.path === path || each.path.startsWith(`${path}.`)),
  );
}

function ofOneObject(finding: Finding, code: 'Invalid' | 'NotActedOn'): Diagnosis {
  return { ...finding, code, severity: SEVERITY_OF[code], kind: '', namespace: '', name: '' };
}

/** Kinds that are Kubernetes' own are looked at here. */
function isWorthTelling({ message }: Finding): boolean {
  return !message.includes("is Kubernetes' own");
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
