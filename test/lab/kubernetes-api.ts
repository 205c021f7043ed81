// A server that speaks the Kubernetes API's HTTP protocol as far as controllers see it: discovery, lists in pages of one snapshot, watches with
// bookmarks, history that is forgotten, the status subresource, bearer tokens, TLS. Written from "Kubernetes API Concepts" and the API reference.
// Faults are asked for by its methods. Validates nothing that is put.
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { Condition } from './condition.js';

export interface ApiObject {
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly [field: string]: unknown };
  readonly [field: string]: unknown;
}

interface Stored {
  readonly metadata: ApiObject['metadata'] & { readonly resourceVersion: string; readonly uid: string; readonly generation: number };
  readonly [field: string]: unknown;
}

interface Event {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly version: number;
  readonly object: Stored;
}

export interface ResourceDefinition {
  /** "v1", "discovery.k8s.io/v1beta1". */
  readonly groupVersion: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
}

interface Collection {
  readonly definition: ResourceDefinition;
  readonly objects: Map<string, Stored>;
  readonly events: Event[];
}

interface Watch {
  readonly path: string;
  readonly response: ServerResponse;
  readonly send: (event: Event) => void;
  readonly bookmark: () => void;
  readonly end: () => void;
}

export interface KubernetesApiOptions {
  /** PEM; `clientCa`: clients must show a certificate of it. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly clientCa?: string };
  /** None: everybody may. */
  readonly tokens?: readonly string[];
  readonly port?: number;
}

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
}

const CORE: readonly ResourceDefinition[] = [
  ['services', 'Service', true],
  ['pods', 'Pod', true],
  ['nodes', 'Node', false],
  ['namespaces', 'Namespace', false],
  ['serviceaccounts', 'ServiceAccount', true],
  ['secrets', 'Secret', true],
  ['configmaps', 'ConfigMap', true],
].map(([plural, kind, namespaced]) => ({ groupVersion: 'v1', plural, kind, namespaced }) as ResourceDefinition);

const PATH = /^\/(?:api|apis)\/((?:[^/]+\/)?v[^/]+)(?:\/namespaces\/([^/]+))?\/([^/]+)(?:\/([^/]+))?(?:\/(status))?$/;
const MAX_BODY = 4 * 1_048_576;

/** Changed by every request, watch and object. */
export class KubernetesApi extends Condition {
  readonly requests: SeenRequest[] = [];
  /** Service account tokens that are good, as the API server knows them. */
  readonly accounts = new Map<string, { readonly user: object; readonly audiences: readonly string[] }>();
  /** By "<groupVersion>/<plural>". */
  private readonly collections = new Map<string, Collection>();
  private readonly snapshots = new Map<string, { readonly items: readonly Stored[]; readonly version: number }>();
  private readonly watches = new Set<Watch>();
  private readonly sockets = new Set<Socket>();
  private readonly denied = new Set<string>();
  private readonly waiting: (() => void)[] = [];
  private version = 1_000;
  /** Watches from before have been forgotten. */
  private oldest = 0;
  private goneAs: 'event' | 'status' = 'event';
  private isFrozen = false;
  private frozenAt = 0;
  private tokens: ReadonlySet<string> | null;
  private failures: { readonly code: number; readonly headers: Record<string, string> }[] = [];

