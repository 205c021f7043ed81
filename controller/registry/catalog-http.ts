// Catalog over HTTP: GET and JSON, bounded in connections, sizes and time; over TLS, and for viewers, where the controller has an authority. Reads;
// changes nothing.
//   /v1/services?namespace=&limit=&continue=
//   /v1/services/NAMESPACE/NAME
//   /v1/services/NAMESPACE/NAME/endpoints?version=&healthy=true&label=k=v&zone=&node=&limit=&continue=
// With If-None-Match and wait=30s the last one answers when the endpoints are others than that ETag's, or 304 after the time.
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerOptions, type ServerResponse } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { ServerProof } from '../../api/access/rotating-credentials.js';
import { type Endpoint, EndpointHealth, Protocol } from '../../api/gen/mesh/v1/model.js';
import type { ListEndpointsRequest, ListServicesResponse } from '../../api/gen/mesh/v1/registry.js';
import { type HostPort, hostPort } from '../../api/host-port.js';
import { messageOf } from '../../api/message-of.js';
import { durationMs } from '../../api/resources/index.js';
import type { RequestHead, RequestRefusal } from '../access/guard.js';
import type { Clock } from '../clock.js';
import type { LatestModel } from '../compile/latest-model.js';
import { type Answer, listEndpoints, listServices } from './catalog.js';
import { type CatalogWatches, NOT_READY, STOPS, type Tagged, tagged, type Watched } from './catalog-watch.js';

const MAX_CONNECTIONS = 2_500;
const MAX_HEADER_BYTES = 8_192;
const HANDSHAKE_TIMEOUT_MS = 5_000;
const MIN_VERSION = 'TLSv1.3';
const MAX_WAIT_MS = 60_000;
const SERVICES_PARAMETERS = ['namespace', 'limit', 'continue'];
const ENDPOINTS_PARAMETERS = ['version', 'healthy', 'label', 'zone', 'node', 'limit', 'continue', 'wait'];

interface Parts {
  readonly latest: LatestModel;
  readonly watches: CatalogWatches;
  readonly clock: Clock;
  /** Null: plaintext, nobody is asked. */
  readonly security: CatalogSecurity | null;
}

/** TLS, and who may ask. */
export interface CatalogSecurity {
  /** Tells what to show, now and whenever it is something else; null: there is nothing yet. */
  watch(watcher: (proof: ServerProof | null) => void): void;
  /** Null: it may. */
  admit(head: RequestHead): RequestRefusal | null;
}

/** What the caller did wrong, or must wait for. */
class Refusal extends Error {
  constructor(
    readonly code: 400 | 401 | 403 | 404 | 405 | 429 | 503,
    message: string,
  ) {
    super(message);
  }
}

export class CatalogHttp {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Rejects, naming the address, when it can't be bound. */
  static async listen(address: HostPort, parts: Parts): Promise<CatalogHttp> {
    const bounds = { requestTimeout: 5_000, headersTimeout: 5_000, keepAliveTimeout: 10_000, maxHeaderSize: MAX_HEADER_BYTES };
    const server = serverOf(parts.security, bounds, (request, response) => {
      try {
        if (parts.security !== null) admit(parts.security, request);
        serve(parts, request, response);
      } catch (error) {
        if (error instanceof Refusal) json(request, response, error.code, { error: error.message });
        else json(request, response, 500, { error: `a bug of weft: ${messageOf(error)}` });
      }
    });
    server.maxConnections = MAX_CONNECTIONS;
    server.setTimeout(MAX_WAIT_MS + 30_000);
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) =>
        reject(new Error(`can't serve the registry on ${hostPort(address.host, address.port)}: ${error.message}`)),
      );
      server.listen(address.port, address.host, resolve);
    });
    return new CatalogHttp(server);
  }

  /** As bound, as in a URL. */
  get address(): string {
    const { address, port } = this.#server.address() as AddressInfo;
    return hostPort(address, port);
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }
}

