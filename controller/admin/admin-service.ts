// Admin: what operators and the CLI call. Owns the mapping of outcomes to gRPC statuses and the texts an operator reads.
import { randomUUID } from 'node:crypto';
import { type ServerUnaryCall, status } from '@grpc/grpc-js';
import type {
  AdminServer,
  ApplyRequest,
  ApplyResponse,
  CurrentRevisionResponse,
  DeleteRequest,
  DeleteResponse,
  DrainNodeRequest,
  DrainNodeResponse,
  Finding,
  GetRequest,
  GetResponse,
  HistoryRequest,
  HistoryResponse,
  ListNodesRequest,
  ListNodesResponse,
  ManifestFile,
  NodeInterest,
  ObjectRef,
  RollbackRequest,
  RollbackResponse,
  WaitRequest,
  WaitResponse,
} from '../../api/gen/mesh/v1/admin.js';
import { findKind, objectKey, parseManifestsInTurns, validateObject } from '../../api/resources/index.js';
import { MAX_WAIT_MS } from '../../api/resources/limits.js';
import { nameOf, principalOf } from '../access/principal.js';
import { Refusal, unary } from '../access/unary.js';
import { READ_BACK_MS, write } from '../access/write.js';
import type { Clock } from '../clock.js';
import type { LatestModel } from '../compile/latest-model.js';
import type { NodeInterests } from '../interest/node-interests.js';
import type { NodeAcks } from '../serve/node-acks.js';
import type { EtcdClient } from '../store/etcd-client.js';
import { storeError, unavailableMessage } from '../store/etcd-client.js';
import type { Keyspace } from '../store/keys.js';
import type { StoreView } from '../store/view.js';
import { type Cause, historyEntries, planRollback } from './change-history.js';
import type { Call, ChangeResult, ObjectChanges, Wanted } from './object-changes.js';
import { shownObject } from './object-status.js';

export interface AdminParts {
  readonly client: EtcdClient;
  readonly view: StoreView;
  readonly keys: Keyspace;
  readonly changes: ObjectChanges;
  readonly acks: NodeAcks;
  readonly clock: Clock;
  /** Of the compiled model. */
  readonly modelRevision: () => number;
  readonly interests: NodeInterests;
  readonly latest: LatestModel;
}

/** With the refusal under the 3 s in which an operator is to hear that etcd is away. */
const FIRST_LIST_MS = 2_000;
/** Of parsing at a stretch, but for one document. */
const TURN_MS = 20;

/** The methods of the gRPC service. */
export function createAdminService(parts: AdminParts): AdminServer {
  return {
    currentRevision: unary(async (): Promise<CurrentRevisionResponse> => ({ revision: await currentRevision(parts) })),
    apply: unary((call: ServerUnaryCall<ApplyRequest, ApplyResponse>) => apply(parts, call.request, callerOf(call))),
    delete: unary((call: ServerUnaryCall<DeleteRequest, DeleteResponse>) => remove(parts, call.request, callerOf(call))),
    get: unary((call: ServerUnaryCall<GetRequest, GetResponse>) => get(parts, call.request)),
    wait: unary((call: ServerUnaryCall<WaitRequest, WaitResponse>) => wait(parts, call)),
    history: unary(({ request }: ServerUnaryCall<HistoryRequest, HistoryResponse>) => history(parts, request)),
    rollback: unary((call: ServerUnaryCall<RollbackRequest, RollbackResponse>) => rollback(parts, call.request, callerOf(call))),
    drainNode: unary((call: ServerUnaryCall<DrainNodeRequest, DrainNodeResponse>) => drainNode(parts, call.request)),
    listNodes: unary((_: ServerUnaryCall<ListNodesRequest, ListNodesResponse>) => listNodes(parts)),
  };
}

async function currentRevision({ changes, client }: AdminParts): Promise<number> {
  try {
    return await changes.currentRevision();
  } catch (error) {
    throw new Refusal(status.UNAVAILABLE, unavailableMessage(client.endpoints, storeError(error).details));
  }
}

