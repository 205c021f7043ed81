// What clients of HTTP APIs have in common: connections to one server, a request, an answer that is read within bounds. Knows no API; retries nothing.
import { type Agent, type ClientRequest, Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { type AgentOptions, Agent as HttpsAgent, request as httpsRequest, type RequestOptions } from 'node:https';
import { VERSION } from '../../api/version.js';

export const OK = 200;
export const JSON_HEADERS = { accept: 'application/json', 'user-agent': `weft/${VERSION}` } as const;

/** The answer is more than the caller has room for. */
export class TooLarge extends Error {}

/** Keeps connections to a server, "http://…" or "https://…". */
export function openPool(server: string, options: AgentOptions): Agent {
  const kept = { ...options, keepAlive: true };
  return isTls(server) ? new HttpsAgent({ ...kept, minVersion: 'TLSv1.2' }) : new HttpAgent(kept);
}

export function isTls(url: string): boolean {
  return url.startsWith('https:');
}

/** The head of the answer. `limit` is told of the request before it is sent, to end it when its time is over. */
export function send(
  url: string,
  options: RequestOptions,
  body: Buffer | null,
  limit: (request: ClientRequest) => void,
): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = isTls(url) ? httpsRequest(url, options) : httpRequest(url, options);
    request.on('error', reject);
    request.on('response', (response) => {
      // Its reader hears of an error while it reads; one that comes later is nobody's.
      response.on('error', () => undefined);
      resolve(response);
    });
    limit(request);
    request.end(body);
  });
}

/** Throws TooLarge. */
export async function readText(answer: IncomingMessage, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new TooLarge(`an answer of more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
