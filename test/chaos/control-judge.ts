// What the chaos test of the control plane holds against a node: every update it gets, and in the end what was acknowledged. A group is Services that are
// always written together, at one version: a group of two versions is a half-applied revision, a version below one that the node had is a step back, and
// one that was acknowledged and is not there in the end is lost. Does no input or output. That it finds each of them is shown by `--sabotage`.
import type { DiscoveryUpdate } from '../../agent/discovery/discovery-client.js';
import { decodeResource } from '../../api/compile/index.js';
import { ResourceType } from '../../api/gen/mesh/v1/model.js';

/** Services in a group. */
export const GROUP = 5;

/** Written last: who has it has seen all that came before it, losses too. */
export const LAST = 'last';

export const nameOf = (group: number, index: number): string => `g${group}-${index}`;

/** A group, and its newest version that was acknowledged. */
export interface Written {
  readonly index: number;
  readonly version: number;
}

export class NodeJudge {
  /** By name of the Service: its version, which is its port. */
  readonly #versions = new Map<string, number>();

  constructor(
    readonly node: string,
    private readonly finding: (text: string) => void,
  ) {}

  look({ revision, full, resources, removed }: Pick<DiscoveryUpdate, 'revision' | 'full' | 'resources' | 'removed'>): void {
    const before = new Map(this.#versions);
    if (full) this.#versions.clear();
    for (const { name } of removed) this.#versions.delete(name);
    for (const resource of resources) {
      const decoded = decodeResource(resource);
      if (decoded.kind !== 'resource' || decoded.resource.type !== ResourceType.SERVICE) continue;
      this.#versions.set(resource.name, decoded.resource.message.ports[0]?.port ?? 0);
    }
    const where = `${this.node}, revision ${revision}`;
    for (const [name, version] of before) {
      const now = this.#versions.get(name);
      if (now === undefined || now < version) this.finding(`${where}: ${name} went from ${version} back to ${now ?? 'nothing'}`);
    }
    for (const group of this.#groups()) {
      const versions = new Set(this.#membersOf(group));
      if (versions.size > 1) this.finding(`${where} half applied: group ${group} has versions ${[...versions].join(', ')}`);
    }
  }

  /** What keeps it from having every group at its acknowledged version, and what was written after them; null: nothing. */
  missing(written: readonly Written[]): string | null {
    if (!this.#versions.has(`chaos/${LAST}`)) return `${this.node} has not got what was written last`;
    for (const { index, version } of written) {
      const at = this.#membersOf(String(index)).findIndex((has) => has !== version);
      if (at < 0) continue;
      const has = this.#versions.get(`chaos/${nameOf(index, at)}`) ?? 'nothing';
      return `${this.node} has ${nameOf(index, at)} at ${has}, acknowledged was ${version}`;
    }
    return null;
  }

  #groups(): Set<string> {
    return new Set([...this.#versions.keys()].map((name) => name.replace(/^chaos\/g|-\d+$/g, '')));
  }

  #membersOf(group: string): (number | undefined)[] {
    return Array.from({ length: GROUP }, (_, index) => this.#versions.get(`chaos/g${group}-${index}`));
  }
}
