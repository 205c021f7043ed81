// Manifests of the kinds' owners, outside of this repository: skipped, visibly, where they are not there.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import { formatFinding, parseManifests } from './index.js';

const TESTDATA = '/work/shared/testdata/';

function filesOf(folder: string): string[] {
  if (!existsSync(TESTDATA + folder)) return ['absent'];
  return readdirSync(TESTDATA + folder).filter((name) => name.endsWith('.yaml'));
}

function read(path: string): string {
  return readFileSync(TESTDATA + path, 'utf8');
}

const where = (folder: string) => (existsSync(TESTDATA + folder) ? describe : describe.skip);

where('istio-crd-validation')("the cases of Istio's CRDs", () => {
  const cases = filesOf('istio-crd-validation').flatMap((file) =>
    file === 'absent'
      ? [{ title: file, expected: undefined, content: '' }]
      : read(`istio-crd-validation/${file}`)
          .split(/^---$/m)
          .map((document, index) => ({
            title: `${file}, document ${index + 1}`,
            expected: /^_err: ["']?(.*?)["']?$/m.exec(document)?.[1],
            content: document.replace(/^_err: .*$/m, ''),
          }))
          .filter(({ content }) => /^kind: /m.test(content)),
  );
  test('are there', () => expect(cases.length).toBeGreaterThan(80));

  test.each(cases)('$title: $expected', ({ content, expected }) => {
    const { findings, objects } = parseManifests([{ name: 'f', content }]);
    if (expected === undefined) {
      expect(findings.map(formatFinding)).toEqual([]);
      expect(objects).toHaveLength(1);
      return;
    }
    expect(findings).not.toEqual([]);
    // Where the expected error names a field, it is the one that is told.
    const field = /([A-Za-z0-9.[\]]+)(?:: (?!")| in body)/.exec(expected)?.[1];
    if (field !== undefined) expect(findings.map(({ path }) => path).join('\n')).toContain(field);
  });
});

/** What the conformance suite puts in before it applies a file. */
function filled(content: string): string {
  return content
    .replaceAll('{GATEWAY_CLASS_NAME}', 'weft')
    .replaceAll('{GATEWAY_CONTROLLER_NAME}', 'weft.dev/gateway')
    .replaceAll('PLACEHOLDER_USABLE_ADDRS', '10.0.0.1')
    .replaceAll('PLACEHOLDER_UNUSABLE_ADDRS', '10.0.0.2');
}

describe.each(['gateway-api-manifests', 'bookinfo', 'bookinfo/networking'])('%s', (folder) => {
  // An API server takes them all, those named "invalid" too: what is wrong there is told by conditions.
  (existsSync(TESTDATA + folder) ? test : test.skip).each(filesOf(folder))('%s is accepted', (name) => {
    const { findings, objects } = parseManifests([{ name, content: filled(read(`${folder}/${name}`)) }]);
    // Certificates that are none: what refers to them goes without.
    const isMalformedSecret = (line: string): boolean =>
      line.startsWith('gateway-invalid-tls-configuration.yaml:97:12: data["tls.crt"]: expected PEM');
    expect(findings.map(formatFinding).filter((line) => !isMalformedSecret(line))).toEqual([]);
    expect(objects.length).toBeGreaterThan(0);
  });
});
