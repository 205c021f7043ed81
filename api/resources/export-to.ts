// The annotation by which a Service says which namespaces see it, and a Namespace what holds for its services that say nothing. Owner: Istio
// (API annotations, networking.istio.io/exportTo); that a Namespace may carry it is Weft's.
import { describe } from './schema.js';

export const EXPORT_TO = 'networking.istio.io/exportTo';

const ITEM = /^(\.|\*|~|[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)$/;
const MAX_ITEMS = 256;

/** A rule for whole objects. */
export function checkExportTo(
  { metadata }: { readonly metadata?: unknown },
  report: (path: readonly string[], message: string) => void,
): void {
  const value = (metadata as { annotations?: Record<string, unknown> } | undefined)?.annotations?.[EXPORT_TO];
  if (typeof value !== 'string') return;
  const fault = faultOf(itemsOf(value));
  if (fault !== null) report(['metadata', 'annotations', EXPORT_TO], fault);
}

function faultOf(items: readonly string[]): string | null {
  if (items.length > MAX_ITEMS) return `expected at most ${MAX_ITEMS} namespaces, found ${items.length}`;
  for (const [index, item] of items.entries()) {
    if (!ITEM.test(item)) return `expected namespaces with commas, "." (its own), "*" (all) or "~" (none), found ${describe(item)}`;
    if (items.indexOf(item) < index) return `${describe(item)} is there already`;
    if ((item === '*' || item === '~') && items.length > 1) return `${describe(item)} stands alone: leave out the others`;
  }
  return null;
}

/** Of an annotation that was found good; as seenFrom(). */
export function exportedTo(value: string | undefined, own: string): readonly string[] | null {
  return seenFrom(value === undefined ? [] : itemsOf(value), own);
}

/** Names of namespaces, `own` where an exportTo says "."; none: nobody. Null: everyone, as where nothing is listed. */
export function seenFrom(listed: readonly string[], own: string): readonly string[] | null {
  if (listed.length === 0 || listed.includes('*')) return null;
  return [...new Set(listed.filter((each) => each !== '~').map((each) => (each === '.' ? own : each)))];
}

function itemsOf(value: string): string[] {
  return value.split(',').map((item) => item.trim());
}
