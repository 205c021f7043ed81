// What the controller's integration tests share: a controller in this process over a real etcd, and nodes that speak the real protocols.
import { type ClientDuplexStream, credentials } from '@grpc/grpc-js';
import { pino } from 'pino';
import { AdminClient, type ApplyResponse } from '../../api/gen/mesh/v1/admin.js';
import {
  DiscoveryClient,
  type DiscoveryRequest,
  type DiscoveryResponse,
  RegisterRequest,
  type RegisterResponse,
  RegistryClient,
  type Rejection,
  type Resource,
  type ResumeToken,
} from '../../api/gen/mesh/v1/discovery.js';
import { Endpoint, type EndpointHealth, ResourceType, Service } from '../../api/gen/mesh/v1/model.js';
import { contentOf } from '../../api/grpc/encode-revision.js';
import { PROTOCOL } from '../../api/grpc/protocol.js';
import { type ControllerFlags, controllerConfig, DEFAULT_FLAGS } from '../../controller/config.js';
import { type Controller, startController } from '../../controller/main.js';
import { Condition } from '../lab/condition.js';

export interface TestController {
  readonly controller: Controller;
  readonly address: string;
  readonly admin: AdminClient;
  readonly logs: string[];
  /** A line of the log has the text, now or soon. */
  logged(text: string): Promise<void>;
  /** As Prometheus reads them. */
  metrics(): Promise<string>;
  stop(): Promise<void>;
}

export async function startTestController(etcd: string, flags: Partial<ControllerFlags> = {}): Promise<TestController> {
  const own = { etcd: [etcd], listen: ['127.0.0.1:0'], metricsListen: '127.0.0.1:0', registryListen: '127.0.0.1:0', nodeTtl: '2' };
  const config = controllerConfig({ ...DEFAULT_FLAGS, ...own, ...flags });
  const logs: string[] = [];
  const log = new Condition();
  const write = (line: string): void => {
    logs.push(line);
    log.changed();
  };
  const logged = (text: string): Promise<void> => log.until(`"${text}" in the log`, () => logs.some((line) => line.includes(text)));
  const controller = await startController(config, pino({ level: 'debug' }, { write }));
  const address = controller.addresses[0] ?? '';
  const admin = new AdminClient(address, credentials.createInsecure());
  const metrics = async (): Promise<string> => (await fetch(`http://${controller.metricsAddress}/metrics`)).text();
  const stop = async (): Promise<void> => {
    admin.close();
    await controller.stop();
  };
  return { controller, address, admin, logs, logged, metrics, stop };
}

type Done<Response> = (error: Error | null, response: Response) => void;

/** One call of a generated client as a promise. */
export function ask<Response>(call: (done: Done<Response>) => unknown): Promise<Response> {
  return new Promise((resolve, reject) => {
    call((error, response) => (error === null ? resolve(response) : reject(error)));
  });
}

export function apply(at: TestController, content: string, dryRun = false) {
  return ask<ApplyResponse>((done) => at.admin.apply({ files: [{ name: 'test.yaml', content }], dryRun, asOf: 0 }, done));
}

export interface TestNodeOptions {
  readonly resume?: ResumeToken | undefined;
  /** What the node refuses, by resource. */
  readonly refuse?: (resource: Resource) => string | null;
}

/** A node's discovery stream: applies every push whole, acks it. */
export class TestNode extends Condition {
  readonly resources = new Map<string, Resource>();
  readonly responses: DiscoveryResponse[] = [];
  revision = 0;
  token: ResumeToken | undefined;
  error: Error | null = null;
  readonly #client: DiscoveryClient;
  readonly #stream: ClientDuplexStream<DiscoveryRequest, DiscoveryResponse>;
  readonly #refuse: (resource: Resource) => string | null;
  #chunks: DiscoveryResponse[] = [];

