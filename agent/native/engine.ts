// The boundary between TypeScript and the C++ engine, whole: every function that crosses and every record that is shared.
// native/src/napi/engine_binding.cc defines the same functions in the same order; native/src/core/records.h the same words.
// Plain data only; absent is null, never an optional property. Validation and defaults stay on this side.

/** Words (Int32) of a request or connection that waits for a decision. Valid until the decision callback returns. */
export const DESCRIPTOR_WORDS = 24;
export const enum Descriptor {
  /** Engine's own handle of the stream (slot, then its generation). */
  Slot = 0,
  SlotGeneration = 1,
  /** Byte offset and length in `arena` of the request head; length 0 for an opaque connection. */
  HeadOffset = 2,
  HeadLength = 3,
  /** See StreamKind. */
  Kind = 4,
  /** See METHODS; 255 for any other token. */
  Method = 5,
  ListenerId = 6,
  /** Index in TableSpec.destinations of the original destination; -1 if none there. Always -1 on gateway listeners. */
  DestinationId = 7,
  /** Index in TableSpec.hosts: exact before the longest "*." suffix; -1 if none. */
  HostId = 8,
  /** Index in TableSpec.paths of the longest registered path that is a whole-element prefix of the request's; -1 if none. */
  PathId = 9,
  /** See DescriptorFlag. */
  Flags = 10,
  /**
   * Word offset in `predicates` of this request's bit set (bit i: TableSpec.predicates[i] holds), as many words as all predicates take.
   * Where there are TableSpec.values, behind it: how many of them the request has, then of each its index, offset in `arena` (-1: there was
   * no room for it) and length. -1: no bit is set, and it has none of the values.
   */
  PredicateOffset = 11,
  /** Index in TableSpec.sources of the client's address; -1 if none there. */
  SourceId = 12,
  /** Content-Length clipped to 2^31-1; -1 for chunked; 0 for none. */
  BodyLength = 13,
  /** Path without the query, byte offset and length in `arena`. */
  PathOffset = 14,
  PathLength = 15,
  /** Authority as sent (host and port), byte offset and length in `arena`. */
  AuthorityOffset = 16,
  AuthorityLength = 17,
  /** How many attempts this request has had; 0 the first time. */
  Attempt = 18,
  /** Random 31 bits, so that TypeScript needs no generator of its own. */
  Random = 19,
  /** Target and Token of the attempt that failed; -1 and 0 the first time. Its `outstanding` is already given back. */
  PreviousTarget = 20,
  PreviousToken = 21,
  /** Index in TableSpec.hosts of the server name (SNI) that the client asked for, terminated or passing through; -1: none sent or none there. */
  ServerNameId = 22,
  /** Index in TableSpec.identities of the client's verified SPIFFE ID; -1: none verified, or none there. */
  PeerIdentityId = 23,
}
export const MAX_TRIED = 16;
export const enum StreamKind {
  Http1 = 0,
  Http2 = 1,
  /** A TCP connection whose bytes are not read. */
  Opaque = 2,
}
export const enum DescriptorFlag {
  /** PathId is the request's path itself. */
  PathExact = 1,
  HasBody = 2,
  Upgrade = 4,
  /** "/.", "//", "\\", "%2e", "%2f" or "%5c" stands in the path: the upstream may see another path than the one matched. */
  PathAmbiguous = 8,
  /** The client's TLS ends here. */
  Tls = 16,
  /** The client's TLS passes through: ServerNameId is what its ClientHello says, unverified. */
  TlsPassthrough = 32,
  /** Its decision was deferred, and the token (PreviousToken) written to `answered`. PreviousTarget is DEFERRED. */
  Answered = 64,
  /**
   * Opaque, as long as the client's first bytes aren't HTTP: a completion of kind Settled or Abandoned says which. What is answered locally
   * is abandoned in any case: the connection comes again, as what it is.
   */
  Tentative = 128,
  /** The first request of a connection whose tentative decision it takes the place of: PreviousTarget, an endpoint, was chosen then, and is perhaps connected. */
  Dialled = 256,
  /** A copy of a request: PreviousToken is the number of its mirror (Decision.Mirrors). Its answer goes nowhere. */
  Mirror = 512,
  /**
   * A second attempt, beside the one at PreviousTarget, which is under way. Whichever answers first counts, the other one is Abandoned. Answered
   * locally: there is none, and no completion.
   */
  Hedge = 1024,
  /** A decision before had DecisionFlag.Filtered. */
  Filtered = 2048,
  /**
   * The answer of a request that was decided with Decision.AnswerFilters, which PathId says again, and HostId AnswerService. It is held until it is
   * decided on: put off (DEFERRED), as any request; given in its place (answered locally; the attempt is then Abandoned); else let go.
   */
  HeldAnswer = 4096,
}
/** Ids of Descriptor.Method: the index. */
export const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'CONNECT', 'TRACE'] as const;

