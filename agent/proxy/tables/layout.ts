// What stands where in the decision tables of a generation (decision-tables.ts): their sections, and the words of a row of each.
// Knows nothing of the model they were compiled from nor of the engine's own tables.

/** Sections in the order in which they lie in the buffer. Each is an Int32Array of rows as described by the enums below. */
export const SECTIONS = [
  'listeners',
  'scopes',
  'destinations',
  'sources',
  'hostParents',
  'pathParents',
  'pathLengths',
  'hostIndex',
  'pathIndex',
  'nodes',
  'predicates',
  'sourceSets',
  'sourceTenants',
  'sourceEgress',
  'outside',
  'sourceKeys',
  'sessionEndpoints',
  'consumers',
  'sourceClients',
  'clientClusters',
  'actions',
  'backends',
  'extras',
  'mirrors',
  'origins',
  'sizes',
  'clusters',
  'members',
  'balancers',
  'groups',
  'hashTables',
  'cookies',
  'guards',
  'plans',
  'attemptPlans',
] as const;
export type Section = (typeof SECTIONS)[number];
export type Sections = Readonly<Record<Section, ArrayLike<number>>>;

/** Listener ids are 0 … MAX_LISTENERS - 1, and there is a row for each. */
export const MAX_LISTENERS = 256;
export const LISTENER_WORDS = 3;
export const enum ListenerWord {
  Kind = 0,
  /** Gateway listeners: row in scopes. */
  Scope = 1,
  /** Gateway listeners: class of clients, as in sourceClients. */
  Client = 2,
}
export const enum ListenerKind {
  None = 0,
  Gateway = 1,
  Outbound = 2,
  Inbound = 3,
}

export const SCOPE_WORDS = 4;
export const enum ScopeWord {
  /** Where requests go when no rule matches; -1: nowhere, 404. PASS_ON: to where they were sent. */
  DefaultCluster = 0,
  /** Label of the destination when no rule matches. */
  Label = 1,
  /** Where connections that are not read go when no rule matches; -1: they are reset. PASS_ON: to where they were made. */
  DefaultOpaque = 2,
  /** 1: clients of some namespaces have a scope of their own (consumers). */
  HasConsumers = 3,
}

/** In place of a cluster, for captured clients alone: the connection's own destination. */
export const PASS_ON = -2;

export const DESTINATION_WORDS = 7;
export const enum DestinationWord {
  /** Row in scopes; -1: an address that is delivered to as it is. */
  Scope = 0,
  /** 1: a captured workload of this node owns the address. */
  IsLocal = 1,
  ServiceLabel = 2,
  WorkloadLabel = 3,
  /** Row in guards, of what comes in; 0: none. */
  Guard = 4,
  /** Set of rate limits of the service that the address is an endpoint of; -1: none. */
  Limits = 5,
  /** Scope of the hosts outside of the mesh with its port, one of which has the address; -1: none has. */
  Outside = 6,
}

// Sections that are indexes (pair-index.ts). hostIndex: (scope, host id or -1) → row × 8 + HostFlag. consumers: (scope, tenant of the
// client) → its scope instead. clientClusters: (row in clusters, class of the client) → the row it has instead. outside: (port, 0) →
// scope of the hosts outside of the mesh. pathIndex: (row, path id, or WHOLE_CONNECTION) → first node.

/** In place of a path: rules for connections that are not read. */
export const WHOLE_CONNECTION = -1;
/** In place of a path: rules that are found by none, tried in their order after exact paths and before prefixes. */
export const ANY_PATH = -3;
export const enum HostFlag {
  /** A more general host must not be tried. */
  Stop = 1,
  /** It has rules under ANY_PATH. */
  Listed = 2,
  /** Requests that none of its rules matches are not found, whatever there is for more general hosts. */
  Final = 4,
}
export const HOST_FLAG_BITS = 3;

/** One match of one rule, in a chain of those with the same scope, host and path, in order of precedence. */
export const NODE_WORDS = 6;
export const enum NodeWord {
  Path = 0,
  /** Descriptor.Method; -1: any. */
  Method = 1,
  /** Offset in predicates; -1: none. There: ConditionWord. */
  Predicates = 2,
  /** Row in actions. */
  Action = 3,
  /** Stable id under which requests are counted and logged. */
  RuleId = 4,
  /** Row in nodes; -1: the last. */
  Next = 5,
}
export const enum NodePath {
  Prefix = 0,
  Exact = 1,
  /** The path and one slash. */
  ExactSlash = 2,
  /** Its condition tells. */
  Any = 3,
}
export const enum ConditionWord {
  /** How many × (word of the bit set, mask, what it must be); they come first. */
  Bits = 0,
  /** How many × (Subject, pattern, 1: it must match, 0: it must not); they come next. */
  Patterns = 1,
  /** Row in sourceSets that the client must be in; -1: any. */
  Sources = 2,
  Rest = 3,
}
/** What a pattern is tested on: ≥ 0 an index in TableSpec.values. */
export const enum Subject {
  Nothing = -1,
  Path = -2,
  /** Without its port. */
  Authority = -3,
  Scheme = -4,
  Method = -5,
}

