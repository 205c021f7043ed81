// Answers of the registry, out of the compiled model: services with their versions, endpoints by version, health and labels. Pure; knows
// neither gRPC nor HTTP. A query costs a binary search and the endpoints of its service, whatever the size of the model.
import { createHash } from 'node:crypto';
import { type CompiledResource, compareText } from '../../api/compile/index.js';
import { type Endpoint, EndpointHealth, ResourceType, type Service } from '../../api/gen/mesh/v1/model.js';
import {
  type ListEndpointsRequest,
  ListEndpointsResponse,
  type ListServicesRequest,
  type ListServicesResponse,
  type ServiceSummary,
} from '../../api/gen/mesh/v1/registry.js';
import { nearestName } from '../../api/resources/index.js';
import type { CompiledModel } from '../compile/model-compiler.js';

export type Answer<Value> =
  | { readonly kind: 'ok'; readonly value: Value }
  | { readonly kind: 'not-found' | 'invalid'; readonly message: string };

/** Of one page. */
const DEFAULT_LIMIT = 1_000;
const MAX_LIMIT = 5_000;
const MAX_TEXT = 512;
const MAX_LABELS = 64;
/** To find the nearest name among, and how long it may be: a mistake must not cost much. */
const MAX_NAMES = 500;
const MAX_NAME = 128;

export function listServices(model: CompiledModel, request: ListServicesRequest): Answer<ListServicesResponse> {
  const { namespace, name } = request;
  const limit = request.limit === 0 ? DEFAULT_LIMIT : request.limit;
  const fault = pageFault(limit, [namespace, name, request.continue]);
  if (fault !== null) return { kind: 'invalid', message: fault };
  if (name !== '' && namespace === '') return { kind: 'invalid', message: `name the namespace of service "${name}" too` };
  if (name !== '') {
    const service = findService(model, `${namespace}/${name}`);
    if (service === null) return unknownService(model, `${namespace}/${name}`);
    return { kind: 'ok', value: { revision: model.revision, services: [summaryOf(model, service)], continue: '' } };
  }
  const prefix = namespace === '' ? '' : `${namespace}/`;
  const services: ServiceSummary[] = [];
  let last = '';
  for (const resource of range(model.compiled, ResourceType.SERVICE, prefix, request.continue)) {
    if (resource.type !== ResourceType.SERVICE) break;
    if (services.length === limit) return { kind: 'ok', value: { revision: model.revision, services, continue: last } };
    services.push(summaryOf(model, resource.message));
    last = resource.name;
  }
  return { kind: 'ok', value: { revision: model.revision, services, continue: '' } };
}

export function listEndpoints(model: CompiledModel, request: ListEndpointsRequest): Answer<ListEndpointsResponse> {
  const { namespace, service, version, healthy, labels, zone, node } = request;
  const limit = request.limit === 0 ? DEFAULT_LIMIT : request.limit;
  const wanted = Object.entries(labels);
  const fault = pageFault(limit, [namespace, service, request.continue, version ?? '', zone, node, ...wanted.flat()]);
  if (fault !== null) return { kind: 'invalid', message: fault };
  if (wanted.length > MAX_LABELS) return { kind: 'invalid', message: `${wanted.length} labels, at most ${MAX_LABELS}` };
  if (namespace === '' || service === '') return { kind: 'invalid', message: 'name a service: its namespace and its name' };
  const qualified = `${namespace}/${service}`;
  if (findService(model, qualified) === null) return unknownService(model, qualified);
  const endpoints: Endpoint[] = [];
  for (const { id, endpoint } of endpointsOf(model, qualified, request.continue)) {
    const fits =
      (version === undefined || endpoint.version === version) &&
      (!healthy || endpoint.health === EndpointHealth.READY) &&
      (zone === '' || endpoint.zone === zone) &&
      (node === '' || endpoint.node === node) &&
      wanted.every(([key, value]) => endpoint.labels[key] === value);
    if (!fits) continue;
    // There is one more than the page takes.
    if (endpoints.length === limit) {
      return { kind: 'ok', value: { revision: model.revision, endpoints, continue: endpoints.at(-1)?.id ?? id } };
    }
    endpoints.push(endpoint);
  }
  return { kind: 'ok', value: { revision: model.revision, endpoints, continue: '' } };
}

