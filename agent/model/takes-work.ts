// Which endpoints of a service get new work: the one rule of the proxy's tables and of what proxyless clients are told. Pure.
import { type Endpoint, EndpointHealth } from '../../api/gen/mesh/v1/model.js';

/** Only its check speaks against it. */
export function failsChecksAlone({ check }: Pick<Endpoint, 'check'>): boolean {
  return check?.failing === true && check.sourceHealth === EndpointHealth.READY;
}

/**
 * The ready ones. Where there is none, those that only their checks speak against: a check that is wrong must not take down a service that works,
 * and where it is right the requests would fail anyhow (Envoy's panic, at a threshold of nothing healthy).
 */
export function takeWork<Each extends { readonly health: EndpointHealth }>(
  endpoints: readonly Each[],
  isFallback: (endpoint: Each) => boolean,
): readonly Each[] {
  const ready = endpoints.filter(({ health }) => health === EndpointHealth.READY);
  return ready.length > 0 ? ready : endpoints.filter(isFallback);
}
