// Labels of an endpoint: which are kept, and the version they tell. Pure.
import { compareText } from './route-order.js';

const MAX_LABELS = 64;
const MAX_BYTES = 4_096;
/** The first that is there (Istio: canonical revision). */
const VERSION_LABELS = ['service.istio.io/canonical-revision', 'app.kubernetes.io/version', 'version'] as const;

/** By name; those beyond the bounds are left out. */
export function boundedLabels(labels: Readonly<Record<string, string>>): Record<string, string> {
  const kept: [string, string][] = [];
  let bytes = 0;
  for (const [key, value] of Object.entries(labels).sort(([a], [b]) => compareText(a, b))) {
    bytes += key.length + value.length;
    if (kept.length === MAX_LABELS || bytes > MAX_BYTES) break;
    kept.push([key, value]);
  }
  return Object.fromEntries(kept);
}

/** Empty: not known. */
export function versionOf(labels: Readonly<Record<string, string>>): string {
  return VERSION_LABELS.map((key) => labels[key] ?? '').find((version) => version !== '') ?? '';
}
