import { expect, test } from '@jest/globals';
import { Change_Action } from '../../api/gen/mesh/v1/admin.js';
import { readHistory } from '../store/records.js';
import type { StoredHistory, StoreView } from '../store/view.js';
import { historyEntries, historyValue, planRollback, prunedBy } from './change-history.js';

const CAUSE = { actor: 'ann@desk', isVerified: true, command: 'apply' };
const change = (name: string) => ({ kind: 'Service', namespace: 'shop', name, action: Change_Action.CONFIGURED });

/** Entries at revisions 10, 20, …, each of one object; `before` null: too large to keep. */
function viewOf(
  entries: readonly { readonly name: string; readonly before: unknown; readonly isLost?: boolean }[],
  bytes = 100,
): StoreView {
  const history = new Map<string, StoredHistory>();
  entries.forEach(({ name, before, isLost }, index) => {
    const value = historyValue(CAUSE, index, `request-${index}`, [change(name)], isLost === true ? null : [before]);
    history.set(`/weft/history/${String(index).padStart(15, '0')}-x`, {
      record: readHistory(Buffer.from(value))!,
      revision: 10 * (index + 1),
      bytes,
    });
  });
  return { history, revision: 10 * entries.length } as unknown as StoreView;
}

const VIEW = viewOf([
  { name: 'a', before: null },
  { name: 'a', before: { v: 1 } },
  { name: 'b', before: { v: 7 } },
  { name: 'a', before: { v: 2 } },
]);

test('an entry comes back as it was told, the newest first', () => {
  const [newest] = historyEntries(VIEW, 1);
  expect(newest).toEqual({
    revision: 40,
    atMs: 3,
    actor: 'ann@desk',
    verified: true,
    command: 'apply',
    changes: [change('a')],
    reversible: true,
  });
  expect(historyEntries(VIEW, 0).map(({ revision }) => revision)).toEqual([40, 30, 20, 10]);
});

test.each([
  [40, {}],
  [35, { a: { v: 2 } }],
  [30, { a: { v: 2 } }],
  [20, { a: { v: 2 }, b: { v: 7 } }],
  [10, { a: { v: 1 }, b: { v: 7 } }],
  [9, { a: null, b: { v: 7 } }],
])('back to %s is what stood there before the oldest change since', (revision, expected) => {
  const plan = planRollback(VIEW, revision);
  expect(plan.kind === 'plan' && Object.fromEntries(plan.wanted.map(({ ref, manifest }) => [ref.name, manifest]))).toEqual(expected);
});

test('beyond what is kept nothing is guessed', () => {
  expect(planRollback(VIEW, 8)).toMatchObject({ kind: 'refused', message: expect.stringContaining('the history begins at revision 10') });
  expect(planRollback(VIEW, 41)).toMatchObject({ kind: 'refused', message: expect.stringContaining('the newest is 40') });
  expect(planRollback(viewOf([]), 1)).toMatchObject({ kind: 'refused' });
  const holed = viewOf([
    { name: 'a', before: null },
    { name: 'a', before: null, isLost: true },
    { name: 'a', before: { v: 3 } },
  ]);
  expect(planRollback(holed, 20)).toMatchObject({ kind: 'plan' });
  expect(planRollback(holed, 10)).toMatchObject({ kind: 'refused', message: expect.stringContaining('roll back to 20 or later') });
});

test('the oldest entries go, a few with each change, by number and by size', () => {
  const many = (count: number, bytes: number) =>
    viewOf(
      Array.from({ length: count }, () => ({ name: 'a', before: null })),
      bytes,
    );
  expect(prunedBy(many(199, 10), 10)).toEqual([]);
  expect(prunedBy(many(200, 10), 10)).toEqual(['/weft/history/000000000000000-x']);
  expect(prunedBy(many(300, 10), 10)).toHaveLength(4);
  expect(prunedBy(many(16, 1_048_576), 10)).toHaveLength(1);
});
