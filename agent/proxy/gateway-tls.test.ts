import { expect, test } from '@jest/globals';
import type { TlsCertificateSpec, TlsContextSpec } from '../native/engine.js';
import { GatewayTls, type GatewayTlsAddon, HTTP_ALPN } from './gateway-tls.js';

const certificate = (name: string): TlsCertificateSpec => ({
  serverNames: [name],
  chain: `chain of ${name}`,
  key: `key of ${name}`,
  limits: null,
});

const of = (...certificates: TlsCertificateSpec[]) => ({
  certificates,
  alpn: HTTP_ALPN,
  passthrough: [],
  clientTrust: null,
  clientFallback: false,
  clientOptional: false,
  clientAccepts: [],
});

/** Records what the addon is asked for; refuses certificates of "bad". */
class RecordedAddon implements GatewayTlsAddon {
  readonly specs = new Map<number, TlsContextSpec>();
  readonly released: number[] = [];
  readonly rotations: [number, Uint8Array][] = [];
  private last = 0;
  createTlsContext(spec: TlsContextSpec): number {
    if (spec.certificates.some(({ serverNames }) => serverNames.includes('bad'))) throw new Error('certificates[0].key: ee key too small');
    this.specs.set(++this.last, spec);
    return this.last;
  }
  releaseTlsContext(handle: number): void {
    this.released.push(handle);
  }
  setTicketKeys(handle: number, keys: Uint8Array): void {
    this.rotations.push([handle, Uint8Array.from(keys)]);
  }
}

function setUp() {
  const addon = new RecordedAddon();
  let drawn = 0;
  const tls = new GatewayTls(addon, (bytes) => Buffer.concat(Array.from({ length: bytes / 80 }, () => Buffer.alloc(80, ++drawn))));
  return { addon, tls };
}

test('the same certificates have one context; what is no longer used is released', () => {
  const { addon, tls } = setUp();
  const [one, again, other] = [[certificate('a')], [certificate('a')], [certificate('b')]].map((list) => tls.contextFor(of(...list)));
  expect(again).toBe(one);
  expect(other!.context).not.toBe(one!.context);
  tls.keepOnly(new Set([other!]));
  expect(addon.released).toEqual([one!.context]);
});

test('a certificate that OpenSSL refuses is left out and told, the others are served', () => {
  const { addon, tls } = setUp();
  const { context, faults } = tls.contextFor(of(certificate('a'), certificate('bad'), certificate('b')));
  expect(addon.specs.get(context!)?.certificates.map(({ serverNames }) => serverNames[0])).toEqual(['a', 'b']);
  expect(faults).toEqual(["the certificate for bad can't be served: certificates[0].key: ee key too small"]);
  expect(addon.released).toHaveLength(2);
  expect(tls.contextFor(of(certificate('bad'))).context).toBeNull();
});

test('on rotation the next ticket key becomes the current one and the current the previous, in every context', () => {
  const { addon, tls } = setUp();
  tls.contextFor(of(certificate('a')));
  tls.contextFor(of(certificate('b')));
  const keysOf = (bytes: Uint8Array): number[] => [bytes[0]!, bytes[80]!, bytes[160]!];
  expect(keysOf(addon.specs.get(1)!.ticketKeys!)).toEqual([1, 2, 3]);
  tls.rotateTicketKeys();
  expect(addon.rotations.map(([handle, keys]) => [handle, keysOf(keys)])).toEqual([
    [1, [3, 1, 4]],
    [2, [3, 1, 4]],
  ]);
  const late = tls.contextFor(of(certificate('c'))).context!;
  expect(keysOf(addon.specs.get(late)!.ticketKeys!)).toEqual([3, 1, 4]);
});

test('clients are asked for certificates where there is trust to verify them by, and of that alone', () => {
  const { addon, tls } = setUp();
  const { context } = tls.contextFor({ ...of(certificate('a')), clientTrust: 'ca' });
  expect(addon.specs.get(context!)).toMatchObject({ trust: 'ca', clientCertificates: 'required' });
  const lax = tls.contextFor({ ...of(certificate('a')), clientTrust: 'ca', clientFallback: true, clientOptional: false });
  expect(addon.specs.get(lax.context!)).toMatchObject({ trust: 'ca', clientCertificates: 'fallback' });
  expect(addon.specs.get(tls.contextFor(of(certificate('a'))).context!)).toMatchObject({ trust: null, clientCertificates: 'none' });
});
