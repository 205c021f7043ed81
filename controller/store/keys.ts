// Where everything stands in etcd: the only place that puts keys together or takes them apart.
//   <prefix>/objects/<kind>/<namespace>/<name>   one applied object
//   <prefix>/sources/<source>/<kind>/<namespace>/<name>   one object that a source (Kubernetes, Consul, ZooKeeper) has, written by its ingester alone
//   <prefix>/sources/dns/ResolvedName/-/<name>   what a name of a ServiceEntry stands for
//   <prefix>/leaders/<election>                  who leads, on a lease of its own; its revision fences what the leader writes
//   <prefix>/nodes/<node>                        one registered node, on the node's lease
//   <prefix>/drained/<node>                      the node's endpoints get nothing new; stands until somebody ends it
//   <prefix>/running/<node>/<namespace>/<name>   one running workload, on the node's lease
//   <prefix>/instances/<node>/<namespace>/<service>/<id>   one instance that registered itself, on the node's lease
//   <prefix>/failing/<node>/<namespace>/<service>/<endpoint>   one endpoint that fails the node's checks, on the node's lease
//   <prefix>/load/<node>/cpu                     how busy the node is, on the node's lease
//   <prefix>/acks/<node>                         what the node acked, on the node's lease
//   <prefix>/history/<time>-<request id>          one change of applied objects: by whom, what, and what stood there before
//   <prefix>/authority                           who signs certificates of nodes and controllers; its keys sealed
//   <prefix>/join-tokens/<id>                    one token by which a node may join, on a lease of its own
//   <prefix>/operators/<name>                    one operator's role and hash of their credential
//   <prefix>/revoked/<node>                      how often the node was revoked: certificates from before are worth nothing
//   <prefix>/audit/<time>-<id>                   what somebody did
//   <prefix>/refusals/<time>-<id>                what somebody was refused, or failed at
//   <prefix>/incarnation                         drawn once: tells this store from one set up anew under the same names
//   <prefix>/restoring                           stands while a backup is being restored: what is under the prefix is no whole state then
//   <prefix>/barrier                             written to learn that everything before it has been seen
import { createHash } from 'node:crypto';
import type { ObjectRef } from '../../api/gen/mesh/v1/admin.js';

/** Where objects come from that nobody applied. */
export const SOURCES = ['kubernetes', 'consul', 'zookeeper', 'dns'] as const;
export type Source = (typeof SOURCES)[number];

