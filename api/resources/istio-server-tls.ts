// How a port of an Istio Gateway or Sidecar ends TLS. Owner: Istio API (ServerTLSSettings) and its webhook's validation.
import { z } from 'zod';
import { flag, has, itemsOf, listOf } from './istio-common.js';
import { choice, describe, fields, type Report, type Unchecked, withRule } from './schema.js';

const VERSIONS = ['TLS_AUTO', 'TLSV1_0', 'TLSV1_1', 'TLSV1_2', 'TLSV1_3'] as const;

export const serverTls = withRule(
  fields({
    httpsRedirect: flag,
    mode: choice(['PASSTHROUGH', 'SIMPLE', 'MUTUAL', 'AUTO_PASSTHROUGH', 'ISTIO_MUTUAL', 'OPTIONAL_MUTUAL']).optional(),
    serverCertificate: z.string().optional(),
    privateKey: z.string().optional(),
    caCertificates: z.string().optional(),
    caCrl: z.string().optional(),
    caCertCredentialName: z.string().optional(),
    credentialName: z.string().optional(),
    credentialNames: listOf(z.string(), 2).optional(),
    tlsCertificates: listOf(
      fields({ serverCertificate: z.string().optional(), privateKey: z.string().optional(), caCertificates: z.string().optional() }),
      2,
    ).optional(),
    subjectAltNames: listOf(z.string()).optional(),
    verifyCertificateSpki: listOf(z.string()).optional(),
    verifyCertificateHash: listOf(z.string()).optional(),
    minProtocolVersion: choice(VERSIONS).optional(),
    maxProtocolVersion: choice(VERSIONS).optional(),
    cipherSuites: listOf(z.string()).optional(),
  }),
  checkServerTls,
);

const FILES = ['serverCertificate', 'privateKey'] as const;

function checkServerTls(value: Unchecked, report: Report): void {
  const { mode } = value;
  if (mode === 'ISTIO_MUTUAL') {
    for (const field of [...FILES, 'caCertificates', 'credentialName'])
      if (has(value, field)) report([field], 'not with mode ISTIO_MUTUAL: the certificates are those of the mesh');
  } else if (mode === 'SIMPLE' || mode === 'MUTUAL' || mode === 'OPTIONAL_MUTUAL') checkCertificates(mode, value, report);
  else
    for (const field of [...FILES, 'caCertificates', 'caCrl', 'credentialName'])
      if (has(value, field)) report([field], `of no effect with mode ${mode ?? 'PASSTHROUGH'}: TLS does not end here`, 'warning');
  checkVersions(value, report);
  checkCipherSuites(value.cipherSuites, report);
}

/** They come from one place, and whole. */
function checkCertificates(mode: string, value: Unchecked, report: Report): void {
  const names = ['credentialName', 'credentialNames', 'tlsCertificates'].filter((field) => has(value, field));
  const isOfFiles = FILES.every((field) => has(value, field));
  const second = names[isOfFiles ? 0 : 1];
  if (second !== undefined)
    report([second], `one source of certificates alone: ${isOfFiles ? FILES.join(' and ') : names[0]} is there too`);
  itemsOf(value.tlsCertificates).forEach((item, index) => {
    for (const field of FILES) if (!has(item, field)) report(['tlsCertificates', index, field], 'required beside the other half');
  });
  if (names.length === 0)
    for (const field of FILES) if (!has(value, field)) report([field], `required by mode ${mode} without credentialName`);
  const isByName = has(value, 'credentialName') || has(value, 'credentialNames');
  if (!isByName && mode !== 'SIMPLE' && !has(value, 'caCertificates') && !has(value, 'caCertCredentialName'))
    report(['caCertificates'], `required by mode ${mode} without credentialName`);
  if (!isByName && mode === 'SIMPLE' && has(value, 'caCrl')) report(['caCrl'], 'not with mode SIMPLE: clients show no certificate');
}

function checkVersions({ minProtocolVersion: min, maxProtocolVersion: max, cipherSuites }: Unchecked, report: Report): void {
  if (typeof min === 'string' && typeof max === 'string' && max !== 'TLS_AUTO' && min > max)
    report(['maxProtocolVersion'], `below minProtocolVersion (${min}): no version of TLS is left`);
  if ((min === 'TLSV1_0' || min === 'TLSV1_1') && (!Array.isArray(cipherSuites) || cipherSuites.length === 0))
    report(['minProtocolVersion'], `${min} needs cipherSuites that it has: the usual ones are of TLSV1_2`, 'warning');
}

/** By their names at OpenSSL; what Istio lets through to Envoy. */
const CIPHER_SUITES = new Set([
  ...['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-RSA-AES256-GCM-SHA384'],
  ...['ECDHE-ECDSA-CHACHA20-POLY1305', 'ECDHE-RSA-CHACHA20-POLY1305', 'ECDHE-ECDSA-AES128-SHA', 'ECDHE-RSA-AES128-SHA'],
  ...['ECDHE-ECDSA-AES256-SHA', 'ECDHE-RSA-AES256-SHA', 'AES128-GCM-SHA256', 'AES256-GCM-SHA384', 'AES128-SHA', 'AES256-SHA'],
  ...['DES-CBC3-SHA', 'ALL', ''],
]);

function checkCipherSuites(suites: unknown, report: Report): void {
  if (!Array.isArray(suites)) return;
  suites.forEach((suite: unknown, index) => {
    // Operators of OpenSSL's lists ("-", "+", "!") are Istio's to understand.
    if (typeof suite !== 'string' || /^[^A-Za-z0-9]/.test(suite)) return;
    if (!CIPHER_SUITES.has(suite)) report(['cipherSuites', index], `left out: no cipher suite is named ${describe(suite)}`, 'warning');
    else if (suites.indexOf(suite) < index) report(['cipherSuites', index], `left out: ${suite} is there already`, 'warning');
  });
}
