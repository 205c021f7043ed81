// A line of the access log as a request to explain, and what the line itself says became of it. Knows no connection, asks nobody.
import type { ExplainRequest } from '../../api/gen/mesh/v1/explain.js';
import { EXIT_USAGE, Failure } from '../failure.js';

/** Response flags: whose fault it was, and what. */
const FLAGS: Readonly<Record<string, string>> = {
  NR: 'no rule was for it, or (502) its destination is in no registry and the workload may reach no other',
  UH: 'no endpoint of the service was ready',
  UF: 'no connection to an endpoint came about',
  UC: "the endpoint's connection broke before its answer was whole",
  UT: 'its time was over, or that of its last attempt',
  URX: 'as many attempts as it may have failed',
  DC: 'the client went away',
  DPE: 'it was no request that the proxy takes: its head, its framing, or its size',
  UPE: 'the answer of the endpoint was none that the proxy takes',
  UO: 'too much was under way: for a limit of its service (connections, requests, retries, adaptive admission), of its namespace, or of the whole proxy',
  LR: 'the proxy ended it: it was stopped, or had to give way',
  DT: 'the client was too slow to send it, or to take the answer',
  RL: 'a rate limit refused it',
  RLSE: 'the rate limit service gave no answer',
  FF: 'a filter failed on it, or on its answer',
};

export interface LoggedRequest {
  /** What became of it then, in words. */
  readonly outcome: string;
  /** Null: the line is not enough to ask what would become of it now. */
  readonly request: ExplainRequest | null;
}

/** `given`: what is said besides: of headers the line has two. */
export function readLogLine(text: string, given: Pick<ExplainRequest, 'from' | 'gateway' | 'headers' | 'body'>): LoggedRequest {
  let line: Readonly<Record<string, unknown>>;
  try {
    line = Object(JSON.parse(text)) as Record<string, unknown>;
  } catch {
    throw new Failure('--log: expected a line of the access log, which is JSON', EXIT_USAGE);
  }
  const of = (name: string): string => (typeof line[name] === 'string' ? (line[name] as string) : '');
  if (of('method') === '') throw new Failure('--log: the line is of a connection, not of a request', EXIT_USAGE);
  return { outcome: outcomeOf(line, of), request: requestOf(line, of, given) };
}

function outcomeOf(line: Readonly<Record<string, unknown>>, of: (name: string) => string): string {
  const flag = of('response_flag');
  const status = typeof line.status === 'number' && line.status > 0 ? `status ${line.status}` : 'no answer';
  const by = of('endpoint') === '' ? 'by the proxy itself' : `with ${of('endpoint')}`;
  const why = flag === '' || flag === '-' ? '' : `, ${flag}: ${FLAGS[flag] ?? 'a flag of another version'}`;
  const route = of('route') === '' ? '' : `, by ${of('route')}`;
  return `${status} ${by}${route}${why}`;
}

function requestOf(
  line: Readonly<Record<string, unknown>>,
  of: (name: string) => string,
  { from, gateway, headers, body }: Pick<ExplainRequest, 'from' | 'gateway' | 'headers' | 'body'>,
): ExplainRequest | null {
  // It was refused before anybody decided on it: what comes by the configuration is not what came of it.
  if (line.source === null) return null;
  const source = of('source');
  const isTls = of('tls_version') !== '';
  // TLS of captured clients is not read: it ended at a gateway.
  const isMesh = from !== '' || (gateway === '' && !isTls && source.includes('/'));
  const [address, port] = split(of('destination_address'));
  const [authority] = split(of('authority'));
  // A redirection on the way here may have changed nothing of it: where it was sent to says which service that is, or that it is none.
  const host = isMesh || authority === '' ? address : authority;
  if (host === '') return null;
  const scheme = isTls ? 'https' : 'http';
  const known = [
    { name: 'Host', value: of('authority') },
    { name: 'User-Agent', value: of('user_agent') },
    { name: 'X-Request-Id', value: of('request_id') },
  ].filter(({ name, value }) => value !== '' && !headers.some((header) => header.name.toLowerCase() === name.toLowerCase()));
  return {
    from: from === '' && isMesh ? source : from,
    gateway,
    method: of('method') === 'other' ? 'X-OTHER' : of('method'),
    url: `${scheme}://${host}:${port || '80'}${of('path')}`,
    headers: [...headers, ...known],
    body,
    client: split(of('client'))[0].replace(/^\[|\]$/g, ''),
    clientIdentity: of('client_identity'),
  };
}

/** Of "host", "host:port", "[v6]:port". */
function split(text: string): readonly [host: string, port: string] {
  const port = /:(\d+)$/.exec(text)?.[1];
  return port === undefined ? [text, ''] : [text.slice(0, -port.length - 1), port];
}
