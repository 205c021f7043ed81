// BackendTLSPolicies as the model has them.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { ResourceType } from '../gen/mesh/v1/model.js';
import { compileModel } from './index.js';
import { CATALOG, messages, stored } from './testing/manifests.js';

describe('a BackendTLSPolicy', () => {
  const CA = (() => {
    const folder = mkdtempSync(join(tmpdir(), 'wbt-'));
    const file = join(folder, 'ca.crt');
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', join(folder, 'key')];
    execFileSync('openssl', ['req', '-x509', ...key, '-out', file, '-subj', '/CN=ca'], { stdio: 'ignore' });
    const pem = readFileSync(file, 'utf8');
    rmSync(folder, { recursive: true });
    return pem;
  })();
  const configMap = (name: string, pem: string) =>
    `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${name}, namespace: shop}\ndata: {ca.crt: ${JSON.stringify(pem)}}`;
  const policy = (name: string, target: string, hostname: string, refs = 'ca') =>
    `apiVersion: gateway.networking.k8s.io/v1alpha3\nkind: BackendTLSPolicy\nmetadata: {name: ${name}, namespace: shop}\nspec: {targetRefs: [{group: "", kind: Service, name: catalog${target}}], validation: {hostname: ${hostname}, caCertificateRefs: [${refs
      .split(' ')
      .map((ref) => `{group: "", kind: ConfigMap, name: ${ref}}`)
      .join(', ')}]}}`;
  const twoPorts = CATALOG.replace('ports: [', 'ports: [{name: admin, port: 81}, ');
  const tlsOf = (...objects: string[]) => {
    const { resources, problems } = compileModel({ objects: stored(twoPorts, configMap('ca', CA), ...objects), running: null });
    const [service] = messages(resources, ResourceType.SERVICE);
    return {
      ports: service?.ports.map(({ port, tls }) => [port, tls?.hostname, tls === undefined ? undefined : tls.trust !== '']),
      problems: problems.map(({ name, path, message }) => `${name} ${path}: ${message}`),
    };
  };

  test('for a port by name goes before one for the service, and of each the oldest holds', () => {
    expect(tlsOf(policy('a', '', 'a.test'), policy('b', ', sectionName: admin', 'b.test'), policy('c', '', 'c.test'))).toEqual({
      ports: [
        [81, 'b.test', true],
        [80, 'a.test', true],
      ],
      problems: [
        'c spec.targetRefs[0]: BackendTLSPolicy shop/b is older or names the port: this one has no effect on Service shop/catalog',
      ],
    });
  });

  test('trusts what of its references can be used; without any of them the port has no trust, never plain text', () => {
    const bad = configMap('bad', 'Hello');
    expect(tlsOf(bad, policy('a', '', 'a.test', 'bad ca absent'))).toEqual({
      ports: [
        [81, 'a.test', true],
        [80, 'a.test', true],
      ],
      problems: [
        'a spec.validation.caCertificateRefs[0]: ConfigMap shop/bad, key ca.crt: expected PEM certificates, found no "-----BEGIN CERTIFICATE-----": it is not used',
        "a spec.validation.caCertificateRefs[2]: ConfigMap shop/absent doesn't exist: it is not used",
      ],
    });
    const { ports, problems } = tlsOf(bad, policy('a', ', sectionName: admin', 'a.test', 'bad'));
    expect(ports).toEqual([
      [81, 'a.test', false],
      [80, undefined, undefined],
    ]);
    expect(problems).toContain('a spec.validation.caCertificateRefs: no CA certificate can be used: requests to its services answer 503');
  });

  test('for a service or port that is not there is told', () => {
    expect(
      tlsOf(policy('a', ', sectionName: absent', 'a.test'), policy('b', '', 'b.test').replace('name: catalog', 'name: absent')).problems,
    ).toEqual([
      'a spec.targetRefs[0].sectionName: Service shop/catalog has no TCP port named absent: the policy has no effect there',
      "b spec.targetRefs[0]: Service shop/absent doesn't exist: the policy has no effect there",
    ]);
  });
});
