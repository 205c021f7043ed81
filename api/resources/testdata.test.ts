// Manifests of the kinds' owners.
import { expect } from '@jest/globals';
import { testdata, testdataFiles, withTestdata } from '../../test/lab/testdata.js';
import { formatFinding, parseManifests } from './index.js';

const { describe, test } = withTestdata;

/** Of those in its folders nothing. */
const filesOf = (folder: string): string[] => testdataFiles(folder).filter((name) => /^[^/]*\.yaml$/.test(name));

describe("the cases of Istio's CRDs", () => {
  const cases = filesOf('istio-crd-validation').flatMap((file) =>
    testdata(`istio-crd-validation/${file}`)
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
  test.each(filesOf(folder))('%s is accepted', (name) => {
    const { findings, objects } = parseManifests([{ name, content: filled(testdata(`${folder}/${name}`)) }]);
    // Certificates that are none: what refers to them goes without.
    const isMalformedSecret = (line: string): boolean =>
      line.startsWith('gateway-invalid-tls-configuration.yaml:97:12: data["tls.crt"]: expected PEM');
    expect(findings.map(formatFinding).filter((line) => !isMalformedSecret(line))).toEqual([]);
    expect(objects.length).toBeGreaterThan(0);
  });
});
