// The stand-in for kube-proxy: an nftables ruleset for each host that translates service addresses to pods. Traffic that the mesh
// captures never meets it; what goes direct (no proxy there, or a pod outside the mesh) still reaches its service. Pure.
import type { Pod, VirtualService } from './layout.js';

/** The ruleset, for `nft -f -`. Pods of a service get equal shares. Throws on a service that names an unknown pod. */
export function serviceTranslation(services: readonly VirtualService[], pods: readonly Pod[]): string {
  const byName = new Map(pods.map((pod) => [pod.name, pod]));
  const rules = services.flatMap((service) => {
    const behind = service.pods.map((name) => {
      const pod = byName.get(name);
      if (pod === undefined) throw new Error(`service ${service.name}: no pod "${name}"`);
      return pod;
    });
    if (behind.length === 0) return [];
    return [
      rule(
        'ip',
        service.v4,
        service,
        behind.map((pod) => pod.v4),
      ),
      rule(
        'ip6',
        service.v6,
        service,
        behind.map((pod) => pod.v6),
      ),
    ];
  });
  return `table inet services {
  chain translate {
${rules.map((line) => `    ${line}`).join('\n')}
  }
  chain forwarded { type nat hook prerouting priority dstnat; jump translate; }
  chain local { type nat hook output priority -100; jump translate; }
}
`;
}

function rule(family: 'ip' | 'ip6', address: string, service: VirtualService, targets: readonly string[]): string {
  const map = targets.map((target, index) => `${index} : ${target} . ${service.targetPort}`).join(', ');
  return `${family} daddr ${address} tcp dport ${service.port} dnat ${family} to numgen random mod ${targets.length} map { ${map} }`;
}
