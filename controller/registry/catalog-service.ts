// Catalog over gRPC: maps answers to statuses. Reads; changes nothing.
import { type handleServerStreamingCall, type handleUnaryCall, type ServerWritableStream, status } from '@grpc/grpc-js';
import type { CatalogServer, ListEndpointsRequest, ListEndpointsResponse } from '../../api/gen/mesh/v1/registry.js';
import { Refusal, unary } from '../access/unary.js';
import type { LatestModel } from '../compile/latest-model.js';
import type { CompiledModel } from '../compile/model-compiler.js';
import { type Answer, listEndpoints, listServices } from './catalog.js';
import { type CatalogWatches, NOT_READY, STOPS, tagged, type Watched } from './catalog-watch.js';

type WatchCall = ServerWritableStream<ListEndpointsRequest, ListEndpointsResponse>;

const CODES = { 'not-found': status.NOT_FOUND, invalid: status.INVALID_ARGUMENT } as const;

export function createCatalogService(latest: LatestModel, watches: CatalogWatches): CatalogServer {
  return {
    listServices: asked(latest, listServices),
    listEndpoints: asked(latest, listEndpoints),
    watchEndpoints: watch(latest, watches),
  };
}

function asked<Request, Response>(
  latest: LatestModel,
  ask: (model: CompiledModel, request: Request) => Answer<Response>,
): handleUnaryCall<Request, Response> {
  return unary(async ({ request }) => {
    if (latest.model === null) throw new Refusal(status.UNAVAILABLE, NOT_READY);
    const answer = ask(latest.model, request);
    if (answer.kind === 'ok') return answer.value;
    throw new Refusal(CODES[answer.kind], answer.message);
  });
}

/** A slow reader gets the newest answer when it reads again, and none of those between. */
function watch(latest: LatestModel, watches: CatalogWatches): handleServerStreamingCall<ListEndpointsRequest, ListEndpointsResponse> {
  return (call: WatchCall) => {
    const refuse = (code: status, details: string): void => void call.emit('error', { code, details });
    const first = latest.model === null ? null : listEndpoints(latest.model, call.request);
    if (first === null) return refuse(status.UNAVAILABLE, NOT_READY);
    if (first.kind !== 'ok') return refuse(CODES[first.kind], first.message);
    let waiting: Watched | null = null;
    const send = (answer: Watched): void => {
      waiting = null;
      if (answer.kind === 'ok') call.write(answer.value);
      else refuse(CODES[answer.kind], answer.message);
    };
    const tell = (answer: Watched): void => {
      if (call.writableNeedDrain) waiting = answer;
      else send(answer);
    };
    const now = tagged(first.value);
    const close = watches.open(call.request, now, tell, () => refuse(status.UNAVAILABLE, STOPS));
    if (close === null) return refuse(status.RESOURCE_EXHAUSTED, 'too many watch at this controller: ask another replica');
    send(now);
    call.on('drain', () => {
      if (waiting !== null) send(waiting);
    });
    for (const event of ['cancelled', 'close', 'error', 'finish']) call.on(event, close);
  };
}