async function apply(parts: AdminParts, request: ApplyRequest, caller: Caller): Promise<ApplyResponse> {
  await requireList(parts);
  const { objects, findings, warnings } = await parseManifestsInTurns(request.files, turns());
  const seen = new Map<string, { file: string; line: number }>();
  const repeated: Finding[] = [];
  for (const { kind, namespace, name, source } of objects) {
    const key = objectKey(kind, namespace, name);
    const first = seen.get(key);
    if (first === undefined) seen.set(key, source);
    else repeated.push({ ...source, column: 1, path: 'metadata.name', message: `${key} stands at ${first.file}:${first.line} already` });
  }
  const theirs = objects.flatMap((object): Finding[] => {
    const source = parts.view.sourceOf(object);
    return source === null ? [] : [{ ...object.source, column: 1, path: 'metadata.name', message: ownedBy(source, object) }];
  });
  const mistakes = findings.length > 0 ? findings : [...repeated, ...theirs];
  if (mistakes.length > 0) return { findings: mistakes, revision: 0, changes: [], warnings };
  if (objects.length === 0) {
    // Kinds that are Kubernetes' own are passed over.
    if (warnings.length > 0) return { findings: [], revision: 0, changes: [], warnings };
    throw new Refusal(status.INVALID_ARGUMENT, `no object in ${fileNames(request.files)}`);
  }
  const unreadable = objects.flatMap(({ resourceVersion, source }): Finding[] =>
    resourceVersion === undefined || /^[1-9][0-9]{0,15}$/.test(resourceVersion)
      ? []
      : [{ ...source, column: 1, path: 'metadata.resourceVersion', message: 'expected what weft get showed, or nothing' }],
  );
  if (unreadable.length > 0) return { findings: unreadable, revision: 0, changes: [], warnings };
  const wanted = objects.map(({ kind, namespace, name, manifest, resourceVersion }): Wanted => {
    const seenAt = resourceVersion === undefined ? null : Number(resourceVersion);
    return { ref: { kind, namespace, name }, manifest, seenAt };
  });
  const result = await parts.changes.bring(wanted, causeOf(caller, 'apply'), request.dryRun, callOf(caller, request));
  if (result.kind === 'stale') {
    const { ref, revision } = result;
    const source = objects.find(
      ({ kind, namespace, name }) => kind === ref.kind && namespace === ref.namespace && name === ref.name,
    )?.source;
    const now = revision === 0 ? 'it is gone' : `it is at ${revision} now`;
    const message = `changed since it was read: ${now}; get it again, or leave resourceVersion out to replace it`;
    const finding = { file: source?.file ?? '', line: source?.line ?? 0, column: 1, path: 'metadata.resourceVersion', message };
    return { findings: [finding], revision: 0, changes: [], warnings };
  }
  const { revision, changes } = await done(parts, result);
  return { findings: [], revision, changes, warnings };
}

/** Lets streams, heartbeats and other calls through while a large file is read. */
function turns(): () => Promise<void> {
  let sinceMs = performance.now();
  return async () => {
    if (performance.now() - sinceMs < TURN_MS) return;
    await new Promise((resolve) => setImmediate(resolve));
    sinceMs = performance.now();
  };
}

async function remove(parts: AdminParts, request: DeleteRequest, caller: Caller): Promise<DeleteResponse> {
  await requireList(parts);
  const wanted = new Map<string, Wanted>();
  for (const object of request.objects) {
    const ref = { ...object, kind: kindOf(object.kind) };
    if (ref.namespace === '' || ref.name === '') throw new Refusal(status.INVALID_ARGUMENT, 'name what to delete: namespace and name');
    const source = parts.view.sourceOf(ref);
    if (source !== null) throw new Refusal(status.FAILED_PRECONDITION, ownedBy(source, ref));
    wanted.set(objectKey(ref.kind, ref.namespace, ref.name), { ref, manifest: null, seenAt: null });
  }
  if (wanted.size === 0) throw new Refusal(status.INVALID_ARGUMENT, 'name at least one object to delete');
  const result = await parts.changes.bring([...wanted.values()], causeOf(caller, 'delete'), false, callOf(caller, request));
  const { revision, changes } = await done(parts, result);
  return { revision, changes };
}

