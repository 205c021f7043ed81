// BackendTLSPolicy → BackendTls of a service's port, and what is wrong with policies. A policy that can't be followed leaves the port without any
// trust, so that nothing is sent: never plain text where TLS was asked for.
import type { BackendTls } from '../gen/mesh/v1/model.js';
import { qualifiedName } from '../resources/index.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import type { ReportProblem } from './problem.js';
import { tcpPorts } from './service-ports.js';
import { type TrustIndex, trustOf } from './trust.js';

type Policy = Stored<'BackendTLSPolicy'>;
export type BackendTlsIndex = Pick<ObjectIndex, 'backendTlsByService'> & TrustIndex;

/** Undefined: plain text. */
export function compileBackendTls(
  service: string,
  port: { readonly name?: string | undefined },
  index: BackendTlsIndex,
): BackendTls | undefined {
  const policy = policyOf(service, port.name ?? '', index);
  if (policy === undefined) return undefined;
  const { hostname, subjectAltNames, wellKnownCACertificates } = policy.manifest.spec.validation;
  return {
    hostname,
    accepts: (subjectAltNames ?? []).flatMap(({ hostname: name, uri }) => name ?? uri ?? []),
    trust: trustOfPolicy(policy, index, () => undefined),
    systemTrust: wellKnownCACertificates === 'System',
  };
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
