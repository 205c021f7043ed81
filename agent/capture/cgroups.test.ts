import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from '@jest/globals';
import { cgroupRoot, findCgroup, holdsThisProcess } from './cgroups.js';

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function tree(...paths: string[]): string {
  const root = mkdtempSync(join(tmpdir(), 'wcg-'));
  folders.push(root);
  for (const path of paths) mkdirSync(join(root, path), { recursive: true });
  return root;
}

test('the root is where cgroup2 is mounted, alone or beside version 1', () => {
  const unified = '30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n';
  const hybrid = '31 25 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n';
  expect([unified, hybrid, '22 1 0:5 / /proc rw - proc proc rw\n'].map(cgroupRoot)).toEqual([
    '/sys/fs/cgroup',
    '/sys/fs/cgroup/unified',
    null,
  ]);
});

test('a unit is found in whatever slice it runs, and not inside of other units', () => {
  const root = tree('system.slice/other.service/cart.service', 'shop.slice/shop-web.slice/cart.service', 'user.slice');
  expect(findCgroup({ systemdUnit: 'cart.service', cgroup: '' }, root)).toBe(join(root, 'shop.slice/shop-web.slice/cart.service'));
  expect(findCgroup({ systemdUnit: 'user.slice', cgroup: '' }, root)).toBe(join(root, 'user.slice'));
  expect(findCgroup({ systemdUnit: 'gone.service', cgroup: '' }, root)).toBeNull();
});

/** Who may not look into folders of mode 0, as root may. */
function asNobody<T>(action: () => T): T {
  if (process.geteuid?.() !== 0) return action();
  process.seteuid?.(65_534);
  try {
    return action();
  } finally {
    process.seteuid?.(0);
  }
}

test('a slice that went while it was looked into, or may not be, has no unit: the others are searched', () => {
  const root = tree('a.slice', 'b.slice/cart.service');
  chmodSync(root, 0o755);
  chmodSync(join(root, 'a.slice'), 0);
  expect(asNobody(() => findCgroup({ systemdUnit: 'cart.service', cgroup: '' }, root))).toBe(join(root, 'b.slice/cart.service'));
});

test('a path is taken below the root, and is absent until it is there', () => {
  const root = tree('a/b');
  expect(findCgroup({ systemdUnit: '', cgroup: '/a/b' }, root)).toBe(join(root, 'a/b'));
  expect(findCgroup({ systemdUnit: '', cgroup: '/a/c' }, root)).toBeNull();
});

test('the cgroups that hold this process are told from others', () => {
  expect(holdsThisProcess('/x', '/x')).toBe(true);
  expect(holdsThisProcess('/x/system.slice/not-ours.service', '/x')).toBe(false);
});
