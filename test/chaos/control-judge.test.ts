// The judge of the control plane's chaos is shown what it must find: each of these is a way in which a control plane may be wrong.
import { expect, test } from '@jest/globals';
import { ResourceType, Service } from '../../api/gen/mesh/v1/model.js';
import { GROUP, LAST, NodeJudge, nameOf } from './control-judge.js';

const ALL = Array.from({ length: GROUP }, (_, index) => index);

function serviceAt(group: number, index: number, version: number) {
  const name = `chaos/${nameOf(group, index)}`;
  const message = Service.fromPartial({ name, namespace: 'chaos', ports: [{ port: version }] });
  return { type: ResourceType.SERVICE, name, body: Buffer.from(Service.encode(message).finish()) };
}

/** A node that was told of both groups at version 1, and what its judge finds from then on. */
function judged() {
  const findings: string[] = [];
  const judge = new NodeJudge('n1', (text) => findings.push(text));
  const look = (revision: number, versions: readonly [group: number, index: number, version: number][], full = false) =>
    judge.look({ revision, full, resources: versions.map((each) => serviceAt(...each)), removed: [] });
  look(
    1,
    [0, 1].flatMap((group) => ALL.map((index): [number, number, number] => [group, index, 1])),
    true,
  );
  const last = Service.fromPartial({ name: `chaos/${LAST}`, namespace: 'chaos' });
  const end = () =>
    judge.look({
      ...{ revision: 9, full: false, removed: [] },
      resources: [{ type: ResourceType.SERVICE, name: last.name, body: Buffer.from(Service.encode(last).finish()) }],
    });
  return { judge, look, findings, end };
}

const wholeGroup = (group: number, version: number) => ALL.map((index): [number, number, number] => [group, index, version]);

test('whole revisions, one after the other or several at once, are nothing to find', () => {
  const { judge, look, findings, end } = judged();
  look(2, wholeGroup(0, 2));
  look(5, [...wholeGroup(0, 3), ...wholeGroup(1, 2)]);
  look(6, [...wholeGroup(0, 3), ...wholeGroup(1, 2)], true);
  end();
  expect(findings).toEqual([]);
  expect(
    judge.missing([
      { index: 0, version: 3 },
      { index: 1, version: 2 },
    ]),
  ).toBeNull();
});

test('a revision of which a part is missing is found', () => {
  const { look, findings } = judged();
  look(2, wholeGroup(0, 2).slice(1));
  expect(findings).toEqual(['n1, revision 2 half applied: group 0 has versions 1, 2']);
});

test('a snapshot that lacks one of a group is found', () => {
  const { look, findings } = judged();
  look(2, [...wholeGroup(0, 1).slice(1), ...wholeGroup(1, 1)], true);
  expect(findings).toContain('n1, revision 2: chaos/g0-0 went from 1 back to nothing');
  expect(findings).toContain('n1, revision 2 half applied: group 0 has versions , 1');
});

test('a node that is led back is found', () => {
  const { look, findings } = judged();
  look(2, wholeGroup(1, 2));
  look(3, wholeGroup(1, 1));
  expect(findings).toHaveLength(GROUP);
  expect(findings[0]).toBe('n1, revision 3: chaos/g1-0 went from 2 back to 1');
});

test('an acknowledged write that is not there in the end is found, also where nothing is, and a node that is not at the end', () => {
  const { judge, end } = judged();
  expect(judge.missing([{ index: 0, version: 1 }])).toBe('n1 has not got what was written last');
  end();
  expect(judge.missing([{ index: 0, version: 2 }])).toBe('n1 has g0-0 at 1, acknowledged was 2');
  const written = [
    { index: 0, version: 1 },
    { index: 7, version: 1 },
  ];
  expect(judge.missing(written)).toBe('n1 has g7-0 at nothing, acknowledged was 1');
});
