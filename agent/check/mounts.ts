// Whether the file systems that redirection lives in are mounted where the agent looks for them.
import { bad, type Check, good, type HostFacts, warning } from './check.js';

interface Mount {
  readonly point: string;
  readonly type: string;
  readonly isShared: boolean;
}

/** Text of /proc/self/mountinfo (proc_pid_mountinfo(5)). */
function parseMounts(text: string): readonly Mount[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [own = '', rest = ''] = line.split(' - ');
      return { point: own.split(' ')[4] ?? '', type: rest.split(' ')[0] ?? '', isShared: / shared:\d+/.test(own) };
    });
}

export function checkMounts(facts: HostFacts, bpfDir: string, meshNetns: string): readonly Check[] {
  const mounts = parseMounts(facts.read('/proc/self/mountinfo') ?? '');
  return [checkBpffs(mounts, bpfDir), checkCgroups(mounts), checkNamespaces(mounts, meshNetns)];
}

/** The mount that a path is on: of those above it the deepest, of several on one point the last. */
function mountOf(mounts: readonly Mount[], path: string): Mount | undefined {
  const above = mounts.filter(({ point }) => path === point || path.startsWith(point.endsWith('/') ? point : `${point}/`));
  return above.reduce<Mount | undefined>(
    (best, mount) => (best === undefined || mount.point.length >= best.point.length ? mount : best),
    undefined,
  );
}

function checkBpffs(mounts: readonly Mount[], bpfDir: string): Check {
  const title = 'BPF file system';
  const mount = mountOf(mounts, bpfDir);
  if (mount?.type === 'bpf') return good(title, `mounted at ${mount.point}`);
  if (bpfDir.startsWith('/sys/fs/bpf/'))
    return warning(title, 'not mounted at /sys/fs/bpf', 'nothing: the agent mounts it; in a container give it the host’s /sys/fs/bpf');
  return bad(
    title,
    `${bpfDir} is on ${mount?.type ?? 'no file system'}, not on a bpffs: pins cannot be kept`,
    'give --bpf-dir a folder below /sys/fs/bpf',
  );
}

function checkCgroups(mounts: readonly Mount[]): Check {
  const title = 'cgroup version 2';
  const mount = mounts.find(({ type }) => type === 'cgroup2');
  if (mount !== undefined) return good(title, `mounted at ${mount.point}`);
  return warning(title, 'not mounted: processes of the host cannot be captured', 'mount -t cgroup2 none /sys/fs/cgroup/unified');
}

function checkNamespaces(mounts: readonly Mount[], meshNetns: string): Check {
  const title = 'network namespaces';
  const folder = meshNetns.slice(0, meshNetns.lastIndexOf('/')) || '/';
  const mount = mountOf(mounts, folder);
  // In a container a namespace that is mounted later is seen only through a shared mount.
  if (mount?.isShared === true) return good(title, `${folder} is shared: namespaces that come later are seen`);
  return warning(
    title,
    `${folder} is on a mount that is not shared: a namespace made by others after the agent’s start may stay unseen in its container`,
    `mount --bind ${folder} ${folder} && mount --make-shared ${folder}; in Kubernetes: hostPath with mountPropagation: HostToContainer`,
  );
}
