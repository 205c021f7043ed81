// Unary gRPC calls of a worker's own, carried by the engine like any request: to the endpoints of a service of the mesh, balanced, pooled and
// secured as its clients' requests are. Owns which are open; knows no message and decides nothing.
import type { Engine } from '../native/engine.js';

/** Compressed or not, and the length. */
const PREFIX_BYTES = 5;
const OK = 0;
/** Numbers are positive in an Int32Array. */
const NUMBER_MASK = 0x7fffffff;

export interface CallPlan {
  /** "shop/limits:8081" */
  readonly service: string;
  readonly timeoutMs: number;
}

interface Open {
  readonly plan: CallPlan;
  /** Null: there is no answer. */
  readonly done: (message: Buffer | null) => void;
}

export class Calls {
  private readonly open = new Map<number, Open>();
  private next = 0;

  constructor(private readonly engine: Pick<Engine, 'call' | 'takeCalls'>) {}

  /** `path`: "/package.Service/Method". Resolves with the message of an answer with status OK, else with null; never rejects. */
  call(plan: CallPlan, path: string, message: Uint8Array): Promise<Buffer | null> {
    const number = this.next;
    this.next = (this.next + 1) & NUMBER_MASK;
    const head = [
      `POST ${path} HTTP/1.1`,
      `host: ${plan.service.replace(/^(.*)\/(.*):(\d+)$/, '$2.$1:$3')}`,
      'content-type: application/grpc',
      'te: trailers',
      'user-agent: weft',
      `grpc-timeout: ${plan.timeoutMs}m`,
      `content-length: ${PREFIX_BYTES + message.length}`,
    ];
    const prefix = Buffer.alloc(PREFIX_BYTES);
    prefix.writeUInt32BE(message.length, 1);
    const request = Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), prefix, message]);
    return new Promise((done) => {
      if (this.engine.call(number, request)) this.open.set(number, { plan, done });
      else done(null);
    });
  }

  /** Whom the call with that number is for: what its decision needs. */
  planOf(number: number): CallPlan | null {
    return this.open.get(number)?.plan ?? null;
  }

  /** Some have ended. */
  end(): void {
    for (const { number, grpcStatus, body } of this.engine.takeCalls()) {
      const open = this.open.get(number);
      this.open.delete(number);
      const isWhole =
        grpcStatus === OK && body.length >= PREFIX_BYTES && body[0] === 0 && body.readUInt32BE(1) === body.length - PREFIX_BYTES;
      open?.done(isWhole ? body.subarray(PREFIX_BYTES) : null);
    }
  }
}
