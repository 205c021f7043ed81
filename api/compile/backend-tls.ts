// BackendTLSPolicy and DestinationRule → BackendTls of a service's port, and what is wrong with them. One that can't be followed leaves the port without any
// trust, so that nothing is sent: never plain text where TLS was asked for.
import type { BackendTls, EndpointTls } from '../gen/mesh/v1/model.js';
import { caBundle, qualifiedName, trustFault } from '../resources/index.js';
import { policyOfAll, type Rule, type RuleIndex, type RulePolicy, rulesInForce, settingsOf } from './destination-rules.js';
import { readSecret } from './gateway-secret.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import { hostOf, rulesOf, servicesOf } from './istio-hosts.js';
import type { ConditionReason, ReportProblem } from './problem.js';
import { tcpPorts } from './service-ports.js';
import { type TrustIndex, trustOf } from './trust.js';

type Policy = Stored<'BackendTLSPolicy'>;
export type BackendTlsIndex = Pick<ObjectIndex, 'backendTlsByService' | 'secrets'> & TrustIndex & RuleIndex;
type Port = { readonly name?: string | undefined; readonly port: number };

/** Undefined: plain text. A BackendTLSPolicy goes before what a DestinationRule says. */
export function compileBackendTls(service: Stored<'Service'>, port: Port, index: BackendTlsIndex): BackendTls | undefined {
  const policy = policyOf(nameOf(service), port.name ?? '', index);
  if (policy === undefined) return new TlsOfRules(service, rulesInForce(service, null, index), index).ofPort(port.port);
  const { hostname, subjectAltNames, wellKnownCACertificates } = policy.manifest.spec.validation;
  return {
    ...NOBODY_TRUSTED,
    hostname,
    accepts: (subjectAltNames ?? []).flatMap(({ hostname: name, uri }) => name ?? uri ?? []),
    trust: trustOfPolicy(policy, index, () => undefined),
    systemTrust: wellKnownCACertificates === 'System',
  };
}

/** Endpoints get no traffic. */
const NOBODY_TRUSTED: BackendTls = {
  hostname: '',
  accepts: [],
  trust: '',
  systemTrust: false,
  certificate: undefined,
  files: undefined,
  unverified: false,
};

type ClientTls = NonNullable<RulePolicy['tls']>;

/** Of a subset, by the rule that defines it. */
export interface Subset {
  readonly rule: Rule;
  readonly labels: Readonly<Record<string, string>>;
  readonly policy: RulePolicy;
}

/** What rules that are in force for some clients say of TLS to a service. */
export class TlsOfRules {
  private readonly top: Pick<Subset, 'rule' | 'policy'> | undefined;
  private readonly usual: Pick<Subset, 'rule' | 'policy'> | undefined;

  constructor(
    private readonly service: Stored<'Service'>,
    rules: readonly Rule[],
    private readonly index: BackendTlsIndex,
  ) {
    this.top = policyOfAll(rules);
    this.usual = policyOfAll(rulesInForce(service, null, index));
  }

  ofPort(port: number): BackendTls | undefined {
    return this.compiled(spokenTo(this.top, port));
  }

  /** Undefined: as all clients speak to all endpoints of the port, or as a BackendTLSPolicy has it. */
  apart(port: number, subset: Subset | undefined): EndpointTls | undefined {
    const settings = settingsOf(subset?.policy, port);
    const ofSubset = settings ?? (subset?.policy.tls === undefined ? undefined : subset.policy);
    const spoken = ofSubset === undefined ? spokenTo(this.top, port) : byTls(subset!.rule, ofSubset.tls);
    const name = tcpPorts(this.service).find((each) => each.port === port)?.name ?? '';
    if (spoken?.tls === spokenTo(this.usual, port)?.tls || policyOf(nameOf(this.service), name, this.index) !== undefined) return undefined;
    return { tls: this.compiled(spoken) };
  }

  private compiled(spoken: SpokenTls | undefined): BackendTls | undefined {
    return spoken === undefined ? undefined : readTls(spoken, this.service, this.index).tls;
  }
}

/** Of modes that are TLS; the Secrets that it names are in the rule's namespace. */
interface SpokenTls {
  readonly rule: Rule;
  readonly tls: ClientTls;
}

