// The control protocol as other versions of the software speak it: version 1 by the descriptors it was built from (protocol-1.descriptors.bin, git
// c341828), and a version to come, with fields that nobody here knows.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createFileRegistry, fromBinary, toBinary } from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { Client, type ClientDuplexStream, credentials, type ServiceError } from '@grpc/grpc-js';
import { DiscoveryRequest, DiscoveryResponse, DiscoveryService, type Resource, type ResumeToken } from '../../api/gen/mesh/v1/discovery.js';
import { ResourceType } from '../../api/gen/mesh/v1/model.js';
import { Condition } from './condition.js';

const registry = createFileRegistry(
  fromBinary(FileDescriptorSetSchema, readFileSync(join(process.cwd(), 'test', 'lab', 'protocol-1.descriptors.bin'))),
);

const MESSAGES: Readonly<Partial<Record<ResourceType, string>>> = {
  [ResourceType.SERVICE]: 'Service',
  [ResourceType.ENDPOINT]: 'Endpoint',
  [ResourceType.HTTP_ROUTE]: 'HttpRoute',
  [ResourceType.WORKLOAD]: 'Workload',
  [ResourceType.LISTENER]: 'Listener',
  [ResourceType.CONNECTION_ROUTE]: 'ConnectionRoute',
};

/** What is left of a message in the hands of version 1. */
function throughVersion1(name: string, bytes: Uint8Array): Buffer {
  const description = registry.getMessage(`mesh.v1.${name}`);
  if (description === undefined) throw new Error(`version 1 had no ${name}`);
  const message = fromBinary(description, bytes, { readUnknownFields: false });
  return Buffer.from(toBinary(description, message));
}

function ofVersion1(resource: Resource): Resource {
  const name = MESSAGES[resource.type];
  if (name === undefined) throw new Error(`version 1 had no resources of type ${resource.type}`);
  return { ...resource, body: throughVersion1(name, resource.body) };
}

const requestToBytes = (request: DiscoveryRequest): Buffer =>
  throughVersion1('DiscoveryRequest', DiscoveryRequest.encode(request).finish());

/** As a server of version 1 has it. */
export const discoveryOfVersion1 = {
  stream: {
    ...DiscoveryService.stream,
    requestDeserialize: (bytes: Buffer): DiscoveryRequest => DiscoveryRequest.decode(throughVersion1('DiscoveryRequest', bytes)),
    responseSerialize: (response: DiscoveryResponse): Buffer => {
      const resources = response.resources.map(ofVersion1);
      return throughVersion1('DiscoveryResponse', DiscoveryResponse.encode({ ...response, resources }).finish());
    },
  },
} as const;

/** A field that no version has yet, behind the others. */
export function withNovelty(bytes: Uint8Array): Buffer {
  // Field 4001, length-delimited, "new".
  return Buffer.concat([bytes, Buffer.from([0x8a, 0xfa, 0x01, 0x03]), Buffer.from('new')]);
}

/** As a server of a version to come has it: every message says more. */
export const discoveryToCome = {
  stream: {
    ...DiscoveryService.stream,
    responseSerialize: (response: DiscoveryResponse): Buffer => {
      const resources = response.resources.map((resource) => ({ ...resource, body: withNovelty(resource.body) }));
      return withNovelty(DiscoveryResponse.encode({ ...response, resources }).finish());
    },
  },
} as const;

/** An agent, or a proxy, of version 1: applies what it is sent, and acks. */
export class OlderSubscriber extends Condition {
  readonly held = new Set<string>();
  readonly responses: DiscoveryResponse[] = [];
  token: ResumeToken | undefined;
  error: ServiceError | null = null;
  readonly #client: Client;
  readonly #stream: ClientDuplexStream<DiscoveryRequest, DiscoveryResponse>;

  constructor(address: string, node: string, resume?: ResumeToken, protocol = 0) {
    super();
    this.#client = new Client(address, credentials.createInsecure());
    const read = (bytes: Buffer): DiscoveryResponse => DiscoveryResponse.decode(throughVersion1('DiscoveryResponse', bytes));
    const write = protocol === 0 ? requestToBytes : (request: DiscoveryRequest) => Buffer.from(DiscoveryRequest.encode(request).finish());
    this.#stream = this.#client.makeBidiStreamRequest(DiscoveryService.stream.path, write, read);
    this.#stream.on('data', (response: DiscoveryResponse) => this.#receive(response));
    this.#stream.on('error', (error: ServiceError) => {
      this.error = error;
      this.changed();
    });
    this.#stream.write({ request: { $case: 'subscribe', value: { node, version: '0.0.9', resume, protocol, packed: false } } });
  }

  close(): void {
    this.#stream.cancel();
    this.#client.close();
  }

  #receive(response: DiscoveryResponse): void {
    this.responses.push(response);
    if (response.full && this.token?.revision !== response.revision) this.held.clear();
    for (const { type, name } of response.removed) this.held.delete(`${type}/${name}`);
    for (const { type, name, body } of response.resources) {
      throughVersion1(MESSAGES[type] ?? '', body);
      this.held.add(`${type}/${name}`);
    }
    this.token = response.token;
    if (response.more) return;
    this.#stream.write({ request: { $case: 'ack', value: { nonce: response.nonce, revision: response.revision, rejected: [] } } });
    this.changed();
  }
}
