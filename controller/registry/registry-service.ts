// Registry.Register: nodes tell what they are and run. Owns the streams; each stream's state is written by a NodeRegistration.
import { isIP } from 'node:net';
import { type handleBidiStreamingCall, type ServerDuplexStream, status } from '@grpc/grpc-js';
import { nodeNameFault } from '../../api/access/names.js';
import type { InstanceState, RegisterRequest, RegisterResponse } from '../../api/gen/mesh/v1/discovery.js';
import { instanceFault, MAX_INSTANCES } from '../../api/instances.js';
import { principalOf, refusalAsNode } from '../access/principal.js';
import type { Clock } from '../clock.js';
import type { EtcdClient } from '../store/etcd-client.js';
import { storeError, unavailableMessage } from '../store/etcd-client.js';
import type { Keyspace } from '../store/keys.js';
import { Leases } from '../store/lease.js';
import type { StoreView } from '../store/view.js';
import { NodeRegistration, type RegistrationResult } from './node-registration.js';

export interface RegistryParts {
  readonly client: EtcdClient;
  readonly keys: Keyspace;
  readonly view: StoreView;
  readonly clock: Clock;
  readonly ttlMs: number;
  readonly observe: RegistryObserver;
}

export interface RegistryObserver {
  registered(node: string): void;
  /** On each change from well to not well. */
  failed(node: string, message: string): void;
}

type RegisterCall = ServerDuplexStream<RegisterRequest, RegisterResponse>;

