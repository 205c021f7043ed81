// Where a workload is on this host: the network namespace that its resource names, that of its pod's processes, or its cgroup. Reads the file system.
import type { Workload } from '../../api/gen/mesh/v1/model.js';
import { isHostProcess } from '../model/model.js';
import type { CaptureAddon } from '../native/capture.js';
import { findCgroup } from './cgroups.js';
import { inodeAt } from './inode.js';
import { type PodSearch, Pods } from './pods.js';

export class Places {
  readonly #pods: Pods;

  constructor(
    /** Root of the cgroup v2 hierarchy; null: there is none. */
    readonly cgroups: string | null,
    hostNetns: string | null,
    addon: Pick<CaptureAddon, 'namespaceInode'> | null,
  ) {
    this.#pods = new Pods(hostNetns ?? '/proc/self/ns/net', '/proc', (path) => inodeAt(path, addon));
  }

  /** Of its namespace or cgroup as it is now; empty: nowhere (yet). */
  pathOf(workload: Workload): string {
    if (isHostProcess(workload)) return this.cgroups === null ? '' : (findCgroup(workload, this.cgroups) ?? '');
    if (workload.podUid === '') return workload.networkNamespace;
    const search = this.#pods.find(workload.podUid);
    return search.kind === 'found' ? search.path : '';
  }

  searchPod({ podUid }: Workload): PodSearch {
    return this.#pods.find(podUid);
  }

  /** New processes are to be seen. */
  nextRound(): void {
    this.#pods.nextRound();
  }

  /** These are all there are. */
  listed(workloads: Iterable<Workload>): void {
    this.#pods.keep(new Set([...workloads].map(({ podUid }) => podUid)));
  }
}
