// TLS options of a Gateway's listener: which versions and cipher suites its handshakes may agree on, and whom clients' certificates must name. Owner: Weft (keys of mesh.weft.dev), in
// the place that the Gateway API keeps for its implementations.
import { z } from 'zod';
import { isCertificateName } from './kind-backend-tls-policy.js';
import { suggestion } from './nearest.js';
import { describe, NOT_ACTED_ON, type Report, type Unchecked, withRule } from './schema.js';
import { isLabelKey } from './syntax.js';

/** By their names at IANA; those that the engine has (tls_context.cc), and the version each is for. All are forward secret and authenticated. */
export const TLS_CIPHER_SUITES: ReadonlyMap<string, '1.2' | '1.3'> = new Map([
  ['TLS_AES_128_GCM_SHA256', '1.3'],
  ['TLS_CHACHA20_POLY1305_SHA256', '1.3'],
  ['TLS_AES_256_GCM_SHA384', '1.3'],
  ['TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256', '1.2'],
  ['TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256', '1.2'],
  ['TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256', '1.2'],
  ['TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256', '1.2'],
  ['TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384', '1.2'],
  ['TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384', '1.2'],
]);

const MIN_VERSION = 'mesh.weft.dev/min-protocol-version';
const MAX_VERSION = 'mesh.weft.dev/max-protocol-version';
const CIPHER_SUITES = 'mesh.weft.dev/cipher-suites';
export const CLIENT_NAMES = 'mesh.weft.dev/client-subject-alt-names';
const KEYS = [MIN_VERSION, MAX_VERSION, CIPHER_SUITES, CLIENT_NAMES] as const;
const VERSIONS = ['1.2', '1.3'] as const;
type Version = (typeof VERSIONS)[number];
/** Gateway API, GatewayTLSConfig.options. */
const MAX_OPTIONS = 16;

export interface TlsLimits {
  readonly minVersion: Version;
  readonly maxVersion: Version;
  /** In order of preference; empty: all. */
  readonly cipherSuites: readonly string[];
}

/** Gateway API, AnnotationValue. */
const value = z.string({ error: (issue) => `expected text (in quotes), found ${describe(issue.input)}` }).max(4096);

export const tlsOptions = withRule(z.record(z.string(), value), (options, report) => {
  const keys = Object.keys(options);
  if (keys.length > MAX_OPTIONS) report([], `expected at most ${MAX_OPTIONS} options, found ${keys.length}`);
  for (const key of keys)
    if (!isLabelKey(key))
      report([key], `expected a key ([prefix/]name, the name at most 63 letters, digits, "-", "_" and "."), found ${describe(key)}`);
    else if (!(KEYS as readonly string[]).includes(key))
      report([key], `${NOT_ACTED_ON}: this TLS option, only ${KEYS.join(', ')}${suggestion(key, [...KEYS])}`, 'warning');
  checkClientNames(options, report);
  const known = [checkVersion(options, MIN_VERSION, report), checkVersion(options, MAX_VERSION, report), checkSuites(options, report)];
  if (known.includes(false)) return;
  const { minVersion, maxVersion, cipherSuites } = tlsLimits(options as Readonly<Record<string, string>>);
  if (minVersion > maxVersion) report([MAX_VERSION], `below ${MIN_VERSION}: no version of TLS is left`);
  else if (cipherSuites.length > 0 && !cipherSuites.some((suite) => isSpoken(suite, minVersion, maxVersion)))
    report([CIPHER_SUITES], `none of them is for TLS ${minVersion === maxVersion ? minVersion : `${minVersion} or ${maxVersion}`}`);
});

/** Of options that were found good. */
export function tlsLimits(options: Readonly<Record<string, string>>): TlsLimits {
  return {
    minVersion: (options[MIN_VERSION] ?? '1.2') as Version,
    maxVersion: (options[MAX_VERSION] ?? '1.3') as Version,
    cipherSuites: namesIn(options[CIPHER_SUITES]),
  };
}

/** Of options that were found good: a client's certificate must have one of these names; empty: whoever the authority vouches for. */
export function acceptedClients(options: Readonly<Record<string, string>>): string[] {
  return namesIn(options[CLIENT_NAMES]);
}

function isSpoken(suite: string, minVersion: Version, maxVersion: Version): boolean {
  const version = TLS_CIPHER_SUITES.get(suite);
  return version !== undefined && version >= minVersion && version <= maxVersion;
}

function namesIn(list: string | undefined): string[] {
  return list === undefined ? [] : list.split(',').map((name) => name.trim());
}

/** Whether it is absent or good; what is no text was reported by itself. */
function checkVersion(options: Unchecked, key: string, report: Report): boolean {
  const found = options[key];
  if (found === undefined || (VERSIONS as readonly unknown[]).includes(found)) return true;
  if (typeof found === 'string') report([key], `expected "1.2" or "1.3", found ${describe(found)}`);
  return false;
}

function checkClientNames(options: Unchecked, report: Report): void {
  const found = options[CLIENT_NAMES];
  if (typeof found !== 'string') return;
  const bad = namesIn(found).find((name) => !isCertificateName(name));
  if (bad !== undefined)
    report([CLIENT_NAMES], `expected SPIFFE IDs, DNS names and addresses with commas between them, found ${describe(bad)}`);
}

function checkSuites(options: Unchecked, report: Report): boolean {
  const found = options[CIPHER_SUITES];
  if (found === undefined) return true;
  if (typeof found !== 'string') return false;
  const names = namesIn(found);
  const unknown = names.find((name) => !TLS_CIPHER_SUITES.has(name));
  const seen = new Set<string>();
  const twice = names.find((name) => seen.size === seen.add(name).size);
  if (unknown !== undefined) {
    const all = [...TLS_CIPHER_SUITES.keys()];
    const more = suggestion(unknown, all) || `: there are ${all.join(', ')}`;
    report([CIPHER_SUITES], `expected names of cipher suites with commas between them, found ${describe(unknown)}${more}`);
  } else if (twice !== undefined) report([CIPHER_SUITES], `${twice} stands there twice`);
  return unknown === undefined && twice === undefined;
}