function ownedBy(source: string, { kind, namespace, name }: ObjectRef): string {
  return `${kind} ${namespace}/${name} is read from ${source}: change it there`;
}

async function history(parts: AdminParts, { limit }: HistoryRequest): Promise<HistoryResponse> {
  await requireList(parts);
  return { entries: historyEntries(parts.view, limit) };
}

async function rollback(parts: AdminParts, request: RollbackRequest, caller: Caller): Promise<RollbackResponse> {
  await requireList(parts);
  const plan = planRollback(parts.view, request.revision);
  if (plan.kind === 'refused') throw new Refusal(status.FAILED_PRECONDITION, plan.message);
  for (const { ref, manifest } of plan.wanted) {
    const source = parts.view.sourceOf(ref);
    if (source !== null) throw new Refusal(status.FAILED_PRECONDITION, ownedBy(source, ref));
    // Another version of Weft may have stored it.
    const validated = manifest === null ? null : validateObject(manifest);
    if (validated?.ok === false) {
      const [first] = validated.findings;
      throw new Refusal(
        status.FAILED_PRECONDITION,
        `${ref.kind} ${ref.namespace}/${ref.name} as it stood then isn't valid any more: ${first?.path}: ${first?.message}`,
      );
    }
  }
  const wanted = plan.wanted.map(({ ref, manifest }): Wanted => ({ ref, manifest, seenAt: null }));
  const cause = causeOf(caller, `rollback to ${request.revision}`);
  const result = await parts.changes.bring(wanted, cause, request.dryRun, callOf(caller, request));
  if (result.kind === 'too-large')
    throw new Refusal(
      status.FAILED_PRECONDITION,
      `${result.message}: roll back to later revisions first, one after the other (weft history names them)`,
    );
  const { revision, changes } = await done(parts, result);
  return { revision, changes };
}

interface Caller {
  readonly actor: string;
  /** Else the caller names itself. */
  readonly isVerified: boolean;
  /** By its deadline too: a replica that was stopped hears late that the call was cancelled. */
  readonly isAwaited: () => boolean;
}

function callerOf(call: ServerUnaryCall<unknown, unknown>): Caller {
  const principal = principalOf(call);
  return {
    actor: nameOf(principal).actor,
    isVerified: principal.kind === 'operator',
    isAwaited: () => !call.cancelled && Date.now() < Number(call.getDeadline()),
  };
}

function causeOf({ actor, isVerified }: Caller, command: string): Cause {
  return { actor, isVerified, command };
}

function callOf({ isAwaited }: Caller, { asOf }: { readonly asOf: number }): Call {
  return { isAwaited, asOf };
}

async function done(parts: AdminParts, result: ChangeResult): Promise<ChangeResult & { kind: 'done' }> {
  switch (result.kind) {
    case 'done':
      // So that a following Get here sees it.
      if (result.revision > 0) await parts.view.reached(result.revision, parts.clock, READ_BACK_MS);
      return result;
    case 'stale':
      throw new Error('nothing was said of what was seen');
    case 'overtaken': {
      const { kind, namespace, name } = result.ref;
      throw new Refusal(
        status.ABORTED,
        `${kind} ${namespace}/${name} was changed at revision ${result.revision}, after this was begun: nothing was written. See what it is now, and try again`,
      );
    }
    case 'contended':
      throw new Refusal(status.ABORTED, 'others keep changing the same objects: nothing was written, try again');
    case 'too-large':
      throw new Refusal(
        status.INVALID_ARGUMENT,
        `${result.message}. Nothing was written: make it in parts, each one revision (weft apply -f with some of the files)`,
      );
    case 'unavailable':
      throw new Refusal(status.UNAVAILABLE, result.message);
  }
}

