// gateway.networking.k8s.io/v1 ListenerSet: listeners that an object of its own adds to a Gateway, where that allows it. Owner: Gateway API v1.
import { listenersOf } from './kind-gateway.js';
import { objectOf } from './metadata.js';
import { GATEWAY_GROUP } from './route-references.js';
import { fields } from './schema.js';
import { dnsLabel, dnsSubdomain, groupName, kindName, objectName } from './syntax.js';

export const listenerSetKind = {
  kind: 'ListenerSet',
  apiVersion: 'gateway.networking.k8s.io/v1',
  olderVersions: [],
  plural: 'listenersets',
  shortNames: [],
  schema: objectOf(
    { kind: 'ListenerSet', apiVersion: 'gateway.networking.k8s.io/v1', name: dnsSubdomain },
    {
      spec: fields({
        parentRef: fields({
          group: groupName.default(GATEWAY_GROUP),
          kind: kindName.default('Gateway'),
          name: objectName,
          namespace: dnsLabel.optional(),
        }),
        listeners: listenersOf('ListenerSet'),
      }),
    },
  ),
} as const;
