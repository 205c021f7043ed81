// gateway.networking.k8s.io/v1 ReferenceGrant: which objects of other namespaces may refer to those of its own. Owner: Gateway API v1.
import { z } from 'zod';
import { objectOf } from './metadata.js';
import { fields } from './schema.js';
import { dnsLabel, dnsSubdomain, groupName, kindName, objectName } from './syntax.js';

export const referenceGrantKind = {
  kind: 'ReferenceGrant',
  apiVersion: 'gateway.networking.k8s.io/v1',
  olderVersions: ['gateway.networking.k8s.io/v1beta1'],
  plural: 'referencegrants',
  shortNames: ['refgrant'],
  schema: objectOf(
    { kind: 'ReferenceGrant', apiVersion: 'gateway.networking.k8s.io/v1', name: dnsSubdomain },
    {
      spec: fields({
        from: z
          .array(fields({ group: groupName, kind: kindName, namespace: dnsLabel }))
          .min(1)
          .max(16),
        to: z
          .array(fields({ group: groupName, kind: kindName, name: objectName.optional() }))
          .min(1)
          .max(16),
      }),
    },
  ),
} as const;
