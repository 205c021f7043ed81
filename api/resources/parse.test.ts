import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { formatFieldPath, formatFinding, KINDS, manifestKind, parseManifests, type ResourceObject, validateObject } from './index.js';

const GOLDENS = new URL('./goldens/', import.meta.url);

function findingsOf(content: string): string[] {
  return parseManifests([{ name: 'f.yaml', content }]).findings.map(formatFinding);
}

function objectsOf(content: string): ResourceObject[] {
  const { objects, findings } = parseManifests([{ name: 'f.yaml', content }]);
  expect(findings.map(formatFinding)).toEqual([]);
  return objects;
}

const SERVICE = 'apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n';

describe('goldens', () => {
  const names = readdirSync(GOLDENS).filter((name) => name.endsWith('.yaml'));
  test.each(names)('%s prints exactly the findings beside it', (name) => {
    const content = readFileSync(new URL(name, GOLDENS), 'utf8');
    const expected = readFileSync(new URL(name.replace(/yaml$/, 'findings'), GOLDENS), 'utf8');
    const { findings, warnings } = parseManifests([{ name, content }]);
    const lines = [...findings.map(formatFinding), ...warnings.map((warning) => `warning: ${formatFinding(warning)}`)];
    expect(`${lines.join('\n')}\n`).toBe(expected);
  });
});

test('every example of docs/resources.md is valid', () => {
  const text = readFileSync(new URL('../../docs/resources.md', import.meta.url), 'utf8');
  const examples = [...text.matchAll(/```yaml\n([\s\S]*?)```/g)].map((match) => match[1] ?? '');
  expect(examples).toHaveLength(14);
  for (const example of examples) expect(objectsOf(example)).toHaveLength(1);
});

describe('JSON', () => {
  const object = (rest: string): string => `\n {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a:\\"b\\""}, ${rest}}\n`;
  test.each([
    ['valid', '"spec": {"ports": [{"port": 80, "name": null}], "selector": {"a\\u003a": "\\\\"}}'],
    ['an unknown field', '"spec": {"prots": []}'],
    ['a field given twice', '"spec": {"ports": [{"port": 80,\n "port": 81}]}'],
    ['a field that is no data', '"spec": {"__proto__": {"ports": []}}'],
    ['a merge key', '"spec": {"<<": {"ports": []}}'],
    ['a number beyond all', '"spec": {"ports": [{"port": 1e999}]}'],
    ['nested too deeply', `"spec": ${'['.repeat(70)}${']'.repeat(70)}`],
    ['a list', '"spec": {"ports": [{"port": 80}]}}\n{"kind": "List", "items": [{"kind": "Service"}]'],
    ['a comma too many', '"spec": {"ports": [{"port": 80},]}'],
    ['a wrong value', '"spec": {"ports": [{"name": "b",\n "port": "x"}]}'],
  ])('%s is read as the YAML that it is', (_, rest) => {
    const content = object(rest);
    const asYaml = parseManifests([{ name: 'f', content: `${content}# which is no JSON` }]);
    expect(parseManifests([{ name: 'f', content }])).toEqual(asYaml);
    const valid = content.replace('a:\\"b\\"', 'a');
    expect(parseManifests([{ name: 'f', content: valid }])).toEqual(parseManifests([{ name: 'f', content: `${valid}# YAML` }]));
  });
});

describe('positions', () => {
  test('an unknown field is told at its key, a wrong value at the value, a missing field at its parent', () => {
    const content = 'apiVersion: v1\nkind: Service\nmetadata:\n  name: a\nspec:\n  prots: []\n  ports:\n    - port: "x"\n    - name: b\n';
    expect(findingsOf(content)).toEqual([
      'f.yaml:6:3: spec.prots: unknown field; did you mean ports?',
      'f.yaml:8:7: spec.ports[0].name: required: a service with several ports names each of them',
      'f.yaml:8:13: spec.ports[0].port: expected a whole number from 1 to 65535, found "x"',
      'f.yaml:9:7: spec.ports[1].port: required: a number',
    ]);
  });

  test('a position behind an alias is where the anchor stands', () => {
    const content = 'apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: &l {x: 1}}\nspec:\n  ports: [{port: 80}]\n  selector: *l\n';
    expect(findingsOf(content).map((line) => line.slice(0, 12))).toEqual(['f.yaml:3:36:', 'f.yaml:3:36:']);
  });

  test('the same object twice is told with the place of the first', () => {
    expect(findingsOf(`${SERVICE}---\n${SERVICE}`)).toEqual([
      'f.yaml:8:18: metadata.name: Service default/a is already defined at f.yaml:1',
    ]);
  });

  test('a field path quotes segments that are no plain names', () => {
    expect(formatFieldPath(['metadata', 'labels', 'a/b', 0])).toBe('metadata.labels["a/b"][0]');
  });
});

