// Where everything stands in etcd: the only place that puts keys together or takes them apart.
//   <prefix>/objects/<kind>/<namespace>/<name>   one applied object
//   <prefix>/nodes/<node>                        one registered node, on the node's lease
//   <prefix>/running/<node>/<namespace>/<name>   one running workload, on the node's lease
//   <prefix>/acks/<node>                         what the node acked, on the node's lease
//   <prefix>/last-deletion                       request id of the latest deletion, so that a lost reply can be resolved
//   <prefix>/incarnation                         drawn once: tells this store from one set up anew under the same names
//   <prefix>/barrier                             written to learn that everything before it has been seen
import { createHash } from 'node:crypto';
import type { ObjectRef } from '../../api/gen/mesh/v1/admin.js';

export type ParsedKey =
  | { readonly kind: 'object'; readonly ref: ObjectRef }
  | { readonly kind: 'node'; readonly node: string }
  | { readonly kind: 'running'; readonly node: string; readonly workload: string }
  | { readonly kind: 'ack'; readonly node: string }
  | { readonly kind: 'other' };

export class Keyspace {
  /** Everything of this cluster, with a trailing slash. */
  readonly root: string;

  /** `prefix` without a trailing slash, e.g. "/weft". */
  constructor(prefix: string) {
    this.root = `${prefix}/`;
  }

  object(ref: ObjectRef): string {
    return `${this.root}objects/${ref.kind}/${ref.namespace}/${ref.name}`;
  }

  node(node: string): string {
    return `${this.root}nodes/${node}`;
  }

  /** `workload` is "<namespace>/<name>". */
  running(node: string, workload: string): string {
    return `${this.runningOf(node)}${workload}`;
  }

  /** Prefix of all that runs on a node, with a trailing slash. */
  runningOf(node: string): string {
    return `${this.root}running/${node}/`;
  }

  ack(node: string): string {
    return `${this.root}acks/${node}`;
  }

  get lastDeletion(): string {
    return `${this.root}last-deletion`;
  }

  get incarnation(): string {
    return `${this.root}incarnation`;
  }

  get barrier(): string {
    return `${this.root}barrier`;
  }

  parse(key: string): ParsedKey {
    const [family, first, second, third, ...rest] = key.slice(this.root.length).split('/');
    if (family === undefined || first === undefined || rest.length > 0) return { kind: 'other' };
    if (family === 'nodes' && second === undefined) return { kind: 'node', node: first };
    if (family === 'acks' && second === undefined) return { kind: 'ack', node: first };
    if (second === undefined || third === undefined) return { kind: 'other' };
    if (family === 'objects') return { kind: 'object', ref: { kind: first, namespace: second, name: third } };
    if (family === 'running') return { kind: 'running', node: first, workload: `${second}/${third}` };
    return { kind: 'other' };
  }
}

/** etcd's end of the range of all keys that begin with `prefix`: the prefix with its last byte one higher. Prefixes here end in "/". */
export function prefixEnd(prefix: string): Buffer {
  const end = Buffer.from(prefix);
  const last = end.length - 1;
  end[last] = (end[last] ?? 0) + 1;
  return end;
}

/** The same id at every replica, so that any of them can continue a node's lease: positive 63 bits as decimal text. */
export function leaseIdOfNode(prefix: string, node: string): string {
  const digest = createHash('sha256').update(`${prefix}\0${node}`).digest();
  return String((digest.readBigUInt64BE(0) >> 1n) | 1n);
}