/** Words of the decision for the descriptor at the same position. All must be written, each time. */
export const DECISION_WORDS = 21;
export const enum Decision {
  /** ≥ 0: an EndpointSpec.id. -1: the connection's original destination. DEFERRED. ≤ -100: answer locally with status -value (opaque: reset). */
  Target = 0,
  /** See DecisionFlag. */
  Flags = 1,
  /** Returned in the completion, and in another descriptor of the request. */
  Token = 2,
  /** Index in TableSpec.mutations; -1: none. */
  RequestMutation = 3,
  ResponseMutation = 4,
  /** The whole exchange, ms; 0: the engine's default. */
  TimeoutMs = 5,
  /** One attempt, ms; 0: none. Of a deferred decision: how long it may take, at most and by default EngineLimits.deferredTimeoutMs. */
  AttemptTimeoutMs = 6,
  /** Index in TableSpec.localReplies; -1: an empty body. */
  LocalReply = 7,
  /** Returned in the access log record. */
  RouteId = 8,
  /** From here on: read with DecisionFlag.Extended alone. Index in TableSpec.rewrites; -1: none. */
  Rewrite = 9,
  /** Path to send instead, in `texts`: offset × 65,536 + length; 0: none. */
  Text = 10,
  /** Index in TableSpec.cors, of a request whose Origin may know, or of its preflight (answered locally); -1: none. */
  Cors = 11,
  /** Of the first mirror, TypeScript's own number of it; bit i of the mask: a copy of the request is decided on as mirror Mirrors + i. */
  Mirrors = 12,
  MirrorMask = 13,
  /** Index in TableSpec.retries: after which ends of the attempt another is made, as long as DecisionFlag.Retry is set; -1: those of the default. */
  Retry = 14,
  /** Before anything is done with the request. */
  DelayMs = 15,
  /** Complete header lines for the answer, whoever gives it, in `texts`: as Text. Of each decision on the request the last ones hold. */
  AnswerLines = 16,
  /** After so long without an answer a second attempt is asked for (DescriptorFlag.Hedge); 0: never. */
  HedgeMs = 17,
  /** Instead of EngineLimits.streamIdleTimeoutMs; 0: that. */
  IdleTimeoutMs = 18,
  /** The final answer's head, where an upstream gives one, is held for another decision (DescriptorFlag.HeldAnswer); TypeScript's own numbers. -1: it is not. */
  AnswerFilters = 19,
  AnswerService = 20,
}
/**
 * Decision.Target: not yet. The request waits, outside the batch, until its token is written to Engine.answered; then it is a descriptor
 * again (DescriptorFlag.Answered), of the tables of then. If it ends before that (the client went away; its time was over: 504, flag UT; no
 * room: 503, flag UO), it is a completion with this target and the token instead: every deferral ends in exactly one of the two.
 * The token's low DEFERRED_PLACE_BITS bits are a place below EngineLimits.maxDeferred that no other deferral has now, the rest, up to
 * 2^31, tells the uses of the place apart.
 */
export const DEFERRED = -2;
export const DEFERRED_PLACE_BITS = 16;

export const enum DecisionFlag {
  /** Upstream socket is transparent and bound to the client's address (pools are then per client address). */
  BindClient = 1,
  /** SO_MARK 1: hand to the local pod that owns the destination. */
  MarkDeliver = 2,
  /** SO_MARK 2: re-enter the host as if sent by the pod that owns the source. */
  MarkInject = 4,
  /** Write an access log record at the end. */
  Log = 8,
  /**
   * Another attempt may be made: the request then comes back as a descriptor with Attempt + 1. Without Decision.Retry: where nothing was
   * sent, or the method is idempotent and nothing came.
   */
  Retry = 16,
  /** The words from Decision.Rewrite on are written; they are none otherwise. */
  Extended = 32,
  /** Its completion comes with the batch of the tick in which it ends, and not with the next one that there happens to be. */
  Prompt = 64,
  /** The request's filters have seen it: all its later descriptors say so (DescriptorFlag.Filtered). */
  Filtered = 128,
  /** What the answer says of its endpoint's load (ORCA) is read, and stands in the completion. */
  ReadLoad = 256,
}

/** Words of a finished request or connection. */
export const COMPLETION_WORDS = 16;
export const enum Completion {
  /** As decided; -1 original destination; DEFERRED; ≤ -100 local. */
  Target = 0,
  Token = 1,
  /** HTTP status sent downstream; 0 for opaque or when none was sent. */
  Status = 2,
  /** See CompletionReason: why it ended other than well; 0 if well. */
  Reason = 3,
  /** µs from the first byte of the head (or accept) to the last byte of the answer. */
  LatencyUs = 4,
  /** µs from the decision to the first byte of the upstream's answer; -1 if none came. Of an Abandoned one: until another answered first, else -1. */
  FirstByteUs = 5,
  /** Bytes read from downstream / written to it, low and high 32 bits. */
  ReceivedLow = 6,
  ReceivedHigh = 7,
  SentLow = 8,
  SentHigh = 9,
  Attempts = 10,
  /** See CompletionKind. */
  Kind = 11,
  /** Of a gRPC call, gRPC-Web's too: 0 to 16, what the client was told (1: it went away); -1: no gRPC. */
  GrpcStatus = 12,
  /**
   * Bits of a Float32 each, finite and at least 0: what the endpoint said of its load, where DecisionFlag.ReadLoad asked; all 0: nothing of use.
   * How busy it is (1: all of its CPU), its requests and its errors per second.
   */
  Utilization = 13,
  RequestsPerSecond = 14,
  ErrorsPerSecond = 15,
}
/**
 * Every decision for an endpoint ends in one Ended, Abandoned or Failed. Of Settled and Abandoned only Target and Token have a meaning, and of
 * Abandoned FirstByteUs; of Failed also the load, Status and GrpcStatus (of the answer that was not taken, else what a client is told for want of one),
 * Reason (0: there was an answer) and Attempts.
 */
