// For tests: a rate limit service that speaks Envoy's protocol (envoy.service.ratelimit.v3) over real gRPC and counts in memory, as
// envoyproxy/ratelimit does: by domain and descriptor, in whole units of time. What it was asked stands in `requests`.
import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData, status } from '@grpc/grpc-js';
import {
  RateLimitResponse_Code as Code,
  RateLimitRequest,
  RateLimitResponse,
  RateLimitResponse_RateLimit_Unit as Unit,
} from '../../api/gen/envoy/service/ratelimit/v3/rls.js';

const DEFINITION = {
  shouldRateLimit: {
    path: '/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit',
    requestStream: false,
    responseStream: false,
    requestSerialize: (value: RateLimitRequest) => Buffer.from(RateLimitRequest.encode(value).finish()),
    requestDeserialize: (bytes: Buffer) => RateLimitRequest.decode(bytes),
    responseSerialize: (value: RateLimitResponse) => Buffer.from(RateLimitResponse.encode(value).finish()),
    responseDeserialize: (bytes: Buffer) => RateLimitResponse.decode(bytes),
  },
};
type Descriptor = RateLimitRequest['descriptors'][number];

/** "key=value" of each entry, or "key" for any value. */
export interface ConfiguredLimit {
  readonly entries: readonly string[];
  readonly requestsPerHour: number;
}

export type Behaviour = 'counts' | 'is silent' | 'fails' | 'answers nonsense';

export class RateLimitService {
  readonly requests: RateLimitRequest[] = [];
  behaviour: Behaviour = 'counts';
  /** What each answer has beside its statuses. */
  more: Partial<Pick<RateLimitResponse, 'responseHeadersToAdd' | 'requestHeadersToAdd' | 'rawBody'>> = {};
  private readonly used = new Map<string, number>();

  private constructor(
    private readonly limits: readonly ConfiguredLimit[],
    private readonly server: Server,
    readonly port: number,
  ) {}

  /** `port`: 0: any. */
  static async start(limits: readonly ConfiguredLimit[], port = 0): Promise<RateLimitService> {
    const server = new Server();
    const bound = await new Promise<number>((resolve, reject) =>
      server.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error, found) =>
        error === null ? resolve(found) : reject(error),
      ),
    );
    const service = new RateLimitService(limits, server, bound);
    server.addService(DEFINITION, {
      shouldRateLimit: (call: ServerUnaryCall<RateLimitRequest, RateLimitResponse>, done: sendUnaryData<RateLimitResponse>) =>
        service.answer(call.request, done),
    });
    return service;
  }

  /** At once: what is under way is reset. */
  stop(): void {
    this.server.forceShutdown();
  }

  private answer(request: RateLimitRequest, done: sendUnaryData<RateLimitResponse>): void {
    this.requests.push(request);
    switch (this.behaviour) {
      case 'is silent':
        break;
      case 'fails':
        done({ code: status.UNAVAILABLE, details: 'not now' });
        break;
      case 'answers nonsense':
        done(null, RateLimitResponse.fromPartial({}));
        break;
      default:
        done(null, this.judge(request));
    }
  }

  private judge(request: RateLimitRequest): RateLimitResponse {
    const statuses = request.descriptors.map((descriptor) => this.count(request.domain, descriptor, Math.max(1, request.hitsAddend)));
    const overallCode = statuses.some(({ code }) => code === Code.OVER_LIMIT) ? Code.OVER_LIMIT : Code.OK;
    return RateLimitResponse.fromPartial({ overallCode, statuses, ...this.more });
  }

  private count(domain: string, { entries }: Descriptor, hits: number): RateLimitResponse['statuses'][number] {
    const limit = this.limits.find(
      (each) =>
        each.entries.length === entries.length &&
        each.entries.every((entry, i) => entry === entries[i]!.key || entry === `${entries[i]!.key}=${entries[i]!.value}`),
    );
    if (limit === undefined) return { code: Code.OK, currentLimit: undefined, limitRemaining: 0, durationUntilReset: undefined };
    const key = JSON.stringify([domain, entries]);
    const used = (this.used.get(key) ?? 0) + hits;
    this.used.set(key, used);
    return {
      code: used > limit.requestsPerHour ? Code.OVER_LIMIT : Code.OK,
      currentLimit: { requestsPerUnit: limit.requestsPerHour, unit: Unit.HOUR, name: '' },
      limitRemaining: Math.max(0, limit.requestsPerHour - used),
      durationUntilReset: { seconds: 1_234, nanos: 5 },
    };
  }
}
