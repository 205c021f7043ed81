// The sample shop: which pods run where, which services they are behind, and who calls whom. The manifests beside this file say
// the same to the mesh (plan.test.ts compares them). Pure.
import type { Pod, VirtualService } from '../layout.js';

export const SHOP_NAMESPACE = 'shop';
/** Every shop process listens here; the services answer at 80. */
export const SHOP_POD_PORT = 8080;

export interface ShopPod extends Pod {
  readonly service: string;
  readonly version: string;
  /** Services it calls for every request it gets. */
  readonly calls: readonly string[];
}

export const SHOP_PODS: readonly ShopPod[] = [
  { name: 'web', node: 'node-a', v4: '10.244.1.10', v6: 'fd44:0:0:1::10', service: 'web', version: 'v1', calls: ['order', 'catalog'] },
  { name: 'cart', node: 'node-a', v4: '10.244.1.20', v6: 'fd44:0:0:1::20', service: 'cart', version: 'v1', calls: ['catalog'] },
  { name: 'catalog-v1', node: 'node-a', v4: '10.244.1.30', v6: 'fd44:0:0:1::30', service: 'catalog', version: 'v1', calls: [] },
  { name: 'catalog-v2', node: 'node-b', v4: '10.244.2.30', v6: 'fd44:0:0:2::30', service: 'catalog', version: 'v2', calls: [] },
  { name: 'order', node: 'node-b', v4: '10.244.2.40', v6: 'fd44:0:0:2::40', service: 'order', version: 'v1', calls: ['cart', 'catalog'] },
];

function service(name: string, last: number, pods: readonly string[]): VirtualService {
  return {
    namespace: SHOP_NAMESPACE,
    name,
    v4: `10.96.0.${last}`,
    v6: `fd96::${last}`,
    port: 80,
    targetPort: SHOP_POD_PORT,
    pods,
  };
}

export const SHOP_SERVICES: readonly VirtualService[] = [
  service('catalog', 10, ['catalog-v1', 'catalog-v2']),
  service('catalog-v1', 11, ['catalog-v1']),
  service('catalog-v2', 12, ['catalog-v2']),
  service('cart', 20, ['cart']),
  service('order', 30, ['order']),
];

/** Share of catalog's requests that its HTTPRoute sends to catalog-v2. */
export const CATALOG_V2_SHARE = 0.1;

/** What a pod finds in /etc/hosts: every service by every name that a client may use, in both families. */
export function hostsFile(services: readonly VirtualService[]): string {
  const entries = services.flatMap(({ name, namespace, v4, v6 }) => {
    const names = [name, `${name}.${namespace}`, `${name}.${namespace}.svc`, `${name}.${namespace}.svc.cluster.local`].join(' ');
    return [`${v4} ${names}`, `${v6} ${names}`];
  });
  return `${['127.0.0.1 localhost', '::1 localhost', ...entries].join('\n')}\n`;
}