export const enum CompletionKind {
  Ended = 0,
  /** The decision was tentative and holds: its connection is opaque, and will end. */
  Settled = 1,
  /** Whom it was for has gone before it was carried out; or it was tentative and is none any more; or another attempt answered first. */
  Abandoned = 2,
  /** It failed (DecisionFlag.Retry): the request stands in a batch again, or has ended meanwhile, with a target of -1. */
  Failed = 3,
}
/** Why an exchange did not go well; the names are Envoy's response flags, and ours: FF, a filter failed. Order shared with native (X-macro in reasons.h). */
export const COMPLETION_REASONS = [
  '',
  'NR',
  'UH',
  'UF',
  'UC',
  'UT',
  'URX',
  'DC',
  'DPE',
  'UPE',
  'UO',
  'LR',
  'DT',
  'RL',
  'RLSE',
  'FF',
] as const;

/**
 * Int32 words at the start of the access log ring. Positions count bytes and wrap at 2^32 (`>>> 0`); the bytes of position p lie at
 * ACCESS_LOG_HEADER_BYTES + p % capacity, where capacity, a power of two, is the rest of the ring. The reader loads Written and stores
 * Read with Atomics.
 */
export const ACCESS_LOG_HEADER_BYTES = 64;
export const enum AccessLogRing {
  Written = 0,
  Read = 1,
  Dropped = 2,
}
/**
 * Int32 words of an access log record. "F64": a Float64 that takes two words (not 8-byte aligned in the record: read it with a DataView,
 * little endian). Addresses are 16 bytes, IPv4 as v4-mapped. After the fixed words: the texts in the order of their lengths, latin1 bytes.
 */
export const ACCESS_LOG_RECORD_WORDS = 42;
export const enum AccessLogRecord {
  /** Bytes of the whole record, a multiple of 8. */
  Size = 0,
  /** See AccessLogKind. */
  Kind = 1,
  /** F64: Unix time in ms of the first byte of the head, or of accept. */
  StartedMs = 2,
  LatencyUs = 4,
  FirstByteUs = 5,
  Status = 6,
  Reason = 7,
  Target = 8,
  Token = 9,
  RouteId = 10,
  ListenerId = 11,
  Method = 12,
  Attempts = 13,
  /** F64: bytes read from downstream. */
  Received = 14,
  /** F64: bytes written to downstream. */
  Sent = 16,
  ClientAddress = 18,
  /** Original destination; the listener's own address on gateway listeners. */
  DestinationAddress = 22,
  /** "::" when none was reached for. */
  UpstreamAddress = 26,
  ClientPort = 30,
  DestinationPort = 31,
  UpstreamPort = 32,
  /** Generation of the tables of the last attempt. */
  Generation = 33,
  /** Path with its query. */
  PathLength = 34,
  /** Of an opaque connection: the server name of its TLS. */
  AuthorityLength = 35,
  UserAgentLength = 36,
  /** What the client sent, else what the gateway made. */
  RequestIdLength = 37,
  GrpcMessageLength = 38,
  /** As Completion.GrpcStatus. */
  GrpcStatus = 39,
  /** Of the client's verified certificate: the first URI among its names (its SPIFFE ID), else the first DNS name, else the subject. */
  ClientIdentityLength = 40,
  /** 0x0303: TLS 1.2; 0x0304: 1.3; 0: none that ends here. */
  TlsVersion = 41,
}
export const enum AccessLogKind {
  /** Fills the ring up to its end: skip it. */
  Filler = 0,
  Http1 = 1,
  Opaque = 2,
  Http2 = 3,
}

/** Int32 words of `header`. */
export const enum Header {
  RequestCount = 0,
  CompletionCount = 1,
  /** Generation of the tables that this batch's ids belong to. */
  Generation = 2,
  /** Tokens in `answered`: TypeScript counts up, the engine takes them all at its next tick. */
  AnsweredCount = 3,
  /** Bytes of `texts` that decisions of this batch use: TypeScript counts up. */
  TextBytes = 4,
}

