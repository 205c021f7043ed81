// A server that speaks Consul's catalogue as far as its readers see it: service names, instances with their checks, blocking queries, ACLs that hide,
// a cluster without a leader, a restart that loses its index. Written from Consul's HTTP API documentation. Faults are asked for by its methods.
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';

export interface ConsulInstance {
  readonly service: string;
  readonly id: string;
  readonly node: string;
  /** Of the service; without one the node's holds, as where a service was registered without an address. */
  readonly address?: string;
  readonly port: number;
  readonly meta?: Readonly<Record<string, string>>;
  readonly weight?: number;
  /** "connect-proxy" and the like. */
  readonly kind?: string;
  readonly zone?: string;
}

interface Check {
  readonly CheckID: string;
  readonly Status: 'passing' | 'warning' | 'critical';
}

interface Waiting {
  readonly index: number;
  readonly answer: () => void;
}

export interface ConsulApiOptions {
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Without it everybody may read. */
  readonly token?: string;
  readonly port?: number;
}

const NODE_ADDRESS = '10.9.0.1';

export class ConsulApi {
  readonly url: string;
  /** Paths with their queries, in order. */
  readonly seen: string[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #instances = new Map<string, ConsulInstance>();
  readonly #checks = new Map<string, Check[]>();
  readonly #waiting = new Set<Waiting>();
  readonly #token: string | null;
  #index = 10;
  #failure: { readonly status: number; readonly text: string } | null = null;
  #hidesAll = false;

  private constructor(server: Server, isTls: boolean, token: string | null) {
    this.#server = server;
    this.#token = token;
    this.url = `${isTls ? 'https' : 'http'}://127.0.0.1:${(server.address() as AddressInfo).port}`;
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    server.on('request', (request: IncomingMessage, response: ServerResponse) => this.#serve(request, response));
  }

  static async start({ tls, token, port = 0 }: ConsulApiOptions = {}): Promise<ConsulApi> {
    const server = tls === undefined ? createServer() : createTlsServer(tls);
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    return new ConsulApi(server, tls !== undefined, token ?? null);
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  register(instance: ConsulInstance): void {
    this.#instances.set(instance.id, instance);
    this.#changed();
  }

  deregister(id: string): void {
    this.#instances.delete(id);
    this.#checks.delete(id);
    this.#changed();
  }

  /** Checks beside serfHealth, which passes. */
  check(id: string, ...checks: Check[]): void {
    this.#checks.set(id, checks);
    this.#changed();
  }

  /** Every query fails so, until null. Those that wait are answered. */
  fail(failure: { readonly status: number; readonly text: string } | null): void {
    this.#failure = failure;
    this.#wakeAll();
  }

  /** As for a token whose policy was taken away. */
  hideAll(hides: boolean): void {
    this.#hidesAll = hides;
    this.#changed();
  }

  /** As restored from a snapshot: the index is lower than it was. */
  resetIndex(): void {
    this.#index = 1;
    this.#wakeAll();
  }

  #changed(): void {
    this.#index++;
    this.#wakeAll();
  }

  #wakeAll(): void {
    for (const { answer } of [...this.#waiting]) answer();
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', 'http://consul');
    this.seen.push(request.url ?? '');
    if (this.#token !== null && request.headers['x-consul-token'] !== this.#token) {
      response.writeHead(403).end('ACL not found');
      return;
    }
    const index = Number(url.searchParams.get('index') ?? 0);
    const send = (): void => this.#send(url.pathname, response);
    // An index from before a reset is answered at once.
    if (index === 0 || index !== this.#index || this.#failure !== null) {
      send();
      return;
    }
    const answer = (): void => {
      this.#waiting.delete(waiting);
      clearTimeout(timer);
      send();
    };
    const waiting: Waiting = { index, answer };
    const timer = setTimeout(answer, Number.parseInt(url.searchParams.get('wait') ?? '300000', 10));
    this.#waiting.add(waiting);
    response.on('close', () => {
      this.#waiting.delete(waiting);
      clearTimeout(timer);
    });
  }

  #send(path: string, response: ServerResponse): void {
    if (this.#failure !== null) {
      response.writeHead(this.#failure.status).end(this.#failure.text);
      return;
    }
    const service = /^\/v1\/health\/service\/(.+)$/.exec(path)?.[1];
    if (path !== '/v1/catalog/services' && service === undefined) {
      response.writeHead(404).end();
      return;
    }
    const shown = this.#hidesAll ? [] : [...this.#instances.values()];
    const value = service === undefined ? catalogue(shown) : this.#health(shown, decodeURIComponent(service));
    response.writeHead(200, {
      'content-type': 'application/json',
      'x-consul-index': String(this.#index),
      ...(this.#hidesAll ? { 'x-consul-results-filtered-by-acls': 'true' } : {}),
    });
    response.end(JSON.stringify(value));
  }

  #health(shown: readonly ConsulInstance[], service: string): object[] {
    return shown
      .filter((instance) => instance.service === service)
      .map(({ id, node, address, port, meta, weight, kind, zone }) => ({
        Node: { ID: `id-${node}`, Node: node, Address: NODE_ADDRESS, Datacenter: 'dc1', Meta: { 'consul-network-segment': '' } },
        Service: {
          ID: id,
          Service: service,
          Tags: [],
          Address: address ?? '',
          Meta: meta ?? {},
          Port: port,
          Weights: { Passing: weight ?? 1, Warning: 1 },
          ...(kind === undefined ? {} : { Kind: kind }),
          ...(zone === undefined ? {} : { Locality: { Region: 'r', Zone: zone } }),
        },
        Checks: [{ CheckID: 'serfHealth', Status: 'passing' }, ...(this.#checks.get(id) ?? [])],
      }));
  }
}

function catalogue(shown: readonly ConsulInstance[]): Record<string, string[]> {
  return Object.fromEntries(['consul', ...shown.map(({ service }) => service)].map((service) => [service, []]));
}