describe('normalising', () => {
  test('defaults are filled in, null entries, status and server-owned metadata go', () => {
    const [object] = objectsOf(
      'apiVersion: v1\nkind: Service\nmetadata: {name: a, creationTimestamp: null, uid: x}\nspec: {ports: [{port: 80}]}\nstatus: {loadBalancer: {}}\n',
    );
    expect(object).toEqual({
      apiVersion: 'v1',
      kind: 'Service',
      namespace: 'default',
      name: 'a',
      source: { file: 'f.yaml', line: 1 },
      manifest: {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name: 'a', namespace: 'default' },
        spec: { ports: [{ port: 80, protocol: 'TCP' }], type: 'ClusterIP' },
      },
    });
  });

  test('a normalised manifest validates to itself', () => {
    const objects = objectsOf(`${SERVICE}---\n${ROUTE}---\n${WORKLOAD}`);
    for (const object of objects) {
      const again = validateObject(JSON.parse(JSON.stringify(object.manifest)));
      expect(again.ok && again.object.manifest).toEqual(object.manifest);
    }
  });

  test('an empty text, comments and empty documents hold nothing', () => {
    expect(objectsOf('')).toEqual([]);
    expect(objectsOf('# nothing\n---\n---\n\n')).toEqual([]);
  });

  test('validateObject tells findings without a line', () => {
    const result = validateObject({ apiVersion: 'v1', kind: 'Service', metadata: { name: 'a' }, spec: { ports: [{ port: 0 }] } }, 'etcd');
    expect(result.ok ? [] : result.findings.map(formatFinding)).toEqual([
      'etcd: spec.ports[0].port: expected a whole number from 1 to 65535, found number 0',
    ]);
  });
});

const ROUTE = `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: a, port: 80}]
`;
const WORKLOAD = `apiVersion: mesh.weft.dev/v1
kind: Workload
metadata: {name: w, labels: {app: a}}
spec: {node: n1, networkNamespace: /run/netns/w}
`;

describe('bounds', () => {
  test.each([
    ['a megabyte of brackets', '['.repeat(1_000_000), 'nested too deeply'],
    ['nested block maps', Array.from({ length: 3000 }, (_, depth) => `${' '.repeat(depth)}a:`).join('\n'), 'nested too deeply'],
    ['a billion laughs', laughs(), 'too large: more than 200000 values'],
    ['an alias of itself', 'a: &a [*a]', 'nested too deeply'],
    ['too many aliases', `a: &a 1\nb: [${'*a,'.repeat(200)}]`, 'too many aliases'],
    ['too many tokens', `[${'[],'.repeat(400_000)}]`, 'too large: more than 600000 YAML tokens'],
    ['too many documents', '---\na: 1\n'.repeat(10_001), 'more: correct these first'],
    ['a file beyond 8 MiB', 'x'.repeat(8_388_609), 'too large: 8388609 bytes'],
    ['an object beyond 1 MiB', SERVICE.replace('name: a', `name: a, annotations: {x: ${'y'.repeat(1_100_000)}}`), 'too large: 11'],
  ])('%s is a finding, soon', (_, content, message) => {
    const started = process.cpuUsage();
    expect(findingsOf(content).join('\n')).toContain(message);
    expect(process.cpuUsage(started).user).toBeLessThan(10_000_000);
  });

  const listed = (count: number, item: (index: number) => string): string =>
    Array.from({ length: count }, (_, index) => item(index)).join();
  test.each([
    [
      'an expression of CEL with room behind it',
      `apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: a}\nspec: {accessLogging: [{filter: {expression: "${'a+'.repeat(150_000)}${' '.repeat(400_000)}"}}]}`,
      'at "its end"',
    ],
    [
      'localities',
      `apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec: {host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {${listed(40_000, (index) => `r${index}: 1`)}}}]}}}}`,
      'must sum up to 100, found 40000',
    ],
    [
      'brackets in an attribute',
      `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: {rules: [{when: [{key: "experimental.envoy.filters.${'['.repeat(400_000)}", values: [a]}]}]}`,
      'expected an attribute',
    ],
    [
      'repetitions in expressions',
      `apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {hosts: [a], http: [{match: [${listed(200, () => `{uri: {regex: "${'x{1000}'.repeat(140)}"}}`)}], route: [{destination: {host: a}}]}]}`,
      'compiles to about 140000 instructions',
    ],
    [
      'cipher suites',
      `apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec: {gatewayClassName: a, listeners: [{name: a, port: 443, protocol: HTTPS, tls: {options: {mesh.weft.dev/cipher-suites: "${listed(100_000, (index) => `a${index}`)}"}}}]}`,
      'names of cipher suites',
    ],
  ])('many %s take no quadratic time', (_, content, message) => {
    const started = process.cpuUsage();
    expect(findingsOf(content).join('\n')).toContain(message);
    expect(process.cpuUsage(started).user).toBeLessThan(10_000_000);
  });

  test('40,000 keys take no quadratic time', () => {
    const started = process.cpuUsage();
    expect(findingsOf(`${SERVICE}${Array.from({ length: 40_000 }, (_, index) => `k${index}: 1`).join('\n')}`)).toHaveLength(1001);
    expect(process.cpuUsage(started).user).toBeLessThan(10_000_000);
  });
});