/** Everything the engine looks up by name. Plain arrays; an index is the id used in descriptors and decisions of that generation. */
export interface TableSpec {
  readonly generation: number;
  /** Lower case, no port; "*.example.com" for a suffix. */
  readonly hosts: readonly string[];
  /** Without a trailing slash (except "/"). */
  readonly paths: readonly string[];
  readonly predicates: readonly PredicateSpec[];
  /** What TypeScript looks at itself of requests; at most MAX_VALUES. */
  readonly values: readonly ValueSpec[];
  readonly destinations: readonly DestinationSpec[];
  /** Addresses of known clients, IPv4 or IPv6 text. One source may stand at several indexes. */
  readonly sources: readonly string[];
  /** By source: the index of an address of the other IP version that the same client has; -1: none. What is missing has none. */
  readonly sourceTwins: readonly number[];
  /** SPIFFE IDs of known clients. */
  readonly identities: readonly string[];
  readonly endpoints: readonly EndpointSpec[];
  readonly mutations: readonly MutationSpec[];
  readonly localReplies: readonly LocalReplySpec[];
  readonly rewrites: readonly RewriteSpec[];
  readonly cors: readonly CorsSpec[];
  readonly retries: readonly RetrySpec[];
  /** Tenants of what stands at the same index of sources and destinations, and of listeners by their id: 1 … MAX_TENANTS - 1, or 0 for nobody's. What is missing is nobody's. */
  readonly sourceTenants: readonly number[];
  readonly destinationTenants: readonly number[];
  readonly listenerTenants: readonly number[];
  /** By tenant id: MIN_TENANT_WEIGHT … MAX_TENANT_WEIGHT, its share of a worker's time against the others'; 0, and what is missing: 100. */
  readonly tenantWeights: readonly number[];
  /** That captured DNS queries for an address are answered for, lower case, without the last dot; all others are passed on. */
  readonly names: readonly { readonly name: string; readonly addresses: readonly string[] }[];
}
/**
 * Whoever shares the worker with others: its turns, its limits, its account. A connection is its source's (outbound), its destination's
 * (inbound) or its listener's (gateway).
 */
export const MAX_TENANTS = 1_024;
export const MIN_TENANT_WEIGHT = 10;
export const MAX_TENANT_WEIGHT = 1_000;
/** Float64 words of a tenant's account. */
export const TENANT_WORDS = 7;
export const enum TenantWord {
  /** Downstream, open now. */
  Connections = 0,
  /** In flight. */
  Requests = 1,
  /** Time of the worker that its turns took, µs. */
  CpuUs = 2,
  RefusedConnections = 3,
  RefusedRequests = 4,
  /** Of memory, held now: what waits to be sent, heads that are not whole, what is kept for another attempt. */
  BufferedBytes = 5,
  /** Requests. */
  RefusedForBuffers = 6,
}
export interface PredicateSpec {
  /** grpcMethod: the second of a path's two elements. */
  readonly kind: 'header' | 'query' | 'method' | 'grpcMethod';
  /** Lower case for headers; empty for a method, of HTTP or gRPC. */
  readonly name: string;
  /** Exact value. Several fields of one name are compared as one list joined by ",". */
  readonly value: string;
}
export interface DestinationSpec {
  readonly address: string;
  readonly port: number;
  readonly protocol: ListenerProtocol;
}
/**
 * http: HTTP/1 or HTTP/2, by the client's first bytes or what TLS negotiated. detect: that or opaque, known while the connection is
 * decided (DescriptorFlag.Tentative) and dialled as opaque; it stays opaque if the server speaks first or nobody does within
 * EngineLimits.detectTimeoutMs. detect-first: nothing is decided before the client has spoken or that time is over. Declared protocols
 * never wait.
 */
