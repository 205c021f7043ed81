// The CLI's calls to a controller and to nodes. Each has a deadline and fails as a Failure that says what to check.
import { hostname } from 'node:os';
import {
  type CallOptions,
  type ClientOptions,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { AccessClient } from '../api/gen/mesh/v1/access.js';
import {
  AdminClient,
  type ApplyRequest,
  type ApplyResponse,
  type CurrentRevisionResponse,
  type DeleteRequest,
  type DeleteResponse,
  type DrainNodeRequest,
  type DrainNodeResponse,
  type GetRequest,
  type GetResponse,
  type HistoryResponse,
  type ListNodesResponse,
  type Node,
  type RollbackResponse,
  type WaitResponse,
} from '../api/gen/mesh/v1/admin.js';
import type { InstanceState } from '../api/gen/mesh/v1/discovery.js';
import type { ExplainRequest, ExplainResponse } from '../api/gen/mesh/v1/explain.js';
import {
  CatalogClient,
  type DrainInstanceRequest,
  type InstanceRef,
  InstancesClient,
  type ListEndpointsRequest,
  type ListEndpointsResponse,
  type ListInstancesResponse,
  type ListServicesRequest,
  type ListServicesResponse,
  type RegisteredInstance,
} from '../api/gen/mesh/v1/registry.js';
import { NodeStatusClient, type StatusResponse } from '../api/gen/mesh/v1/status.js';
import { EXPLAIN_MS, HOP_MS } from '../api/grpc/explain-time.js';
import { failureReason } from '../api/grpc/failure.js';
import { type Dialling, dial, type Target } from './credentials.js';
import { EXIT_FAILED, Failure } from './failure.js';

export const DEFAULT_CONTROLLER = 'unix:/run/weft/controller.sock';
export const DEFAULT_AGENT = 'unix:/run/weft/agent.sock';
const CALL_TIMEOUT_MS = 10_000;
const NODE_TIMEOUT_MS = 3_000;
const EXPLAIN_TIMEOUT_MS = EXPLAIN_MS + 3 * HOP_MS;

const CHANNEL: ClientOptions = {
  'grpc.enable_http_proxy': 0,
  'grpc.service_config_disable_resolution': 1,
  'grpc.max_receive_message_length': 64 << 20,
  'grpc.max_send_message_length': 64 << 20,
};

/** How grpc-js words it when nobody was reached; a controller that lost its etcd answers UNAVAILABLE too, in its own words. */
const NO_CONNECTION = /^(No connection established|Connection dropped|Name resolution failed|Failed to connect)/;

/** Nobody is there at all. Anything else may be a server that speaks TLS and hears plaintext, or the other way round. */
const NOBODY = /ECONNREFUSED|ENOENT|ENOTFOUND|EHOSTUNREACH|ENETUNREACH|Name resolution failed/;
const NEEDS_TLS = '\nIf it speaks TLS, say who you are: --credentials FILE or WEFT_TOKEN; if it does not, leave them out.';

/** Of a controller without an authority, or of a version before there was one. */
const NO_AUTHORITY: readonly status[] = [status.FAILED_PRECONDITION, status.UNIMPLEMENTED];

export type Tail<Response> = [
  metadata: Metadata,
  options: Partial<CallOptions>,
  callback: (error: ServiceError | null, response: Response) => void,
];

type NodeAddress = Pick<Node, 'name' | 'statusAddress'>;

export class Controller {
  readonly #client: AdminClient;
  readonly #catalog: CatalogClient;
  readonly #access: AccessClient;
  readonly #metadata: Metadata;

  constructor(
    readonly address: string,
    { credentials: channelCredentials, options, metadata }: Dialling,
  ) {
    const channel = { ...CHANNEL, ...options };
    this.#client = new AdminClient(address, channelCredentials, channel);
    this.#catalog = new CatalogClient(address, channelCredentials, channel);
    this.#access = new AccessClient(address, channelCredentials, channel);
    this.#metadata = identity(metadata);
  }

  /**
   * What the node says of itself. Where nodes have certificates the controller asks it, for they know no operators; else it is asked itself.
   */
  nodeStatus(node: NodeAddress): Promise<StatusResponse> {
    return this.#ofNode(
      node,
      (client, ...tail) => client.nodeStatus({ node: node.name }, ...tail),
      () => nodeStatus(node.name, node.statusAddress),
    );
  }

  /** What its proxy does with a request. */
  nodeExplain(node: NodeAddress, request: ExplainRequest): Promise<ExplainResponse> {
    return this.#ofNode(
      node,
      (client, ...tail) => client.nodeExplain({ node: node.name, request }, ...tail),
      () => nodeExplain(node.name, node.statusAddress, request),
      EXPLAIN_TIMEOUT_MS,
    );
  }

  async #ofNode<Response>(
    { statusAddress }: NodeAddress,
    byController: (client: AccessClient, ...tail: Tail<Response>) => ClientUnaryCall,
    itself: () => Promise<Response>,
    timeoutMs = CALL_TIMEOUT_MS,
  ): Promise<Response> {
    try {
      return await this.access<Response>(byController, timeoutMs);
    } catch (error) {
      const { code } = (error as { cause?: Partial<ServiceError> }).cause ?? {};
      const isUnasked = code !== undefined && (statusAddress.startsWith('unix:') || NO_AUTHORITY.includes(code));
      if (!isUnasked) throw error;
      return itself();
    }
  }

  /** Any of what administrators do about nodes, operators and the authority. */
  access<Response>(
    start: (client: AccessClient, ...tail: Tail<Response>) => ClientUnaryCall,
    timeoutMs = CALL_TIMEOUT_MS,
  ): Promise<Response> {
    return this.#call((...tail) => start(this.#access, ...tail), timeoutMs);
  }

  async apply(request: Omit<ApplyRequest, 'asOf'>): Promise<ApplyResponse> {
    const asOf = request.dryRun ? 0 : await this.#currentRevision();
    return this.#call((...tail) => this.#client.apply({ ...request, asOf }, ...tail));
  }

  async delete(request: Omit<DeleteRequest, 'asOf'>): Promise<DeleteResponse> {
    const asOf = await this.#currentRevision();
    return this.#call((...tail) => this.#client.delete({ ...request, asOf }, ...tail));
  }

  get(request: GetRequest): Promise<GetResponse> {
    return this.#call((...tail) => this.#client.get(request, ...tail));
  }

  history(limit: number): Promise<HistoryResponse> {
    return this.#call((...tail) => this.#client.history({ limit }, ...tail));
  }

  async rollback(revision: number, dryRun: boolean): Promise<RollbackResponse> {
    const asOf = dryRun ? 0 : await this.#currentRevision();
    return this.#call((...tail) => this.#client.rollback({ revision, dryRun, asOf }, ...tail));
  }

  drainNode(request: DrainNodeRequest): Promise<DrainNodeResponse> {
    return this.#call((...tail) => this.#client.drainNode(request, ...tail));
  }

  listNodes(): Promise<ListNodesResponse> {
    return this.#call((...tail) => this.#client.listNodes({}, ...tail));
  }

  /** The controller answers at `timeoutMs` at the latest, with what it has. */
  wait(revision: number, timeoutMs: number): Promise<WaitResponse> {
    return this.#call((...tail) => this.#client.wait({ revision, timeoutMs }, ...tail), timeoutMs + CALL_TIMEOUT_MS);
  }

  listServices(request: ListServicesRequest): Promise<ListServicesResponse> {
    return this.#call((...tail) => this.#catalog.listServices(request, ...tail));
  }

  listEndpoints(request: ListEndpointsRequest): Promise<ListEndpointsResponse> {
    return this.#call((...tail) => this.#catalog.listEndpoints(request, ...tail));
  }

  /** The node of that name; a Failure that names the others where there is none. */
  async node(name: string): Promise<Node> {
    const { nodes } = await this.listNodes();
    const found = nodes.find((node) => node.name === name);
    if (found !== undefined) return found;
    const known = nodes.length === 0 ? 'No node has registered yet.' : `There are: ${nodes.map((node) => node.name).join(', ')}.`;
    throw new Failure(`no node "${name}". ${known}`);
  }

  close(): void {
    this.#client.close();
    this.#catalog.close();
    this.#access.close();
  }

  /** Before a change is sent: however late it arrives, it undoes nothing that came between. 0: the controller is of a version that doesn't tell. */
  async #currentRevision(): Promise<number> {
    try {
      const { revision } = await this.#call<CurrentRevisionResponse>((...tail) => this.#client.currentRevision({}, ...tail));
      return revision;
    } catch (error) {
      if ((error as { cause?: Partial<ServiceError> }).cause?.code === status.UNIMPLEMENTED) return 0;
      throw error;
    }
  }

  #call<Response>(start: (...tail: Tail<Response>) => ClientUnaryCall, timeoutMs = CALL_TIMEOUT_MS): Promise<Response> {
    return unary(start, this.#metadata, timeoutMs, (error) => {
      if (error.code === status.DEADLINE_EXCEEDED || (error.code === status.UNAVAILABLE && NO_CONNECTION.test(error.details))) {
        return `no controller answers at ${this.address}: ${failureReason(error.details)}\nIs it running? Start one with \`weft up\` or \`weft controller\`, or say where it is with --controller ADDRESS (or WEFT_CONTROLLER).${NOBODY.test(error.details) ? '' : NEEDS_TLS}`;
      }
      if (error.code === status.UNAVAILABLE) return `the controller at ${this.address} can't do it now: ${error.details}`;
      return `the controller at ${this.address} refused: ${error.details} (${status[error.code]})`;
    });
  }
}

