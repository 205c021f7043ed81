// BackendTLSPolicy → BackendTls of a service's port, and what is wrong with policies. A policy that can't be followed leaves the port without any
// trust, so that nothing is sent: never plain text where TLS was asked for.
import type { BackendTls } from '../gen/mesh/v1/model.js';
import { caBundle, qualifiedName, trustFault } from '../resources/index.js';
import { type PolicyIndex, rulesInForce, settingsOf } from './cluster-policies.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import { hostOf } from './istio-hosts.js';
import type { ReportProblem } from './problem.js';
import { tcpPorts } from './service-ports.js';
import { type TrustIndex, trustOf } from './trust.js';

type Policy = Stored<'BackendTLSPolicy'>;
export type BackendTlsIndex = Pick<ObjectIndex, 'backendTlsByService' | 'secrets'> & TrustIndex & PolicyIndex;

/** Undefined: plain text. A BackendTLSPolicy goes before what a DestinationRule says. */
export function compileBackendTls(
  service: Stored<'Service'>,
  port: { readonly name?: string | undefined; readonly port: number },
  index: BackendTlsIndex,
): BackendTls | undefined {
  const policy = policyOf(nameOf(service), port.name ?? '', index);
  if (policy === undefined) return tlsOfRules(service, port.port, index);
  const { hostname, subjectAltNames, wellKnownCACertificates } = policy.manifest.spec.validation;
  return {
    hostname,
    accepts: (subjectAltNames ?? []).flatMap(({ hostname: name, uri }) => name ?? uri ?? []),
    trust: trustOfPolicy(policy, index, () => undefined),
    systemTrust: wellKnownCACertificates === 'System',
  };
}

/** With mode SIMPLE. What asks for less than is verified here gets no trust at all, so that nothing is sent. */
function tlsOfRules(service: Stored<'Service'>, port: number, index: BackendTlsIndex): BackendTls | undefined {
  const rule = rulesInForce(service, index).find(({ manifest }) => manifest.spec.trafficPolicy !== undefined);
  const policy = rule?.manifest.spec.trafficPolicy;
  const tls = (settingsOf(policy, port) ?? policy)?.tls;
  if (rule === undefined || tls?.mode !== 'SIMPLE') return undefined;
  const { sni = '', subjectAltNames, credentialName = '', caCertificates = '', insecureSkipVerify } = tls;
  const isFollowed = caCertificates === '' && insecureSkipVerify !== true;
  const secret = index.secrets.get(qualifiedName(rule.namespace, credentialName));
  return {
    hostname: sni === '' ? hostOf(service, index) : sni,
    accepts: [...(subjectAltNames ?? [])],
    trust: isFollowed && secret !== undefined ? caBundle(secret.manifest) : '',
    systemTrust: isFollowed && credentialName === '',
  };
}

/** What a DestinationRule's TLS trusts and is not there. */
export function checkTlsOfRule(rule: Stored<'DestinationRule'>, { secrets }: Pick<ObjectIndex, 'secrets'>, report: ReportProblem): void {
  const { trafficPolicy } = rule.manifest.spec;
  const settings = [
    [trafficPolicy, 'spec.trafficPolicy'] as const,
    ...(trafficPolicy?.portLevelSettings ?? []).map((each, at) => [each, `spec.trafficPolicy.portLevelSettings[${at}]`] as const),
  ];
  for (const [policy, path] of settings) {
    const { mode, credentialName = '' } = policy?.tls ?? {};
    if (mode !== 'SIMPLE' || credentialName === '') continue;
    const name = qualifiedName(rule.namespace, credentialName);
    const secret = secrets.get(name);
    if (secret === undefined || trustFault(caBundle(secret.manifest)) !== null)
      report(
        `${path}.tls.credentialName`,
        `no Secret ${name} with a CA (key cacert or ca.crt): requests to its endpoints are answered 503`,
        'NoValidCACertificate',
      );
  }
}

/** Whether it depends on more than the service and its rules. */
export function hasTlsOfRules(service: Stored<'Service'>, index: BackendTlsIndex): boolean {
  return tcpPorts(service).some(({ port }) => tlsOfRules(service, port, index) !== undefined);
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
