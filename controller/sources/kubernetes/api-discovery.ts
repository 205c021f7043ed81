// Which of the resources that Weft reads an API server has, and in which version: asked of the server, since clusters differ by age and by what is
// installed in them. Remembers nothing.
import { isUnchecked, textOf } from '../../../api/resources/schema.js';
import type { ApiClient, ApiFailure } from './api-client.js';
import { itemsOf } from './object.js';
import type { ResourceType } from './resource-types.js';

export interface Served {
  readonly type: ResourceType;
  readonly version: string;
  /** Of the collection over all namespaces. */
  readonly path: string;
}

export type Discovered = { readonly kind: 'found'; readonly served: readonly Served[] } | ApiFailure;

const OPTIONS = { deadlineMs: 10_000, maxBytes: 16 * 1_048_576 };

/** The core group is everywhere, and not asked for. */
export async function discover(client: ApiClient, types: readonly ResourceType[], signal: AbortSignal): Promise<Discovered> {
  const answer = await client.get('/apis', { ...OPTIONS, signal });
  if (answer.kind === 'failure') return answer;
  if (!isUnchecked(answer.value) || !Array.isArray(answer.value.groups)) return failure('/apis answers what is no list of API groups');
  const versions = new Map(
    itemsOf(answer.value.groups).map((group) => [
      textOf(group, 'name') ?? '',
      itemsOf(group.versions).map((each) => textOf(each, 'version')),
    ]),
  );
  const served: Served[] = [];
  /** By "<group>/<version>". */
  const plurals = new Map<string, ReadonlySet<string>>();
  for (const type of types) {
    if (type.group === '') served.push({ type, version: 'v1', path: `/api/v1/${type.plural}` });
    for (const version of type.versions.filter((each) => versions.get(type.group)?.includes(each))) {
      const path = `/apis/${type.group}/${version}`;
      const known = plurals.get(path) ?? (await resourcesOf(client, path, signal));
      if ('kind' in known) return known;
      plurals.set(path, known);
      if (!known.has(type.plural)) continue;
      served.push({ type, version, path: `${path}/${type.plural}` });
      break;
    }
  }
  return { kind: 'found', served };
}

async function resourcesOf(client: ApiClient, path: string, signal: AbortSignal): Promise<ReadonlySet<string> | ApiFailure> {
  const answer = await client.get(path, { ...OPTIONS, signal });
  if (answer.kind === 'failure') return answer;
  if (!isUnchecked(answer.value) || !Array.isArray(answer.value.resources)) return failure(`${path} answers what is no list of resources`);
  return new Set(itemsOf(answer.value.resources).map((resource) => textOf(resource, 'name') ?? ''));
}

function failure(message: string): ApiFailure {
  return { kind: 'failure', status: 0, message, retryAfterMs: 0 };
}