  private constructor(
    private readonly server: Server,
    private readonly scheme: string,
    tokens: readonly string[] | undefined,
  ) {
    super();
    this.tokens = tokens === undefined ? null : new Set(tokens);
    for (const definition of CORE) this.serve(definition);
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      void this.answer(request, response).catch(() => response.destroy());
    });
    server.on(scheme === 'https' ? 'secureConnection' : 'connection', (socket: Socket) => {
      this.sockets.add(socket);
      socket.on('close', () => this.sockets.delete(socket));
      socket.on('error', () => undefined);
    });
  }

  static async start({ tls, tokens, port = 0 }: KubernetesApiOptions = {}): Promise<KubernetesApi> {
    const server =
      tls === undefined
        ? createServer()
        : (createTlsServer({
            cert: tls.cert,
            key: tls.key,
            ...(tls.clientCa === undefined ? {} : { ca: tls.clientCa, requestCert: true, rejectUnauthorized: true }),
          }) as unknown as Server);
    const api = new KubernetesApi(server, tls === undefined ? 'http' : 'https', tokens);
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
    return api;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  get url(): string {
    return `${this.scheme}://127.0.0.1:${this.port}`;
  }

  get openWatches(): number {
    return this.watches.size;
  }

  /** As the installation of a CRD. Idempotent. */
  serve(definition: ResourceDefinition): void {
    const key = `${definition.groupVersion}/${definition.plural}`;
    if (!this.collections.has(key)) this.collections.set(key, { definition, objects: new Map(), events: [] });
  }

  /** As the removal of a CRD: its watches end, its objects are gone. */
  unserve(groupVersion: string, plural: string): void {
    this.collections.delete(`${groupVersion}/${plural}`);
    for (const watch of this.watches) if (watch.path === `${groupVersion}/${plural}`) watch.end();
  }

  /** Creates or replaces; the generation rises with the spec. Returns its resourceVersion. */
  put(collection: string, object: ApiObject): string {
    const { objects } = this.collection(collection);
    const key = keyOf(object.metadata);
    const before = objects.get(key);
    const isSame = before !== undefined && JSON.stringify(before.spec) === JSON.stringify(object.spec);
    const metadata = {
      creationTimestamp: '2026-01-02T03:04:05Z',
      ...object.metadata,
      uid: before?.metadata.uid ?? (object.metadata.uid as string | undefined) ?? randomUUID(),
      generation: before === undefined ? 1 : before.metadata.generation + (isSame ? 0 : 1),
      resourceVersion: String(++this.version),
    };
    const status = object.status ?? before?.status;
    const stored: Stored = { ...object, ...(status === undefined ? {} : { status }), metadata };
    objects.set(key, stored);
    this.tell(collection, { type: before === undefined ? 'ADDED' : 'MODIFIED', version: this.version, object: stored });
    return metadata.resourceVersion;
  }

  delete(collection: string, name: string): void {
    const { objects } = this.collection(collection);
    const object = objects.get(name);
    if (object === undefined) throw new Error(`no ${name} in ${collection}`);
    objects.delete(name);
    const gone = { ...object, metadata: { ...object.metadata, resourceVersion: String(++this.version) } };
    this.tell(collection, { type: 'DELETED', version: this.version, object: gone });
  }

  get(collection: string, name: string): Stored | undefined {
    return this.collection(collection).objects.get(name);
  }

  /** History and snapshots of lists are forgotten, as etcd's compaction does. `as`: how a watch from before is told (both are seen in the wild). */
  compact(as: 'event' | 'status' = 'event'): void {
    this.oldest = this.version;
    this.goneAs = as;
    this.snapshots.clear();
    for (const { events } of this.collections.values()) events.length = 0;
  }

  sendBookmarks(): void {
    for (const watch of this.watches) watch.bookmark();
  }

  /** Ends every watch as a timeout does. */
  endWatches(): void {
    for (const watch of [...this.watches]) watch.end();
  }

  /** Resets every connection. */
  cut(): void {
    for (const socket of [...this.sockets]) socket.destroy();
  }

  /** Connections stay open, and nobody hears anything. */
  freeze(): void {
    this.isFrozen = true;
    this.frozenAt = this.version;
  }

  thaw(): void {
    this.isFrozen = false;
    for (const { path, send } of this.watches) {
      for (const event of this.collections.get(path)?.events ?? []) if (event.version > this.frozenAt) send(event);
    }
    for (const resume of this.waiting.splice(0)) resume();
  }

  /** The next requests are answered so. */
  fail(times: number, code: number, headers: Record<string, string> = {}): void {
    for (let count = 0; count < times; count++) this.failures.push({ code, headers });
  }

  /** 403 for that collection. */
  deny(collection: string): void {
    this.denied.add(collection);
  }

  allow(collection: string): void {
    this.denied.delete(collection);
  }

  accept(...tokens: readonly string[]): void {
    this.tokens = new Set(tokens);
  }

  async stop(): Promise<void> {
    this.thaw();
    const closed = new Promise((resolve) => this.server.close(resolve));
    this.cut();
    await closed;
  }

  private collection(key: string): Collection {
    const found = this.collections.get(key);
    if (found === undefined) throw new Error(`${key} is not served`);
    return found;
  }

  private tell(path: string, event: Event): void {
    this.collection(path).events.push(event);
    this.changed();
    if (this.isFrozen) return;
    for (const watch of this.watches) if (watch.path === path) watch.send(event);
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://x');
    this.requests.push({ method: request.method ?? '', path: url.pathname, query: url.searchParams, headers: request.headers });
    this.changed();
    while (this.isFrozen) await new Promise<void>((resolve) => this.waiting.push(resolve));
    const failure = this.failures.shift();
    if (failure !== undefined)
      return sendStatus(response, failure.code, 'InternalError', `failed as asked: ${failure.code}`, failure.headers);
    const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? '';
    if (this.tokens !== null && !this.tokens.has(token)) return sendStatus(response, 401, 'Unauthorized', 'Unauthorized');
    if (url.pathname === '/apis') return sendJson(response, 200, this.groups());
    if (request.method === 'POST' && url.pathname === '/apis/authentication.k8s.io/v1/tokenreviews') return this.review(request, response);
    const group = /^\/apis\/([^/]+\/[^/]+)$/.exec(url.pathname)?.[1];
    if (group !== undefined) return this.describe(group, response);
    const [, groupVersion = '', namespace, plural = '', name, subresource] = PATH.exec(url.pathname) ?? [];
    const key = `${groupVersion}/${plural}`;
    const collection = this.collections.get(key);
    if (collection === undefined) return sendStatus(response, 404, 'NotFound', 'the server could not find the requested resource');
    if (this.denied.has(key)) {
      return sendStatus(response, 403, 'Forbidden', `${plural} is forbidden: User "system:serviceaccount:weft:weft" cannot list resource`);
    }
    if (request.method === 'POST' && name === undefined) return this.create(request, response, namespace, collection);
    if (request.method === 'GET' && name !== undefined && subresource === undefined) {
      const found = collection.objects.get(namespace === undefined ? name : `${namespace}/${name}`);
      return found === undefined ? sendStatus(response, 404, 'NotFound', `"${name}" not found`) : sendJson(response, 200, found);
    }
    if (request.method === 'PATCH' && name !== undefined) return this.patch(request, response, key, namespace, name, subresource);
    if (request.method !== 'GET' || name !== undefined) return sendStatus(response, 405, 'MethodNotAllowed', 'method not allowed');
    const isWanted = selector(url.searchParams.get('fieldSelector'), namespace);
    if (['1', 'true'].includes(url.searchParams.get('watch') ?? '')) this.watch(key, collection, url.searchParams, isWanted, response);
    else this.list(collection, url.searchParams, isWanted, response);
  }

  private async review(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { spec } = (await readJson(request)) as { spec: { token: string; audiences?: string[] } };
    const account = this.accounts.get(spec.token);
    const audiences = (spec.audiences ?? []).filter((each) => account?.audiences.includes(each));
    const status =
      account === undefined || audiences.length === 0
        ? { user: {}, error: 'invalid bearer token' }
        : { authenticated: true, user: account.user, audiences };
    sendJson(response, 201, { kind: 'TokenReview', apiVersion: 'authentication.k8s.io/v1', metadata: {}, spec, status });
  }

  private async create(
    request: IncomingMessage,
    response: ServerResponse,
    namespace: string | undefined,
    { definition, objects }: Collection,
  ): Promise<void> {
    const object = (await readJson(request)) as ApiObject;
    const key = keyOf({ ...object.metadata, ...(namespace === undefined ? {} : { namespace }) });
    if (objects.has(key))
      return sendStatus(response, 409, 'AlreadyExists', `${definition.plural} "${object.metadata.name}" already exists`);
    const path = `${definition.groupVersion}/${definition.plural}`;
    this.put(path, object);
    sendJson(response, 201, objects.get(key));
  }

  private groups(): unknown {
    const groups = new Map<string, string[]>();
    for (const { definition } of this.collections.values()) {
      const [group = '', version] = definition.groupVersion.split('/');
      if (version === undefined) continue;
      const versions = groups.get(group) ?? [];
      groups.set(group, versions.includes(version) ? versions : [...versions, version]);
    }
    return {
      kind: 'APIGroupList',
      apiVersion: 'v1',
      groups: [...groups].map(([name, versions]) => ({
        name,
        versions: versions.map((version) => ({ groupVersion: `${name}/${version}`, version })),
        preferredVersion: { groupVersion: `${name}/${versions[0]}`, version: versions[0] },
      })),
    };
  }

  private describe(groupVersion: string, response: ServerResponse): void {
    const found = [...this.collections.values()].filter(({ definition }) => definition.groupVersion === groupVersion);
    if (found.length === 0) {
      sendStatus(response, 404, 'NotFound', 'the server could not find the requested resource');
      return;
    }
    const resources = found.flatMap(({ definition: { plural, kind, namespaced } }) => [
      { name: plural, singularName: '', namespaced, kind, verbs: ['get', 'list', 'watch', 'patch'] },
      { name: `${plural}/status`, singularName: '', namespaced, kind, verbs: ['get', 'patch', 'update'] },
    ]);
    sendJson(response, 200, { kind: 'APIResourceList', apiVersion: 'v1', groupVersion, resources });
  }

  /** All pages are of one snapshot, until it is forgotten. */
  private list(
    { definition, objects }: Collection,
    query: URLSearchParams,
    isWanted: (object: Stored) => boolean,
    response: ServerResponse,
  ): void {
    const limit = Number(query.get('limit') ?? 0);
    const token = query.get('continue') ?? '';
    let from = 0;
    let id: string = randomUUID();
    let snapshot = { items: [...objects.values()].filter(isWanted).sort(byKey), version: this.version };
    if (token !== '') {
      const [known = '', position = ''] = Buffer.from(token, 'base64url').toString().split(' ');
      const pinned = this.snapshots.get(known);
      if (pinned === undefined) {
        const message = 'The provided continue parameter is too old to display a consistent list result.';
        sendStatus(response, 410, 'Expired', message);
        return;
      }
      [id, from, snapshot] = [known, Number(position), { items: [...pinned.items], version: pinned.version }];
    }
    const end = limit > 0 ? from + limit : snapshot.items.length;
    const left = Math.max(0, snapshot.items.length - end);
    if (left > 0) this.snapshots.set(id, snapshot);
    // Of built-in kinds the items don't say what they are, of custom ones they do.
    const isCustom = definition.groupVersion.includes('.') && !definition.groupVersion.startsWith('discovery.');
    const type = isCustom ? { apiVersion: definition.groupVersion, kind: definition.kind } : {};
    sendJson(response, 200, {
      kind: `${definition.kind}List`,
      apiVersion: definition.groupVersion,
      metadata: {
        resourceVersion: String(snapshot.version),
        ...(left > 0 ? { continue: Buffer.from(`${id} ${end}`).toString('base64url'), remainingItemCount: left } : {}),
      },
      items: snapshot.items.slice(from, end).map((item) => ({ ...type, ...item })),
    });
  }

  private watch(
    path: string,
    { definition, events }: Collection,
    query: URLSearchParams,
    isWanted: (object: Stored) => boolean,
    response: ServerResponse,
  ): void {
    const from = Number(query.get('resourceVersion'));
    const expired = {
      kind: 'Status',
      apiVersion: 'v1',
      status: 'Failure',
      reason: 'Expired',
      code: 410,
      message: `too old resource version: ${from} (${this.oldest})`,
    };
    if (from < this.oldest && this.goneAs === 'status') {
      sendJson(response, 410, expired);
      return;
    }
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    const write = (type: string, object: unknown): void => void response.write(`${JSON.stringify({ type, object })}\n`);
    if (from < this.oldest) {
      write('ERROR', expired);
      response.end();
      return;
    }
    const type = { apiVersion: definition.groupVersion, kind: definition.kind };
    const send = (event: Event): void => {
      if (isWanted(event.object)) write(event.type, { ...type, ...event.object });
    };
    const hasBookmarks = query.get('allowWatchBookmarks') === 'true';
    const bookmark = (): void => {
      if (hasBookmarks) write('BOOKMARK', { ...type, metadata: { resourceVersion: String(this.version), creationTimestamp: null } });
    };
    const end = (): void => {
      clearTimeout(timer);
      this.watches.delete(watch);
      response.end();
    };
    const watch: Watch = { path, response, send, bookmark, end };
    const timer = setTimeout(
      () => {
        bookmark();
        end();
      },
      Number(query.get('timeoutSeconds') ?? 3_600) * 1_000,
    );
    response.on('close', end);
    this.watches.add(watch);
    this.changed();
    for (const event of events) if (event.version > from) send(event);
  }

  /** Of the subresource's status, or of the object's data: everything else in the body is ignored. */
  private async patch(
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    namespace: string | undefined,
    name: string,
    subresource: string | undefined,
  ): Promise<void> {
    const body = await readJson(request);
    if (request.headers['content-type'] !== 'application/merge-patch+json')
      return sendStatus(response, 415, 'UnsupportedMediaType', 'expected a merge patch');
    const { objects } = this.collection(path);
    const key = namespace === undefined ? name : `${namespace}/${name}`;
    const object = objects.get(key);
    if (object === undefined) return sendStatus(response, 404, 'NotFound', `"${name}" not found`);
    if (subresource === undefined) {
      const { data } = body as { data?: object };
      this.put(path, { ...object, data: { ...(object.data as object | undefined), ...data } });
      return sendJson(response, 200, objects.get(key));
    }
    const { metadata = {}, status } = body as { metadata?: { resourceVersion?: string }; status?: unknown };
    if (metadata.resourceVersion !== undefined && metadata.resourceVersion !== object.metadata.resourceVersion) {
      return sendStatus(response, 409, 'Conflict', 'the object has been modified; please apply your changes to the latest version');
    }
    const merged = { ...(object.status as object | undefined), ...(status as object) };
    const stored: Stored = { ...object, status: merged, metadata: { ...object.metadata, resourceVersion: String(++this.version) } };
    objects.set(key, stored);
    this.tell(path, { type: 'MODIFIED', version: this.version, object: stored });
    sendJson(response, 200, stored);
  }
}

