// gRPC server reflection, v1 and v1alpha (the messages are the same), so that grpcurl and its kind can ask a node without our .proto files.
// Source: grpc/reflection/v1/reflection.proto. The few messages are coded by hand, to keep grpc's packages out of api/.
import type { FileRegistry } from '@bufbuild/protobuf';
import { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';
import { type Server, type ServerDuplexStream, type ServiceDefinition, status } from '@grpc/grpc-js';
import { encodeWithImports, fileOfSymbol } from './descriptor-set.js';

type Query =
  | { kind: 'file-by-name'; value: string }
  | { kind: 'file-by-symbol'; value: string }
  | { kind: 'extension'; value: string }
  | { kind: 'list' }
  | { kind: 'none' };

interface ReflectionRequest {
  readonly query: Query;
  /** As received: the answer repeats it. */
  readonly raw: Buffer;
}

type Answer =
  | { kind: 'files'; files: readonly Uint8Array[] }
  | { kind: 'services'; names: readonly string[] }
  | { kind: 'error'; code: number; message: string };

const services = ['grpc.reflection.v1.ServerReflection', 'grpc.reflection.v1alpha.ServerReflection'];

/** `serviceNames`: what the server has besides reflection, e.g. "mesh.v1.NodeStatus". */
export function addReflection(server: Server, registry: FileRegistry, serviceNames: readonly string[]): void {
  for (const service of services) {
    server.addService(definitionOf(service), {
      serverReflectionInfo: (call: ServerDuplexStream<ReflectionRequest, Buffer>) => {
        call.on('data', (request: ReflectionRequest) =>
          call.write(encodeResponse(request.raw, answer(registry, serviceNames, request.query))),
        );
        call.on('end', () => call.end());
        call.on('error', () => {});
      },
    });
  }
}

function definitionOf(service: string): ServiceDefinition {
  return {
    serverReflectionInfo: {
      path: `/${service}/ServerReflectionInfo`,
      requestStream: true,
      responseStream: true,
      requestSerialize: (request: ReflectionRequest) => request.raw,
      requestDeserialize: decodeRequest,
      responseSerialize: (bytes: Buffer) => bytes,
      responseDeserialize: (bytes: Buffer) => bytes,
    },
  };
}

function answer(registry: FileRegistry, serviceNames: readonly string[], query: Query): Answer {
  switch (query.kind) {
    case 'list':
      return { kind: 'services', names: serviceNames };
    case 'file-by-name': {
      // The registry's names have no ".proto".
      const file = registry.getFile(query.value) ?? registry.getFile(query.value.replace(/\.proto$/, ''));
      return file === undefined ? notFound(`file ${query.value}`) : { kind: 'files', files: encodeWithImports(file) };
    }
    case 'file-by-symbol': {
      const file = fileOfSymbol(registry, query.value);
      return file === undefined ? notFound(`symbol ${query.value}`) : { kind: 'files', files: encodeWithImports(file) };
    }
    case 'extension':
      return notFound(`extensions of ${query.value}`);
    case 'none':
      return { kind: 'error', code: status.INVALID_ARGUMENT, message: 'the request asks for nothing this server knows' };
  }
}

function notFound(what: string): Answer {
  return { kind: 'error', code: status.NOT_FOUND, message: `${what}: not found` };
}

function decodeRequest(raw: Buffer): ReflectionRequest {
  const reader = new BinaryReader(raw);
  let query: Query = { kind: 'none' };
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field === 3) query = { kind: 'file-by-name', value: reader.string() };
    else if (field === 4) query = { kind: 'file-by-symbol', value: reader.string() };
    else if (field === 6) query = { kind: 'extension', value: reader.string() };
    else if (field === 7) {
      reader.string();
      query = { kind: 'list' };
    } else reader.skip(wireType);
  }
  return { query, raw };
}

function encodeResponse(request: Buffer, reply: Answer): Buffer {
  const writer = new BinaryWriter();
  // original_request
  writer.tag(2, 2).bytes(request);
  if (reply.kind === 'files') {
    // file_descriptor_response.file_descriptor_proto
    writer.tag(4, 2).fork();
    for (const file of reply.files) writer.tag(1, 2).bytes(file);
  } else if (reply.kind === 'services') {
    // list_services_response.service.name
    writer.tag(6, 2).fork();
    for (const name of reply.names) writer.tag(1, 2).fork().tag(1, 2).string(name).join();
  } else {
    // error_response
    writer.tag(7, 2).fork();
    writer.tag(1, 0).int32(reply.code).tag(2, 2).string(reply.message);
  }
  return Buffer.from(writer.join().finish());
}
