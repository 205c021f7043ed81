// gateway.networking.k8s.io/v1 GatewayClass: accepted so that whole manifests apply; nothing compiles from it, every Gateway is served.
import { z } from 'zod';
import { objectOf } from './metadata.js';
import { fields, notActedOn, text } from './schema.js';
import { dnsLabel, dnsSubdomain, objectName } from './syntax.js';

export const gatewayClassKind = {
  kind: 'GatewayClass',
  apiVersion: 'gateway.networking.k8s.io/v1',
  olderVersions: ['gateway.networking.k8s.io/v1beta1'],
  plural: 'gatewayclasses',
  shortNames: ['gc'],
  schema: objectOf(
    { kind: 'GatewayClass', apiVersion: 'gateway.networking.k8s.io/v1', name: dnsSubdomain },
    {
      spec: fields({
        controllerName: text('a controller name such as weft.dev/gateway', /^[a-z0-9.-]+\/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+$/, 253),
        description: z.string().max(64).optional(),
        parametersRef: notActedOn(
          'parameters of a gateway class',
          fields({ group: text('an API group', /^/, 253, 0), kind: objectName, name: objectName, namespace: dnsLabel.optional() }),
        ),
      }),
    },
  ),
} as const;