function spokenTo(of: Pick<Subset, 'rule' | 'policy'> | undefined, port: number): SpokenTls | undefined {
  return of === undefined ? undefined : byTls(of.rule, (settingsOf(of.policy, port) ?? of.policy).tls);
}

function byTls(rule: Rule, tls: ClientTls | undefined): SpokenTls | undefined {
  return isSpoken(tls) ? { rule, tls } : undefined;
}

function isSpoken(tls: ClientTls | undefined): tls is ClientTls {
  return tls?.mode === 'SIMPLE' || tls?.mode === 'MUTUAL';
}

/** Of the service, or of one of its ports. */
export function asksForTls(policy: RulePolicy | undefined): boolean {
  return [policy, ...(policy?.portLevelSettings ?? [])].some((each) => isSpoken(each?.tls));
}

interface ReadTls {
  readonly tls: BackendTls;
  /** What can't be followed, so that endpoints get no traffic. */
  readonly fault?: { readonly field: keyof ClientTls; readonly message: string; readonly reason: ConditionReason };
}

const SERVER_NAME = /^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$/;

function readTls({ rule, tls }: SpokenTls, service: Stored<'Service'>, index: BackendTlsIndex): ReadTls {
  const { secrets } = index;
  const { mode, sni = '', credentialName = '', insecureSkipVerify = false } = tls;
  // An empty list is none, as in protobuf.
  const accepted = [tls.subjectAltNames, index.entryHosts.get(nameOf(service))?.entry.manifest.spec.subjectAltNames];
  const asked = (sni === '' ? hostOf(service, index) : sni).toLowerCase();
  const isName = SERVER_NAME.test(asked);
  const named = {
    ...NOBODY_TRUSTED,
    hostname: isName ? asked : 'invalid',
    accepts: [...(accepted.find((names) => names !== undefined && names.length > 0) ?? [])],
  };
  const refuse = (field: keyof ClientTls, message: string, reason: ConditionReason = 'NoValidCACertificate'): ReadTls => ({
    tls: named,
    fault: { field, message, reason },
  });
  if ((tls.caCrl ?? '') !== '') return refuse('caCrl', 'lists of revoked certificates are not read', 'UnsupportedValue');
  if (!isName) return refuse('sni', `"${asked}" is no name that a server could be asked for`, 'UnsupportedValue');
  if (credentialName === '') {
    const { clientCertificate: chain = '', privateKey: key = '', caCertificates: trust = '' } = tls;
    const files = mode === 'MUTUAL' ? { chain, key, trust } : trust === '' ? undefined : { chain: '', key: '', trust };
    return { tls: { ...named, files, systemTrust: trust === '' && !insecureSkipVerify, unverified: insecureSkipVerify } };
  }
  const name = qualifiedName(rule.namespace, credentialName);
  const secret = secrets.get(name);
  const read = mode !== 'MUTUAL' || secret === undefined ? null : readSecret(secret.manifest);
  if (mode === 'MUTUAL' && read === null) return refuse('credentialName', `no Secret ${name}`, 'InvalidCertificateRef');
  if (read !== null && read.fault !== null) return refuse('credentialName', `Secret ${name}: ${read.fault}`, 'InvalidCertificateRef');
  const shown = { ...named, certificate: read?.pair };
  if (insecureSkipVerify) return { tls: { ...shown, unverified: true } };
  const trust = [secret, secrets.get(`${name}-cacert`)]
    .map((each) => (each === undefined ? '' : caBundle(each.manifest)))
    .find((each) => each !== '');
  if (trust === undefined || trustFault(trust) !== null)
    return refuse('credentialName', `no Secret ${name} with a CA (key cacert or ca.crt)`);
  return { tls: { ...shown, trust } };
}

/** All that it says of TLS, of ports and subsets too, with where it says it. */
function tlsSettings({ manifest: { spec } }: Rule): (readonly [tls: ClientTls, path: string])[] {
  const of = (policy: RulePolicy | undefined, path: string): (readonly [ClientTls | undefined, string])[] => [
    [policy?.tls, path],
    ...(policy?.portLevelSettings ?? []).map((each, at) => [each.tls, `${path}.portLevelSettings[${at}]`] as const),
  ];
  const subsets = (spec.subsets ?? []).flatMap(({ trafficPolicy }, at) => of(trafficPolicy, `spec.subsets[${at}].trafficPolicy`));
  return [...of(spec.trafficPolicy, 'spec.trafficPolicy'), ...subsets].flatMap(([tls, path]) =>
    tls === undefined ? [] : [[tls, `${path}.tls`] as const],
  );
}