export type ListenerProtocol = 'http1' | 'http2' | 'http' | 'opaque' | 'detect' | 'detect-first';
/** Ids are stable over generations: pools and `outstanding` belong to the id. An id that a generation lacks is drained. */
export interface EndpointSpec {
  readonly id: number;
  readonly address: string;
  readonly port: number;
  /**
   * http2: with prior knowledge, or by ALPN over TLS (whose context must offer h2). opaque: CONNECT ends in the engine and its bytes go to the
   * endpoint as they are, other requests are sent as http1, or as http2 if that was detected of their client. Opaque connections don't look at it.
   */
  readonly protocol: 'http1' | 'http2' | 'opaque';
  /** null: plain text. */
  readonly tls: EndpointTlsSpec | null;
  /** The header that begins every connection and names the client; HTTP connections then serve that client's connection alone. null: none. */
  readonly proxyProtocol: 'v1' | 'v2' | null;
}
export interface EndpointTlsSpec {
  /** Of createTlsContext() with role client. The tables keep it alive. */
  readonly context: number;
  /** Sent as SNI (unless it is an address); null: none. */
  readonly serverName: string | null;
  /** Any one suffices. Empty: the certificate must carry serverName; that must not be null then. */
  readonly accepts: readonly PeerMatch[];
}
/** An identity that a verified certificate may have, among its SANs. trustDomain: any SPIFFE ID of it. */
export interface PeerMatch {
  readonly kind: 'spiffeId' | 'trustDomain' | 'dnsName';
  readonly value: string;
}
/** TLS 1.2 and 1.3. Texts are PEM. */
export interface TlsContextSpec {
  readonly role: 'server' | 'client';
  /** Server: at least one; a client's server name chooses. Client: at most one, its own. */
  readonly certificates: readonly TlsCertificateSpec[];
  /** The only roots that are trusted, intermediates as they stand. null: a server that asks for no certificates. */
  readonly trust: string | null;
  /** In order of preference; a client that offers only others is refused. Empty: none. */
  readonly alpn: readonly string[];
  /** Server names whose TLS ends elsewhere (ListenerTlsSpec, by-server-name). "*." stands for one label or more, "" for all other names. */
  readonly passthrough: readonly string[];
  /** Server only. optional: one that is sent must be good. fallback: whoever shows none, or a bad one, is let in without an identity. */
  readonly clientCertificates: 'none' | 'optional' | 'required' | 'fallback';
  /** Any one suffices, of every peer; empty: whoever the trust bundle vouches for. */
  readonly accepts: readonly PeerMatch[];
  /** 3 × 80 bytes: current, previous, next; the same in every process that shall resume the others' sessions. null: keys of this context's own. */
  readonly ticketKeys: Uint8Array | null;
}
export interface TlsCertificateSpec {
  /** Lower case; "*.example.com" for one label. Empty: for clients that name no other; without such a one they are refused. */
  readonly serverNames: readonly string[];
  /** Leaf first. */
  readonly chain: string;
  readonly key: string;
  /** Server: of the handshakes it answers. null: both versions, all cipher suites. */
  readonly limits: TlsLimits | null;
}
export interface TlsLimits {
  readonly minVersion: '1.2' | '1.3';
  readonly maxVersion: '1.2' | '1.3';
  /** By their names at IANA, in order of preference; empty: all (TLS_CIPHER_SUITES). A version that none is for is not spoken. */
  readonly cipherSuites: readonly string[];
}
/**
 * terminate: all is TLS. permissive: TLS or plain by the first bytes. passthrough: the ClientHello is read, the bytes go on as they are.
 * by-server-name: passthrough for those names of the context, terminate for all others.
 */
export type ListenerTlsSpec =
  | { readonly mode: 'terminate' | 'permissive' | 'by-server-name'; readonly context: number }
  | { readonly mode: 'passthrough'; readonly context: null };
/** Why TLS failed; order shared with native (X-macro in tls_spec.h). The counters tls_failures_… have the same names. */
export const TLS_FAILURES = [
  '',
  'truncated',
  'not-tls',
  'version',
  'negotiation',
  'unknown-server-name',
  'no-certificate',
  'untrusted',
  'expired',
  'wrong-identity',
  'peer-alert',
  'bad-record',
  'protocol',
  'timed-out',
  'flood',
] as const;
export interface TlsFailure {
  readonly reason: (typeof TLS_FAILURES)[number];
  readonly side: 'downstream' | 'upstream';
  /** "::" if the peer was gone already. */
  readonly address: string;
  readonly port: number;
  /** OpenSSL's reason, or the engine's. */
  readonly text: string;
}
export interface MutationSpec {
  /** Lower-case names. Applied in the order remove, set, add. Hop-by-hop names and Host are refused. */
  readonly remove: readonly string[];
  readonly set: readonly (readonly [name: string, value: string])[];
  readonly add: readonly (readonly [name: string, value: string])[];
}
export interface LocalReplySpec {
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: string;
  /** Location is written. */
  readonly redirect: RedirectSpec | null;
  /** What a gRPC client is told; -1: what follows from the status. */
  readonly grpcStatus: number;
  /** What the report says: an index in COMPLETION_REASONS. */
  readonly reason: number;
}
/**
 * Values of one name are joined by "," (Cookie over HTTP/2: "; "); of a query parameter the first counts, as it was sent. clientAddress: 16
 * bytes, IPv4 mapped, of whom the request comes from (behind trusted proxies: of whom they say); it has no name.
 */
