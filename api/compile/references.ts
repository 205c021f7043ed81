// References that no compiled resource would show: slices and policies of services that aren't there, policies that another one overrules, reports from the wrong node.
import { qualifiedName, SERVICE_NAME_LABEL } from '../resources/index.js';
import { checkBackendTlsPolicy, checkTlsOfRule } from './backend-tls.js';
import { checkDestinationRule } from './cluster-policies.js';
import { allowsListenersOf } from './gateway-listeners.js';
import { gatewayOfSet, nameOf, type ObjectIndex, type Running, serviceOfSlice } from './input.js';
import { checkPeerAuthentications } from './peer-authentication.js';
import type { ConditionReason, ReportProblem } from './problem.js';
import { checkRateLimits } from './rate-limits.js';
import { compileParents } from './route-parents.js';

type Reporter = (object: { kind: string; namespace: string; name: string }) => ReportProblem;

export function checkReferences(index: ObjectIndex, running: Running, reporter: Reporter): void {
  checkListenerSets(index, reporter);
  checkSlices(index, reporter);
  checkPolicies(index, reporter);
  for (const rule of index.destinationRules) {
    checkDestinationRule(rule, index, reporter(rule));
    checkTlsOfRule(rule, index, reporter(rule));
  }
  for (const policy of index.backendTlsPolicies) checkBackendTlsPolicy(policy, index, reporter(policy));
  checkBackendTraffic(index, reporter);
  for (const route of index.udpRoutes) compileParents(route, index, reporter(route));
  checkPeerAuthentications(index, reporter);
  checkNodes(index, running, reporter);
}

function checkListenerSets({ listenerSets, gateways, namespaces }: ObjectIndex, reporter: Reporter): void {
  for (const set of listenerSets.values()) {
    const name = gatewayOfSet(set);
    const gateway = gateways.get(name);
    const refuse = (message: string, reason: ConditionReason): void =>
      reporter(set)('spec.parentRef', `${message}: its listeners are not there`, reason);
    if (name === '') refuse('listeners are added to Gateways alone', 'InvalidKind');
    else if (gateway === undefined) refuse(`Gateway ${name} doesn't exist`, 'NoMatchingParent');
    else if (!allowsListenersOf(gateway, set, namespaces))
      refuse(`Gateway ${name} allows no listeners of namespace ${set.namespace} (allowedListeners)`, 'NotAllowed');
  }
}

function checkSlices(index: ObjectIndex, reporter: Reporter): void {
  for (const slice of index.slices) {
    if (slice.manifest.addressType === 'FQDN')
      reporter(slice)('addressType', 'addresses of type FQDN are not supported yet: they are not used', 'UnsupportedValue');
    const service = serviceOfSlice(slice);
    if (service === null)
      reporter(slice)('metadata.labels', `no label ${SERVICE_NAME_LABEL}: its endpoints belong to no service`, 'TargetNotFound');
    else if (!index.services.has(service))
      reporter(slice)('metadata.labels', `Service ${service} doesn't exist: its endpoints are not used`, 'TargetNotFound');
  }
}

function checkPolicies(index: ObjectIndex, reporter: Reporter): void {
  for (const policy of index.policies) {
    checkRateLimits(policy, index, reporter(policy));
    const { targetRefs, rateLimits: _, ...sections } = policy.manifest.spec;
    targetRefs.forEach((target, position) => {
      const path = `spec.targetRefs[${position}]`;
      const service = qualifiedName(policy.namespace, target.name);
      if (target.kind !== 'Service' || !index.services.has(service)) return;
      for (const field of Object.keys(sections) as (keyof typeof sections)[]) {
        const winner = index.policiesByService.get(service)?.find((other) => other.manifest.spec[field] !== undefined);
        if (winner === undefined || winner === policy) continue;
        reporter(policy)(
          path,
          `TrafficPolicy ${nameOf(winner)} is older and sets ${field} of Service ${service}: this one’s has no effect there`,
          'Conflicted',
        );
      }
    });
  }
}

/** Gateway API: of those that say the same of a Service the oldest holds. */
function checkBackendTraffic(index: ObjectIndex, reporter: Reporter): void {
  for (const policy of index.backendTrafficPolicies)
    policy.manifest.spec.targetRefs.forEach(({ name }, position) => {
      const path = `spec.targetRefs[${position}]`;
      const service = qualifiedName(policy.namespace, name);
      const report = reporter(policy);
      if (!index.services.has(service)) {
        report(path, `Service ${service} doesn't exist: the policy has no effect there`, 'TargetNotFound');
        return;
      }
      for (const field of ['retryConstraint', 'sessionPersistence'] as const) {
        const winner = index.backendTrafficByService.get(service)?.find(({ manifest }) => manifest.spec[field] !== undefined);
        if (policy.manifest.spec[field] === undefined || winner === policy || winner === undefined) continue;
        report(
          path,
          `XBackendTrafficPolicy ${nameOf(winner)} is older and sets ${field} of Service ${service}: this one’s has no effect there`,
          'Conflicted',
        );
      }
    });
}

function checkNodes(index: ObjectIndex, running: Running, reporter: Reporter): void {
  if (running === null) return;
  for (const workload of index.workloads.values()) {
    const { node } = workload.manifest.spec;
    const report = running.get(nameOf(workload));
    if (report === undefined || node === report.node) continue;
    const expected = node === undefined ? 'spec.node names none' : `expected ${node}`;
    reporter(workload)('spec.node', `node ${report.node} says that it runs there, ${expected}: its report is ignored`, 'WrongNode');
  }
}
