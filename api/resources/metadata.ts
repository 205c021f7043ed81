// ObjectMeta, alike for every kind, and the frame of an object around its kind's own fields.
import { z } from 'zod';
import { fields, ownedElsewhere } from './schema.js';
import { annotations, dnsLabel, labels } from './syntax.js';

export const DEFAULT_NAMESPACE = 'default';

/** What an API server writes into metadata: read back from it, accepted, and dropped from the normalised object. */
const SERVER_FIELDS = {
  uid: ownedElsewhere(),
  resourceVersion: ownedElsewhere(),
  generation: ownedElsewhere(),
  creationTimestamp: ownedElsewhere(),
  deletionTimestamp: ownedElsewhere(),
  deletionGracePeriodSeconds: ownedElsewhere(),
  managedFields: ownedElsewhere(),
  ownerReferences: ownedElsewhere(),
  finalizers: ownedElsewhere(),
  generateName: ownedElsewhere(),
  selfLink: ownedElsewhere(),
};

export const SERVER_METADATA: readonly string[] = Object.keys(SERVER_FIELDS);

/**
 * The object of one kind: its type, metadata, and `shape` beside them (usually `spec`). `status` is the cluster's: accepted and dropped.
 * `keptVersions`: older ones that say something else, of which an object stays.
 */
export function objectOf<const Kind extends string, const ApiVersion extends string, Shape extends z.ZodRawShape>(
  type: { readonly kind: Kind; readonly apiVersion: ApiVersion; readonly name: z.ZodString; readonly keptVersions?: readonly ApiVersion[] },
  shape: Shape,
) {
  return fields({
    apiVersion: z.literal([type.apiVersion, ...(type.keptVersions ?? [])]),
    kind: z.literal(type.kind),
    metadata: fields({
      name: type.name,
      namespace: dnsLabel.default(DEFAULT_NAMESPACE),
      labels: labels.optional(),
      annotations: annotations.optional(),
      ...SERVER_FIELDS,
    }),
    status: ownedElsewhere(),
    ...shape,
  });
}