export interface ValueSpec {
  readonly kind: 'header' | 'query' | 'clientAddress';
  readonly name: string;
}
export const MAX_VALUES = 64;
/** Distinct names of headers in predicates and values, and as many of query parameters. */
export const MAX_MATCHED_NAMES = 1_024;
/** `value` and, with `keepsRest`, all of the path but its first `skip` bytes; begins with "/" always. Its query stays, unless `value` has one. */
export interface PathChange {
  readonly value: string;
  readonly skip: number;
  readonly keepsRest: boolean;
}
export interface RewriteSpec {
  /** Host to send; empty: the request's. */
  readonly authority: string;
  readonly path: PathChange | null;
}
export interface RedirectSpec {
  readonly scheme: 'http' | 'https';
  /** Empty: the request's. */
  readonly host: string;
  /** 0: none is written. PORT_OF_REQUEST: the one that the client's authority names. */
  readonly port: number;
  readonly path: PathChange | null;
}
export const PORT_OF_REQUEST = -1;
export interface CorsSpec {
  readonly credentials: boolean;
  /** ["*"]: any. */
  readonly methods: readonly string[];
  readonly headers: readonly string[];
  readonly expose: readonly string[];
  /** Seconds; 0: nothing is said. */
  readonly maxAge: number;
}
/** After which ends of an attempt another is made, as long as the decision allows one (DecisionFlag.Retry). */
export interface RetrySpec {
  /** Of answers that are not taken while another attempt may be made; the same for gRPC, where the answer's head says it (trailers-only). */
  readonly statuses: readonly number[];
  readonly grpcStatuses: readonly number[];
  /** No connection was made. */
  readonly connectFailure: boolean;
  /** The upstream says that it did nothing with the request. */
  readonly refused: boolean;
  /** It ended without an answer, or its time was over. */
  readonly reset: boolean;
  /** 429 with x-envoy-ratelimited; without it such an answer is always taken. */
  readonly rateLimited: boolean;
  /** Also methods that are not idempotent. */
  readonly anyMethod: boolean;
  /** A Retry-After in seconds is waited for, up to a minute. grpc-retry-pushback-ms always is. */
  readonly heedsRetryAfter: boolean;
  /** Before the next attempt, doubled each time up to ten times as much, and up to a quarter more by chance. */
  readonly backoffMs: number;
}

/** Bounds and times; every one is enforced. 0 means off only where said. */
export interface EngineLimits {
  readonly maxConnections: number;
  readonly maxHeadBytes: number;
  readonly maxHeaders: number;
  /** Bytes waiting for one slow reader before its source is no longer read. */
  readonly maxBufferedBytes: number;
  readonly maxIdlePerEndpoint: number;
  /** HTTP/2 streams of one client connection at once; at most 1,000. */
  readonly maxStreams: number;
  readonly headerTimeoutMs: number;
  /** A connection without a request. */
  readonly idleTimeoutMs: number;
  /** A request whose client neither sends its body nor takes its answer. */
  readonly streamIdleTimeoutMs: number;
  readonly upstreamIdleTimeoutMs: number;
  readonly connectTimeoutMs: number;
  /** The whole exchange where the decision says 0; 0: off. */
  readonly requestTimeoutMs: number;
  /** An opaque connection without a byte either way; 0: off. */
  readonly tcpIdleTimeoutMs: number;
  /** Until a protocol that nobody declared is taken for opaque. 0: detect is opaque at once, and detect-first waits 100 ms. */
  readonly detectTimeoutMs: number;
  /** Requests and connections whose decision is deferred, at once; at most 16,384. */
  readonly maxDeferred: number;
  readonly deferredTimeoutMs: number;
  /** Of one tenant; more are closed as they come. 0: no limit. */
  readonly maxTenantConnections: number;
  /** Of one tenant, in flight; more are answered 503 with Retry-After, flag UO. 0: no limit. */
  readonly maxTenantRequests: number;
  /**
   * Of one tenant: while so much waits, its requests are answered 503 with Retry-After, flag UO, and no more than 16 KiB wait for each of
   * its slow readers. 0: no limit.
   */
  readonly maxTenantBufferedBytes: number;
}

/** What an engine sheds, the cheapest first; each does what those before it do, too. Order shared with native (overload.h). */
export const enum OverloadLevel {
  None = 0,
  /** Connections that rest are closed, clients' and pooled ones, the oldest first; less is buffered. */
  ShrinkIdle = 1,
  /** New connections wait in the kernel's queue. */
  StopAcceptingConnections = 2,
  /** New requests are answered 503 with Retry-After, flag UO. */
  StopAcceptingRequests = 3,
}
/** Why: the counters shed_WHAT_REASON have the same names. Order shared with native (X-macro in counters.h). */
export const OVERLOAD_REASONS = ['memory', 'descriptors', 'loop_delay'] as const;

export interface EngineOptions {
  readonly limits: EngineLimits;
  /** Requests in flight by endpoint id, over a SharedArrayBuffer that all workers share. TypeScript adds on pick (Atomics), the engine subtracts at the end. */
  readonly outstanding: Int32Array;
  /** One slot a counter of `counterNames()`, then the open connections by listener id, as far as it reaches; over a SharedArrayBuffer; only this engine writes it. */
  readonly counters: Float64Array;
  /** MAX_TENANTS × TENANT_WORDS, over a SharedArrayBuffer; only this engine writes it. */
  readonly tenants: Float64Array;
  /** Ring of access log records (AccessLogRing), ACCESS_LOG_HEADER_BYTES + a power of two ≥ 4096 bytes over a SharedArrayBuffer; null: no access log. */
  readonly accessLog: Uint8Array | null;
  /** Where this worker beats, every 100 ms, for the redirection programs: the pinned `workers` map, its slot and how many there are; null: nowhere. */
  readonly heartbeat: { readonly map: string; readonly slot: number; readonly slots: number } | null;
  /**
   * For the processes of the host's own namespace: a descriptor of it, that of the channel to weft-netns, SO_MARK of connections there
   * (CaptureOpenOptions.hostMark) and the pinned `host_flows` map; null: no such listeners.
   */
  readonly host: { readonly netns: number; readonly sockets: number; readonly mark: number; readonly flows: string } | null;
  /** This hop's name in the Via of what is passed on, requests and answers; null: none is added. */
  readonly via: string | null;
  /** Source address of a connection whose client is also its destination (the kernel calls the pod's own address martian): IPv4 and IPv6 text. */
  readonly hairpin: { readonly v4: string; readonly v6: string };
}