function keyOf({ name, namespace }: ApiObject['metadata']): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

/** As etcd lists them. */
function byKey(a: Stored, b: Stored): number {
  return keyOf(a.metadata) < keyOf(b.metadata) ? -1 : 1;
}

function selector(fields: string | null, namespace: string | undefined): (object: Stored) => boolean {
  const wanted = new Map(
    (fields ?? '')
      .split(',')
      .filter(Boolean)
      .map((field) => field.split('=') as [string, string]),
  );
  if (namespace !== undefined) wanted.set('metadata.namespace', namespace);
  const fieldOf = (object: Stored, path: string): unknown =>
    path.split('.').reduce<unknown>((inner, field) => (inner as Record<string, unknown> | undefined)?.[field], object);
  return (object) => [...wanted].every(([path, value]) => fieldOf(object, path) === value);
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  let text = '';
  for await (const chunk of request as AsyncIterable<Buffer>) {
    text += chunk.toString();
    if (text.length > MAX_BODY) throw new Error('too large');
  }
  return JSON.parse(text) as unknown;
}

function sendJson(response: ServerResponse, code: number, value: unknown, headers: Record<string, string> = {}): void {
  response.writeHead(code, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(value));
}

function sendStatus(response: ServerResponse, code: number, reason: string, message: string, headers: Record<string, string> = {}): void {
  sendJson(response, code, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code }, headers);
}
