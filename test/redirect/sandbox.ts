// A pod's sandbox as kubelet and a runtime make it: a process that sleeps in the pod's namespace and cgroup, as an unprivileged user.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Lab } from './lab.js';

/** Of no capability, and not the agent's user. */
const NOBODY = '65535';

/** `uid`: of the pod. Resolves when it runs; the returned function ends it. */
export async function startSandbox(lab: Lab, namespace: string, uid: string): Promise<() => Promise<void>> {
  // As systemd's driver names it.
  const folder = `kubepods-burstable-pod${uid.replaceAll('-', '_')}.slice`;
  lab.addCgroup(folder);
  const inside = lab.addCgroup(`${folder}/cri-containerd-${namespace}.scope`);
  const confined = ['setpriv', '--reuid', NOBODY, '--clear-groups', '--inh-caps=-all', 'sh', '-c', 'echo there; exec sleep 1000'];
  const script = 'echo $$ > "$0/cgroup.procs"; net="$1"; shift; exec nsenter --net="$net" "$@"';
  const child = spawn('bash', ['-c', script, inside, lab.path(namespace), ...confined], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout!, 'data');
  const exit = once(child, 'exit');
  return async () => {
    child.kill('SIGKILL');
    await exit;
  };
}