/**
 * What is done with X-Forwarded-Client-Cert: Envoy's forward_client_cert_details. sanitize: clients' is dropped. forward-only: it goes on
 * from clients whose certificate was verified. append-forward: so it does, and theirs is told behind it. sanitize-set: theirs alone is
 * told. always-forward-only: it goes on from every client.
 */
export const FORWARD_CLIENT_CERT = ['sanitize', 'forward-only', 'append-forward', 'sanitize-set', 'always-forward-only'] as const;
export type ForwardClientCert = (typeof FORWARD_CLIENT_CERT)[number];

/** What a gateway believes of what it is told of clients, and tells of them. */
export interface ForwardingSpec {
  /**
   * 0: the edge; what clients say in X-Forwarded-* and Forwarded is dropped, X-Forwarded-For and -Proto are made. N up to 16: that many
   * proxies stand in front; X-Forwarded-For is appended to, its Nth address from the right is the client in the access log. Both make an
   * X-Request-Id where there is none.
   */
  readonly trustedHops: number;
  readonly clientCert: ForwardClientCert;
}

/** Of a listener, what can be set while it is open. */
export interface ListenerSettings {
  /** null: plain text. The listener keeps the context alive. */
  readonly tls: ListenerTlsSpec | null;
  /** null: fields are left as they come (captured traffic keeps the client's address by itself). */
  readonly forwarding: ForwardingSpec | null;
}

export interface ListenerSpec extends ListenerSettings {
  readonly id: number;
  /**
   * gateway: routes by Host alone. outbound, inbound: captured traffic, the socket is transparent and keeps the original destination.
   * host-outbound, host-inbound: of processes in the host's own namespace, where the socket is opened.
   * pod-outbound, pod-inbound: in the pod's namespace, where address translation leads there.
   * dns: captured queries over UDP; of the rest only sockmap has a meaning.
   */
  readonly kind: 'gateway' | 'outbound' | 'inbound' | 'dns' | 'host-outbound' | 'host-inbound' | 'pod-outbound' | 'pod-inbound';
  /** Of the kinds pod-…, null of others. */
  readonly pod: PodScope | null;
  readonly address: string;
  /** 0: the kernel chooses; see listen()'s result. */
  readonly port: number;
  /** Protocol of connections whose destination is not in the tables. */
  readonly protocol: ListenerProtocol;
  /** Every connection begins with a PROXY protocol header (v1 or v2) and is refused without: only where none but trusted proxies connect. */
  readonly proxyProtocol: boolean;
  /** Register in this pinned SOCKMAP at this key, so that the redirection programs find it; null: don't. */
  readonly sockmap: { readonly map: string; readonly key: number } | null;
}

/** A pod's network namespace, in which sockets are opened. */
export interface PodScope {
  /** Listeners with the same key share what the first one was given. */
  readonly key: number;
  /** Descriptor of the namespace; the engine duplicates it. */
  readonly netns: number;
  /** Descriptor of the channel to weft-netns, which opens sockets there. */
  readonly sockets: number;
  /** SO_MARK of connections that leave from there, for the rules to let by. */
  readonly mark: number;
}

export interface SharedListener {
  readonly id: number;
  /** PodScope.key of a pod's; null: of none. */
  readonly pod: number | null;
  /** ListenerSpec.sockmap's key; null: not registered. */
  readonly sockmapKey: number | null;
  readonly descriptor: number;
}

