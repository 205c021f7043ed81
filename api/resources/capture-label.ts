// The label by which a Namespace or a Workload opts out of capture, or back in.

/**
 * "disabled": not captured, whatever spec.capture says; "enabled". A Workload's own goes before its Namespace's. Without either a pod of Kubernetes is
 * not captured, any other Workload is.
 */
export const CAPTURE_LABEL = 'mesh.weft.dev/capture';

/** A rule for whole objects. */
export function checkCaptureLabel(
  { metadata }: { readonly metadata?: unknown },
  report: (path: readonly string[], message: string) => void,
): void {
  const value = (metadata as { labels?: Record<string, unknown> } | undefined)?.labels?.[CAPTURE_LABEL];
  if (value === undefined || value === 'enabled' || value === 'disabled') return;
  report(['metadata', 'labels', CAPTURE_LABEL], `expected "enabled" or "disabled", found ${JSON.stringify(value)}`);
}
