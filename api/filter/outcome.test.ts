// What comes out of a filter's process is a stranger's: what of it is believed.
import { expect, test } from '@jest/globals';
import { bundleModule } from './bundle.js';
import { FrameReader, frame } from './frames.js';
import { Hook, readOutcome } from './outcome.js';

const returned = (result: unknown, hook = Hook.Request) => readOutcome(JSON.stringify({ result }), hook);

test('changes are lines for the engine', () => {
  expect(returned(null)).toEqual({ kind: 'continue', changes: '', body: null, reroutes: false });
  const headers = { remove: ['X-Old'], set: { 'x-a': 'b' }, add: { 'x-b': ['1', '2'] } };
  expect(returned({ headers, path: '/a?b', host: 'shop.test:80', reroute: true })).toEqual({
    kind: 'continue',
    changes: '-X-Old\n=x-a: b\n+x-b: 1\n+x-b: 2\n:path: /a?b\n:authority: shop.test:80\n',
    body: null,
    reroutes: true,
  });
});

test('each hook may change what is its own', () => {
  const changes = '=x-a: b\n:status: 404\n';
  expect(returned({ headers: { set: { 'x-a': 'b' } }, status: 404 }, Hook.Response)).toEqual({
    kind: 'continue',
    changes,
    body: null,
    reroutes: false,
  });
  expect(returned({ respond: { status: 204 } }, Hook.Response)).toMatchObject({ kind: 'respond', status: 204 });
  for (const each of [{ path: '/a' }, { host: 'a' }, { reroute: true }, { status: 101 }, { status: '200' }])
    expect(returned(each, Hook.Response)).toMatchObject({ kind: 'failed', why: 'invalid' });
  expect(returned({ status: 404 })).toMatchObject({ kind: 'failed', why: 'invalid' });
});

test.each([Hook.Request, Hook.Response])('hook %p may write a body: a text as UTF-8, or bytes', (hook) => {
  expect(returned({ body: 'ü' }, hook)).toMatchObject({ kind: 'continue', body: Buffer.from([0xc3, 0xbc]) });
  expect(returned({ body: { latin1: 'ü\0' } }, hook)).toMatchObject({ kind: 'continue', body: Buffer.from([0xfc, 0]) });
  expect(returned({ body: '' }, hook)).toMatchObject({ kind: 'continue', body: Buffer.alloc(0) });
});

test.each([
  ['{"result":3}'],
  ['{"result":{"body":3}}'],
  ['{"result":{"body":null}}'],
  ['{"result":{"body":{"latin1":"\\u0100"}}}'],
  [`{"result":{"body":"${'x'.repeat(1_048_577)}"}}`],
  ['no JSON'],
  ['['.repeat(100_000)],
  ['{"result":{"path":"a"}}'],
  ['{"result":{"path":"/a b"}}'],
  ['{"result":{"path":"/a\\r\\nx: y"}}'],
  ['{"result":{"host":"a b"}}'],
  ['{"result":{"headers":[]}}'],
  ['{"result":{"headers":{"set":{"a b":"c"}}}}'],
  ['{"result":{"headers":{"set":{"a":"b\\nc"}}}}'],
  ['{"result":{"headers":{"set":{"a":"\\u0000"}}}}'],
  ['{"result":{"headers":{"set":{"a":"\\u0100"}}}}'],
  ['{"result":{"headers":{"remove":"a"}}}'],
  ['{"result":{"respond":{"status":100}}}'],
  ['{"result":{"respond":{"status":"200"}}}'],
  ['{"result":{"respond":{"status":200,"body":3}}}'],
  ['{"result":{"respond":{"status":200,"grpcStatus":17}}}'],
  [`{"result":{"respond":{"status":200,"body":"${'x'.repeat(65_537)}"}}}`],
])('%p is none', (json) => {
  expect(readOutcome(json, Hook.Request)).toMatchObject({ kind: 'failed', why: 'invalid' });
});

test('a script has no imports: other files, Node.js and files of this machine by their paths are refused where they stand', () => {
  for (const path of ['fs', 'node:fs', './a', '/etc/hostname', '/etc/os-release.json', 'zod', 'https://a.test/b.js'])
    expect(bundleModule(`import x from '${path}';\nexport const onRequest = () => x;`).ok).toBe(false);
  const mistake = bundleModule('export const onRequest = () => {};\nconst x: = 1;');
  expect(mistake.ok ? [] : mistake.mistakes).toEqual([{ file: '', line: 2, column: 10, message: 'Unexpected "="' }]);
  const bundled = bundleModule(
    `import type { OnRequest } from '@weft/filter';\nexport const onRequest: OnRequest = (r) => void import(r.path);`,
  );
  expect(bundled.ok && !/[^.\w]import\s*\(/.test(bundled.code)).toBe(true);
});

test('messages are read at whatever bytes the stream is cut', () => {
  const stream = Buffer.concat([frame(['a']), frame({ b: 'ü' }), frame('')]);
  for (let cut = 0; cut <= stream.length; cut++) {
    const read: unknown[] = [];
    const reader = new FrameReader(1_024, (message) => read.push(message));
    reader.add(stream.subarray(0, cut));
    reader.add(stream.subarray(cut));
    expect(read).toEqual([['a'], { b: 'ü' }, '']);
  }
  expect(() => new FrameReader(8, () => undefined).add(frame('longer than that'))).toThrow();
});
