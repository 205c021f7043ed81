// gateway.networking.k8s.io/v1 GatewayClass: accepted so that whole manifests apply; nothing compiles from it, every Gateway is served.
import { z } from 'zod';
import { objectOf } from './metadata.js';
import { fields, notSupportedYet, text } from './schema.js';
import { dnsSubdomain } from './syntax.js';

export const gatewayClassKind = {
  kind: 'GatewayClass',
  apiVersion: 'gateway.networking.k8s.io/v1',
  olderVersions: [],
  plural: 'gatewayclasses',
  shortNames: ['gc'],
  schema: objectOf(
    { kind: 'GatewayClass', apiVersion: 'gateway.networking.k8s.io/v1', name: dnsSubdomain },
    {
      spec: fields({
        controllerName: text('a controller name such as weft.dev/gateway', /^[a-z0-9.-]+\/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+$/, 253),
        description: z.string().max(64).optional(),
        parametersRef: notSupportedYet('parameters of a gateway class'),
      }),
    },
  ),
} as const;

export type GatewayClassManifest = z.output<typeof gatewayClassKind.schema>;
