// The Discovery service for a server that encodes a response once and sends the same bytes to every stream.
import type { handleBidiStreamingCall, ServiceDefinition } from '@grpc/grpc-js';
import { type DiscoveryRequest, DiscoveryService } from '../gen/mesh/v1/discovery.js';

export interface EncodedDiscoveryServer {
  readonly stream: handleBidiStreamingCall<DiscoveryRequest, Buffer>;
}

/** As DiscoveryService, but responses are given as encoded DiscoveryResponse messages. */
export const EncodedDiscoveryService = {
  stream: { ...DiscoveryService.stream, responseSerialize: (encoded: Buffer): Buffer => encoded },
} as const satisfies ServiceDefinition;
