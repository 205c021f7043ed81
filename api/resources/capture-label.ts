// The labels by which a Namespace or a Workload opts out of capture, or back in, and has its DNS queries captured; and by which a Namespace or a
// Service takes instances that register themselves.

/**
 * "disabled": not captured, whatever spec.capture says; "enabled". A Workload's own goes before its Namespace's. Without either a pod of Kubernetes is
 * not captured, any other Workload is.
 */
export const CAPTURE_LABEL = 'mesh.weft.dev/capture';

/** The same for DNS queries, which are not captured unless a label or spec.capture.dns says so. */
export const DNS_LABEL = 'mesh.weft.dev/dns';

/**
 * "enabled": instances that registered themselves are endpoints of the Service, though it was declared; a Service's own label goes before its Namespace's.
 * Without it they are not: a node would have a say in services that it has no part in.
 */
export const INSTANCES_LABEL = 'mesh.weft.dev/instances';

/** A rule for whole objects. */
export function checkCaptureLabel(
  { metadata }: { readonly metadata?: unknown },
  report: (path: readonly string[], message: string) => void,
): void {
  const labels = (metadata as { labels?: Record<string, unknown> } | undefined)?.labels;
  for (const label of [CAPTURE_LABEL, DNS_LABEL, INSTANCES_LABEL]) {
    const value = labels?.[label];
    if (value === undefined || value === 'enabled' || value === 'disabled') continue;
    report(['metadata', 'labels', label], `expected "enabled" or "disabled", found ${JSON.stringify(value)}`);
  }
}
