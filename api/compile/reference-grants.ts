// Whether an object may refer to one of another namespace: only if a ReferenceGrant there says so (Gateway API v1). Pure.
import type { Kind } from '../resources/index.js';
import { GATEWAY_GROUP } from '../resources/route-references.js';
import type { ObjectIndex } from './input.js';

/** Within a namespace everything may. `to` is of the core group. */
export function isGranted(
  { grantsByNamespace }: Pick<ObjectIndex, 'grantsByNamespace'>,
  from: { readonly kind: Kind; readonly namespace: string },
  to: { readonly kind: 'Service' | 'Secret' | 'ConfigMap'; readonly namespace: string; readonly name: string },
): boolean {
  if (from.namespace === to.namespace) return true;
  return (grantsByNamespace.get(to.namespace) ?? []).some(
    ({ manifest: { spec } }) =>
      spec.from.some(({ group, kind, namespace }) => group === GATEWAY_GROUP && kind === from.kind && namespace === from.namespace) &&
      spec.to.some(({ group, kind, name }) => group === '' && kind === to.kind && (name === undefined || name === to.name)),
  );
}

/** The second half of a message; the first names the object. */
export function notGranted(from: Kind, to: { readonly namespace: string }): string {
  return `is in another namespace and no ReferenceGrant in ${to.namespace} allows ${from} to refer to it`;
}
