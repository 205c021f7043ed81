// One check of one endpoint: TCP, HTTP or gRPC, each on a connection of its own, so that it also shows that new ones are accepted. Bounded in
// time and in what is read; never throws and leaves nothing open. Knows no thresholds.
import { request as httpRequest } from 'node:http';
import { connect as http2Connect } from 'node:http2';
import { request as httpsRequest } from 'node:https';
import { type Socket, connect as tcpConnect } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { type HealthCheck, HealthCheck_Type } from '../../api/gen/mesh/v1/model.js';
import { hostPort } from '../../api/host-port.js';

export interface ProbeTarget {
  readonly address: string;
  readonly port: number;
}

/** `detail`: why not, in words. */
export type ProbeResult = { readonly isWell: true } | { readonly isWell: false; readonly detail: string };

/** A finished probe calls `settle` once; the returned function ends it before. */
type Probe = (check: HealthCheck, target: ProbeTarget, settle: (result: ProbeResult) => void) => () => void;

const WELL: ProbeResult = { isWell: true };
const MAX_HEADER_BYTES = 16_384;
const MAX_DETAIL = 200;
/** Of an answer of grpc.health.v1; it has a handful. */
const MAX_GRPC_BYTES = 4_096;
const GRPC_PREFIX_BYTES = 5;

export function probe(check: HealthCheck, target: ProbeTarget, signal: AbortSignal): Promise<ProbeResult> {
  const start = check.type === HealthCheck_Type.HTTP ? probeHttp : check.type === HealthCheck_Type.GRPC ? probeGrpc : probeTcp;
  return new Promise((resolve) => {
    let isOver = false;
    const settle = (result: ProbeResult): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
      end();
      resolve(result);
    };
    const timer = setTimeout(() => settle(failed(`no answer within ${check.timeoutMs} ms`)), check.timeoutMs);
    const stop = (): void => settle(failed('the agent stops'));
    signal.addEventListener('abort', stop);
    // Before `start` has returned there is nothing to end.
    let end: () => void = () => {};
    try {
      end = start(check, target, settle);
    } catch (error) {
      // A server name that OpenSSL takes for none, and the like.
      settle(broken(error as Error));
    }
    if (isOver) end();
  });
}

function failed(detail: string): ProbeResult {
  return { isWell: false, detail: detail.slice(0, MAX_DETAIL) };
}

/** As the system words it: "connect ECONNREFUSED 10.0.0.1:80". */
function broken(error: Error): ProbeResult {
  return failed(error.message.replaceAll(/\s+/g, ' '));
}

/** What a server shows is not verified: nothing secret is sent to it, and the endpoint is not trusted for it. */
function tlsOptions({ serverName }: HealthCheck) {
  return { rejectUnauthorized: false, ...(serverName === '' ? {} : { servername: serverName }) };
}

const probeTcp: Probe = (check, { address, port }, settle) => {
  const socket: Socket = check.tls
    ? tlsConnect({ host: address, port, ...tlsOptions(check) }, () => settle(WELL))
    : tcpConnect({ host: address, port }, () => settle(WELL));
  socket.on('error', (error) => settle(broken(error)));
  return () => socket.destroy();
};

const probeHttp: Probe = (check, at, settle) => {
  const request = (check.tls ? httpsRequest : httpRequest)({
    host: at.address,
    port: at.port,
    path: check.path,
    headers: { host: check.host || hostPort(at.address, at.port), 'user-agent': 'weft-health-check', connection: 'close' },
    agent: false,
    maxHeaderSize: MAX_HEADER_BYTES,
    ...(check.tls ? tlsOptions(check) : {}),
  });
  request.on('response', ({ statusCode = 0 }) =>
    settle(isExpected(check, statusCode) ? WELL : failed(`HTTP ${statusCode} from ${check.path}`)),
  );
  // Answers that switch the protocol have no body to read, and are none that was asked for.
  request.on('upgrade', () => settle(failed(`HTTP 101 from ${check.path}`)));
  request.on('error', (error) => settle(broken(error)));
  request.end();
  return () => request.destroy();
};

/** As kubelet where nothing is said. */
function isExpected({ statuses }: HealthCheck, status: number): boolean {
  return statuses.length === 0 ? status >= 200 && status < 400 : statuses.some(({ first, last }) => status >= first && status <= last);
}

/** grpc.health.v1.Health/Check (github.com/grpc/grpc/blob/master/doc/health-checking.md), one call. */
const probeGrpc: Probe = (check, at, settle) => {
  const session = http2Connect(`${check.tls ? 'https' : 'http'}://${hostPort(at.address, at.port)}`, {
    settings: { enablePush: false },
    ...(check.tls ? { ...tlsOptions(check), ALPNProtocols: ['h2'] } : {}),
  });
  session.on('error', (error) => settle(broken(error)));
  session.on('close', () => settle(failed('the connection was closed before there was an answer')));
  const stream = session.request({
    ':method': 'POST',
    ':path': '/grpc.health.v1.Health/Check',
    'content-type': 'application/grpc',
    te: 'trailers',
    'user-agent': 'weft-health-check',
    'grpc-timeout': `${check.timeoutMs}m`,
  });
  const chunks: Buffer[] = [];
  let bytes = 0;
  let grpcStatus = '';
  let message = '';
  const read = (headers: Record<string, unknown>): void => {
    grpcStatus = String(headers['grpc-status'] ?? grpcStatus);
    message = String(headers['grpc-message'] ?? message);
  };
  stream.on('response', (headers) => {
    if (headers[':status'] !== 200) settle(failed(`HTTP ${headers[':status']} where gRPC was expected`));
    read(headers);
  });
  stream.on('trailers', read);
  stream.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > MAX_GRPC_BYTES) settle(failed('an answer too large for grpc.health.v1'));
    else chunks.push(chunk);
  });
  stream.on('error', (error) => settle(broken(error)));
  stream.on('end', () => settle(grpcResult(grpcStatus, message, Buffer.concat(chunks))));
  stream.end(grpcRequest(check.grpcService));
  return () => session.destroy();
};

/** HealthCheckRequest { string service = 1 } */
function grpcRequest(service: string): Buffer {
  const name = Buffer.from(service);
  // Its length, at most 255, as a varint.
  const length = name.length < 128 ? [name.length] : [(name.length & 0x7f) | 0x80, name.length >> 7];
  const message = name.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, ...length]), name]);
  const prefix = Buffer.alloc(GRPC_PREFIX_BYTES);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

/** HealthCheckResponse { ServingStatus status = 1 } */
const SERVING_STATUSES = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'] as const;

function grpcResult(status: string, message: string, body: Buffer): ProbeResult {
  if (status === '12') return failed('gRPC UNIMPLEMENTED: the server has no grpc.health.v1.Health');
  if (status === '5') return failed('gRPC NOT_FOUND: the server knows no service of that name');
  if (status !== '0') return failed(status === '' ? 'no gRPC status' : `gRPC status ${status}${message === '' ? '' : `: ${message}`}`);
  if (body.length < GRPC_PREFIX_BYTES || body[0] !== 0 || body.readUInt32BE(1) !== body.length - GRPC_PREFIX_BYTES) {
    return failed('an answer that is none of grpc.health.v1');
  }
  const fields = body.subarray(GRPC_PREFIX_BYTES);
  const serving = fields.length === 0 ? 0 : fields[0] === 0x08 ? (fields[1] ?? 0) : -1;
  return serving === 1 ? WELL : failed(`gRPC ${SERVING_STATUSES[serving] ?? 'an unknown status'}`);
}
