// The boundary between TypeScript and the C++ engine, whole: every function that crosses, with the records that are shared (engine-records.ts) and what the
// engine is configured with (engine-tables.ts). native/src/napi/engine_binding.cc defines the same functions in the same order.
// Plain data only; absent is null, never an optional property. Validation and defaults stay on this side.
import type { ConnectionFailures, ListenerProtocol, ListenerTlsSpec, TableSpec, TlsContextSpec } from './engine-tables.js';

export * from './engine-records.js';
export * from './engine-tables.js';

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

export type HeadLimits = Pick<EngineLimits, 'maxHeadBytes' | 'maxHeaders'>;

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
  /**
   * Of ConnectionPolicySpec, over a SharedArrayBuffer that all workers share: how many requests wait; then, for each endpoint that `outstanding` has, open
   * connections and requests that wait for one; then, for each service, the same two, and connections and requests that were refused, wrapping.
   */
  readonly connectionCounts: Int32Array;
  /** One slot a counter of `counterNames()`, then the open connections by listener id, as far as it reaches; over a SharedArrayBuffer; only this engine writes it. */
  readonly counters: Float64Array;
  /** MAX_TENANTS × TENANT_WORDS, over a SharedArrayBuffer; only this engine writes it. */
  readonly tenants: Float64Array;
  /** Ring of access log records (for AccessLogLines.take()), ACCESS_LOG_HEADER_BYTES + a power of two ≥ 4096 bytes over a SharedArrayBuffer; null: no access log. Refused heads, on which nobody decides, are in it always. */
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
  /**
   * Every connection begins with a PROXY protocol header (v1 or v2), whose source is the client, and is refused without: only where none but
   * trusted proxies connect.
   */
  readonly proxyProtocol: boolean;
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
  /** Since the last call: for logs. The counters have all. */
  takeFailures(): ConnectionFailures;
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
  /** The body that is held of it, or of its held answer, without framing, bytes as characters. null: none is. */
  deferredBody(token: number): string | null;
  /** In place of that body; the head says its length. HTTP/1's trailers of a request are dropped. Returns what is wrong: nothing was changed then. */
  replaceBody(token: number, body: Buffer): string | null;
  /** What a local decision without a LocalReply says: header lines as above, a body, and what a gRPC client is told (-1: by the status). */
  replyDeferred(token: number, lines: string, body: Buffer, grpcStatus: number): string | null;
  /** Adds to its answer, whoever gives it: lines "+name: value", each with LF. Returns what is wrong, as changeDeferred(). */
  answerDeferred(token: number, lines: string): string | null;
  /**
   * Sends a unary gRPC call of our own: head and body as HTTP/1 has them, whole. It stands in a batch (DescriptorFlag.Call) and goes where the
   * decision says. False: as many are under way as may be.
   */
  call(number: number, request: Buffer): boolean;
  /** Calls that have ended since, each once; call it for Header.EndedCalls. */
  takeCalls(): EndedCall[];
  /** Connections open now, downstream. */
  connections(): number;
  /** Idempotent. Closes every socket and leaves the event loop free to end. */
  close(): void;
}

export interface EndedCall {
  readonly number: number;
  /** -1: there is no whole answer of gRPC. */
  readonly grpcStatus: number;
  /** As it came: a byte, a length of four, and the message. */
  readonly body: Buffer;
}

/** On which a request came, in the words of its descriptor. */
export interface DescribedConnection {
  readonly listenerId: number;
  readonly destinationId: number;
  readonly sourceId: number;
  /** Of the client's TLS, which ends here; empty: none was sent; null: plain text. */
  readonly serverName: string | null;
  /** Of the client, or what trusted proxies say; null: unknown. */
  readonly clientAddress: string | null;
  /** Of its verified certificate; null: there is none. */
  readonly clientIdentity: string | null;
}
export interface DescribedRequest {
  /** As Engine.deferredHead() gives it, without what is known of the client. */
  readonly head: string;
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
   * A request head as an engine with these tables would describe it for the decision, its descriptor at the start of all three; or the status by
   * which an engine with these limits refuses it.
   */
  describeRequest(tables: number, connection: DescribedConnection, head: Uint8Array, limits: HeadLimits): DescribedRequest | number;
  /** The head as Engine.changeDeferred() would leave it, or what is wrong with the changes. Throws on what is no head. */
  changeHead(head: Uint8Array, changes: string, limits: HeadLimits): Buffer | string;
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
  /** What each of them counts, in the same order. */
  counterHelp(): readonly string[];
  /** What malloc has given out in the whole process: engines, TLS, Node.js itself. Not what it keeps free, nor JavaScript's heaps. */
  nativeHeapBytes(): number;
}
