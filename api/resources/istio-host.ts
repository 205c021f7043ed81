// Hosts as Istio's kinds name them: what one means in a namespace, what a wildcard covers. Owner: Istio API (hosts). Pure.

export const SERVICE_DOMAIN = 'svc.cluster.local';

/** "reviews", "reviews.shop.svc" → the full name; others stay, "reviews.shop" too: it may be a Service's or somebody else's. */
export function fullHost(host: string, namespace: string): string {
  const labels = host.split('.');
  if (host.includes('*') || host === '') return host;
  if (labels.length === 1) return `${host}.${namespace}.${SERVICE_DOMAIN}`;
  if (labels.length === 3 && labels[2] === 'svc') return `${host}.cluster.local`;
  return host;
}

/** A name covers itself, a wildcard what ends like it. */
export function covers(pattern: string, name: string): boolean {
  return pattern === name || (pattern.startsWith('*') && name.endsWith(pattern.slice(1)) && name.length >= pattern.length);
}