function serverOf(security: CatalogSecurity | null, bounds: ServerOptions, listener: RequestListener): Server {
  if (security === null) return createServer(bounds, listener);
  // Whoever shows no certificate, or one that does not verify, may have a token.
  const tls = { requestCert: true, rejectUnauthorized: false, minVersion: MIN_VERSION, handshakeTimeout: HANDSHAKE_TIMEOUT_MS } as const;
  const server = createSecureServer({ ...bounds, ...tls }, listener);
  security.watch((proof) => {
    // Until there is one handshakes fail.
    if (proof !== null)
      server.setSecureContext({ cert: proof.certificate, key: proof.key, ca: [...proof.authorities], minVersion: MIN_VERSION });
  });
  server.on('tlsClientError', (_, socket) => socket.destroy());
  return server;
}

const REFUSED = { unauthenticated: 401, role: 403, rate: 429, unready: 503, concurrency: 503, metadata: 400 } as const;

function admit(security: CatalogSecurity, { headers, socket }: IncomingMessage): void {
  const tls = socket as TLSSocket;
  const refusal = security.admit({
    authorization: headers.authorization ?? '',
    certificate: tls.authorized ? (tls.getPeerCertificate().raw ?? null) : null,
    peer: `${socket.remoteAddress}:${socket.remotePort}`,
  });
  if (refusal !== null) throw new Refusal(REFUSED[refusal.reason], refusal.message);
}

function serve(parts: Parts, request: IncomingMessage, response: ServerResponse): void {
  if (request.method !== 'GET' && request.method !== 'HEAD') throw new Refusal(405, 'only GET and HEAD: the registry is read here');
  const [path = '', query = ''] = (request.url ?? '').split('?', 2);
  const [version, collection, namespace, name, part, ...rest] = path.split('/').slice(1).map(decode);
  if (version !== 'v1' || collection !== 'services' || rest.length > 0 || (namespace !== undefined && name === undefined)) {
    throw new Refusal(404, 'try /v1/services, /v1/services/NAMESPACE/NAME or /v1/services/NAMESPACE/NAME/endpoints');
  }
  const { model } = parts.latest;
  if (model === null) throw new Refusal(503, NOT_READY);
  if (part === 'endpoints' && namespace !== undefined && name !== undefined) {
    endpoints(parts, request, response, { namespace, name, parameters: parametersOf(query, ENDPOINTS_PARAMETERS) });
    return;
  }
  if (part !== undefined) throw new Refusal(404, `of a service there are: endpoints; found ${part.slice(0, 64)}`);
  const one = name !== undefined;
  const parameters = parametersOf(query, one ? [] : SERVICES_PARAMETERS);
  const asked = {
    namespace: namespace ?? parameters.get('namespace') ?? '',
    name: name ?? '',
    limit: limitOf(parameters),
    continue: parameters.get('continue') ?? '',
  };
  const found = accepted(listServices(model, asked));
  const shown = { revision: found.revision, services: found.services.map(serviceJson), continue: found.continue };
  json(request, response, 200, one ? { revision: shown.revision, ...shown.services[0] } : shown);
}

function endpoints(
  parts: Parts,
  request: IncomingMessage,
  response: ServerResponse,
  { namespace, name, parameters }: { namespace: string; name: string; parameters: URLSearchParams },
): void {
  const asked: ListEndpointsRequest = {
    namespace,
    service: name,
    version: parameters.get('version') ?? undefined,
    healthy: flagOf(parameters, 'healthy'),
    labels: labelsOf(parameters),
    zone: parameters.get('zone') ?? '',
    node: parameters.get('node') ?? '',
    limit: limitOf(parameters),
    continue: parameters.get('continue') ?? '',
  };
  const waitMs = waitOf(parameters);
  const known = /^(?:W\/)?"([\w-]{1,64})"$/.exec(request.headers['if-none-match'] ?? '')?.[1] ?? '';
  const tell = (answer: Watched): void => {
    const { value } = answer.kind === 'ok' ? answer : { value: null };
    if (value === null) json(request, response, 404, { error: answer.tag });
    else {
      const body = { revision: value.revision, endpoints: value.endpoints.map(endpointJson), continue: value.continue };
      json(request, response, 200, body, { etag: `"${answer.tag}"` });
    }
  };
  const now = tagged(accepted(listEndpoints(parts.latest.model!, asked)));
  if (now.tag !== known) tell(now);
  else if (waitMs === 0) unchanged(response, now.tag);
  else wait(parts, asked, { now, waitMs }, { request, response }, tell);
}

