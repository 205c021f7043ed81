// The contract between a Weft proxy and the module of a Filter. Types alone: a module imports nothing else, and nothing of this remains
// in what is run.

/** Exported as `onRequest`: called once for a request, before its backend is chosen. Nothing returned: the request goes on as it is. */
// biome-ignore lint/suspicious/noConfusingVoidType: a hook may end without a return.
export type OnRequest = (request: Request) => RequestChanges | Respond | void;

/**
 * Exported as `onResponse`: called once for the final answer of a backend, when its head has come, or with
 * spec.body its body. Not for answers that the proxy
 * gives itself. Nothing returned: it goes on as it is.
 */
// biome-ignore lint/suspicious/noConfusingVoidType: as above.
export type OnResponse = (response: Response) => ResponseChanges | Respond | void;

/** The fields of a message's head. Names in any case. */
export interface Headers {
  /** All values of the name, joined by ", "; null: there is none. */
  get(name: string): string | null;
  getAll(name: string): readonly string[];
  has(name: string): boolean;
  /** In the order they came, names in lower case. */
  entries(): readonly (readonly [name: string, value: string])[];
}

export interface Request {
  /** "GET" */
  readonly method: string;
  /** With its query, as it was sent: "/items?page=2". "*" or "" where there is none. */
  readonly path: string;
  /** Host, and port if one was sent. */
  readonly authority: string;
  readonly headers: Headers;
  readonly source: Source;
  readonly destination: Destination;
  /** Null: the Filter asks for none (spec.body), or there is none. In a Response null. */
  readonly body: Body | null;
}

/** Whole, as it was sent: compressed where content-encoding says so, a gRPC call's with its frames. */
export interface Body {
  /** Bytes. */
  readonly size: number;
  /** UTF-8; what is none is U+FFFD. */
  text(): string;
  /** A character for each byte. */
  latin1(): string;
}

/** In place of a body that was read: a text as UTF-8, or a character for each byte. Its length is told anew. */
export type NewBody = string | { readonly latin1: string };

export interface Source {
  /** Of the client, or what trusted proxies in front say. */
  readonly address: string;
  /** "namespace/name" of the workload that has the address; null: it is none of the mesh's. */
  readonly workload: string | null;
  readonly namespace: string | null;
  /** SPIFFE ID of the client's verified certificate; null: there is none. */
  readonly identity: string | null;
}

export interface Destination {
  /** "namespace/name" of the service that the request is addressed to, or of the gateway it came in by. */
  readonly name: string;
  readonly port: number;
}

export interface Response {
  /** 200 to 599. */
  readonly status: number;
  readonly headers: Headers;
  /** As it was sent to the backend. Without its body. */
  readonly request: Request;
  /** Null: the Filter asks for none (spec.body), or there is none. */
  readonly body: Body | null;
}

/** Applied in the order remove, set, add. Of what belongs to one connection (Host, Content-Length, Connection, …) nothing can be changed. */
export interface HeaderChanges {
  readonly remove?: readonly string[];
  readonly set?: Readonly<Record<string, string>>;
  readonly add?: Readonly<Record<string, string | readonly string[]>>;
}

export interface RequestChanges {
  readonly headers?: HeaderChanges;
  /** Sent instead, with its query. The route's own rewrite of the path is not applied to it. */
  readonly path?: string;
  /** Sent as Host instead. */
  readonly host?: string;
  readonly body?: NewBody;
  /**
   * True: the route is chosen anew, by the request as it is now. So a header that is set here is a hint that routes can match. Else the
   * route stays the one that the client's request matched.
   */
  readonly reroute?: boolean;
}

export interface ResponseChanges {
  readonly headers?: HeaderChanges;
  /** 200 to 599. Not from or to one without a body (204, 304): `respond` in its place. */
  readonly status?: number;
  readonly body?: NewBody;
}

/** The answer, given here: the request goes nowhere, or what its backend answered is dropped. */
export interface Respond {
  readonly respond: {
    /** 200 to 599. A gRPC client is told `grpcStatus`, else what follows from this. */
    readonly status: number;
    readonly headers?: Readonly<Record<string, string>>;
    /** At most 64 KiB. */
    readonly body?: NewBody;
    readonly grpcStatus?: number;
  };
}