/** The agent of this host, as instances talk to it. */
export class InstanceAgent {
  readonly #client: InstancesClient;

  constructor(readonly address: string) {
    this.#client = new InstancesClient(address, credentials.createInsecure(), CHANNEL);
  }

  async register(instance: InstanceState, ttlMs: number): Promise<void> {
    await this.#call((...tail) => this.#client.register({ instance, ttlMs }, ...tail));
  }

  async deregister(ref: InstanceRef): Promise<void> {
    await this.#call((...tail) => this.#client.deregister({ service: ref.service, id: ref.id }, ...tail));
  }

  async drain(request: DrainInstanceRequest): Promise<void> {
    await this.#call((...tail) => this.#client.drain(request, ...tail));
  }

  async list(): Promise<readonly RegisteredInstance[]> {
    return (await this.#call<ListInstancesResponse>((...tail) => this.#client.list({}, ...tail))).instances;
  }

  close(): void {
    this.#client.close();
  }

  #call<Response>(start: (...tail: Tail<Response>) => ClientUnaryCall): Promise<Response> {
    return unary(start, identity(new Metadata()), NODE_TIMEOUT_MS, (error) =>
      error.code === status.UNAVAILABLE || error.code === status.DEADLINE_EXCEEDED
        ? `no agent answers at ${this.address}: ${failureReason(error.details)}
Is it running on this host, and may you connect? Say where it is with --agent ADDRESS (or WEFT_AGENT).`
        : `the agent at ${this.address} refused: ${error.details} (${status[error.code]})`,
    );
  }
}

