// What the C++ engine is configured with: its tables of one generation, and TLS contexts. Plain data, in which absent is null.

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
  /** null: none. */
  readonly connections: ConnectionPolicySpec | null;
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
  /** Client only. false: whoever answers is spoken to, whatever its certificate; `trust` is not looked at. */
  readonly verifiesServer: boolean;
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
export type ProxyHeaderRefusal = 'absent' | 'malformed' | 'too-long' | 'truncated' | 'timed-out';
export interface ConnectionFailure<Reason extends string> {
  readonly reason: Reason;
  readonly side: 'downstream' | 'upstream';
  /** Of the peer; "::" if it was gone already. */
  readonly address: string;
  readonly port: number;
  /** Where a downstream peer wanted to go; otherwise "::" and 0. */
  readonly localAddress: string;
  readonly localPort: number;
  /** OpenSSL's reason, or the engine's. */
  readonly text: string;
}
export type TlsFailure = ConnectionFailure<(typeof TLS_FAILURES)[number]>;
/** The first 64 of each kind. */
export interface ConnectionFailures {
  readonly tls: readonly TlsFailure[];
  readonly proxyHeaders: readonly ConnectionFailure<ProxyHeaderRefusal>[];
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
  /** Lower case: answers that have one of them are not taken, whatever their status. */
  readonly headers: readonly string[];
  /** So are those that have one that the request names in x-envoy-retriable-header-names; that of clients of an edge is not looked at. */
  readonly requestNamesHeaders: boolean;
  /** Also methods that are not idempotent. */
  readonly anyMethod: boolean;
  /** A Retry-After in seconds is waited for, up to a minute. grpc-retry-pushback-ms always is. */
  readonly heedsRetryAfter: boolean;
  /** Before the next attempt, doubled each time up to ten times as much, and up to a quarter more by chance. */
  readonly backoffMs: number;
}

/**
 * How connections to a service's endpoints are opened, kept and limited; counted over all workers. -1: no limit. A request that needs one connection more waits,
 * and is answered 503 with flag UO where as many wait already as may; a connection that isn't HTTP is reset. Times of 0 are EngineLimits'.
 */
export interface ConnectionPolicySpec {
  /** Which of the services in EngineOptions.connectionCounts it is. */
  readonly service: number;
  readonly maxConnections: number;
  readonly maxPending: number;
  /** Of each endpoint. */
  readonly maxEndpointConnections: number;
  readonly maxEndpointPending: number;
  /** Over one connection, then it is closed; 0: any number. */
  readonly maxRequests: number;
  /** HTTP/2, over one connection at once; 0: as many as the peer allows. */
  readonly maxStreams: number;
  readonly connectTimeoutMs: number;
  /** Without a request; of what is not HTTP, without bytes. */
  readonly idleTimeoutMs: number;
  readonly tcpIdleTimeoutMs: number;
  /** Then an HTTP connection takes no more requests, and what is not HTTP is reset; 0: none. */
  readonly maxDurationMs: number;
  /** TCP keepalive; 0: the kernel's own; all 0: none. */
  readonly keepaliveTimeS: number;
  readonly keepaliveIntervalS: number;
  readonly keepaliveProbes: number;
}
