// What the root namespace of this machine holds, to be compared before and after a test.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';

/** Sorted lines by subject. */
export type Inventory = Readonly<Record<string, readonly string[]>>;

/** `instance`: of shared folders and of processes, only what carries this name counts; others use this machine too. */
export function inventory(instance: string): Inventory {
  return {
    namespaces: named(readdirSync('/run/netns'), instance),
    links: output('ip', ['-o', 'link', 'show']).map((line) => line.split(':')[1]?.trim() ?? ''),
    routes: [...output('ip', ['-4', 'route', 'show', 'table', 'all']), ...output('ip', ['-6', 'route', 'show', 'table', 'all'])].map(
      (line) => line.replace(/ expires \d+sec/, ''),
    ),
    rules: [...output('ip', ['-4', 'rule']), ...output('ip', ['-6', 'rule'])],
    tables: output('nft', ['list', 'tables']),
    mounts: readFileSync('/proc/self/mounts', 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[1] ?? '')
      .filter((mount) => mount.includes(instance))
      .sort(),
    pins: named(tree('/sys/fs/bpf'), instance),
    cgroups: named([...tree('/sys/fs/cgroup/unified', 3), ...tree('/sys/fs/cgroup', 1)], instance),
    files: named(
      ['/run', '/dev/shm', '/tmp', '/var/lib'].flatMap((folder) => readdirSync(folder).map((name) => `${folder}/${name}`)),
      instance,
    ),
    processes: processes(instance),
  };
}

function named(names: readonly string[], instance: string): string[] {
  return names.filter((name) => name.includes(instance)).sort();
}

function output(command: string, args: readonly string[]): string[] {
  return execFileSync(command, args, { encoding: 'utf8' })
    .split('\n')
    .filter((line) => line !== '')
    .sort();
}

function tree(path: string, depth = 8): string[] {
  if (!existsSync(path) || depth === 0) return [];
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap((entry) => [`${path}/${entry.name}`, ...tree(`${path}/${entry.name}`, depth - 1)]);
}

function processes(instance: string): string[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && Number(entry) !== process.pid)
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
      } catch {
        return '';
      }
    })
    .filter((command) => command.includes(instance))
    .sort();
}