/** Runs `use` on a connection and closes it, whatever happens. */
export async function withAgent<Result>(address: string, use: (agent: InstanceAgent) => Promise<Result>): Promise<Result> {
  const agent = new InstanceAgent(address);
  try {
    return await use(agent);
  } finally {
    agent.close();
  }
}

/** What the node says of itself, from its agent. */
export function nodeStatus(name: string, address: string, timeoutMs = NODE_TIMEOUT_MS): Promise<StatusResponse> {
  return askNode<StatusResponse>(name, address, timeoutMs, (client, ...tail) => client.get({}, ...tail));
}

function nodeExplain(name: string, address: string, request: ExplainRequest): Promise<ExplainResponse> {
  return askNode<ExplainResponse>(name, address, EXPLAIN_TIMEOUT_MS, (client, ...tail) => client.explain(request, ...tail));
}

async function askNode<Response>(
  name: string,
  address: string,
  timeoutMs: number,
  start: (client: NodeStatusClient, ...tail: Tail<Response>) => ClientUnaryCall,
): Promise<Response> {
  if (address === '')
    throw new Failure(`node ${name} told the controller no status address: start its agent with --status-advertise ADDRESS`);
  const client = new NodeStatusClient(address, credentials.createInsecure(), CHANNEL);
  try {
    return await unary<Response>(
      (...tail) => start(client, ...tail),
      new Metadata(),
      timeoutMs,
      (error) =>
        error.code === status.INVALID_ARGUMENT
          ? error.details
          : `node ${name} does not answer at ${address}: ${failureReason(error.details)}\nIs its agent running? Look at its log there.`,
    );
  } finally {
    client.close();
  }
}

/** Who is asking, for the history of a controller that verifies nobody: user and host, as this process knows them. */
function identity(metadata: Metadata): Metadata {
  const { WEFT_ACTOR, SUDO_USER, USER, LOGNAME } = process.env;
  const name = WEFT_ACTOR || `${SUDO_USER || USER || LOGNAME || `uid ${process.getuid?.()}`}@${hostname()}`;
  // What isn't ASCII can't stand in a header.
  metadata.set('weft-actor', name.replace(/[^\x20-\x7e]/g, '?').slice(0, 256));
  return metadata;
}

function unary<Response>(
  start: (...tail: Tail<Response>) => ClientUnaryCall,
  metadata: Metadata,
  timeoutMs: number,
  explain: (error: ServiceError) => string,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    start(metadata, { deadline: Date.now() + timeoutMs }, (error, response) => {
      if (error === null) resolve(response);
      else reject(new Failure(explain(error), EXIT_FAILED, { cause: error }));
    });
  });
}

/** Runs `use` on a connection and closes it, whatever happens. */
export async function withController<Result>(target: Target | string, use: (controller: Controller) => Promise<Result>): Promise<Result> {
  const whole = typeof target === 'string' ? { address: target, credentialsFile: '', isInsecure: false } : target;
  const controller = new Controller(whole.address, await dial(whole));
  try {
    return await use(controller);
  } finally {
    controller.close();
  }
}