/** What of a DestinationRule's TLS can't be followed. */
export function checkTlsOfRule(rule: Rule, index: BackendTlsIndex & Pick<ObjectIndex, 'entryHosts'>, report: ReportProblem): void {
  const services = servicesOf(rule.manifest.spec.host ?? '', rule.namespace, index);
  for (const [tls, path] of tlsSettings(rule)) {
    const spoken = byTls(rule, tls);
    if (spoken === undefined) continue;
    const fault = services.map((service) => readTls(spoken, service, index).fault).find((found) => found !== undefined);
    if (fault !== undefined) report(`${path}.${fault.field}`, `${fault.message}: requests to its endpoints are answered 503`, fault.reason);
    const asSent = services.find(
      (service) => (index.entryHosts.get(nameOf(service))?.entry.manifest.spec.resolution ?? 'STATIC') === 'NONE',
    );
    if (asSent !== undefined)
      report(
        `${path}.mode`,
        `${nameOf(asSent)} has resolution NONE: what is sent there goes on as it is, without TLS of the mesh's own`,
        'UnsupportedValue',
      );
  }
}

/** Whether it depends on more than the service and its rules. */
export function hasTlsOfRules(service: Stored<'Service'>, index: BackendTlsIndex): boolean {
  return rulesOf(service, index).some((rule) => tlsSettings(rule).some(([tls]) => byTls(rule, tls) !== undefined));
}

/** A policy for the port by name before one for the whole service; of each the oldest (Gateway API, conflict resolution of policies). */
function policyOf(service: string, port: string, { backendTlsByService }: BackendTlsIndex): Policy | undefined {
  const policies = backendTlsByService.get(service) ?? [];
  const targets = (policy: Policy, section: string | undefined): boolean =>
    policy.manifest.spec.targetRefs.some((target) => nameIn(policy, target) === service && target.sectionName === section);
  return policies.find((policy) => port !== '' && targets(policy, port)) ?? policies.find((policy) => targets(policy, undefined));
}

function nameIn({ namespace }: Policy, { name }: { readonly name: string }): string {
  return qualifiedName(namespace, name);
}

/** Of the references that can be followed; empty: none. */
function trustOfPolicy(policy: Policy, index: BackendTlsIndex, report: ReportProblem): string {
  const references = policy.manifest.spec.validation.caCertificateRefs ?? [];
  const path = 'spec.validation.caCertificateRefs';
  const trust = trustOf(policy, references, path, index, report);
  if (references.length > 0 && trust === '')
    report(path, 'no CA certificate can be used: requests to its services answer 503', 'NoValidCACertificate');
  return trust;
}

/** What of one policy has no effect, and why. */
export function checkBackendTlsPolicy(policy: Policy, index: BackendTlsIndex & Pick<ObjectIndex, 'services'>, report: ReportProblem): void {
  policy.manifest.spec.targetRefs.forEach((target, position) => {
    const path = `spec.targetRefs[${position}]`;
    const name = nameIn(policy, target);
    const service = index.services.get(name);
    const ports = service === undefined ? [] : tcpPorts(service).map((port) => port.name ?? '');
    if (service === undefined) report(path, `Service ${name} doesn't exist: the policy has no effect there`, 'TargetNotFound');
    else if (target.sectionName !== undefined && !ports.includes(target.sectionName))
      report(
        `${path}.sectionName`,
        `Service ${name} has no TCP port named ${target.sectionName}: the policy has no effect there`,
        'TargetNotFound',
      );
    else {
      const mine = target.sectionName === undefined ? ports : [target.sectionName];
      const winners = mine.map((port) => policyOf(name, port, index));
      const winner = winners[0];
      if (winner !== undefined && !winners.includes(policy))
        report(
          path,
          `BackendTLSPolicy ${nameOf(winner)} is older or names the port: this one has no effect on Service ${name}`,
          'Conflicted',
        );
    }
  });
  trustOfPolicy(policy, index, report);
}
