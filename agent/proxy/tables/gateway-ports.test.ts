import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ForwardClientCert, Listener, Protocol, TlsVersion } from '../../../api/gen/mesh/v1/model.js';
import { newIds } from '../testing/models.js';
import { FIRST_GATEWAY_LISTENER, gatewayPorts, gatewaySocketIds, MAX_GATEWAY_LISTENERS } from './gateway-ports.js';

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

test('what is believed and told of clients holds for a whole port', () => {
  const plain = (name: string, more: object) => ({ name, hostname: `${name}.test`, protocol: Protocol.HTTP, ...more });
  const { ports: found, warnings } = ports(
    plain('a', { trustedHops: 1, forwardClientCert: ForwardClientCert.APPEND_FORWARD }),
    plain('b', { trustedHops: 1, forwardClientCert: ForwardClientCert.APPEND_FORWARD }),
    plain('c', { forwardClientCert: ForwardClientCert.APPEND_FORWARD }),
    plain('d', { trustedHops: 1 }),
    plain('e', { port: 80, proxyProtocol: true }),
    plain('f', { port: 80, proxyProtocol: true }),
    plain('g', { port: 80 }),
  );
  expect(
    found.map(({ listener, members }) => [listener.trustedHops, listener.forwardClientCert, listener.proxyProtocol, members.length]),
  ).toEqual([
    [1, 'append-forward', false, 2],
    [null, 'sanitize', true, 2],
  ]);
  expect(warnings).toEqual([
    ...['c', 'd'].map((name) => expect.stringContaining(`listener shop/edge/${name}: 10.0.0.1:443 has other trusted hops`)),
    'listener shop/edge/g: 10.0.0.1:80 takes PROXY headers for shop/edge/e; it stays closed',
  ]);
});

test('a port speaks one protocol, the first listener’s by name; a port without any certificate is closed', () => {
  const one = certificate('one', ['one.test']);
  const mixed = ports(https('a', 'a.test', one), { name: 'b', hostname: 'b.test', protocol: Protocol.HTTP });
  expect(mixed.ports.map(({ members }) => members.map(({ name }) => name))).toEqual([['a']]);
  expect(mixed.warnings).toEqual(['listener shop/edge/b: 10.0.0.1:443 speaks HTTPS for shop/edge/a; it stays closed']);
  expect(ports(https('a', 'a.test')).ports).toEqual([]);
  expect(ports(https('a', 'a.test'), https('b', 'b.test', one)).ports[0]?.members).toHaveLength(2);
});

test('TLS that passes through shares a port with TLS that ends, told apart by the server name; what differs stays closed', () => {
  const { ports: open, warnings } = ports(
    { name: 'a', protocol: Protocol.TLS, hostname: 'a.test' },
    { name: 'b', protocol: Protocol.TLS, hostname: 'b.test', tls: { certificates: [certificate('b', ['b.test'])] } },
    { name: 'c', protocol: Protocol.TCP },
  );
  expect(open.map(({ listener, members }) => [listener.protocol, listener.passthrough, members.map(({ name }) => name)])).toEqual([
    ['opaque', ['a.test'], ['a', 'b']],
  ]);
  expect(open[0]?.listener.certificates?.map(({ serverNames }) => serverNames)).toEqual([['b.test']]);
  expect(warnings).toEqual(['listener shop/edge/c: 10.0.0.1:443 speaks TLS for shop/edge/a; it stays closed']);
  const web = ports({ name: 'a', protocol: Protocol.TLS, hostname: '' }, https('b', 'b.test', certificate('b', ['b.test'])), {
    name: 'c',
    protocol: Protocol.TLS,
    tls: { certificates: [certificate('c', ['c.test'])] },
  });
  expect(web.ports.map(({ listener }) => [listener.protocol, listener.passthrough])).toEqual([['http', ['']]]);
  expect(web.warnings).toEqual(['listener shop/edge/c: 10.0.0.1:443 speaks HTTPS for shop/edge/b; it stays closed']);
});

test('listeners of one port ask for the same certificates of clients, and each has limits of its own', () => {
  const limits = { minVersion: TlsVersion.TLS_VERSION_1_3, cipherSuites: ['TLS_AES_256_GCM_SHA384'] };
  const [a, b, c] = ['a', 'b', 'c'].map((name) => https(name, `${name}.test`, certificate(name, [`${name}.test`])));
  const lax = (of: typeof a) => ({ ...of, tls: { ...of!.tls, clientTrust: 'ca', clientFallback: true } });
  const { ports: open, warnings } = ports(
    lax(a),
    { ...lax(b), tls: { ...lax(b).tls, limits } },
    {
      ...c,
      tls: { ...c!.tls, clientTrust: 'ca' },
    },
  );
  expect(open[0]?.listener).toMatchObject({ clientTrust: 'ca', clientFallback: true });
  expect(open[0]?.listener.certificates?.map((each) => each.limits)).toEqual([
    null,
    { minVersion: '1.3', maxVersion: '1.3', cipherSuites: ['TLS_AES_256_GCM_SHA384'] },
  ]);
  expect(warnings).toEqual(['listener shop/edge/c: 10.0.0.1:443 asks for other client certificates for shop/edge/a; it stays closed']);
});

test('listeners of one port accept the same names of clients', () => {
  const named = (name: string, ...clientAccepts: string[]) => {
    const of = https(name, `${name}.test`, certificate(name, [`${name}.test`]));
    return { ...of, tls: { ...of.tls, clientTrust: 'ca', clientAccepts } };
  };
  const { ports: open, warnings } = ports(named('a', 'spiffe://td.test/x', 'y.test'), named('b', 'spiffe://td.test/x'));
  expect(open[0]?.listener.clientAccepts).toEqual([
    { kind: 'spiffeId', value: 'spiffe://td.test/x' },
    { kind: 'dnsName', value: 'y.test' },
  ]);
  expect(warnings).toEqual(['listener shop/edge/b: 10.0.0.1:443 asks for other client certificates for shop/edge/a; it stays closed']);
});

test('a listener that ends TLS and has no certificate serves nothing', () => {
  expect(ports({ name: 'a', protocol: Protocol.TLS, tls: { certificates: [] } }).ports).toEqual([]);
});

test('the id of a socket that is gone is no other’s while connections to it are open', () => {
  const open = new Map<number, number>();
  const ids = gatewaySocketIds({ quarantineMs: 0, now: () => 0, connectionsOf: (listener) => open.get(listener) ?? 0 });
  const all = Array.from({ length: MAX_GATEWAY_LISTENERS }, (_, port) => `a:${port}`);
  const gone = ids.assign(all).get('a:7')!;
  open.set(gone + FIRST_GATEWAY_LISTENER, 1);
  const others = [...all.filter((name) => name !== 'a:7'), 'another'];
  expect(ids.assign(others).has('another')).toBe(false);
  open.clear();
  expect(ids.assign(others).get('another')).toBe(gone);
});
