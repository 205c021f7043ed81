// Of which addresses captured workloads are, on this node and on any: looked at when workloads change, and not with each generation.
import type { Workload } from '../../../api/gen/mesh/v1/model.js';
import { isHostProcess, type Model } from '../../model/model.js';

/** Immutable: where workloads change there is another one. */
export class CapturedAddresses {
  /** `local`: of this node's that the proxy delivers to by itself. Those of host processes are the host's, behind its own stack. */
  constructor(
    private readonly local: ReadonlySet<string>,
    private readonly anywhere: ReadonlySet<string>,
  ) {}

  /** A captured workload of this node has it. */
  isLocal(address: string): boolean {
    return this.local.has(address);
  }

  /** Requests to it pass no other proxy than this one. */
  isLast(address: string): boolean {
    return this.local.has(address) || !this.anywhere.has(address);
  }
}

export function isCaptured({ capture }: Workload): boolean {
  return capture !== undefined && (capture.outbound || capture.inbound);
}

/** Outlives generations. */
export class CapturedMemory {
  private known: { readonly workloads: object; readonly node: string | null; readonly addresses: CapturedAddresses } | null = null;

  /** `node`: our own name; null: nothing is captured here. */
  of(model: Model, node: string | null): CapturedAddresses {
    const workloads = model.workloadsAsOf;
    if (this.known?.workloads !== workloads || this.known.node !== node)
      this.known = { workloads, node, addresses: addressesOf(model, node) };
    return this.known.addresses;
  }
}

function addressesOf(model: Model, node: string | null): CapturedAddresses {
  const [local, anywhere] = [new Set<string>(), new Set<string>()];
  for (const workload of model.workloads.values()) {
    if (workload.capture?.inbound === true) for (const address of workload.addresses) anywhere.add(address);
    if (node === null || workload.node !== node || !isCaptured(workload) || isHostProcess(workload)) continue;
    for (const address of workload.addresses) local.add(address);
  }
  return new CapturedAddresses(local, anywhere);
}
