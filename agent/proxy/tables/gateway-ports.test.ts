import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Listener, Protocol } from '../../../api/gen/mesh/v1/model.js';
import { newIds } from '../testing/models.js';
import { gatewayPorts } from './gateway-ports.js';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'wgp-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The key is not looked at here. */
function certificate(name: string, names: readonly string[]): { chain: string; key: string } {
  const san = `subjectAltName=${names.map((dns) => `DNS:${dns}`).join(',')}`;
  const [certFile, keyFile] = [join(folder, `${name}.crt`), join(folder, `${name}.key`)];
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', keyFile];
  execFileSync('openssl', ['req', '-x509', ...key, '-out', certFile, '-subj', `/CN=${name}`, '-addext', san], { stdio: 'ignore' });
  return { chain: readFileSync(certFile, 'utf8'), key: name };
}

function ports(...listeners: Parameters<typeof Listener.fromPartial>[0][]) {
  const named = listeners.map((fields) => Listener.fromPartial({ gateway: 'shop/edge', address: '10.0.0.1', port: 443, ...fields }));
  return gatewayPorts(
    { listeners: new Map(named.map((listener) => [`${listener.gateway}/${listener.name}`, listener])) },
    newIds().listeners,
  );
}
const https = (name: string, hostname: string, ...certificates: { chain: string; key: string }[]) => ({
  name,
  hostname,
  protocol: Protocol.HTTPS,
  tls: { certificates, clientTrust: '' },
});

test('a certificate answers its listener’s hostname, and those of its own names that are no other’s', () => {
  const first = certificate('first', ['first.w.test', 'deep.er.w.test', 'exact.w.test', 'foreign.test']);
  const second = certificate('second', ['second.w.test', 'first.w.test']);
  const third = certificate('third', ['first.w.test']);
  const any = certificate('any', ['any.test']);
  const { ports: found, warnings } = ports(
    https('wild', '*.w.test', first, second, third),
    https('exact', 'exact.w.test', any),
    https('all', '', any),
  );
  expect(found.map(({ listener }) => listener.certificates?.map(({ serverNames, key }) => [key, ...serverNames]))).toEqual([
    [['any'], ['any', 'exact.w.test'], ['first', '*.w.test', 'first.w.test', 'deep.er.w.test'], ['second', 'second.w.test']],
  ]);
  expect(warnings).toEqual([expect.stringContaining('listener shop/edge/wild: certificate 2 is not used')]);
});

test('a port speaks one protocol, the first listener’s by name; a port without any certificate is closed', () => {
  const one = certificate('one', ['one.test']);
  const mixed = ports(https('a', 'a.test', one), { name: 'b', hostname: 'b.test', protocol: Protocol.HTTP });
  expect(mixed.ports.map(({ members }) => members.map(({ name }) => name))).toEqual([['a']]);
  expect(mixed.warnings).toEqual(['listener shop/edge/b: 10.0.0.1:443 speaks HTTPS for shop/edge/a; it stays closed']);
  expect(ports(https('a', 'a.test')).ports).toEqual([]);
  expect(ports(https('a', 'a.test'), https('b', 'b.test', one)).ports[0]?.members).toHaveLength(2);
});

test('a port is of one protocol and one TLS mode; what differs stays closed', () => {
  const { ports: open, warnings } = ports(
    { name: 'a', protocol: Protocol.TLS, hostname: 'a.test' },
    { name: 'b', protocol: Protocol.TLS, hostname: 'b.test', tls: { certificates: [certificate('b', ['b.test'])] } },
    { name: 'c', protocol: Protocol.TCP },
  );
  expect(open.map(({ listener, members }) => [listener.protocol, listener.passesTls, members.map(({ name }) => name)])).toEqual([
    ['opaque', true, ['a']],
  ]);
  expect(warnings).toEqual([
    'listener shop/edge/b: 10.0.0.1:443 has TLS of the other mode (Passthrough, Terminate) for shop/edge/a; it stays closed',
    'listener shop/edge/c: 10.0.0.1:443 speaks TLS for shop/edge/a; it stays closed',
  ]);
});

test('a listener that ends TLS and has no certificate serves nothing', () => {
  expect(ports({ name: 'a', protocol: Protocol.TLS, tls: { certificates: [] } }).ports).toEqual([]);
});
