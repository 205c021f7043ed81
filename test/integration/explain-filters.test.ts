// Filters of explained requests, in processes as a node has them: those are made of what is built.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import type { EngineAddon } from '../../agent/native/engine.js';
import {
  type ExplainRequest,
  type ExplainResponse,
  ExplainResponse_Outcome,
  FilterVerdict_Verdict,
} from '../../api/gen/mesh/v1/explain.js';

const { explainFiles } = (await import(
  new URL('../../dist/agent/proxy/explain/offline.js', import.meta.url).href
)) as typeof import('../../agent/proxy/explain/offline.js');
const addon = createRequire(join(process.cwd(), 'package.json'))('./native/build/Release/weft.node') as EngineAddon;
const metadata = (name: string): object => ({ name, namespace: 'shop' });

interface Declared {
  readonly name: string;
  readonly module: string;
  readonly spec?: object;
}

/** Rules in the order of `rules`, each with the filters that it names, in their order. */
function manifest(filters: readonly Declared[], rules: readonly object[]): string {
  const objects = [
    { kind: 'Service', apiVersion: 'v1', metadata: metadata('catalog'), spec: { ports: [{ port: 80, appProtocol: 'http' }] } },
    {
      kind: 'EndpointSlice',
      apiVersion: 'discovery.k8s.io/v1',
      metadata: { ...metadata('catalog-1'), labels: { 'kubernetes.io/service-name': 'catalog' } },
      addressType: 'IPv4',
      ports: [{ port: 8080 }],
      endpoints: [{ addresses: ['10.1.0.1'] }],
    },
    {
      kind: 'Gateway',
      apiVersion: 'gateway.networking.k8s.io/v1',
      metadata: metadata('edge'),
      spec: { gatewayClassName: 'weft', listeners: [{ name: 'http', port: 8080, protocol: 'HTTP' }] },
    },
    {
      kind: 'HTTPRoute',
      apiVersion: 'gateway.networking.k8s.io/v1',
      metadata: metadata('shop'),
      spec: { parentRefs: [{ name: 'edge' }], rules },
    },
    ...filters.map(({ name, module, spec = {} }, index) => ({
      kind: 'Filter',
      apiVersion: 'mesh.weft.dev/v1',
      metadata: metadata(name),
      spec: { module, priority: filters.length - index, ...spec },
    })),
  ];
  return objects.map((object) => JSON.stringify(object)).join('\n---\n');
}

const rule = (path: string, names: readonly string[], others: readonly object[] = [], match: object = {}): object => ({
  matches: [{ path: { type: 'PathPrefix', value: path }, ...match }],
  filters: [...names.map((name) => ({ type: 'ExtensionRef', extensionRef: { group: 'mesh.weft.dev', kind: 'Filter', name } })), ...others],
  backendRefs: [{ name: 'catalog', port: 80 }],
});
const REWRITE = {
  type: 'URLRewrite',
  urlRewrite: { hostname: 'ruled.test', path: { type: 'ReplaceFullPath', replaceFullPath: '/ruled' } },
};

async function told(filters: readonly Declared[], rules: readonly object[], asked: Partial<ExplainRequest> = {}): Promise<ExplainResponse> {
  const request = {
    from: '',
    gateway: '',
    method: 'GET',
    url: 'http://a.test:8080/a',
    headers: [],
    client: '',
    clientIdentity: '',
    ...asked,
  };
  const explained = await explainFiles([{ name: 'shop.yaml', content: manifest(filters, rules) }], request, addon);
  if (explained.kind !== 'ok') throw new Error(JSON.stringify(explained));
  return explained.value;
}

const verdicts = ({ filters }: ExplainResponse): string[] =>
  filters.map(({ name, verdict, lines, seesAnswers }) =>
    [name.replace('shop/', ''), FilterVerdict_Verdict[verdict], ...lines, ...(seesAnswers ? ['sees the answer'] : [])].join(' | '),
  );

test('each sees what those before it changed, and the rest of the decision is of the head as it is sent', async () => {
  const filters = [
    {
      name: 'first',
      module: `export const onRequest = ({ source, destination }) => ({
        path: '/written?by=first', headers: { remove: ['x-old'], set: { 'x-who': [source.address, source.identity, destination.name].join(' ') } },
      });
      export const onResponse = () => { throw new Error('there is no answer'); };`,
    },
    {
      name: 'second',
      module: `export const onRequest = ({ path, headers }) => ({ headers: { add: { 'x-seen': path + ' ' + headers.has('x-old') + ' ' + headers.get('x-who') } } });`,
    },
  ];
  const answer = await told(filters, [rule('/a', ['first', 'second'], [REWRITE])], {
    headers: [{ name: 'X-Old', value: '1' }],
    client: '192.0.2.7',
    clientIdentity: 'spiffe://shop/ann',
  });
  expect(verdicts(answer)).toEqual([
    'first | CONTINUED | remove x-old | set x-who: 192.0.2.7 spiffe://shop/ann shop/edge | to path: /written?by=first | sees the answer',
    'second | CONTINUED | add x-seen: /written?by=first false 192.0.2.7 spiffe://shop/ann shop/edge',
  ]);
  // The rule's own rewrite is not for a path that a filter wrote; for the host it is.
  expect(answer).toMatchObject({ reason: 'goes to 10.1.0.1:8080', changes: ['host becomes ruled.test'] });
});

