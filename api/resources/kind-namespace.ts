// Namespace of the core API, for its labels: what they say of capture holds for the Workloads in it. Owner: Kubernetes; Weft makes none and
// asks for none: a namespace without such an object is one without labels.
import { checkCaptureLabel } from './capture-label.js';
import { checkExportTo } from './export-to.js';
import { DEFAULT_NAMESPACE, objectOf } from './metadata.js';
import { fields, ownedElsewhere, withRule } from './schema.js';
import { dnsLabel } from './syntax.js';

const namespace = withRule(
  objectOf({ kind: 'Namespace', apiVersion: 'v1', name: dnsLabel }, { spec: fields({ finalizers: ownedElsewhere() }).optional() }),
  (value, report) => {
    checkCaptureLabel(value, report);
    checkExportTo(value, report);
    // One object a name: it is looked up by that alone.
    const within = (value.metadata as { namespace?: unknown } | undefined)?.namespace;
    if (within !== undefined && within !== DEFAULT_NAMESPACE) report(['metadata', 'namespace'], 'not here: a Namespace is in no namespace');
  },
);

export const namespaceKind = {
  kind: 'Namespace',
  apiVersion: 'v1',
  olderVersions: [],
  plural: 'namespaces',
  shortNames: ['ns'],
  schema: namespace,
} as const;