/** The same for the same endpoints at any replica and revision. */
export function entityTag(answer: ListEndpointsResponse): string {
  const bytes = ListEndpointsResponse.encode({ ...answer, revision: 0 }).finish();
  return createHash('sha256').update(bytes).digest('base64url').slice(0, 22);
}

function pageFault(limit: number, texts: readonly string[]): string | null {
  if (limit > MAX_LIMIT) return `limit ${limit}: at most ${MAX_LIMIT}`;
  return texts.some((text) => text.length > MAX_TEXT) ? `a value of more than ${MAX_TEXT} characters` : null;
}

function findService({ compiled }: CompiledModel, name: string): Service | null {
  const found = compiled[firstAt(compiled, ResourceType.SERVICE, name)];
  return found?.type === ResourceType.SERVICE && found.name === name ? found.message : null;
}

function unknownService({ compiled }: CompiledModel, name: string): { kind: 'not-found'; message: string } {
  const names: string[] = [];
  const inNamespace = name.slice(0, name.indexOf('/') + 1);
  for (const resource of range(compiled, ResourceType.SERVICE, inNamespace, '')) if (names.push(resource.name) === MAX_NAMES) break;
  const nearest = name.length > MAX_NAME ? null : nearestName(name, names);
  return { kind: 'not-found', message: `no service ${name}${nearest === null ? '' : `; did you mean ${nearest}?`}` };
}

function summaryOf(model: CompiledModel, { namespace, name, hostnames, addresses, ports }: Service): ServiceSummary {
  const versions = new Map<string, { version: string; endpoints: number; ready: number }>();
  for (const { endpoint } of endpointsOf(model, `${namespace}/${name}`, '')) {
    const { version, health } = endpoint;
    const counts = versions.get(version) ?? { version, endpoints: 0, ready: 0 };
    counts.endpoints++;
    if (health === EndpointHealth.READY) counts.ready++;
    versions.set(version, counts);
  }
  // What is behind a port's TLS concerns who speaks to it, not who looks for it.
  const plain = ports.map((port) => ({ ...port, tls: undefined }));
  const sorted = [...versions.values()].sort((a, b) => compareText(a.version, b.version));
  return { namespace, name, hostnames, addresses, ports: plain, versions: sorted };
}

function* endpointsOf({ compiled }: CompiledModel, service: string, after: string): Generator<{ id: string; endpoint: Endpoint }> {
  const prefix = `${service}/`;
  for (const resource of range(compiled, ResourceType.ENDPOINT, prefix, after === '' ? '' : `${prefix}${after}`)) {
    if (resource.type === ResourceType.ENDPOINT) yield { id: resource.message.id, endpoint: resource.message };
  }
}

/** Of one type, whose names begin with `prefix` and come after `after`. */
function* range(compiled: readonly CompiledResource[], type: ResourceType, prefix: string, after: string): Generator<CompiledResource> {
  const from = compareText(prefix, after) < 0 ? after : prefix;
  for (let at = firstAt(compiled, type, from); at < compiled.length; at++) {
    const resource = compiled[at]!;
    if (resource.type !== type || !resource.name.startsWith(prefix)) return;
    if (resource.name !== after) yield resource;
  }
}

/** Position of the first that is not before this one. */
function firstAt(compiled: readonly CompiledResource[], type: ResourceType, name: string): number {
  let low = 0;
  let high = compiled.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const resource = compiled[middle]!;
    if ((resource.type - type || compareText(resource.name, name)) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
