// A small mesh for tests of decisions: three services with an endpoint each, and a captured client on the same node.
import { DecisionFlag } from '../../native/engine.js';
import { FIRST_GATEWAY_LISTENER } from '../tables/gateway-ports.js';
import { type compiled, endpoint, service, workload } from './models.js';
import type { TestRequest } from './requests.js';

/** Ids of listeners. */
export const OUTBOUND = 0;
export const OUTBOUND6 = 1;
export const INBOUND = 2;
export const GATEWAY = FIRST_GATEWAY_LISTENER;
export const catalog: TestRequest = { listener: OUTBOUND, destination: ['10.0.0.1', 80], source: '10.1.0.9' };
export const shop = [
  service('catalog', '10.0.0.1'),
  service('v1', '10.0.0.2'),
  service('v2', '10.0.0.3'),
  endpoint('catalog', 'a', '10.1.0.1'),
  endpoint('v1', 'a', '10.1.1.1', { workload: 'shop/v1-a' }),
  endpoint('v2', 'a', '10.1.2.1', { workload: 'shop/v2-a' }),
  workload('cart', { addresses: ['10.1.0.9'], node: 'a', capture: { outbound: true } }),
];
export const deliver = DecisionFlag.BindClient | DecisionFlag.MarkDeliver;
export const inject = DecisionFlag.BindClient | DecisionFlag.MarkInject;

/** Of an endpoint; of no endpoint the number itself. */
export function addressOf(tables: ReturnType<typeof compiled>, target: number): string {
  return tables.spec.endpoints.find(({ id }) => id === target)?.address ?? String(target);
}
