import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { descriptors, type KernelPaths, memory } from './resources.js';

const MIB = 1_048_576;
let folder = '';
let kernel: KernelPaths;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'wov-'));
  kernel = { proc: join(folder, 'proc/self'), cgroup: join(folder, 'cgroup') };
  put('proc/self/status', 'Name:\tnode\nVmRSS:\t  102400 kB\n');
  put('proc/meminfo', 'MemTotal: 9999999 kB\nMemAvailable:  307200 kB\n');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function put(name: string, text: string): void {
  mkdirSync(dirname(join(folder, name)), { recursive: true });
  writeFileSync(join(folder, name), text);
}

test('descriptors are those that this process has open, of its own limit', () => {
  const before = descriptors();
  const opened = Array.from({ length: 10 }, () => openSync('/dev/null', 'r'));
  const { used, limit } = descriptors();
  for (const descriptor of opened) closeSync(descriptor);
  expect(used).toBe(before.used + 10);
  expect(limit).toBeGreaterThan(used);
});

test('cgroup v2: memory is what the group nearest to its limit uses, without the page cache that is given back', () => {
  put('proc/self/cgroup', '0::/mesh/proxy\n');
  put('cgroup/mesh/proxy/memory.max', 'max\n');
  put('cgroup/mesh/memory.max', `${400 * MIB}\n`);
  put('cgroup/mesh/memory.current', `${300 * MIB}\n`);
  put('cgroup/mesh/memory.stat', `anon 1\ninactive_file ${100 * MIB}\n`);
  expect(memory(kernel)).toEqual({ used: 200 * MIB, limit: 400 * MIB });
  put('cgroup/mesh/proxy/memory.max', `${100 * MIB}\n`);
  put('cgroup/mesh/proxy/memory.current', `${90 * MIB}\n`);
  expect(memory(kernel)).toEqual({ used: 90 * MIB, limit: 100 * MIB });
});

test('cgroup v1: the memory hierarchy has its own path and names', () => {
  put('proc/self/cgroup', '5:cpu,cpuacct:/other\n4:memory:/proxy\n0::/\n');
  put('cgroup/memory/proxy/memory.limit_in_bytes', `${400 * MIB}\n`);
  put('cgroup/memory/proxy/memory.usage_in_bytes', `${100 * MIB}\n`);
  put('cgroup/memory/memory.limit_in_bytes', '9223372036854771712\n');
  expect(memory(kernel)).toEqual({ used: 100 * MIB, limit: 400 * MIB });
});

test('without a limit it is the resident pages, of these and what the host has left', () => {
  put('proc/self/cgroup', '0::/\n');
  expect(memory(kernel)).toEqual({ used: 100 * MIB, limit: 400 * MIB });
});

test('what the host has left is no limit where the kernel does not say it', () => {
  put('proc/self/cgroup', '0::/\n');
  put('proc/meminfo', 'MemTotal: 9999999 kB\nMemFree:  307200 kB\n');
  expect(memory(kernel)).toEqual({ used: 100 * MIB, limit: 0 });
  rmSync(join(folder, 'proc/meminfo'));
  expect(memory(kernel)).toEqual({ used: 100 * MIB, limit: 0 });
  put('proc/meminfo', 'MemAvailable:  0 kB\n');
  expect(memory(kernel)).toEqual({ used: 100 * MIB, limit: 100 * MIB });
});