/** Bounds what one node may put into etcd. */
const MAX_WORKLOADS = 5_000;
const MAX_ADDRESSES = 64;
const MAX_FAILING = 5_000;
const MAX_DETAIL = 256;
/** Of what the node says of itself. */
const MAX_TEXT = 512;
/** An endpoint's id is its address, or address and ports. */
const ENDPOINT_NAME = /^[a-z0-9-]{1,63}\/[a-z0-9.*-]{1,253}\/[0-9a-f:.[\],]{2,256}$/;
const WORKLOAD_NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\/[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;

export class RegistryService {
  readonly #parts: RegistryParts;
  readonly #leases: Leases;
  readonly #calls = new Set<RegisterCall>();

  constructor(parts: RegistryParts) {
    this.#parts = parts;
    this.#leases = new Leases(parts.client, parts.clock);
  }

  readonly register: handleBidiStreamingCall<RegisterRequest, RegisterResponse> = (call) => {
    this.#calls.add(call);
    const stream = new RegisterStream(call, this.#parts, this.#leases);
    const close = (): void => {
      this.#calls.delete(call);
      stream.close();
    };
    call.on('data', (request: RegisterRequest) => stream.receive(request));
    call.on('end', () => {
      close();
      call.end();
    });
    for (const event of ['error', 'cancelled', 'close']) call.on(event, close);
  };

  /** Ends every stream. The leases live on: the agents continue them at another replica. */
  stop(): void {
    for (const call of [...this.#calls]) fail(call, status.UNAVAILABLE, 'this controller stops: another replica serves');
    this.#leases.close();
  }
}

/** Writes the newest message of one stream; those that come meanwhile replace each other. */
class RegisterStream {
  #registration: NodeRegistration | null = null;
  #newest: RegisterRequest | null = null;
  #isBusy = false;
  #isClosed = false;
  /** null: nothing is known of it yet. */
  #isWell: boolean | null = null;

  constructor(
    readonly call: RegisterCall,
    readonly parts: RegistryParts,
    readonly leases: Leases,
  ) {}

  receive(request: RegisterRequest): void {
    const mistake = this.#mistakeIn(request);
    if (mistake !== null) {
      fail(this.call, status.INVALID_ARGUMENT, mistake);
      return;
    }
    const refused = refusalAsNode(principalOf(this.call), request.node);
    if (refused !== null) {
      fail(this.call, status.PERMISSION_DENIED, refused);
      return;
    }
    this.#registration ??= new NodeRegistration({ ...this.parts, node: request.node, leases: this.leases });
    this.#newest = request;
    if (!this.#isBusy) void this.#work(this.#registration);
  }

  close(): void {
    this.#isClosed = true;
    this.#newest = null;
  }

  async #work(registration: NodeRegistration): Promise<void> {
    this.#isBusy = true;
    for (let request = this.#take(); request !== null; request = this.#take()) {
      const result = await registration.bring(request).catch(
        (error: unknown): RegistrationResult => ({
          kind: 'failed',
          message: unavailableMessage(this.parts.client.endpoints, storeError(error).details),
        }),
      );
      this.#tell(registration.node, result);
    }
    this.#isBusy = false;
  }

  #take(): RegisterRequest | null {
    const request = this.#newest;
    this.#newest = null;
    return request;
  }

  #tell(node: string, result: RegistrationResult): void {
    if (this.#isClosed) return;
    if (result.kind === 'superseded') {
      fail(this.call, status.ABORTED, `another stream registered node "${node}": does a second agent use that name?`);
      return;
    }
    const isWell = result.kind === 'kept';
    if (isWell && !this.#isWell) this.parts.observe.registered(node);
    if (result.kind === 'failed' && this.#isWell !== false) this.parts.observe.failed(node, result.message);
    this.#isWell = isWell;
    // A reader that takes no answers needs none: they all say the same.
    if (isWell && this.call.writableLength === 0) this.call.write({ ttlMs: this.parts.ttlMs });
  }

  #mistakeIn(request: RegisterRequest): string | null {
    const misnamed = nodeNameFault(request.node);
    if (misnamed !== null) return misnamed;
    if (this.#registration !== null && this.#registration.node !== request.node) {
      return `this stream is of node "${this.#registration.node}": use another one for "${request.node}"`;
    }
    const { zone, region, version, statusAddress } = request;
    const [long] = Object.entries({ zone, region, version, status_address: statusAddress }).filter(([, text]) => text.length > MAX_TEXT);
    if (long !== undefined) return `${long[0]} of ${long[1].length} characters, at most ${MAX_TEXT}`;
    if (request.workloads.length > MAX_WORKLOADS) return `${request.workloads.length} workloads on one node, at most ${MAX_WORKLOADS}`;
    const bad = request.workloads.find((workload) => !WORKLOAD_NAME.test(workload.name));
    if (bad !== undefined) return `"${bad.name}" is no workload: expected "<namespace>/<name>"`;
    for (const { name, addresses } of request.workloads) {
      if (addresses.length > MAX_ADDRESSES) return `workload ${name} has ${addresses.length} addresses, at most ${MAX_ADDRESSES}`;
      const wrong = addresses.find((address) => isIP(address) === 0 || address.includes('%'));
      if (wrong !== undefined) return `workload ${name}: "${wrong}" is no IPv4 or IPv6 address`;
    }
    if ((request.idlePercent ?? 0) > 100) return `idle_percent is ${request.idlePercent}, at most 100`;
    return instancesFault(request.instances) ?? failingFault(request.health?.failing ?? []);
  }
}

function instancesFault(instances: readonly InstanceState[]): string | null {
  if (instances.length > MAX_INSTANCES) return `${instances.length} instances on one node, at most ${MAX_INSTANCES}`;
  for (const instance of instances) {
    const fault = instanceFault(instance);
    if (fault !== null) return fault;
  }
  return null;
}

function failingFault(failing: readonly { readonly endpoint: string; readonly detail: string }[]): string | null {
  if (failing.length > MAX_FAILING) return `${failing.length} failing endpoints at one node, at most ${MAX_FAILING}`;
  const wrong = failing.find(({ endpoint, detail }) => !ENDPOINT_NAME.test(endpoint) || detail.length > MAX_DETAIL);
  return wrong === undefined ? null : `"${wrong.endpoint.slice(0, MAX_DETAIL)}" is no endpoint, or what is said of it is too long`;
}

function fail(call: RegisterCall, code: status, details: string): void {
  call.emit('error', { code, details });
}
