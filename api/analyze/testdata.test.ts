// Istio's own cases of its analysis.
import { readFileSync } from 'node:fs';
import { expect } from '@jest/globals';
import { hasTestdata, testdata, testdataFiles, withTestdata } from '../../test/lab/testdata.js';
import { parseSources } from '../resources/index.js';
import { analyze, analyzeBy, type RuleName } from './index.js';

const { describe, test } = withTestdata;
const FOLDER = 'istio-analyze';

interface IstioCase {
  readonly case: {
    readonly name: string;
    readonly inputFiles?: readonly string[];
    readonly expected: readonly (readonly [{ readonly $expr: string }, string])[] | null;
    readonly meshConfigFile?: string;
    readonly skipAll?: boolean;
  };
}

/** By the first file of a case: which rules of ours are that analyzer of Istio's. */
const RULES_OF: readonly (readonly [RegExp, readonly RuleName[]])[] = [
  [/^deprecation/, ['deprecated-fields']],
  [/^gateway-secrets/, ['gateway-credentials']],
  [/^gateway-duplicate/, ['gateway-shared-certificates']],
  [/^(conflicting-gateways|gateway-different-port|analyze-list-type)/, ['gateway-conflicts']],
  [/^gateway-(?!api)/, ['gateway-ports']],
  [/^(service-(no-)?port-name|(in)?correct-port-name)/, ['service-port-names']],
  [/^(sidecar|telemetry)-default-selector/, ['default-selectors']],
  [/^(sidecar|telemetry)-selector/, ['selectors']],
  [/^virtualservice_conflicting/, ['virtual-service-conflicting-hosts']],
  [/^virtualservice_destinationhosts/, ['virtual-service-destination-hosts']],
  [/^virtualservice_destinationrules/, ['virtual-service-subsets']],
  [/^virtualservice_(gateways|kubernetes|internal|host_not_found)/, ['virtual-service-gateways']],
  [/^virtualservice_jwt/, ['virtual-service-claim-routing']],
  [/^virtualservice_dupmatches/, ['virtual-service-unreachable-rules']],
  [/^virtualservice_route_rule/, ['virtual-service-rules-of-mesh']],
  [/^authorizationpolicies/, ['authorization-workloads', 'authorization-namespaces']],
  [/^destinationrule-with-fake/, ['destination-rule-hosts']],
  [/^destinationrule-(subsets|empty)/, ['destination-rule-subsets']],
  [/^serviceentry-(no-conflict|conflicting)/, ['service-entry-protocols']],
  [/^serviceentry-/, ['service-entry-addresses']],
  [/^telemetry-(invalid|disable)/, ['telemetry-providers']],
  [/^k8sgateway-selector/, ['gateway-selectors']],
  [/^condition-analyzer/, ['conditions']],
];

/** Of docs/analyze.md, "What is left out". */
const LEFT_OUT: readonly RegExp[] = [
  /^(misannotated|injection|image-auto|sidecar-injector|deployment-|pod-|externalcontrolplane|webhook|multicluster|blocked-cidrs|gateway-api-crd)/,
  /(envoy-filter)/,
  /^telemetry-lightstep/,
  /^gateway-no-port\./,
  /^destinationrule-(compound|mutual|simple|with-ca)/,
];

/** Single findings that are left out, of cases whose others are not. */
const LEFT_OUT_FINDINGS = new Set(['IneffectivePolicy']);