function laughs(): string {
  let text = 'a: &a [x,x,x,x,x,x,x,x,x,x]\n';
  for (let level = 1; level < 10; level++) {
    const [previous, own] = [String.fromCharCode(96 + level), String.fromCharCode(97 + level)];
    text += `${own}: &${own} [${Array(10).fill(`*${previous}`).join(',')}]\n`;
  }
  return text;
}

describe('arbitrary input', () => {
  const fragment = fc.constantFrom(
    'kind: ',
    'Service',
    '\n',
    '  ',
    '- ',
    '{',
    '}',
    '[',
    ']',
    ': ',
    '&a ',
    '*a',
    '"',
    "'",
    '|',
    '>',
    '#',
    '---\n',
    '!!',
    '<<: ',
    '\t',
    'spec',
    'a',
  );

  test('text of any kind never throws', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: 'binary', maxLength: 200 }),
          fc.array(fragment, { maxLength: 60 }).map((parts) => parts.join('')),
        ),
        (content) => {
          for (const finding of parseManifests([{ name: 'f', content }]).findings) expect(finding.message).not.toBe('');
        },
      ),
      { numRuns: 500 },
    );
  });

  test('any JSON under any kind never throws, and has a place for every finding', () => {
    const types = fc.constantFrom(...KINDS.map((definition) => ({ kind: manifestKind(definition), apiVersion: definition.apiVersion })));
    const key = fc.constantFrom(
      'ports',
      'rules',
      'parentRefs',
      'listeners',
      'matches',
      'path',
      'headers',
      'filters',
      'capture',
      'endpoints',
      'selector',
      'timeouts',
      'type',
      'name',
      'port',
      ...[
        'http',
        'route',
        'destination',
        'hosts',
        'servers',
        'trafficPolicy',
        'subsets',
        'tls',
        'mtls',
        'jwtRules',
        'metrics',
        'template',
        'probe',
      ],
    );
    const value = fc.letrec((tie) => ({
      node: fc.oneof(
        { depthSize: 'small' },
        fc.string(),
        fc.integer(),
        fc.boolean(),
        fc.constant(null),
        fc.array(tie('node')),
        fc.dictionary(key, tie('node')),
      ),
    })).node;
    fc.assert(
      fc.property(types, value, value, (type, metadata, spec) => {
        const manifest = { ...type, metadata, spec };
        validateObject(manifest);
        for (const finding of parseManifests([{ name: 'f', content: JSON.stringify(manifest, null, 1) }]).findings) {
          expect(finding.line).toBeGreaterThan(0);
          expect(finding.message).not.toMatch(/^(Invalid|Too) /);
        }
      }),
      { numRuns: 500 },
    );
  });
});

test('a template that was not rendered is one mistake, and told as what it may be', () => {
  const content = '{{ if .Values.on }}\napiVersion: v1\nkind: Service\nmetadata: {name: {{ .Values.name }}}\n{{ end }}\n';
  const { findings } = parseManifests([{ name: 'chart.yaml', content }]);
  expect(findings).toHaveLength(1);
  expect(findings[0]?.message).toContain('if this is a template, render it first');
});
