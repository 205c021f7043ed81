// What main and a worker say to each other. Small plain data: everything large is in shared memory.
import type { ConnectionFailures, EngineLimits, EngineOptions, ListenerSettings, ListenerSpec, SharedListener } from '../native/engine.js';
import type { FilterTables } from './filters/filter-tables.js';
import type { PatternSpec } from './patterns.js';
import type { LimitsSpec } from './rate-limit/spec.js';
import type { SessionSpec } from './sessions.js';

/** One generation: the engine's tables (made by createTables) and ours (packTables). */
export interface PublishedTables {
  readonly handle: number;
  readonly buffer: SharedArrayBuffer;
  readonly patterns: readonly PatternSpec[];
  readonly limits: LimitsSpec;
  readonly sessions: readonly SessionSpec[];
  readonly filters: FilterTables | null;
}

export interface WorkerStart {
  readonly limits: EngineLimits;
  readonly tables: PublishedTables;
  readonly cells: SharedArrayBuffer;
  readonly outstanding: SharedArrayBuffer;
  readonly connectionCounts: SharedArrayBuffer;
  /** See EndpointStates. */
  readonly endpoints: SharedArrayBuffer;
  /** See ResilienceState, and allocateShare(). */
  readonly resilience: SharedArrayBuffer;
  readonly resilienceShare: SharedArrayBuffer;
  readonly counters: SharedArrayBuffer;
  readonly tenants: SharedArrayBuffer;
  /** Float64 words: see Pulse. */
  readonly pulse: SharedArrayBuffer;
  readonly accessLog: SharedArrayBuffer | null;
  readonly filterCells: SharedArrayBuffer;
  readonly heartbeat: { readonly map: string; readonly slot: number; readonly slots: number } | null;
  readonly host: EngineOptions['host'];
  readonly via: EngineOptions['via'];
  /** Null: there are no pods whose redirection lives by beats of ours. */
  readonly podBeats: PodBeatStart | null;
}

export interface PodBeatStart {
  readonly slot: number;
  /** Float64 by slot: when the worker beat last, ms of a clock that all threads share. */
  readonly beats: SharedArrayBuffer;
  readonly aliveMs: number;
}

/** What keeps one pod's redirection alive when it is written. */
export interface PodBeat {
  readonly descriptor: number;
  readonly isFile: boolean;
  readonly renew: Uint8Array;
  readonly expire: Uint8Array;
}

/**
 * What main and a worker say to each other all the time. No messages: a port's lock, held by a main thread that gives way to others,
 * would hold up the worker. Times are Node's hrtime in ms, one clock for all threads.
 */
export const PULSE_WORDS = 4;
/** How often a worker beats. */
export const PULSE_MS = 100;
/** A loop is as late as each of so many beats in a row was: one that was stopped once, however long, is not overloaded. */
export const LATE_BEATS = 3;
export const enum Pulse {
  /** The worker's: when its event loop beat last, and how late LATE_BEATS were at least. 0: it has not begun to. */
  BeatMs = 0,
  DelayMs = 1,
  /** Main's, heard with the next beat: what to shed, and the index of why in OVERLOAD_REASONS. */
  Level = 2,
  Reason = 3,
}

export type ToWorker =
  | { readonly kind: 'tables'; readonly tables: PublishedTables }
  /** `descriptor`: of the socket that a predecessor opened; null: open one. */
  | { readonly kind: 'listen'; readonly call: number; readonly listener: ListenerSpec; readonly descriptor: number | null }
  /** For the connections from now on; answered as `listen` is. */
  | { readonly kind: 'listenerSettings'; readonly call: number; readonly id: number; readonly settings: ListenerSettings }
  | { readonly kind: 'unlisten'; readonly id: number }
  | { readonly kind: 'leavePod'; readonly call: number; readonly key: number }
  /** To the first worker: all of them. Answered when the descriptors of before are not used any more. */
  | { readonly kind: 'podBeats'; readonly call: number; readonly beats: readonly PodBeat[] }
  /** The pods' connections go direct from now on; then the beats end. Answered when it is so. */
  | { readonly kind: 'expirePods'; readonly call: number }
  /** Answered with duplicates of the listening sockets. */
  | { readonly kind: 'share'; readonly call: number }
  /** The worker's end of a stream to a filter's process, its own from now on. */
  | { readonly kind: 'filterChannel'; readonly key: string; readonly name: string; readonly timeoutMs: number; readonly descriptor: number }
  | { readonly kind: 'filterGone'; readonly key: string }
  | { readonly kind: 'drain'; readonly idleMs: number }
  | { readonly kind: 'close' };

/** To a message with the number of a call. */
export interface Answer {
  readonly port: number;
  /** null: done. */
  readonly error: string | null;
  readonly shared: readonly SharedListener[];
}

export type FromWorker =
  | { readonly kind: 'ready' }
  /** The next request is decided by these tables. */
  | { readonly kind: 'applied'; readonly handle: number }
  | ({ readonly kind: 'answer'; readonly call: number } & Answer)
  | { readonly kind: 'filterStuck'; readonly key: string }
  | { readonly kind: 'failures'; readonly failures: ConnectionFailures };
