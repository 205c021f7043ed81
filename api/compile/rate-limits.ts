// TrafficPolicy's rateLimits → RateLimits of the model, by what they are for; and what of them leads nowhere. One target at a time.
import { type RateLimit, RateLimit_Algorithm, type RateLimitKey, type RateLimitService } from '../gen/mesh/v1/model.js';
import { durationMs, qualifiedName } from '../resources/index.js';
import { nameOf, type ObjectIndex, type Stored } from './input.js';
import type { ReportProblem } from './problem.js';
import { keyOfTarget, targetKey } from './rate-limit-targets.js';

type Policy = Stored<'TrafficPolicy'>;
type Declared = NonNullable<Policy['manifest']['spec']['rateLimits']>[number];
type Target = Policy['manifest']['spec']['targetRefs'][number];
export type RateLimitIndex = Pick<ObjectIndex, 'limitsByTarget'>;

const DEFAULT_TIMEOUT_MS = 20;

/** Its own, else those of its namespace, counted for it alone. */
export function rateLimitsOfService(namespace: string, name: string, index: RateLimitIndex): RateLimit[] {
  const target = `Service/${namespace}/${name}`;
  const own = limitsFor(targetKey('Service', `${namespace}/${name}`), target, index);
  return own.length > 0 ? own : limitsFor(targetKey('Namespace', namespace), target, index);
}

/** That the services of a namespace have which have none of their own. */
export function policyOfNamespace(namespace: string, { limitsByTarget: byTarget }: RateLimitIndex): Policy | undefined {
  return byTarget.get(targetKey('Namespace', namespace))?.[0];
}

/** Of the whole route, and of that one rule; `rule` is empty for one without a name. */
export function rateLimitsOfRule(kind: string, name: string, rule: string, index: RateLimitIndex): RateLimit[] {
  const whole = limitsFor(targetKey(kind, name), `${kind}/${name}`, index);
  return rule === '' ? whole : [...whole, ...limitsFor(targetKey(kind, name, rule), `${kind}/${name}/${rule}`, index)];
}

export function rateLimitsOfGateway(name: string, index: RateLimitIndex): RateLimit[] {
  return limitsFor(targetKey('Gateway', name), `Gateway/${name}`, index);
}

function limitsFor(key: string, target: string, { limitsByTarget: byTarget }: RateLimitIndex): RateLimit[] {
  const policy = byTarget.get(key)?.[0];
  return (policy?.manifest.spec.rateLimits ?? []).map((declared) => compileLimit(policy as Policy, declared, target));
}

function compileLimit(policy: Policy, declared: Declared, target: string): RateLimit {
  const { name, requests = 0, per, burst, algorithm, scope, by = [], headers, service } = declared;
  const isWindow = algorithm === 'SlidingWindow';
  return {
    policy: nameOf(policy),
    name,
    target,
    requests,
    perMs: durationMs(per ?? '1s') ?? 1_000,
    algorithm: isWindow ? RateLimit_Algorithm.SLIDING_WINDOW : RateLimit_Algorithm.TOKEN_BUCKET,
    burst: isWindow || service !== undefined ? 0 : (burst ?? requests),
    meshWide: scope === 'Mesh',
    keys: by.map((key) => compileKey(key, target)),
    service: service === undefined ? undefined : compileService(policy, service),
    untold: headers === 'None',
  };
}

function compileKey({ source, header, value, as }: NonNullable<Declared['by']>[number], target: string): RateLimitKey {
  const of = (key: RateLimitKey['key'], usual: string): RateLimitKey => ({ key, descriptorKey: as ?? usual });
  // What Envoy's own actions name them, where it has such.
  if (header !== undefined) return of({ $case: 'header', value: header.toLowerCase() }, header.toLowerCase());
  if (source === 'Address') return of({ $case: 'clientAddress', value: true }, 'remote_address');
  if (source === 'Identity') return of({ $case: 'sourceIdentity', value: true }, 'source_identity');
  if (source === 'Namespace') return of({ $case: 'sourceNamespace', value: true }, 'source_namespace');
  if (source === 'Path') return of({ $case: 'path', value: true }, 'path');
  if (source === 'Method') return of({ $case: 'method', value: true }, 'method');
  if (source === 'Target') return of({ $case: 'value', value: target }, 'target');
  return of({ $case: 'value', value: value ?? '' }, 'generic_key');
}