function wait(
  { watches, clock }: Parts,
  asked: ListEndpointsRequest,
  { now, waitMs }: { now: Tagged; waitMs: number },
  { request, response }: { request: IncomingMessage; response: ServerResponse },
  tell: (answer: Watched) => void,
): void {
  const close = watches.open(
    asked,
    now,
    (answer) => {
      end();
      tell(answer);
    },
    () => {
      end();
      json(request, response, 503, { error: STOPS });
    },
  );
  if (close === null) throw new Refusal(503, 'too many watch at this controller: ask another replica, or without wait');
  const cancel = clock.after(waitMs, () => {
    end();
    unchanged(response, now.tag);
  });
  const end = (): void => {
    cancel();
    close();
  };
  response.once('close', end);
}

function unchanged(response: ServerResponse, tag: string): void {
  response.writeHead(304, { etag: `"${tag}"`, 'cache-control': 'no-cache' });
  response.end();
}

function json(request: IncomingMessage, response: ServerResponse, code: number, body: object, headers: Record<string, string> = {}): void {
  const text = `${JSON.stringify(body)}\n`;
  response.writeHead(code, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-cache',
    ...(code === 405 ? { allow: 'GET, HEAD' } : {}),
    ...(code === 503 || code === 429 ? { 'retry-after': '1' } : {}),
    ...(code === 401 ? { 'www-authenticate': 'Bearer' } : {}),
    ...headers,
  });
  response.end(request.method === 'HEAD' ? undefined : text);
}

function accepted<Value>(answer: Answer<Value>): Value {
  if (answer.kind === 'ok') return answer.value;
  throw new Refusal(answer.kind === 'invalid' ? 400 : 404, answer.message);
}

/** Unknown and repeated ones are mistakes: a filter that is ignored answers something else. */
function parametersOf(query: string, known: readonly string[]): URLSearchParams {
  const parameters = new URLSearchParams(query);
  for (const name of parameters.keys()) {
    if (!known.includes(name)) {
      throw new Refusal(400, `unknown parameter ${name.slice(0, 64)}: there ${known.length === 0 ? 'is none' : `are ${known.join(', ')}`}`);
    }
    if (name !== 'label' && parameters.getAll(name).length > 1) throw new Refusal(400, `${name} is given twice`);
  }
  return parameters;
}

function limitOf(parameters: URLSearchParams): number {
  const text = parameters.get('limit');
  if (text === null) return 0;
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new Refusal(400, 'limit: expected a whole number from 1');
  return Number(text);
}

function flagOf(parameters: URLSearchParams, name: string): boolean {
  const text = parameters.get(name) ?? 'false';
  if (text !== 'true' && text !== 'false') throw new Refusal(400, `${name}: expected true or false`);
  return text === 'true';
}

function labelsOf(parameters: URLSearchParams): Record<string, string> {
  return Object.fromEntries(
    parameters.getAll('label').map((text) => {
      const equals = text.indexOf('=');
      if (equals < 1) throw new Refusal(400, `label: expected key=value, found ${text.slice(0, 64)}`);
      return [text.slice(0, equals), text.slice(equals + 1)];
    }),
  );
}

function waitOf(parameters: URLSearchParams): number {
  const text = parameters.get('wait');
  const ms = text === null ? 0 : durationMs(text);
  if (ms === null || ms > MAX_WAIT_MS) throw new Refusal(400, `wait: expected a duration such as 30s, at most ${MAX_WAIT_MS / 1_000}s`);
  return ms;
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw new Refusal(400, 'the path is not valid percent-encoding');
  }
}

function serviceJson({ ports, ...service }: ListServicesResponse['services'][number]): object {
  return { ...service, ports: ports.map(({ name, port, protocol }) => ({ name, port, protocol: Protocol[protocol] })) };
}

function endpointJson({ service: _, health, weight, check, ...endpoint }: Endpoint): object {
  const checked =
    check === undefined
      ? {}
      : { check: { node: check.node, sourceHealth: EndpointHealth[check.sourceHealth], failing: check.failing, detail: check.detail } };
  return { ...endpoint, weight: weight || 1, health: EndpointHealth[health], ...checked };
}
