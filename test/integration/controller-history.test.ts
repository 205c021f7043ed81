// What was changed, when and by whom; and the way back.
import { describe, expect, test } from '@jest/globals';
import { Change_Action, type HistoryResponse, type RollbackResponse } from '../../api/gen/mesh/v1/admin.js';
import { apply, ask, serviceYaml } from './controller-lab.js';
import { ControllerScope } from './controller-scope.js';

const scope = new ControllerScope();

describe('history', () => {
  const service = (port: number) => serviceYaml('catalog', port);
  const history = () => ask<HistoryResponse>((done) => scope.one.admin.history({ limit: 0 }, done));
  const rollback = (revision: number, dryRun = false) =>
    ask<RollbackResponse>((done) => scope.one.admin.rollback({ revision, dryRun, asOf: 0 }, done));
  const portOf = async () =>
    (JSON.parse((await scope.list('Service')).objects[0] ?? '{}') as { spec?: { ports: { port: number }[] } }).spec?.ports[0]?.port;

  test('every change is told with its revision, time, command and objects; a rollback is one more, and can be rolled back', async () => {
    await scope.ready(scope.one);
    const first = await apply(scope.one, service(81));
    const second = await apply(scope.one, `${service(82)}---\n${serviceYaml('cart')}`);
    const third = await scope.remove('Service', 'cart');
    const { entries } = await history();
    expect(
      entries.map(({ revision, command, changes }) => [
        revision,
        command,
        changes.map(({ name, action }) => `${name} ${Change_Action[action]}`),
      ]),
    ).toEqual([
      [third.revision, 'delete', ['cart DELETED']],
      [second.revision, 'apply', ['catalog CONFIGURED', 'cart CREATED']],
      [first.revision, 'apply', ['catalog CREATED']],
    ]);
    expect(Math.abs((entries[0]?.atMs ?? 0) - Date.now())).toBeLessThan(60_000);

    expect(await rollback(first.revision, true)).toMatchObject({
      revision: 0,
      changes: expect.arrayContaining([expect.objectContaining({ name: 'catalog' })]),
    });
    expect(await portOf()).toBe(82);
    const back = await rollback(first.revision);
    expect(await portOf()).toBe(81);
    await rollback(second.revision);
    expect((await scope.list('Service')).objects.map((text) => JSON.parse(text).metadata.name)).toEqual(['cart', 'catalog']);
    expect((await history()).entries.map(({ command }) => command).slice(0, 2)).toEqual([
      `rollback to ${second.revision}`,
      `rollback to ${first.revision}`,
    ]);
    expect(back.changes).toContainEqual({ kind: 'Service', namespace: 'shop', name: 'catalog', action: Change_Action.CONFIGURED });
    await rollback(first.revision - 1);
    expect((await scope.list('Service')).objects).toEqual([]);
  });

  test('a thousand objects are one revision, and one again on the way back, though others change objects meanwhile', async () => {
    await scope.ready(scope.one);
    const start = await apply(scope.one, service(81));
    const many = Array.from({ length: 1_000 }, (_, index) => serviceYaml(`many-${index}`)).join('---\n');
    const others = Array.from({ length: 3 }, (_, index) => apply(scope.one, serviceYaml(`other-${index}`)));
    const [done, ...rest] = await Promise.all([apply(scope.one, many), ...others]);
    expect(done).toMatchObject({ findings: [], revision: expect.any(Number) });
    for (const each of rest) expect(each.revision).toBeGreaterThan(0);
    const named = (text: string): { name: string; resourceVersion: string } => JSON.parse(text).metadata;
    const stored = (await scope.list('Service')).objects.map(named);
    expect(stored).toHaveLength(1_004);
    const ofMany = stored.filter(({ name }) => name.startsWith('many-'));
    expect(new Set(ofMany.map(({ resourceVersion }) => resourceVersion))).toEqual(new Set([String(done.revision)]));
    // Once more changes nothing; one of them that was changed since it was read refuses them all.
    expect(await apply(scope.one, many)).toMatchObject({ findings: [], revision: 0 });
    const port81 = many.replaceAll('port: 80,', 'port: 81,');
    const stale = port81.replace('name: many-7,', `name: many-7, resourceVersion: "${start.revision}",`);
    expect(await apply(scope.one, stale)).toMatchObject({ revision: 0, findings: [{ path: 'metadata.resourceVersion' }] });

    const changed = await apply(scope.one, port81);
    const back = await rollback(start.revision);
    expect((await history()).entries.slice(0, 2).map(({ revision }) => revision)).toEqual([back.revision, changed.revision]);
    expect((await scope.list('Service')).objects.map((text) => named(text).name)).toEqual(['catalog']);
    await rollback(changed.revision);
    expect((await scope.list('Service')).objects).toHaveLength(1_004);
  });

  test('what lies before the history, and what is yet to come, is refused with what to do', async () => {
    await scope.ready(scope.one);
    const first = await apply(scope.one, service(81));
    await expect(rollback(first.revision - 5)).rejects.toThrow(/the history begins at revision/);
    await expect(rollback(first.revision + 1000)).rejects.toThrow(/there is no revision/);
  });

  test('who changes what another changed meanwhile is refused, unless nothing is left to change or nothing was said of what was seen', async () => {
    await scope.ready(scope.one);
    const seen = (await apply(scope.one, service(81))).revision;
    const edited = (port: number, at: number) => service(port).replace('metadata: {', `metadata: { resourceVersion: "${at}",`);
    const second = await apply(scope.one, edited(82, seen));
    expect(second.findings).toEqual([]);
    expect(await apply(scope.one, edited(83, seen))).toMatchObject({
      revision: 0,
      findings: [{ path: 'metadata.resourceVersion', message: expect.stringContaining(`it is at ${second.revision} now`) }],
    });
    expect(await portOf()).toBe(82);
    expect(await apply(scope.one, edited(82, seen))).toMatchObject({ revision: 0, findings: [] });
    expect((await apply(scope.one, edited(84, seen).replace('metadata: {', 'metadata: { uid: of-an-api-server,'))).findings).toEqual([]);
    expect(await portOf()).toBe(84);
  });
});
