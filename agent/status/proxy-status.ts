// Asks the proxy of this node for its state and metrics, on its unix socket. A proxy that is absent or hangs is an answer, not an error.
import { credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import type { ExplainRequest, ExplainResponse } from '../../api/gen/mesh/v1/explain.js';
import { type ProxyMetrics, type ProxyState, ProxyStatusClient } from '../../api/gen/mesh/v1/status.js';
import { EXPLAIN_MS } from '../../api/grpc/explain-time.js';
import { channelOptions, describeError } from '../link/link.js';

const DEADLINE_MS = 1_000;

export type ProxyAnswer<T> = { readonly kind: 'ok'; readonly value: T } | { readonly kind: 'unavailable'; readonly reason: string };

type Unary<T> = (deadline: { deadline: number }, callback: (error: ServiceError | null, value: T) => void) => void;

export class ProxyStatus {
  readonly #socket: string;

  /** `socket`: a path. */
  constructor(socket: string) {
    this.#socket = socket;
  }

  get(): Promise<ProxyAnswer<ProxyState>> {
    return this.#ask((client) => (options, callback) => client.get({}, new Metadata(), options, callback));
  }

  /** Refused: in the proxy's words. */
  async explain(request: ExplainRequest): Promise<ProxyAnswer<ExplainResponse> | { readonly kind: 'refused'; readonly reason: string }> {
    let refusal = '';
    const answer = await this.#ask<ExplainResponse>(
      (client) => (options, callback) =>
        client.explain(request, new Metadata(), options, (error, value) => {
          if (error?.code === status.INVALID_ARGUMENT) refusal = error.details;
          callback(error, value);
        }),
      EXPLAIN_MS,
    );
    return refusal === '' ? answer : { kind: 'refused', reason: refusal };
  }

  metrics(): Promise<ProxyAnswer<ProxyMetrics>> {
    return this.#ask((client) => (options, callback) => client.metrics({}, new Metadata(), options, callback));
  }

  /** A connection a question: a kept one would sit out gRPC's reconnect backoff after the proxy's restart. */
  #ask<T>(method: (client: ProxyStatusClient) => Unary<T>, deadlineMs = DEADLINE_MS): Promise<ProxyAnswer<T>> {
    const client = new ProxyStatusClient(`unix:${this.#socket}`, credentials.createInsecure(), channelOptions);
    return new Promise((resolve) => {
      method(client)({ deadline: Date.now() + deadlineMs }, (error, value) => {
        client.close();
        resolve(error === null ? { kind: 'ok', value } : { kind: 'unavailable', reason: this.#explain(error, deadlineMs) });
      });
    });
  }

  #explain(error: ServiceError, deadlineMs: number): string {
    if (error.code === status.DEADLINE_EXCEEDED) {
      return `the proxy does not answer on ${this.#socket} within ${deadlineMs} ms: it hangs or the machine is overloaded; look at its log`;
    }
    if (error.code === status.UNAVAILABLE) {
      return `no proxy answers on ${this.#socket}: check that \`weft proxy\` runs with the same --run-dir (${describeError(error)})`;
    }
    return `the proxy's status on ${this.#socket} failed: ${describeError(error)}`;
  }
}
