// The store's view → the encoded model, by api/compile. Owns the cache of validated objects; knows neither revisions nor nodes.
import { isIP } from 'node:net';

import {
  type Attachments,
  attachmentsOf,
  type CompiledResource,
  CompileMemo,
  compileModel,
  encodeResource,
  namesToResolve,
  type Problem,
  runsOn,
  sameEnds,
  type Visibility,
} from '../../api/compile/index.js';
import { ResourceType } from '../../api/gen/mesh/v1/model.js';
import { type Finding, objectKey, type ResourceObject, type StoredObject, validateObject } from '../../api/resources/index.js';
import { unitsOf, type VisibleResource } from '../interest/units.js';
import type { ObjectRecord } from '../store/records.js';
import type { RunningWorkload as ReportedWorkload, StoreView } from '../store/view.js';

export interface CompiledModel {
  /** Of the store, that it is made from. */
  readonly revision: number;
  /** As they are sent. */
  readonly resources: VisibleResource[];
  /** What they are made from: by type, then by name; unchanged ones are the same objects as before. */
  readonly compiled: readonly CompiledResource[];
  readonly visibility: Visibility | null;
  readonly problems: readonly Problem[];
  readonly attachments: Attachments;
  /** Addresses of the nodes that a Gateway runs on, by its "<namespace>/<name>". */
  readonly nodeAddresses: ReadonlyMap<string, readonly string[]>;
  /** Which generation of an object of Kubernetes it has seen, by "<kind>/<namespace>/<name>". */
  readonly generations: ReadonlyMap<string, number>;
  /** What of valid objects is not acted on, by the same; none: not in it. */
  readonly warnings: ReadonlyMap<string, readonly Finding[]>;
  /** Those that ServiceEntries go by, to be resolved. */
  readonly names: ReadonlySet<string>;
}

type Validated = { readonly object: StoredObject; readonly warnings: readonly Finding[] } | { readonly problem: Problem };

export class ModelCompiler {
  readonly #view: StoreView;
  /** By the record, which the view replaces on every change. */
  readonly #validated = new WeakMap<ObjectRecord, Validated>();

  readonly #memo = new CompileMemo();
  readonly #encoded = new WeakMap<CompiledResource, VisibleResource>();
  /** Of the last compilation, and the same as they are sent. */
  #compiled: readonly CompiledResource[] = [];
  #resources: VisibleResource[] = [];

  constructor(view: StoreView) {
    this.#view = view;
  }

  compile(): CompiledModel {
    const objects: StoredObject[] = [];
    const invalid: Problem[] = [];
    const generations = new Map<string, number>();
    const warnings = new Map<string, readonly Finding[]>();
    for (const object of this.#view.objects.values()) {
      const { ref, record, source } = object;
      if (this.#view.isShadowed(object)) {
        invalid.push({
          ...ref,
          path: 'metadata.name',
          reason: 'Conflicted',
          message: `${source} has it too: the applied one holds; weft delete it there to follow ${source}`,
        });
        continue;
      }
      if (record.generation > 0) generations.set(objectKey(ref.kind, ref.namespace, ref.name), record.generation);
      const validated = this.#validate(ref, record);
      if ('problem' in validated) {
        invalid.push(validated.problem);
        continue;
      }
      objects.push(validated.object);
      if (validated.warnings.length > 0) warnings.set(objectKey(ref.kind, ref.namespace, ref.name), validated.warnings);
    }
    const { resources, others, problems, visibility } = compileModel(
      {
        objects,
        running: reportedBy(this.#view.running.values(), objects),
        nowMs: Date.now(),
        registry: this.#view.reports,
        resolved: this.#view.resolved,
      },
      this.#memo,
    );
    this.#resources = this.#encodeAll(resources);
    this.#compiled = resources;
    return {
      revision: this.#view.revision,
      resources: this.#resources,
      compiled: resources,
      visibility,
      problems: [...invalid, ...problems],
      attachments: attachmentsOf(others),
      nodeAddresses: gatewayAddresses(others, visibility, this.#view),
      generations,
      warnings,
      names: namesToResolve(objects),
    };
  }

  /** What stands where it stood, at either end, is not even looked at. */
  #encodeAll(resources: readonly CompiledResource[]): VisibleResource[] {
    const { start, end } = sameEnds(this.#compiled, resources);
    const between = resources.slice(start, resources.length - end).map((resource) => this.#encode(resource));
    return this.#resources.slice(0, start).concat(between, this.#resources.slice(this.#resources.length - end));
  }

  /** What the memo gave again is the same object again, so that the history need not compare its bytes. */
  #encode(resource: CompiledResource): VisibleResource {
    let encoded = this.#encoded.get(resource);
    if (encoded === undefined) {
      encoded = { ...encodeResource(resource), units: unitsOf(resource) };
      this.#encoded.set(resource, encoded);
    }
    return encoded;
  }

  #validate(ref: { kind: string; namespace: string; name: string }, record: ObjectRecord) {
    const known = this.#validated.get(record);
    if (known !== undefined) return known;
    const result = validateObject(record.manifest);
    const validated: Validated = result.ok
      ? { object: { ...result.object, createdAtMs: record.createdAtMs }, warnings: result.warnings }
      : {
          problem: {
            ...ref,
            path: result.findings[0]?.path ?? '',
            message: `left out, it isn't valid here: ${result.findings[0]?.message}`,
            reason: 'Invalid' as const,
          },
        };
    this.#validated.set(record, validated);
    return validated;
  }
}

/**
 * Of a workload that several nodes report: what the node of its spec says, so that no other can take its place; else what was said last, which counts for
 * nothing and is told.
 */
export function reportedBy(reports: Iterable<ReportedWorkload>, objects: readonly ResourceObject[]): Map<string, ReportedWorkload> {
  const nodes = new Map<string, string | undefined>();
  for (const object of objects) if (object.kind === 'Workload') nodes.set(`${object.namespace}/${object.name}`, object.manifest.spec.node);
  const chosen = new Map<string, ReportedWorkload>();
  for (const report of reports) {
    const { name } = report.state;
    const known = chosen.get(name);
    const node = nodes.get(name);
    const isOwn = report.node === node;
    const isBetter = known === undefined || (isOwn === (known.node === node) ? known.modRevision < report.modRevision : isOwn);
    if (isBetter) chosen.set(name, report);
  }
  return chosen;
}

/** As the nodes' agents advertise themselves; whoever balances over them goes round those that are drained. */
function gatewayAddresses(
  resources: readonly CompiledResource[],
  visibility: Visibility | null,
  { nodes, reports: { drained } }: StoreView,
): Map<string, string[]> {
  const gateways = new Set(resources.flatMap((each) => (each.type === ResourceType.LISTENER ? [each.message.gateway] : [])));
  if (gateways.size === 0) return new Map();
  const known = [...nodes].flatMap(([node, { statusAddress }]) => {
    const [, address = ''] = /^\[?([^\]]*)\]?:\d+$/.exec(statusAddress) ?? [];
    return isIP(address) === 0 || drained.has(node) ? [] : [{ node, address }];
  });
  const addressesOf = (gateway: string): string[] =>
    known.flatMap(({ node, address }) => (visibility === null || runsOn(visibility, gateway, node) ? [address] : [])).sort();
  return new Map([...gateways].map((gateway) => [gateway, addressesOf(gateway)]));
}
