// Asks nodes what they say of themselves in the place of operators, who have no certificate that nodes know. To a node it proves to be a controller, and it hears only
// the node that it asked for: an address that a node made up leads to a handshake that fails.
import { credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { isOfNode } from '../../api/access/names.js';
import type { ExplainRequest, ExplainResponse } from '../../api/gen/mesh/v1/explain.js';
import { NodeStatusClient, type StatusResponse } from '../../api/gen/mesh/v1/status.js';
import { EXPLAIN_MS, HOP_MS } from '../../api/grpc/explain-time.js';
import { failureReason } from '../../api/grpc/failure.js';
import { parseHostPort } from '../../api/host-port.js';
import type { ControllerIdentity } from './controller-identity.js';
import { Refusal } from './unary.js';

const DEADLINE_MS = 3_000;
const MAX_BYTES = 64 << 20;

type Ask<Response> = (
  client: NodeStatusClient,
  options: { readonly deadline: number },
  done: (error: ServiceError | null, response: Response) => void,
) => void;

export const forStatus: Ask<StatusResponse> = (client, options, done) => client.get({}, new Metadata(), options, done);

export function toExplain(request: ExplainRequest): Ask<ExplainResponse> {
  return (client, _options, done) => client.explain(request, new Metadata(), { deadline: Date.now() + EXPLAIN_MS + HOP_MS }, done);
}

/** Throws Refusal. */
export function askNode<Response>(identity: ControllerIdentity, node: string, address: string, ask: Ask<Response>): Promise<Response> {
  const { proof } = identity;
  if (proof === null) throw new Refusal(status.UNAVAILABLE, 'this controller has no certificate yet');
  if (address === '')
    throw new Refusal(status.FAILED_PRECONDITION, `node ${node} told no status address: start its agent with --status-advertise ADDRESS`);
  if (address.startsWith('unix:'))
    throw new Refusal(status.FAILED_PRECONDITION, `node ${node} tells its status on its own host alone, at ${address}`);
  // gRPC knows more kinds of addresses: what a node makes up leads nowhere else.
  if (parseHostPort(address) === null)
    throw new Refusal(
      status.FAILED_PRECONDITION,
      `node ${node} told "${address}" as its status address: expected host:port (--status-advertise)`,
    );
  const proved = credentials.createSsl(Buffer.from(proof.authorities.join('')), Buffer.from(proof.key), Buffer.from(proof.certificate), {
    checkServerIdentity: (_, { subjectaltname }) =>
      isOfNode(subjectaltname, node)
        ? undefined
        : new Error(`it is not node ${node} that answers there, but ${subjectaltname ?? 'somebody else'}`),
  });
  const client = new NodeStatusClient(address, proved, {
    'grpc.enable_http_proxy': 0,
    'grpc.service_config_disable_resolution': 1,
    'grpc.use_local_subchannel_pool': 1,
    'grpc.max_receive_message_length': MAX_BYTES,
    // Its certificate is looked at above.
    'grpc.ssl_target_name_override': 'node.weft.internal',
  });
  return new Promise((resolve, reject) => {
    ask(client, { deadline: Date.now() + DEADLINE_MS }, (error, response) => {
      client.close();
      if (error === null) resolve(response);
      else if (error.code === status.INVALID_ARGUMENT) reject(new Refusal(status.INVALID_ARGUMENT, error.details));
      else reject(new Refusal(status.UNAVAILABLE, `node ${node} does not answer at ${address}: ${failureReason(error.details)}`));
    });
  });
}