export const ACTION_WORDS = 6;
export const enum ActionWord {
  /** First row in backends, and how many. */
  Backends = 0,
  BackendCount = 1,
  /** 0: no backend can be chosen. */
  TotalWeight = 2,
  TimeoutMs = 3,
  AttemptTimeoutMs = 4,
  /** Row in extras; -1: none. */
  Extras = 5,
}

export const BACKEND_WORDS = 9;
export const enum BackendWord {
  /** Sum of the weights up to and with this one. */
  UpTo = 0,
  /** -1: resolves to nothing, or answers by itself. */
  Cluster = 1,
  RequestMutation = 2,
  ResponseMutation = 3,
  /** Index in TableSpec.rewrites, pattern that makes the path anew; -1: none. */
  Rewrite = 4,
  Replacement = 5,
  /** Index in TableSpec.localReplies, answered with Status; -1: none. */
  Reply = 6,
  Status = 7,
  /** Row in extras, of which CORS and mirrors count: they are this backend's, the action's has none. -1: nothing. */
  Extras = 8,
}

/** What few rules have. */
export const EXTRAS_WORDS = 14;
export const enum ExtrasWord {
  /** Offset in origins; -1: no CORS. */
  Cors = 0,
  /** First row in mirrors, and how many. */
  Mirrors = 1,
  MirrorCount = 2,
  /** Index in TableSpec.retries; -1: none. Attempts beyond the first. */
  Retry = 3,
  RetryAttempts = 4,
  /** Both shares in parts of a million. */
  DelayMs = 5,
  DelayParts = 6,
  AbortReply = 7,
  AbortStatus = 8,
  AbortParts = 9,
  /** Set of rate limits; -1: none. */
  Limits = 10,
  /** Index in DecisionTables.sessions; -1: none. */
  Session = 11,
  /** Index in FilterTables.chains; -1: none. */
  Filters = 12,
  /** See RetryPlace. */
  RetryPlace = 13,
}
/** Where further attempts of a request go. */
export const enum RetryPlace {
  /** To an endpoint that it hasn't been at, of the nearest locality that has one. */
  Untried = 0,
  /** Wherever the balancer says. */
  Anywhere = 1,
  /** As Untried; from the second repetition on of a locality that it hasn't been in. */
  Remote = 2,
  /** As Untried, of the locality of the first attempt alone. */
  Near = 3,
}

export const MIRROR_WORDS = 4;
export const enum MirrorWord {
  Cluster = 0,
  /** Share in parts of a million. */
  Parts = 1,
  RequestMutation = 2,
  Rewrite = 3,
}

/** At an offset in origins, before the patterns. */
export const enum OriginsWord {
  /** Index in TableSpec.cors. */
  Cors = 0,
  /** 1: preflight requests of other origins go on. */
  ForwardsUnmatched = 1,
  /** Subjects: Origin, Access-Control-Request-Method. */
  Origin = 2,
  RequestMethod = 3,
  PatternCount = 4,
  Patterns = 5,
}

export const enum SizesWord {
  /** Words of a request's bit set. */
  Predicates = 0,
  /** Words of a row in sourceSets. */
  SourceSet = 1,
  /** 1: requests come with values behind their bit sets. */
  HasValues = 2,
  /** 1: there are hosts outside of the mesh. */
  HasOutside = 3,
  /** 1: some clients have other clusters than the rest. */
  HasClients = 4,
}

export const CLUSTER_WORDS = 11;
export const enum ClusterWord {
  Balancing = 0,
  /** First row in members, and how many. Only endpoints that take new work; with a balancer, also those that may have to. */
  Members = 1,
  MemberCount = 2,
  TotalWeight = 3,
  /** 1: every member has the same weight. */
  IsEven = 4,
  Label = 5,
  /**
   * Row in clusters that holds the members with IPv4 addresses alone; the next row holds those with IPv6; all where there are none.
   * Captured connections choose there: their upstream socket is bound to the client's address, of the other version only where it must be.
   */
  Families = 6,
  /** Row in balancers; -1: the words above say all. */
  Balancer = 7,
  /** Row of the same cluster in the generation before, if it had the same members; -1: there is none. */
  Previous = 8,
  /** Row in guards; 0: none. */
  Guard = 9,
  /** Set of the service's rate limits; -1: none. Held here for members with IsLast. */
  Limits = 10,
}
export const enum Balancing {
  RoundRobin = 1,
  Random = 2,
  LeastRequest = 3,
  PeakEwma = 4,
  RingHash = 5,
  Maglev = 6,
  Passthrough = 7,
}