export type ParsedKey =
  /** `source` is empty for an applied object. */
  | { readonly kind: 'object'; readonly ref: ObjectRef; readonly source: Source | '' }
  | { readonly kind: 'leader'; readonly election: string }
  | { readonly kind: 'node'; readonly node: string }
  | { readonly kind: 'running'; readonly node: string; readonly workload: string }
  | { readonly kind: 'instance' | 'failing'; readonly node: string; readonly service: string; readonly id: string }
  | { readonly kind: 'ack' | 'load'; readonly node: string }
  | { readonly kind: 'history' }
  | { readonly kind: 'join-token'; readonly id: string }
  | { readonly kind: 'operator'; readonly name: string }
  | { readonly kind: 'revoked' | 'drained'; readonly node: string }
  | { readonly kind: 'audit' | 'refusals' }
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

  /** An object as a source has it. */
  sourced(source: Source, ref: ObjectRef): string {
    return `${this.allOf(source)}${ref.kind}/${ref.namespace}/${ref.name}`;
  }

  /** Prefix of all that a source has, with a trailing slash. */
  allOf(source: Source): string {
    return `${this.root}sources/${source}/`;
  }

  leader(election: string): string {
    return `${this.root}leaders/${election}`;
  }

  node(node: string): string {
    return `${this.root}nodes/${node}`;
  }

  drained(node: string): string {
    return `${this.root}drained/${node}`;
  }

  /** `workload` is "<namespace>/<name>". */
  running(node: string, workload: string): string {
    return `${this.runningOf(node)}${workload}`;
  }

  /** Prefix of all that runs on a node, with a trailing slash. */
  runningOf(node: string): string {
    return `${this.root}running/${node}/`;
  }

  /** `service` is "<namespace>/<name>". */
  instance(node: string, service: string, id: string): string {
    return `${this.instancesOf(node)}${service}/${id}`;
  }

  /** Prefix of all instances of a node, with a trailing slash. */
  instancesOf(node: string): string {
    return `${this.root}instances/${node}/`;
  }

  /** `endpoint` is "<namespace>/<service>/<id>". */
  failing(node: string, endpoint: string): string {
    return `${this.failingOf(node)}${endpoint}`;
  }

  /** Prefix of all that a node found to fail, with a trailing slash. */
  failingOf(node: string): string {
    return `${this.root}failing/${node}/`;
  }

  cpu(node: string): string {
    return `${this.loadOf(node)}cpu`;
  }

  /** Prefix of how busy a node is, with a trailing slash. */
  loadOf(node: string): string {
    return `${this.root}load/${node}/`;
  }

  ack(node: string): string {
    return `${this.root}acks/${node}`;
  }

  /** Prefix of all changes that are kept, with a trailing slash. */
  get allHistory(): string {
    return `${this.root}history/`;
  }

  /** In the order of time. */
  history(atMs: number, requestId: string): string {
    return `${this.allHistory}${String(atMs).padStart(15, '0')}-${requestId}`;
  }

  get authority(): string {
    return `${this.root}authority`;
  }

  joinToken(id: string): string {
    return `${this.root}join-tokens/${id}`;
  }

  operator(name: string): string {
    return `${this.root}operators/${name}`;
  }

  revoked(node: string): string {
    return `${this.root}revoked/${node}`;
  }

  /** In the order of time. */
  audit(family: 'audit' | 'refusals', atMs: number, id: string): string {
    return `${this.root}${family}/${String(atMs).padStart(15, '0')}-${id}`;
  }

  get incarnation(): string {
    return `${this.root}incarnation`;
  }

  get restoring(): string {
    return `${this.root}restoring`;
  }

  get barrier(): string {
    return `${this.root}barrier`;
  }

  parse(key: string): ParsedKey {
    const [family, first, second, third, fourth, ...rest] = key.slice(this.root.length).split('/');
    if (family === undefined || first === undefined || rest.length > 0) return { kind: 'other' };
    if (family === 'sources') {
      const source = SOURCES.find((each) => each === first);
      if (source === undefined || second === undefined || third === undefined || fourth === undefined) return { kind: 'other' };
      return { kind: 'object', ref: { kind: second, namespace: third, name: fourth }, source };
    }
    if (fourth !== undefined && (family === 'instances' || family === 'failing')) {
      return { kind: family === 'failing' ? 'failing' : 'instance', node: first, service: `${second}/${third}`, id: fourth };
    }
    if (fourth !== undefined) return { kind: 'other' };
    if (family === 'leaders' && second === undefined) return { kind: 'leader', election: first };
    if (family === 'nodes' && second === undefined) return { kind: 'node', node: first };
    if (family === 'history' && second === undefined) return { kind: 'history' };
    if (family === 'join-tokens' && second === undefined) return { kind: 'join-token', id: first };
    if (family === 'operators' && second === undefined) return { kind: 'operator', name: first };
    if ((family === 'revoked' || family === 'drained') && second === undefined) return { kind: family, node: first };
    if ((family === 'audit' || family === 'refusals') && second === undefined) return { kind: family };
    if (family === 'acks' && second === undefined) return { kind: 'ack', node: first };
    if (family === 'load' && second === 'cpu' && third === undefined) return { kind: 'load', node: first };
    if (second === undefined || third === undefined) return { kind: 'other' };
    if (family === 'objects') return { kind: 'object', ref: { kind: first, namespace: second, name: third }, source: '' };
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
