// Looks for what an instance may have left on the machine. Reads only.
import { existsSync, readdirSync } from 'node:fs';
import { mountsUnder, namespacesOf, processesOf } from './instance.js';
import type { Layout } from './layout.js';

/** Readable names of everything of this instance that still exists; empty is as it should be. */
export function leftoversOf(layout: Layout, pods: readonly string[]): string[] {
  return [
    ...processesOf(layout.instance).map((pid) => `process ${pid}`),
    ...namespacesOf(layout, pods)
      .filter((name) => existsSync(`/run/netns/${name}`))
      .map((name) => `namespace ${name}`),
    ...mountsUnder(layout.runDir).map((mount) => `mount ${mount}`),
    ...[layout.runDir, layout.etcdDir].filter((path) => existsSync(path)),
    ...cgroupsOf(layout.instance).map((path) => `cgroup ${path}`),
    ...pinsOf(layout.instance).map((path) => `pin ${path}`),
  ];
}

function cgroupsOf(instance: string): string[] {
  return ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'].flatMap((root) =>
    children(root)
      .filter((name) => name === instance || name.startsWith(`${instance}-`))
      .map((name) => `${root}/${name}`),
  );
}

/** The lab's pins are in its own bpffs; a daemon that ignored its flag would use the machine's. */
function pinsOf(instance: string): string[] {
  return children('/sys/fs/bpf')
    .filter((name) => name === instance)
    .map((name) => `/sys/fs/bpf/${name}`);
}

function children(path: string): string[] {
  return existsSync(path) ? readdirSync(path) : [];
}
