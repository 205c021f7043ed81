// What the pods of the chaos test say to each other and to the judge. Pure.
export const CHAOS_PORT = 8080;

/** A pod that may be called. */
export interface Target {
  /** Names this pod and no other, not one that had its addresses before either. */
  readonly token: string;
  readonly node: string;
  readonly v4: string;
  readonly v6: string;
}

/** The first line of a connection. */
export interface Hello {
  readonly from: string;
  /** Which the caller has. */
  readonly address: string;
  readonly to: string;
}

/** Its answer. */
export interface Reply {
  readonly server: string;
  /** Source port of the connection as the server sees it: the proxies borrow from ranges of their own. */
  readonly port: number;
}

/** Times are milliseconds since the epoch: one clock for all pods. */
export type Outcome =
  | { readonly kind: 'ready'; readonly at: number; readonly from: string }
  | Call
  | {
      readonly kind: 'misattributed';
      readonly at: number;
      readonly from: string;
      readonly to: string;
      readonly saw: string;
      readonly said: string;
    };

export interface Call {
  readonly kind: 'call';
  readonly began: number;
  readonly ended: number;
  readonly from: string;
  readonly fromNode: string;
  readonly to: string;
  readonly toNode: string;
  readonly family: 'v4' | 'v6';
  /** "ok", an error's code, "answered by …" */
  readonly result: string;
  /** When the server was heard last; `began` if never. */
  readonly heard: number;
  /** As in Reply; 0: no answer. */
  readonly port: number;
}