function compileService(
  policy: Policy,
  { name, namespace, port, domain, hits, timeout, onFailure }: NonNullable<Declared['service']>,
): RateLimitService {
  return {
    service: qualifiedName(namespace ?? policy.namespace, name),
    port,
    domain,
    timeoutMs: timeout === undefined ? DEFAULT_TIMEOUT_MS : (durationMs(timeout) ?? DEFAULT_TIMEOUT_MS),
    failsClosed: onFailure === 'Deny',
    hits: hits ?? 1,
  };
}

/** Targets that are not there, policies that an older one goes before, services that could not be asked. */
export function checkRateLimits(policy: Policy, index: ObjectIndex, report: ReportProblem): void {
  const { targetRefs, rateLimits } = policy.manifest.spec;
  targetRefs.forEach((target, position) => {
    const path = `spec.targetRefs[${position}]`;
    const fault = targetFault(policy, target, index);
    if (fault !== null) {
      report(path, `${fault}: the policy has no effect there`, 'TargetNotFound');
      return;
    }
    const winner = index.limitsByTarget.get(keyOfTarget(policy.namespace, target))?.[0];
    if (rateLimits === undefined || winner === undefined || winner === policy) return;
    const message = `TrafficPolicy ${nameOf(winner)} is older and sets rateLimits of ${target.kind} ${target.name}: this one’s have no effect there`;
    report(path, message, 'Conflicted');
  });
  rateLimits?.forEach(({ service }, position) => {
    if (service === undefined) return;
    const name = qualifiedName(service.namespace ?? policy.namespace, service.name);
    const port = index.services.get(name)?.manifest.spec.ports?.find((each) => each.port === service.port);
    const effect = service.onFailure === 'Deny' ? 'requests are refused' : 'requests pass';
    if (port === undefined)
      report(
        `spec.rateLimits[${position}].service`,
        `Service ${name} has no port ${service.port}: nobody is asked, and ${effect}`,
        'BackendNotFound',
      );
  });
}

/** Null: it is there. What is only a Service's is checked with the others of a Service. */
function targetFault({ namespace }: Policy, { kind, name, sectionName }: Target, index: ObjectIndex): string | null {
  const qualified = qualifiedName(namespace, name);
  switch (kind) {
    case 'Namespace':
      if (name !== namespace) return `Namespace ${name} is not the policy's own`;
      return null;
    case 'Gateway':
      return index.gateways.has(qualified) ? null : `Gateway ${qualified} doesn't exist`;
    case 'HTTPRoute':
    case 'GRPCRoute': {
      const route = kind === 'HTTPRoute' ? index.routes.get(qualified) : index.grpcRoutes.find((each) => nameOf(each) === qualified);
      if (route === undefined) return `${kind} ${qualified} doesn't exist`;
      return ruleFault(`${kind} ${qualified}`, route.manifest.spec.rules, sectionName);
    }
    case 'VirtualService': {
      const service = index.virtualServices.get(qualified);
      if (service === undefined) return `VirtualService ${qualified} doesn't exist`;
      return ruleFault(`VirtualService ${qualified}`, service.manifest.spec.http ?? [], sectionName);
    }
    default:
      return index.services.has(qualified) ? null : `Service ${qualified} doesn't exist`;
  }
}

function ruleFault(route: string, rules: readonly { readonly name?: string | undefined }[], section: string | undefined): string | null {
  return section === undefined || rules.some(({ name }) => name === section) ? null : `${route} has no rule named ${section}`;
}