export const MEMBER_WORDS = 7;
export const enum MemberWord {
  EndpointId = 0,
  Weight = 1,
  UpTo = 2,
  IsLocal = 3,
  Label = 4,
  /** 0: it fails its checks. */
  IsReady = 5,
  /** 1: no other proxy stands between this one and the endpoint. */
  IsLast = 6,
}

/** What few clusters have: how members are chosen that differ by place, by load or by what is known of them now. */
export const BALANCER_WORDS = 11;
export const enum BalancerWord {
  /** See Balancing. */
  Kind = 0,
  /** Of least request: so many are compared; ALL_CHOICES; 0: all of a few, two of many. */
  Choices = 1,
  /** What requests are told apart by, a Subject; Subject.Nothing: nothing. */
  Subject = 2,
  /** Of the subject, a Cookie header, the cookie that counts: offset in cookies; -1: all of the subject counts. */
  Cookie = 3,
  /** See Failover of the model. */
  Failover = 4,
  PanicPercent = 5,
  /** First row in groups, and how many. */
  Groups = 6,
  GroupCount = 7,
  /** 1: groups have shares; 0: they are priorities, the first is used first. */
  HasShares = 8,
  /** 1: members may be cold (EndpointStates). */
  HasSlowStart = 9,
  /** 1: members have the weights that their reports give them (EndpointStates.loadWeight). */
  HasReports = 10,
}
export const ALL_CHOICES = -1;

export const GROUP_WORDS = 5;
export const enum GroupWord {
  /** First row in members, and how many. */
  Members = 0,
  MemberCount = 1,
  Share = 2,
  /** Offset in hashTables, and how many points (ring) or slots (Maglev); 0: none. See tables/hash-tables.ts. */
  Table = 3,
  TableSize = 4,
}

/** At an offset in cookies; then the bytes of the three texts, one a word. */
export const enum CookieWord {
  NameLength = 0,
  /** What stands before and behind the value of the Set-Cookie line; both 0: none is given. */
  PrefixLength = 1,
  SuffixLength = 2,
  Texts = 3,
}

/** Limits of a cluster's requests, and outlier detection: where their state is, and what tells a request's criticality. Row 0 is nobody's. */
export const GUARD_WORDS = 11;
export const enum GuardWord {
  /** Row in ResilienceState. */
  Row = 0,
  /** Classes of criticality, the most critical first; 0: all requests are alike. */
  Classes = 1,
  /** Of requests that no mask is for. */
  DefaultClass = 2,
  /** Of each class: word and mask in the request's bit set. */
  Masks = 3,
}

/** What few clusters' policies say of further attempts of a request. */
export const PLAN_WORDS = 10;
export const enum PlanWord {
  /** Of the cluster, the same in every generation. */
  Label = 0,
  /** Index in TableSpec.retries, and attempts beyond the first, where the rule says nothing; -1: nor does the policy. */
  Retry = 1,
  RetryAttempts = 2,
  /** Of one attempt, where the rule says nothing; 0: no limit. */
  AttemptTimeoutMs = 3,
  /** 1: there are second attempts of late requests. */
  Hedges = 4,
  /** When a request is late; or the percentile of what answers take, else 0. */
  HedgeAfterMs = 5,
  HedgePercentile = 6,
  /** Second attempts to a million requests. */
  HedgeParts = 7,
  HedgesAnyMethod = 8,
  /** Of a request during which nobody does anything; 0: the proxy's own. */
  IdleTimeoutMs = 9,
}

/** Indexes of the bodies of our own answers, the same in every generation. */
export const enum Reply {
  /** As the decision's other words say. */
  None = -1,
  NoRoute = 0,
  NoEndpoint = 1,
  NoBackend = 2,
  Misdirected = 3,
  Preflight = 4,
  NotRewritten = 5,
  Overflow = 6,
  NotInRegistry = 7,
  RateLimited = 8,
  FilterFailed = 9,
  RateLimitFailed = 10,
  BodyTooLarge = 11,
}
