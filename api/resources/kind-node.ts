// core/v1 Node, for its labels: the zone that its endpoints are in, where their slices don't say. Owner: Kubernetes.
import { objectOf } from './metadata.js';
import { ownedElsewhere } from './schema.js';
import { dnsSubdomain } from './syntax.js';

/** The zone a node is in. */
export const ZONE_LABEL = 'topology.kubernetes.io/zone';
export const REGION_LABEL = 'topology.kubernetes.io/region';

export const nodeKind = {
  kind: 'Node',
  apiVersion: 'v1',
  olderVersions: [],
  plural: 'nodes',
  shortNames: ['no'],
  schema: objectOf({ kind: 'Node', apiVersion: 'v1', name: dnsSubdomain }, { spec: ownedElsewhere() }),
} as const;
