import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import type { TlsContextSpec } from '../native/engine.js';
import { TlsFolder } from './tls-folder.js';
import { UpstreamTls } from './upstream-tls.js';

const folder = mkdtempSync(join(tmpdir(), 'weft-tls-'));
afterAll(() => rmSync(folder, { recursive: true }));

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
  return { specs, released, tls: new UpstreamTls(addon, new TlsFolder(folder), () => 'the host’s') };
}

test('a context is kept as long as each generation asks for it', () => {
  const { tls, released } = setUp();
  const ask = (trust: string) => tls.contextFor({ trust, alpn: ['http/1.1'], certificate: null, files: null, isVerified: true });
  expect([ask('a'), ask('a'), ask('b')]).toEqual([1, 1, 2].map((context) => ({ ok: true, context, outdated: null })));
  tls.releaseUnused();
  expect(released).toEqual([]);
  ask('b');
  tls.releaseUnused();
  expect(released).toEqual([1]);
  expect(ask('a')).toEqual({ ok: true, context: 3, outdated: null });
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
  expect([ask(null), ask('one'), ask('two'), ask('one')]).toEqual([1, 2, 3, 2].map((context) => ({ ok: true, context, outdated: null })));
  expect(specs.map(({ certificates }) => certificates.map(({ chain, key }) => [chain, key]))).toEqual([
    [],
    [['chain', 'one']],
    [['chain', 'two']],
  ]);
});

test('files that do not go together yet, or are away for a moment, leave what was there before in use, and say so', () => {
  const { tls, released } = setUp();
  const file = join(folder, 'ca.crt');
  const files = { chain: '', key: '', trust: file };
  const ask = (alpn: string[] = []) => tls.contextFor({ trust: '', alpn, certificate: null, files, isVerified: true });
  const generation = () => {
    const found = ask();
    tls.releaseUnused();
    return found;
  };
  expect(generation()).toEqual({ ok: false, fault: `${file} can't be read on this node` });
  writeFileSync(file, 'one');
  expect(generation()).toEqual({ ok: true, context: 1, outdated: null });
  writeFileSync(file, 'bad');
  expect([generation(), generation()]).toEqual(
    [1, 1].map((context) => ({ ok: true, context, outdated: 'trust: no PEM certificate in it' })),
  );
  expect(ask(['h2'])).toEqual({ ok: false, fault: 'trust: no PEM certificate in it' });
  rmSync(file);
  expect(generation()).toEqual({ ok: true, context: 1, outdated: `${file} can't be read on this node` });
  writeFileSync(file, 'two');
  expect(generation()).toEqual({ ok: true, context: 2, outdated: null });
  expect(released).toEqual([1]);
  tls.releaseUnused();
  writeFileSync(file, 'bad');
  expect(generation()).toEqual({ ok: false, fault: 'trust: no PEM certificate in it' });
});