test('a filter that routes anew is told with the rule that wins then, and that rule’s filters', async () => {
  const filters = [
    { name: 'hint', module: `export const onRequest = () => ({ headers: { set: { 'x-track': 'canary' } }, reroute: true });` },
    { name: 'late', module: `export const onRequest = ({ headers }) => ({ path: '/' + headers.get('x-track') });` },
  ];
  const canary = { headers: [{ name: 'x-track', value: 'canary' }] };
  const answer = await told(filters, [rule('/a', ['hint']), rule('/a', ['hint', 'late'], [], canary)]);
  expect(verdicts(answer)).toEqual(['hint | CONTINUED | set x-track: canary | routed anew', 'late | CONTINUED | to path: /canary']);
  expect(answer.rules.map(({ route, why }) => [route, why])).toEqual([
    ['shop/shop rule 1', ''],
    ['shop/shop rule 0', 'shop/shop rule 1 comes first'],
  ]);
});

test('what it answers is the answer, and those behind it are not asked', async () => {
  const filters = [
    {
      name: 'key',
      module: `export const onRequest = () => ({ respond: { status: 401, headers: { 'www-authenticate': 'key' }, body: 'no' } });`,
    },
    { name: 'behind', module: 'export const onRequest = () => undefined; export const onResponse = () => undefined;' },
  ];
  const answer = await told(filters, [rule('/a', ['key', 'behind'])]);
  expect(verdicts(answer)).toEqual(['key | ANSWERED | answers 401 | set www-authenticate: key | body "no"', 'behind | NOT_ASKED']);
  expect(answer).toMatchObject({
    outcome: ExplainResponse_Outcome.ANSWERED,
    status: 401,
    reason: 'is answered 401 by the filter shop/key',
    responseFlag: '',
  });
});

test.each([
  ['throws', `() => { throw new Error('so it is'); }`, /^threw: Error: so it is/],
  ['throws what throws as text', '() => { throw { get stack() { throw 1; } }; }', /^threw: it threw/],
  ['has a getter that throws', '() => ({ get headers() { throw new Error("got"); } })', /^threw: Error: got/],
  ['returns a promise that never settles', '() => new Promise(() => undefined)', /^threw: the hook is asynchronous/],
  ['returns what is thenable by its prototype', '() => Object.create({ then() {} })', /^threw: the hook is asynchronous/],
  ['writes a header of one hop', `() => ({ headers: { set: { connection: 'close' } } })`, /^invalid: .*connection/i],
  [
    'writes thousands of headers',
    `() => ({ headers: { remove: Array.from({ length: 5000 }, (_, i) => 'x-' + i) } })`,
    /^invalid: headers: 5000 changes, at most 64/,
  ],
  [
    'makes the head too large',
    `() => ({ headers: { set: Object.fromEntries([...'abcdef'].map((n) => [n, 'x'.repeat(16000)])) } })`,
    /^invalid: headers: /,
  ],
  ['never ends', '() => { for (;;); }', /^timed_out: no answer within 200 ms/],
  ['takes all memory', `() => { const all = []; for (;;) all.push('x'.repeat(2 ** 16).split('')); }`, /^(not_running|timed_out): /],
])(
  'a filter that %s fails, and the request as its policy says',
  async (_, hook, words) => {
    const module = `export const onRequest = ${hook};`;
    const spec = { timeout: '200ms', memoryMiB: 16 };
    const filters = [
      { name: 'open', module, spec: { ...spec, failurePolicy: 'FailOpen' } },
      { name: 'closed', module, spec },
    ];
    const open = await told(filters, [rule('/a', ['open'])]);
    const said = ({ filters: [only] }: ExplainResponse): unknown[] => [only?.verdict, only?.lines[0], only?.lines.at(-1)];
    expect(said(open)).toEqual([FilterVerdict_Verdict.FAILED, expect.stringMatching(words), 'the request goes on (FailOpen)']);
    expect(open.outcome).toBe(ExplainResponse_Outcome.FORWARDED);
    const closed = await told(filters, [rule('/a', ['closed'])]);
    expect(said(closed)).toEqual([FilterVerdict_Verdict.FAILED, expect.stringMatching(words), 'the request is refused (FailClosed)']);
    expect(closed).toMatchObject({ status: 500, responseFlag: 'FF', reason: 'is answered 500: a filter of this request failed' });
  },
  20_000,
);

test('bodies are read and written as on the data path, and refused where they are longer', async () => {
  const reads = {
    name: 'reads',
    module: `export const onRequest = ({ body, headers }) => ({ body: '[' + (body && body.text()) + ' of ' + headers.get('content-length') + ']' });`,
    spec: { body: { maxBytes: 8 } },
  };
  const next = { name: 'next', module: `export const onRequest = ({ headers }) => ({ path: '/' + headers.get('content-length') });` };
  const rules = [rule('/a', ['reads', 'next'])];
  const post = { method: 'POST', headers: [{ name: 'Content-Length', value: '99' }] };
  expect(verdicts(await told([reads, next], rules, { ...post, body: Buffer.from('grün') }))).toEqual([
    'reads | CONTINUED | body "[grün of 5]"',
    'next | CONTINUED | to path: /12',
  ]);
  const long = await told([reads, next], rules, { ...post, body: Buffer.alloc(9, 'x') });
  expect(verdicts(long)).toEqual(['reads | FAILED | body_too_large | the request is refused (FailClosed)', 'next | NOT_ASKED']);
  expect(long).toMatchObject({ status: 413, reason: 'is answered 413: the body is larger than a filter of this request takes' });
});

test('one whose module does not compile, or does not load, fails on the request', async () => {
  const broken = await told(
    [{ name: 'load', module: `throw new Error('at once'); export const onRequest = () => undefined;` }],
    [rule('/a', ['load', 'gone'])],
  );
  expect(verdicts(broken)[0]).toMatch(/^load \| FAILED \| not_running: .*Error: at once/s);
  expect(broken.status).toBe(500);
});
