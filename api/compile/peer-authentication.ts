// Whose inbound connections are to be mutual TLS: the PeerAuthentication in force for a workload. Owner: Istio API (PeerAuthentication).
// Decides nothing of how: who is STRICT must not be reached past the proxy, so it fails closed.
import { ROOT_NAMESPACE, selects } from '../resources/index.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import type { ReportProblem } from './problem.js';

type Policy = Stored<'PeerAuthentication'>;
type Mode = NonNullable<NonNullable<Policy['manifest']['spec']['mtls']>['mode']>;

/** UNSET, as no mode at all: whatever the wider scope says. */
function said(mode: Mode | undefined): Mode | null {
  return mode === undefined || mode === 'UNSET' ? null : mode;
}

function labelsOf(policy: Policy): Readonly<Record<string, string>> {
  return policy.manifest.spec.selector?.matchLabels ?? {};
}

function isForAll(policy: Policy): boolean {
  return Object.keys(labelsOf(policy)).length === 0;
}

/** Without a selector; of several the oldest. */
function policyOfAll(index: Pick<ObjectIndex, 'peerAuthentications'>, namespace: string): Policy | undefined {
  return index.peerAuthentications.get(namespace)?.find(isForAll);
}

/**
 * The narrowest scope that says a mode: the oldest policy of its namespace whose selector it matches, its namespace's, the mesh's (root namespace).
 * One port that is STRICT suffices: failing closed holds for a workload as a whole, and nobody else than the proxy would refuse plain text there.
 */
export function isStrict(workload: Stored<'Workload'>, index: Pick<ObjectIndex, 'peerAuthentications'>): boolean {
  const labels = workload.manifest.metadata.labels ?? {};
  const own = index.peerAuthentications
    .get(workload.namespace)
    ?.find((policy) => !isForAll(policy) && selects({ matchLabels: labelsOf(policy) }, labels));
  if (Object.values(own?.manifest.spec.portLevelMtls ?? {}).some(({ mode }) => mode === 'STRICT')) return true;
  const scopes = [own, policyOfAll(index, workload.namespace), policyOfAll(index, ROOT_NAMESPACE)];
  return scopes.map((policy) => said(policy?.manifest.spec.mtls?.mode)).find((mode) => mode !== null) === 'STRICT';
}

/** Of two for the whole of a namespace the newer one has no effect (Istio API). */
export function checkPeerAuthentications(
  index: Pick<ObjectIndex, 'peerAuthentications'>,
  reporter: (object: Policy) => ReportProblem,
): void {
  for (const policies of index.peerAuthentications.values()) {
    const [first, ...newer] = policies.filter(isForAll);
    for (const policy of newer) {
      reporter(policy)(
        'spec.selector',
        `PeerAuthentication ${first === undefined ? '' : nameOf(first)} is older and for all of the namespace too: this one has no effect`,
        'Conflicted',
      );
    }
  }
}