async function get(parts: AdminParts, request: GetRequest): Promise<GetResponse> {
  await requireList(parts);
  const kind = kindOf(request.kind);
  const found = [...parts.view.holding()].filter(({ ref }) => ref.kind === kind && matches(request, ref));
  found.sort((a, b) => compare(a.ref.namespace, b.ref.namespace) || compare(a.ref.name, b.ref.name));
  const { model } = parts.latest;
  return { objects: found.map((object) => JSON.stringify(shownObject(object, model))), revision: parts.view.revision };
}

async function wait(parts: AdminParts, call: ServerUnaryCall<WaitRequest, WaitResponse>): Promise<WaitResponse> {
  await requireList(parts);
  const ended = new AbortController();
  call.on('cancelled', () => ended.abort());
  const { revision, timeoutMs } = call.request;
  // An apply that changed nothing has revision 0: what it wants is in force when the newest one that did is.
  const wanted = revision > 0 ? revision : parts.view.appliedRevision;
  return parts.acks.wait(wanted, Math.min(timeoutMs, MAX_WAIT_MS), ended.signal);
}

/** It stands until it is ended, whatever becomes of the node meanwhile. */
async function drainNode(parts: AdminParts, { node, end }: DrainNodeRequest): Promise<DrainNodeResponse> {
  await requireList(parts);
  const { view, keys } = parts;
  const isDrained = view.reports.drained.has(node);
  if (!isDrained && !view.nodes.has(node))
    throw new Refusal(status.NOT_FOUND, `no node "${node}" is registered: weft status has the nodes`);
  if (isDrained !== end) return { revision: 0 };
  const value = end ? null : JSON.stringify({ requestId: randomUUID() });
  return { revision: await write(parts, [{ key: keys.drained(node), value, lease: null }]) };
}

async function listNodes(parts: AdminParts): Promise<ListNodesResponse> {
  await requireList(parts);
  const nodes = [...parts.view.nodes]
    .sort(([a], [b]) => compare(a, b))
    .map(([name, { zone, version, statusAddress }]) => {
      const ack = parts.acks.of(name);
      const workloads = [...parts.view.running.values()].filter((workload) => workload.node === name).map(({ state }) => state);
      workloads.sort((a, b) => compare(a.name, b.name));
      const ackedRevision = ack?.revision ?? 0;
      // Streams of other replicas show as acks on the node's lease.
      const connected = parts.acks.isConnected(name) || ackedRevision >= parts.view.appliedRevision;
      const rejected = [...(ack?.rejected ?? [])];
      const wantedRevision = parts.acks.isConnected(name) ? parts.modelRevision() : parts.view.appliedRevision;
      return {
        wantedRevision,
        ...{ name, zone, version, statusAddress, ackedRevision, connected, workloads, rejected },
        ...{ interest: interestOf(parts, name), draining: parts.view.reports.drained.has(name) },
      };
    });
  return { nodes, revision: parts.modelRevision() };
}

/** Undefined: everything. */
function interestOf({ interests }: AdminParts, node: string): NodeInterest | undefined {
  const { services, namespaces, gateways } = interests.of(node).summary;
  if (services === null) return undefined;
  return { services, allServices: interests.services ?? services, namespaces: [...namespaces], gateways: [...gateways] };
}

/** Reads go on from memory while etcd is away, but not before it was read once. */
async function requireList({ view, client, clock }: AdminParts): Promise<void> {
  // The first call often comes while the controller starts.
  if (await view.reached(1, clock, FIRST_LIST_MS)) return;
  const reason = view.state.kind === 'down' ? view.state.reason : 'it is being read';
  throw new Refusal(status.UNAVAILABLE, unavailableMessage(client.endpoints, reason));
}

function kindOf(word: string): string {
  const definition = findKind(word);
  if (definition === null) throw new Refusal(status.INVALID_ARGUMENT, `"${word}" is no kind this version knows`);
  return definition.kind;
}

function matches(request: GetRequest, ref: ObjectRef): boolean {
  return (request.namespace === '' || request.namespace === ref.namespace) && (request.name === '' || request.name === ref.name);
}

function fileNames(files: readonly ManifestFile[]): string {
  return files.map(({ name }) => name).join(', ') || 'the request';
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
