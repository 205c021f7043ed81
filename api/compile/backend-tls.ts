// BackendTLSPolicy → BackendTls of a service's port, and what is wrong with policies. A policy that can't be followed leaves the port without any
// trust, so that nothing is sent: never plain text where TLS was asked for.
import type { BackendTls } from '../gen/mesh/v1/model.js';
import { configMapText, qualifiedName, trustFault } from '../resources/index.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import type { ReportProblem } from './problem.js';
import { tcpPorts } from './service-ports.js';

type Policy = Stored<'BackendTLSPolicy'>;
export type BackendTlsIndex = Pick<ObjectIndex, 'backendTlsByService' | 'configMaps'>;

const CA_KEY = 'ca.crt';

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
    trust: trustOf(policy, index, () => undefined),
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
function trustOf(policy: Policy, { configMaps }: BackendTlsIndex, report: ReportProblem): string {
  const references = policy.manifest.spec.validation.caCertificateRefs ?? [];
  const bundles = references.flatMap((reference, position) => {
    const name = nameIn(policy, reference);
    const refuse = (message: string): [] => {
      report(`spec.validation.caCertificateRefs[${position}]`, `${message}: it is not used`);
      return [];
    };
    const found = configMaps.get(name);
    if (found === undefined) return refuse(`ConfigMap ${name} doesn't exist`);
    const { text, fault } = readBundle(found.manifest);
    return fault === null ? [text] : refuse(`ConfigMap ${name}, ${fault}`);
  });
  if (references.length > 0 && bundles.length === 0)
    report('spec.validation.caCertificateRefs', 'no CA certificate can be used: requests to its services answer 503');
  return bundles.join('\n');
}

/** Reading certificates takes time, every revision is compiled, and validated manifests stay the same objects. */
const known = new WeakMap<object, { readonly text: string; readonly fault: string | null }>();

function readBundle(manifest: Stored<'ConfigMap'>['manifest']): { readonly text: string; readonly fault: string | null } {
  let read = known.get(manifest);
  if (read === undefined) {
    const text = configMapText(manifest, CA_KEY);
    const fault = text === null ? 'is not there' : trustFault(text);
    read = { text: text ?? '', fault: fault === null ? null : `key ${CA_KEY}: ${fault}` };
    known.set(manifest, read);
  }
  return read;
}

/** What of one policy has no effect, and why. */
export function checkBackendTlsPolicy(policy: Policy, index: BackendTlsIndex & Pick<ObjectIndex, 'services'>, report: ReportProblem): void {
  policy.manifest.spec.targetRefs.forEach((target, position) => {
    const path = `spec.targetRefs[${position}]`;
    const name = nameIn(policy, target);
    const service = index.services.get(name);
    const ports = service === undefined ? [] : tcpPorts(service).map((port) => port.name ?? '');
    if (service === undefined) report(path, `Service ${name} doesn't exist: the policy has no effect there`);
    else if (target.sectionName !== undefined && !ports.includes(target.sectionName))
      report(`${path}.sectionName`, `Service ${name} has no TCP port named ${target.sectionName}: the policy has no effect there`);
    else {
      const mine = target.sectionName === undefined ? ports : [target.sectionName];
      const winners = mine.map((port) => policyOf(name, port, index));
      const winner = winners[0];
      if (winner !== undefined && !winners.includes(policy))
        report(path, `BackendTLSPolicy ${nameOf(winner)} is older or names the port: this one has no effect on Service ${name}`);
    }
  });
  trustOf(policy, index, report);
}
