import { execFileSync } from 'node:child_process';
import { createPrivateKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { issue, type Leaf, type Signer, selfSigned } from './certificate.js';

const DAY = 86_400_000;
const NOW = Date.parse('2026-11-21T12:00:00Z');
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'wx509-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function openssl(...args: string[]): string {
  return execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

function file(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

const ecKeys = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });

function authority(name = 'test authority'): Signer {
  const { publicKey, privateKey } = ecKeys();
  return { certificate: new X509Certificate(selfSigned(name, publicKey, privateKey, NOW - DAY, NOW + 3_650 * DAY)), key: privateKey };
}

function leafOf(publicKey: KeyObject, changes: Partial<Leaf> = {}): Leaf {
  const dates = { notBeforeMs: NOW - 60_000, notAfterMs: NOW + DAY };
  return {
    commonName: 'node-a',
    publicKey,
    dnsNames: [],
    uris: ['weft://node/node-a'],
    usages: ['client', 'server'],
    ...dates,
    ...changes,
  };
}

const AT = String(NOW / 1_000);

test('OpenSSL verifies what is issued, strictly, as client and as server', () => {
  const signer = authority();
  const ca = file('ca.pem', signer.certificate.toString());
  const leaf = file('leaf.pem', issue(signer, leafOf(ecKeys().publicKey, { dnsNames: ['controller.weft.internal'] })));
  for (const purpose of ['sslclient', 'sslserver']) {
    expect(openssl('verify', '-x509_strict', '-check_ss_sig', '-attime', AT, '-purpose', purpose, '-CAfile', ca, leaf)).toContain('OK');
  }
  const text = openssl('x509', '-in', leaf, '-noout', '-text');
  expect(text).toContain('DNS:controller.weft.internal, URI:weft://node/node-a');
  expect(text).toMatch(/Basic Constraints: critical\s+CA:FALSE/);
  expect(text).toMatch(/Key Usage: critical\s+Digital Signature\n/);
  expect(text).toContain('TLS Web Client Authentication, TLS Web Server Authentication');
  expect(text).toMatch(/Authority Key Identifier/);
  expect(text).toContain('Not After : Nov 22 12:00:00 2026 GMT');
});

test('an authority signs leaves alone: what a leaf or a second authority signs is refused', () => {
  const signer = authority();
  const ca = file('ca.pem', signer.certificate.toString());
  const middleKeys = ecKeys();
  const middle = { certificate: new X509Certificate(issue(signer, leafOf(middleKeys.publicKey))), key: middleKeys.privateKey };
  const chain = file('middle.pem', middle.certificate.toString());
  const leaf = file('below.pem', issue(middle, leafOf(ecKeys().publicKey)));
  expect(() => openssl('verify', '-attime', AT, '-CAfile', ca, '-untrusted', chain, leaf)).toThrow();
  const other = file('other.pem', issue(authority('other'), leafOf(ecKeys().publicKey)));
  expect(() => openssl('verify', '-attime', AT, '-CAfile', ca, other)).toThrow();
  expect(openssl('x509', '-in', ca, '-noout', '-text')).toMatch(/Basic Constraints: critical\s+CA:TRUE, pathlen:0/);
});

test('a leaf for one use does not do for the other', () => {
  const signer = authority();
  const ca = file('ca.pem', signer.certificate.toString());
  const leaf = file('client.pem', issue(signer, leafOf(ecKeys().publicKey, { usages: ['client'] })));
  expect(() => openssl('verify', '-attime', AT, '-purpose', 'sslserver', '-CAfile', ca, leaf)).toThrow();
});

test('authorities that OpenSSL made sign too, by RSA and by P-384, with names and key identifiers of their own', () => {
  const keys = [
    ['-newkey', 'rsa:2048'],
    ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-384'],
  ];
  for (const [index, key] of keys.entries()) {
    const [certificateFile, keyFile] = [join(folder, `own-${index}.pem`), join(folder, `own-${index}.key`)];
    const subject = ['-subj', '/C=CH/O=Example, Inc./CN=Prüfstelle', '-utf8'];
    const extensions = ['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign'];
    openssl('req', '-x509', ...key, '-nodes', '-keyout', keyFile, '-out', certificateFile, '-days', '20', ...subject, ...extensions);
    const signer = { certificate: new X509Certificate(readFileSync(certificateFile)), key: createPrivateKey(readFileSync(keyFile)) };
    const now = Date.now();
    const leaf = file('leaf.pem', issue(signer, leafOf(ecKeys().publicKey, { notBeforeMs: now - 60_000, notAfterMs: now + DAY })));
    expect(openssl('verify', '-x509_strict', '-CAfile', certificateFile, leaf)).toContain('OK');
  }
});

test('dates behind 2049 are written as RFC 5280 wants them, and names of any length', () => {
  const signer = authority();
  const late = Date.parse('2051-01-02T03:04:05Z');
  const name = 'n'.repeat(253);
  const leaf = file('late.pem', issue(signer, leafOf(ecKeys().publicKey, { notAfterMs: late, uris: [`weft://node/${name}`] })));
  const text = openssl('x509', '-in', leaf, '-noout', '-text');
  expect(text).toContain('Not After : Jan  2 03:04:05 2051 GMT');
  expect(text).toContain(`URI:weft://node/${name}`);
  expect(openssl('asn1parse', '-in', leaf)).toContain('GENERALIZEDTIME');
});

test('serial numbers are positive, at most 20 octets, and no two are the same', () => {
  const signer = authority();
  const { publicKey } = ecKeys();
  const serials = Array.from({ length: 200 }, () => new X509Certificate(issue(signer, leafOf(publicKey))).serialNumber);
  expect(new Set(serials).size).toBe(200);
  for (const serial of serials) expect(serial).toMatch(/^[4-7][0-9A-F]{31}$/);
});
