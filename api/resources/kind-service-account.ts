// core/v1 ServiceAccount: the identity that workloads run under, by name. Owner: Kubernetes.
import { objectOf } from './metadata.js';
import { ownedElsewhere } from './schema.js';
import { dnsSubdomain } from './syntax.js';

export const serviceAccountKind = {
  kind: 'ServiceAccount',
  apiVersion: 'v1',
  olderVersions: [],
  plural: 'serviceaccounts',
  shortNames: ['sa'],
  schema: objectOf(
    { kind: 'ServiceAccount', apiVersion: 'v1', name: dnsSubdomain },
    { secrets: ownedElsewhere(), imagePullSecrets: ownedElsewhere(), automountServiceAccountToken: ownedElsewhere() },
  ),
} as const;