/** One reactor in one worker thread. Its methods may be called on that thread only. */
export interface Engine {
  /** Views of engine memory, valid until close(). */
  readonly header: Int32Array;
  /** [0]: µs since an arbitrary epoch (monotonic), at the start of the batch. */
  readonly clock: Float64Array;
  readonly descriptors: Int32Array;
  readonly decisions: Int32Array;
  readonly completions: Int32Array;
  readonly predicates: Int32Array;
  /** Tokens of deferred decisions that can be made now; one word a token, written at any time on the engine's thread. */
  readonly answered: Int32Array;
  /** MAX_TRIED words a descriptor that has Attempt > 0: the endpoints of the attempts before, all of which failed, up to the first -1. */
  readonly tried: Int32Array;
  /** Where decisions' texts stand (Decision.Text). */
  readonly texts: Uint8Array;
  readonly arena: Uint8Array;
  /** Throws an Error with `code` (EADDRINUSE, EACCES, …) and the address. Returns the port. */
  listen(listener: ListenerSpec): number;
  /**
   * Goes on with a listening socket that another process opened (and registered, where the spec names a sockmap). The descriptor is the
   * engine's from then on, also when it throws: EINVAL, EADDRNOTAVAIL or EXDEV if it does not listen, on that address, in this network
   * namespace, or the pod's. Both processes accept from it until one closes it. Returns the port.
   */
  adopt(listener: ListenerSpec, descriptor: number): number;
  /** Duplicates of the listening sockets in the proxy's own namespace, for another process; the caller's to close. */
  shareListeners(): SharedListener[];
  /** Accepts what waits, then no more; open connections go on. */
  unlisten(id: number): void;
  /** Closes the pod's listeners and resets its connections: nothing here holds its namespace any more. */
  leavePod(key: number): void;
  /** Connections accepted from now on use it; open ones keep what they began with. False: no such listener. */
  setListener(id: number, settings: ListenerSettings): boolean;
  /** The failures since the last call, the first 64 of them: for logs. The counters have all. */
  takeTlsFailures(): TlsFailure[];
  /** The next batch sees these tables. The handle comes from createTables() on any thread. */
  useTables(handle: number): void;
  /**
   * Accepts what waits, then no more; stops the heartbeat; answers with "connection: close" and GOAWAY. Connections that are idle for
   * `idleMs` to twice that are closed: a request that is under way when it begins is still answered. Bytes that are not HTTP are left alone.
   */
  drain(idleMs: number): void;
  /** In force until the next call; `reason` is an index in OVERLOAD_REASONS. Each call above None closes some of what rests: repeat it. */
  setOverload(level: OverloadLevel, reason: number): void;
  /**
   * While a request is deferred under the token: its head as it is sent, lines "name: value" LF, bytes as characters. First what HTTP/2 has
   * as pseudo-header fields (":method", ":path" with the query, ":authority"), then ":source-address" and ":source-identity". null: it waits
   * no more, or is no request.
   */
  deferredHead(token: number): string | null;
  /**
   * The head of the answer that is held for it (DescriptorFlag.HeldAnswer), as above, first ":status". null: none is.
   */
  deferredAnswer(token: number): string | null;
  /**
   * Changes its head, or of a held answer that one's: lines "-name" (remove), "=name: value" (set), "+name: value" (add), ":path: /a?b", ":authority: host" (a request's), ":status: 404" (an answer's), each with LF.
   * What belongs to one hop can't be changed. `reroutes`: rules match the request as it is now. Returns what is wrong: nothing was changed then.
   */
  changeDeferred(token: number, changes: string, reroutes: boolean): string | null;
  /** What a local decision without a LocalReply says: header lines as above, a body, and what a gRPC client is told (-1: by the status). */
  replyDeferred(token: number, lines: string, body: Buffer, grpcStatus: number): string | null;
  /** Connections open now, downstream. */
  connections(): number;
  /** Idempotent. Closes every socket and leaves the event loop free to end. */
  close(): void;
}

/** On which a request came, in the words of its descriptor. */
export interface DescribedConnection {
  readonly listenerId: number;
  readonly destinationId: number;
  readonly sourceId: number;
  /** Of the client's TLS, which ends here; empty: none was sent; null: plain text. */
  readonly serverName: string | null;
}
export interface DescribedRequest {
  readonly descriptor: Int32Array;
  readonly predicates: Int32Array;
  readonly arena: Uint8Array;
}

export interface EngineAddon {
  /** The process becomes that program (execv), its first word a path: does not return. Throws with `code` when it can't. */
  become(command: readonly string[]): never;
  /** Builds the lookup tables, on any thread; one build serves every worker. Throws on a bad spec. */
  createTables(spec: TableSpec): number;
  /** Freed when no engine uses it any more. */
  releaseTables(handle: number): void;
  /**
   * A request head as an engine with these tables would describe it for the decision, its descriptor at the start of all three. Throws an
   * Error with the status by which such a head is refused.
   */
  describeRequest(tables: number, connection: DescribedConnection, head: Uint8Array): DescribedRequest;
  /** A TLS configuration, built on any thread, shared by every worker. Throws on a bad spec; never logs keys. */
  createTlsContext(spec: TlsContextSpec): number;
  /** Freed when no listener, table or connection uses it any more. */
  releaseTlsContext(handle: number): void;
  /** Rotates the ticket keys of a context that was given keys; every worker uses them from the next handshake on. */
  setTicketKeys(handle: number, ticketKeys: Uint8Array): void;
  /** Starts the engine on this thread's event loop. `decide` is called once a tick: it must fill every decision and must not throw. */
  createEngine(options: EngineOptions, decide: () => void): Engine;
  /** Names of EngineOptions.counters, in order. */
  counterNames(): readonly string[];
  /** What malloc has given out in the whole process: engines, TLS, Node.js itself. Not what it keeps free, nor JavaScript's heaps. */
  nativeHeapBytes(): number;
}
