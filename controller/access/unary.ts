// Unary calls as functions that return or throw: the one place where a refusal becomes a gRPC status.
import { type handleUnaryCall, type ServerUnaryCall, type sendUnaryData, status } from '@grpc/grpc-js';
import { messageOf } from '../../api/message-of.js';
import { StoreError } from '../store/etcd-client.js';

/** Thrown by a handler: what the caller hears. */
export class Refusal extends Error {
  constructor(
    readonly code: status,
    message: string,
  ) {
    super(message);
  }
}

export function unary<Request, Response>(
  handle: (call: ServerUnaryCall<Request, Response>) => Promise<Response>,
): handleUnaryCall<Request, Response> {
  return (call, done: sendUnaryData<Response>) => {
    // A throw before its first await is a refusal like any other.
    const answer = async (): Promise<Response> => handle(call);
    answer().then(
      (response) => done(null, response),
      (error: unknown) => {
        const code = error instanceof Refusal ? error.code : error instanceof StoreError ? status.UNAVAILABLE : status.INTERNAL;
        done({ code, details: messageOf(error) });
      },
    );
  };
}
