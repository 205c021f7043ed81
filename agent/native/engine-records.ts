// The records that TypeScript and the C++ engine share, word by word: what waits for a decision, the decision, what has ended, the access log.
// native/src/core/records.h has the same words.

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
  /** A call of ours: PreviousToken is its number (Engine.call). */
  Call = 8192,
  /** Its body is held, whole: deferredBody() reads it. Of a held answer: that one's. */
  BodyHeld = 16384,
  /** It was longer than Decision.BodyBytes: it isn't. */
  BodyTooLong = 32768,
}
/** Ids of Descriptor.Method: the index. */
export const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'CONNECT', 'TRACE'] as const;

/** Words of the decision for the descriptor at the same position. All must be written, each time. */
export const DECISION_WORDS = 22;
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
  /** Of the body to hold, at most: the request's (COLLECT), or with its head the answer's; 0: none. */
  BodyBytes = 21,
}
/**
 * Decision.Target: not yet. The request waits, outside the batch, until its token is written to Engine.answered; then it is a descriptor
 * again (DescriptorFlag.Answered), of the tables of then. If it ends before that (the client went away; its time was over: 504, flag UT; no
 * room: 503, flag UO), it is a completion with this target and the token instead: every deferral ends in exactly one of the two.
 * The token's low DEFERRED_PLACE_BITS bits are a place below EngineLimits.maxDeferred that no other deferral has now, the rest, up to
 * 2^31, tells the uses of the place apart.
 */
export const DEFERRED = -2;
/**
 * Decision.Target: not yet. The request comes again with its body (DescriptorFlag.BodyHeld), or, if that is longer than Decision.BodyBytes, with what came
 * so far (BodyTooLong). Who expects a 100 (Continue) is told so. If it ends before that it is a completion with this target.
 */
export const COLLECT = -3;
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

/** Of the access log's ring, before its bytes. What is in it: native/src/core/access_log.h. */
export const ACCESS_LOG_HEADER_BYTES = 64;

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
  /** What takeCalls() has. */
  EndedCalls = 5,
}