  constructor(address: string, node: string, { resume, refuse }: TestNodeOptions = {}) {
    super();
    this.#refuse = refuse ?? (() => null);
    this.#client = new DiscoveryClient(address, credentials.createInsecure());
    this.#stream = this.#client.stream();
    this.#stream.on('data', (response: DiscoveryResponse) => this.#receive(response));
    this.#stream.on('error', (error) => {
      this.error = error;
      this.changed();
    });
    this.#stream.write({ request: { $case: 'subscribe', value: { node, version: 'test', resume, protocol: PROTOCOL, packed: true } } });
  }

  named(type: number): string[] {
    return [...this.resources.values()].filter((resource) => resource.type === type).map(({ name }) => name);
  }

  /** What it holds of the type. */
  bodies<Body>(type: ResourceType, decode: (body: Uint8Array) => Body): Body[] {
    return [...this.resources.values()].filter((resource) => resource.type === type).map(({ body }) => decode(body));
  }

  services(): Service[] {
    return this.bodies(ResourceType.SERVICE, Service.decode);
  }

  endpoints(): Endpoint[] {
    return this.bodies(ResourceType.ENDPOINT, Endpoint.decode);
  }

  /** Of all endpoints, by address and port: health, weight and zone. */
  instances(): Record<string, readonly [EndpointHealth, number, string]> {
    return Object.fromEntries(
      this.endpoints().map(({ address, ports, health, weight, zone }) => [`${address}:${ports[0]?.port}`, [health, weight, zone]]),
    );
  }

  /** Reading stops: the transport's windows fill up. */
  pauseReading(): void {
    this.#stream.pause();
  }

  resumeReading(): void {
    this.#stream.resume();
  }

  close(): void {
    this.#stream.cancel();
    this.#client.close();
  }

  #receive(received: DiscoveryResponse): void {
    const response = { ...received, ...contentOf(received) };
    this.responses.push(response);
    this.#chunks.push(response);
    if (response.more) return;
    const rejected: Rejection[] = [];
    if (response.full) this.resources.clear();
    for (const resource of this.#chunks.flatMap(({ resources }) => resources)) {
      const error = this.#refuse(resource);
      if (error === null) this.resources.set(`${resource.type}/${resource.name}`, resource);
      else rejected.push({ type: resource.type, name: resource.name, error });
    }
    for (const { type, name } of this.#chunks.flatMap(({ removed }) => removed)) this.resources.delete(`${type}/${name}`);
    this.#chunks = [];
    this.revision = response.revision;
    this.token = response.token;
    this.#stream.write({ request: { $case: 'ack', value: { nonce: response.nonce, revision: response.revision, rejected } } });
    this.changed();
  }
}

/** A node's registration: sends its state when told and every `heartbeatMs`. */
export class TestRegistration extends Condition {
  responses = 0;
  error: Error | null = null;
  readonly #client: RegistryClient;
  readonly #stream: ClientDuplexStream<RegisterRequest, RegisterResponse>;
  readonly #timer: NodeJS.Timeout;
  #state: RegisterRequest;

  constructor(address: string, node: string, workloads: RegisterRequest['workloads'] = [], heartbeatMs = 500) {
    super();
    this.#state = RegisterRequest.fromPartial({
      node,
      zone: 'z1',
      region: 'r1',
      version: 'test',
      statusAddress: `unix:/tmp/${node}`,
      workloads,
    });
    this.#client = new RegistryClient(address, credentials.createInsecure());
    this.#stream = this.#client.register();
    this.#stream.on('data', () => {
      this.responses++;
      this.changed();
    });
    this.#stream.on('error', (error) => {
      this.error = error;
      this.changed();
    });
    this.#timer = setInterval(() => this.#stream.write(this.#state), heartbeatMs);
    this.#stream.write(this.#state);
  }

  say(workloads: RegisterRequest['workloads']): void {
    this.tell({ workloads });
  }

  tell(part: Partial<RegisterRequest>): void {
    this.#state = { ...this.#state, ...part };
    this.#stream.write(this.#state);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#stream.cancel();
    this.#client.close();
  }
}

export function serviceYaml(name: string, port = 80): string {
  return `apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop }
spec:
  clusterIP: 10.96.0.10
  selector: { app: ${name} }
  ports: [{ name: http, port: ${port}, targetPort: 8080, appProtocol: http }]
`;
}

export function workloadYaml(name: string, node: string, address: string): string {
  return `apiVersion: mesh.weft.dev/v1
kind: Workload
metadata: { name: ${name}, namespace: shop, labels: { app: ${name} } }
spec:
  node: ${node}
  networkNamespace: /run/netns/${name}
  addresses: ["${address}"]
  serviceAccount: ${name}
`;
}
