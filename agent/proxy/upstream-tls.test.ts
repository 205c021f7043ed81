import { expect, test } from '@jest/globals';
import type { TlsContextSpec } from '../native/engine.js';
import { TlsFolder } from './tls-folder.js';
import { UpstreamTls } from './upstream-tls.js';

function setUp() {
  const specs: TlsContextSpec[] = [];
  const released: number[] = [];
  const addon = {
    createTlsContext(spec: TlsContextSpec): number {
      if (spec.trust === 'bad') throw new Error('trust: no PEM certificate in it');
      return specs.push(spec);
    },
    releaseTlsContext: (handle: number) => void released.push(handle),
  };
  return { specs, released, tls: new UpstreamTls(addon, new TlsFolder(null), () => 'the host’s') };
}

test('a context is kept as long as each generation asks for it', () => {
  const { tls, released } = setUp();
  const ask = (trust: string) => tls.contextFor({ trust, alpn: ['http/1.1'], certificate: null, files: null, isVerified: true });
  expect([ask('a'), ask('a'), ask('b')]).toEqual([1, 1, 2].map((context) => ({ ok: true, context })));
  tls.releaseUnused();
  expect(released).toEqual([]);
  ask('b');
  tls.releaseUnused();
  expect(released).toEqual([1]);
  expect(ask('a')).toEqual({ ok: true, context: 3 });
});

test('another protocol is another context, no trust is the host’s, and what OpenSSL refuses is told', () => {
  const { tls, specs } = setUp();
  tls.contextFor({ trust: 'a', alpn: ['h2'], certificate: null, files: null, isVerified: true });
  tls.contextFor({ trust: null, alpn: ['h2'], certificate: null, files: null, isVerified: true });
  expect(specs.map(({ role, trust, alpn }) => [role, trust, alpn])).toEqual([
    ['client', 'a', ['h2']],
    ['client', 'the host’s', ['h2']],
  ]);
  expect(tls.contextFor({ trust: 'bad', alpn: [], certificate: null, files: null, isVerified: true })).toEqual({
    ok: false,
    fault: 'trust: no PEM certificate in it',
  });
});

test('another certificate of our own is another context', () => {
  const { tls, specs } = setUp();
  const ask = (key: string | null) =>
    tls.contextFor({ trust: 'a', alpn: [], certificate: key === null ? null : { chain: 'chain', key }, files: null, isVerified: true });
  expect([ask(null), ask('one'), ask('two'), ask('one')]).toEqual([1, 2, 3, 2].map((context) => ({ ok: true, context })));
  expect(specs.map(({ certificates }) => certificates.map(({ chain, key }) => [chain, key]))).toEqual([
    [],
    [['chain', 'one']],
    [['chain', 'two']],
  ]);
});
