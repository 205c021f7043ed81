// gateway.networking.k8s.io/v1 BackendTLSPolicy: TLS from the proxy to the endpoints of a Service, and how they prove who they are. Owner: Gateway API v1.
import { isIP } from 'node:net';
import { z } from 'zod';
import { objectOf } from './metadata.js';
import {
  choice,
  describe,
  fields,
  NOT_ACTED_ON,
  notActedOn,
  openChoice,
  type Report,
  sectionsOrWhole,
  text,
  textOf,
  type Unchecked,
  unique,
  withRule,
} from './schema.js';
import { dnsSubdomain, exactHostname, GROUP, hostname, KIND, objectName, sectionName } from './syntax.js';

const targetRef = fields({
  group: openChoice([''], 'targets of group', [], GROUP).default(''),
  kind: openChoice(['Service'], 'targets of kind', [], KIND).default('Service'),
  name: objectName,
  sectionName: sectionName.optional(),
});

export const caCertificateRef = fields({
  group: openChoice([''], 'CA certificates of group', [], GROUP).default(''),
  kind: openChoice(['ConfigMap'], 'CA certificates of kind', ['Secret'], KIND),
  name: objectName,
});

/** The characters of a SPIFFE ID (SPIFFE, 2). */
export const SPIFFE_ID = /^spiffe:\/\/[a-z0-9._-]{1,255}(\/[A-Za-z0-9._-]+)*$/;

/** What a peer's certificate can be asked to have: a SPIFFE ID, a DNS name or an address. */
export function isCertificateName(name: string): boolean {
  return SPIFFE_ID.test(name) || isIP(name) !== 0 || dnsSubdomain.safeParse(name).success;
}

const subjectAltName = withRule(
  fields({
    type: choice(['Hostname', 'URI']),
    hostname: hostname.optional(),
    uri: text('a URI such as spiffe://mesh.example/client', /^[^:/?#]+:\/\/[^/?#]*[^?#]*(\?[^#]*)?(#.*)?/, 253).optional(),
  }),
  (value, report) => {
    const [own, other] = value.type === 'URI' ? (['uri', 'hostname'] as const) : (['hostname', 'uri'] as const);
    if (value[own] === undefined) report([own], `required by type: ${value.type}`);
    if (value[other] !== undefined) report([other], `doesn't belong to type ${value.type}: expected ${own}`);
    const uri = textOf(value, 'uri');
    if (uri !== null && !SPIFFE_ID.test(uri))
      report(['uri'], `${NOT_ACTED_ON}: URIs other than SPIFFE IDs (spiffe://…), found ${describe(uri)}`, 'warning');
  },
);

const validation = withRule(
  fields({
    hostname: exactHostname,
    caCertificateRefs: z.array(caCertificateRef).max(8).optional(),
    wellKnownCACertificates: choice(['System']).optional(),
    subjectAltNames: z.array(subjectAltName).max(5).optional(),
  }),
  checkTrust,
);

function checkTrust({ caCertificateRefs, wellKnownCACertificates }: Unchecked, report: Report): void {
  const hasRefs = Array.isArray(caCertificateRefs) && caCertificateRefs.length > 0;
  if (hasRefs && wellKnownCACertificates !== undefined)
    report(['wellKnownCACertificates'], 'is given beside caCertificateRefs: one of them alone says whom to trust');
  if (!hasRefs && wellKnownCACertificates === undefined)
    report(['caCertificateRefs'], 'required: ConfigMaps with the CA certificates (key ca.crt), or wellKnownCACertificates: System');
}

export const backendTlsPolicyKind = {
  kind: 'BackendTLSPolicy',
  apiVersion: 'gateway.networking.k8s.io/v1',
  olderVersions: ['gateway.networking.k8s.io/v1alpha3'],
  plural: 'backendtlspolicies',
  shortNames: ['btlspolicy'],
  schema: objectOf(
    { kind: 'BackendTLSPolicy', apiVersion: 'gateway.networking.k8s.io/v1', name: dnsSubdomain },
    {
      spec: fields({
        targetRefs: sectionsOrWhole(
          unique(z.array(targetRef).min(1).max(16), 'targetRefs', ['name'], (item) =>
            typeof item.name === 'string'
              ? `${item.group ?? ''} ${item.kind ?? ''} ${item.name} ${textOf(item, 'sectionName') ?? ''}`.trim()
              : null,
          ),
          (item) => `${item.group ?? ''} ${item.kind ?? ''} ${item.name}`,
          (item) => String(item.sectionName !== undefined),
          'sectionName',
        ),
        validation,
        options: notActedOn('TLS options of backends', z.record(z.string(), z.string().max(4096))),
      }),
    },
  ),
} as const;
