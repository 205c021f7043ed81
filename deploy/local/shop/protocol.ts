// What the shop's processes say to each other and, on their control sockets, to the lab. Shapes only.

/** The answer of every shop service, as JSON. */
export interface ShopAnswer {
  readonly service: string;
  readonly version: string;
  /** The pod's name. */
  readonly workload: string;
  /** Source address of the connection as the server saw it. */
  readonly peer: string;
  /** Its port: the client's own where nothing stood between, for a proxy keeps the address but not the port. */
  readonly peerPort: number;
  /** The caller's REQUEST_HEADER, repeated. */
  readonly request: string;
  /** Answers of the services that it called for this request. */
  readonly called: readonly ShopAnswer[];
}

/** "<calling pod>/<number>": unique per call, so that a delivery is counted exactly. Not x-request-id: that one belongs to proxies. */
export const REQUEST_HEADER = 'x-shop-request';

export type Family = 4 | 6;

/** Calls from this pod to one service over one family, by who answered. */
export interface CallCount {
  readonly service: string;
  readonly family: Family;
  /** The pod that answered; empty for calls that got no good answer. */
  readonly workload: string;
  readonly answered: number;
  readonly failed: number;
  /** Answers to another request than the one sent. */
  readonly mismatched: number;
  /** Answers whose server saw another address than this pod's. */
  readonly foreignPeer: number;
}

/** Requests that arrived at this pod, by calling pod (from REQUEST_HEADER) and the address seen. */
export interface ArrivalCount {
  readonly caller: string;
  readonly peer: string;
  readonly arrived: number;
  /** Arrived before with the same request id. */
  readonly repeated: number;
}

export interface PodReport {
  readonly workload: string;
  readonly calls: readonly CallCount[];
  readonly arrivals: readonly ArrivalCount[];
  /** The first few failures, in words. */
  readonly failures: readonly string[];
}

/** One phase of load; `requests` null: until stopped. */
export interface LoadOrder {
  readonly requests: number | null;
  readonly concurrency: number;
  /** Per second; null: as fast as the answers come. */
  readonly rate: number | null;
}

/** On the control socket: GET /report → PodReport; POST /load LoadOrder → 202; POST /stop; GET /load → LoadProgress. */
export interface LoadProgress {
  readonly running: boolean;
  readonly sent: number;
}
