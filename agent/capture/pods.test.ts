import { linkSync, mkdirSync, mkdtempSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Pods, podOf } from './pods.js';

const UID = '1c6b5d5e-8a3f-4c1e-9b1a-0123456789ab';
const OTHER = '2c6b5d5e-8a3f-4c1e-9b1a-0123456789ab';
const underscored = (uid: string): string => uid.replaceAll('-', '_');

describe('a pod’s cgroup is known', () => {
  test.each([
    ['cgroupfs, version 2', `0::/kubepods/burstable/pod${UID}/abc`],
    ['cgroupfs, version 1', `12:cpu,cpuacct:/kubepods/besteffort/pod${UID}/abc\n0::/`],
    ['systemd', `0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${underscored(UID)}.slice/cri-containerd-a.scope`],
    ['systemd, guaranteed', `0::/kubepods.slice/kubepods-pod${underscored(UID)}.slice/crio-a.scope`],
    ['kubelet’s own root', `0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod${underscored(UID)}.slice/x`],
    ['seen from another cgroup namespace', `0::/../../kubepods-pod${underscored(UID)}.slice/x`],
    ['folders of its own that look like another pod', `0::/kubepods/pod${UID}/a/pod${OTHER}`],
  ])('%s', (_, text) => {
    expect(podOf(text)).toBe(UID);
  });

  test.each(['0::/system.slice/podman.service', '0::/', '', '0::/pods/podium', 'x'])('%j is none', (text) => {
    expect(podOf(text)).toBeNull();
  });
});

describe('a pod’s namespace', () => {
  let proc: string;
  let reads: number;

  beforeEach(() => {
    proc = mkdtempSync(join(tmpdir(), 'wproc-'));
    reads = 0;
    for (const name of ['host', 'one', 'two']) writeFileSync(join(proc, name), '');
  });

  afterEach(() => rmSync(proc, { recursive: true }));

  /** A process in the pod's cgroup and in the namespace of that name. */
  function run(pid: number, uid: string, namespace: string, startedAt = pid): void {
    mkdirSync(join(proc, String(pid), 'ns'), { recursive: true });
    writeFileSync(join(proc, String(pid), 'cgroup'), `0::/kubepods/pod${uid}/c\n`);
    writeFileSync(join(proc, String(pid), 'stat'), `${pid} (a) b) S ${'0 '.repeat(18)}${startedAt} 0\n`);
    linkSync(join(proc, namespace), join(proc, String(pid), 'ns/net'));
  }

  function end(pid: number): void {
    rmSync(join(proc, String(pid)), { recursive: true });
  }

  function pods(): Pods {
    return new Pods(join(proc, 'host'), proc);
  }

  const found = (pid: number) => ({ kind: 'found', path: join(proc, String(pid), 'ns/net') });

  test('is that of its oldest process that has left the host’s', () => {
    run(10, UID, 'host');
    run(12, UID, 'one', 500);
    run(11, UID, 'two', 600);
    run(13, OTHER, 'two', 1);
    expect(pods().find(UID)).toEqual(found(12));
    expect(pods().find(UID.toUpperCase())).toEqual(found(12));
    expect(pods().find(OTHER)).toEqual(found(13));
  });

  test('is looked for once a round, and found when the sandbox has come', () => {
    const some = pods();
    expect(some.find(UID)).toEqual({ kind: 'absent' });
    run(10, UID, 'one');
    expect(some.find(UID)).toEqual({ kind: 'absent' });
    some.nextRound();
    expect(some.find(UID)).toEqual(found(10));
  });

  test('is another one after its sandbox was replaced, also by a process of the same number', () => {
    const some = pods();
    run(10, UID, 'one');
    expect(some.find(UID)).toEqual(found(10));
    end(10);
    run(10, OTHER, 'two');
    some.nextRound();
    expect(some.find(UID)).toEqual({ kind: 'absent' });
    run(20, UID, 'two');
    some.nextRound();
    expect(some.find(UID)).toEqual(found(20));
  });

  test('of a process that moved into the cgroup after it was first seen is found', () => {
    const some = pods();
    run(10, OTHER, 'one');
    some.find(UID);
    writeFileSync(join(proc, '10/cgroup'), `0::/kubepods/pod${UID}/c\n`);
    some.nextRound();
    expect(some.find(UID)).toEqual(found(10));
  });

  test('of one that moved late, or came under a number seen before, is found in time', () => {
    const some = pods();
    run(10, OTHER, 'one');
    for (let round = 0; round < 6; round++, some.nextRound()) some.find(UID);
    writeFileSync(join(proc, '10/cgroup'), `0::/kubepods/pod${UID}/c\n`);
    for (; some.find(UID).kind === 'absent' && reads < 40; reads++) some.nextRound();
    expect(some.find(UID)).toEqual(found(10));
    expect(reads).toBeLessThan(20);
  });

  test('of processes that vanish meanwhile is none', () => {
    run(10, UID, 'one');
    unlinkSync(join(proc, '10/ns/net'));
    mkdirSync(join(proc, '11'));
    expect(pods().find(UID)).toEqual({ kind: 'absent' });
  });
});
