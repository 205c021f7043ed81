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

/** Of the DNS, in any case: so Istio has the names of ports, subsets and namespaces too. */
export const LABEL = /^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$/;

export function isLabel(value: string): boolean {
  return value.length <= 63 && LABEL.test(value);
}

/** The last one is no number, and empty for the root. */
function areLabels(labels: readonly string[]): boolean {
  const last = labels.at(-1) ?? '';
  return !/^[0-9]+$/.test(last) && labels.every((label, at) => isLabel(label) || (label === '' && at === labels.length - 1));
}

/** A name of the DNS, of however many labels. */
export function isFqdn(value: string): boolean {
  return value !== '' && value.length <= 255 && areLabels(value.split('.'));
}

/** As `isFqdn`; the first label may be "*", or begin with it. */
export function isWildcardHost(value: string): boolean {
  const [first = '', ...others] = value.split('.');
  const isFirst = first === '*' || (first.length <= 63 && isLabel(first.replace(/^\*-?/, '')));
  return value.length <= 255 && isFirst && (others.length === 0 || areLabels(others));
}
