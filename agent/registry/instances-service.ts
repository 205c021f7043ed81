// mesh.v1.Instances: how what runs on this host registers itself. Maps results to gRPC statuses; holds nothing.
import { type handleUnaryCall, type sendUnaryData, status } from '@grpc/grpc-js';
import {
  DeregisterInstanceResponse,
  DrainInstanceResponse,
  type InstancesServer,
  RegisterInstanceResponse,
} from '../../api/gen/mesh/v1/registry.js';
import { statusDetails } from '../../api/grpc/status-details.js';
import type { InstanceResult, Instances } from './instances.js';

const CODES = { invalid: status.INVALID_ARGUMENT, 'not-found': status.NOT_FOUND, full: status.RESOURCE_EXHAUSTED } as const;

export function instancesImplementation(instances: Instances): InstancesServer {
  return {
    register: answering(
      ({ instance, ttlMs }) =>
        instance === undefined ? { kind: 'invalid', message: 'no instance is named' } : instances.register(instance, ttlMs),
      RegisterInstanceResponse.fromPartial({}),
    ),
    deregister: answering((ref) => instances.deregister(ref), DeregisterInstanceResponse.fromPartial({})),
    drain: answering((ref) => instances.drain(ref), DrainInstanceResponse.fromPartial({})),
    list: (_, reply) => reply(null, { instances: instances.list() }),
  };
}

function answering<Request, Response>(act: (request: Request) => InstanceResult, done: Response): handleUnaryCall<Request, Response> {
  return ({ request }, reply: sendUnaryData<Response>) => {
    const result = act(request);
    if (result.kind === 'done') reply(null, done);
    else reply({ code: CODES[result.kind], details: statusDetails(result.message) });
  };
}