function filesOf(files: readonly string[]) {
  return files.map((file) => {
    const name = file.replace(/^testdata\//, '');
    return { name, content: testdata(`${FOLDER}/${name}`) };
  });
}

/** "Code Kind namespace/name", the namespace always there. */
function expectedOf({ expected }: IstioCase['case']): string[] {
  return (expected ?? [])
    .map(([{ $expr }, object]) => {
      const [kind = '', name = ''] = object.split(' ');
      return `${$expr.replace(/^msg\./, '')} ${kind} ${name.includes('/') ? name : `default/${name}`}`;
    })
    .filter((line) => !LEFT_OUT_FINDINGS.has(line.split(' ')[0] ?? ''))
    .sort();
}

const cases: readonly IstioCase[] = hasTestdata
  ? (JSON.parse(testdata(`${FOLDER}/_expected.json`)) as IstioCase[]).filter((each) => typeof each.case === 'object')
  : [];
const first = ({ inputFiles }: IstioCase['case']): string => (inputFiles?.[0] ?? '').replace(/^testdata\//, '');
const isLeftOut = (each: IstioCase['case']): boolean =>
  each.skipAll === true || LEFT_OUT.some((pattern) => pattern.test(first(each))) || /auto-?_?allocate/i.test(each.name);

describe("Istio's cases of analysis", () => {
  const ours = cases.map((each) => each.case).filter((each) => !isLeftOut(each));

  test('are there, most of them', () => expect(ours.length).toBeGreaterThan(55));

  test.each(ours.map((each) => ({ title: `${each.name} (${first(each)})`, each })))('$title', ({ each }) => {
    const rules = RULES_OF.find(([pattern]) => pattern.test(first(each)))?.[1] ?? [];
    expect(rules).not.toEqual([]);
    const { sources } = parseSources(filesOf(each.inputFiles ?? []));
    const found = rules.flatMap((rule) => analyzeBy(rule, sources, Date.UTC(2026, 10)));
    expect(found.map(({ code, kind, namespace, name }) => `${code} ${kind} ${namespace}/${name}`).sort()).toEqual(expectedOf(each));
    for (const { line, column } of found) expect([line, column]).toEqual([expect.any(Number), expect.any(Number)]);
    for (const { line } of found) expect(line).toBeGreaterThan(0);
  });

  test.each(cases.map((each) => ({ title: first(each.case), each: each.case })))(
    '$title is analysed as a whole: what is expected is among the findings, each with its place',
    ({ each }) => {
      const found = analyze(filesOf(each.inputFiles ?? []), Date.UTC(2026, 10));
      for (const { message, line } of found) expect([message, line > 0]).toEqual([expect.any(String), true]);
      if (isLeftOut(each)) return;
      const lines = new Set(found.map(({ code, kind, namespace, name }) => `${code} ${kind} ${namespace}/${name}`));
      expect(expectedOf(each).filter((line) => !lines.has(line))).toEqual([]);
    },
  );

  test('every finding of Istio’s that is left out stands in the table that says why', () => {
    const page = readFileSync(new URL('../../docs/analyze.md', import.meta.url), 'utf8');
    const table = page.slice(page.indexOf('## What is left out'));
    const left = cases.map((each) => each.case).filter(isLeftOut);
    const codes = new Set([
      ...LEFT_OUT_FINDINGS,
      ...left.flatMap(({ expected }) => (expected ?? []).map(([{ $expr }]) => $expr.replace(/^msg\./, ''))),
    ]);
    // A code with an ellipsis stands for all that begin so.
    const named = [...table.matchAll(/\b([A-Z][A-Za-z]+)(…)?/g)].map(([, name = '', more]) => ({ name, isPrefix: more !== undefined }));
    const isNamed = (code: string): boolean => named.some(({ name, isPrefix }) => (isPrefix ? code.startsWith(name) : code === name));
    expect([...codes].filter((code) => !isNamed(code))).toEqual([]);
    expect(codes.size).toBeGreaterThan(20);
  });

  test('files that no case names are analysed without a throw', () => {
    const usedBy = new Set(cases.flatMap((each) => each.case.inputFiles ?? []).map((file) => file.replace(/^testdata\//, '')));
    const others = testdataFiles(FOLDER).filter((file) => file.endsWith('.yaml') && !usedBy.has(file));
    expect(others.length).toBeGreaterThan(0);
    for (const file of others) expect(() => analyze(filesOf([file]), Date.UTC(2026, 10))).not.toThrow();
  });
});
