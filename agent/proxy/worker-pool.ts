// The worker threads: starts them, gives all of them each new generation and listener, starts one that crashed again with the newest of
// both, drains them. Owns their shared memory. Knows nothing of models.
import { Worker } from 'node:worker_threads';
import type { Logger } from 'pino';
import {
  ACCESS_LOG_HEADER_BYTES,
  type ConnectionFailures,
  type EngineLimits,
  type EngineOptions,
  type ListenerSettings,
  type ListenerSpec,
  MAX_TENANTS,
  type OverloadLevel,
  type SharedListener,
  TENANT_WORDS,
  TenantWord,
} from '../native/engine.js';
import { EndpointStates } from './endpoint-states.js';
import { FilterCells } from './filters/filter-cells.js';
import type { InheritedSocket } from './handover/successor.js';
import { Cells, MAX_ENDPOINTS } from './metrics/cells.js';
import { ConnectionCounts } from './resilience/connection-counts.js';
import { giveBack } from './resilience/gate.js';
import { allocateShare, ResilienceState } from './resilience/state.js';
import { MAX_LISTENERS } from './tables/layout.js';
import { giveWay, takeBack } from './thread-priority.js';
import {
  type Answer,
  type FromWorker,
  LATE_BEATS,
  type PodBeat,
  PULSE_MS,
  PULSE_WORDS,
  type PublishedTables,
  Pulse,
  type ToWorker,
  type WorkerStart,
} from './worker-messages.js';

/** A worker that crashes again within this time is started after it, so that a crash loop leaves the machine usable. */
const RESTART_DELAY_MS = 1_000;
/** 4 MiB: 15,000 records of usual size, 150 ms at 100,000 requests a second. */
const ACCESS_LOG_BYTES = ACCESS_LOG_HEADER_BYTES + 4 * 1_048_576;

export interface WorkerPoolOptions {
  readonly workers: number;
  readonly limits: EngineLimits;
  readonly counters: number;
  readonly accessLog: boolean;
  /** Pinned maps; null: no captured traffic. */
  readonly heartbeatMap: string | null;
  /** How long a beat for pods captured by address translation holds; null: there are none. */
  readonly podAliveMs: number | null;
  /** Null: no processes of the host. */
  readonly host: EngineOptions['host'];
  readonly via: EngineOptions['via'];
  readonly log: Logger;
  readonly onFilterStuck: (key: string) => void;
  /** A worker has begun again. */
  readonly onRestart: (slot: number) => void;
  readonly onFailures: (failures: ConnectionFailures) => void;
  readonly closeDescriptor: (descriptor: number) => void;
}

/** One worker's memory, which outlives its thread. */
export interface WorkerMemory {
  readonly cells: Cells;
  /** By EngineAddon.counterNames(), then open connections by listener id. */
  readonly counters: Float64Array;
  /** MAX_TENANTS × TENANT_WORDS. */
  readonly tenants: Float64Array;
  readonly accessLog: Uint8Array | null;
  /** See Pulse. */
  readonly pulse: Float64Array;
  readonly filters: FilterCells;
}

interface Seat {
  readonly slot: number;
  readonly start: Omit<WorkerStart, 'tables'>;
  readonly memory: WorkerMemory;
  thread: Worker | null;
  /** It has been ready before. */
  isAgain: boolean;
  /** Handle that the thread uses. */
  applied: number;
}

/** The listener as worker `slot` opens it: a sockmap key differs between workers. */
export type ListenerOf = (slot: number) => ListenerSpec;

export class WorkerPool {
  readonly outstanding: Int32Array;
  readonly connections = new ConnectionCounts();
  readonly states = new EndpointStates(EndpointStates.allocate());
  readonly resilience = new ResilienceState(ResilienceState.allocate());
  private readonly seats: readonly Seat[];
  private readonly podClocks: SharedArrayBuffer;
  private readonly listeners = new Map<number, ListenerOf>();
  /** By key: what every worker listens on in that pod's namespace. */
  private readonly pods = new Map<number, readonly ListenerSpec[]>();
  private podBeats: readonly PodBeat[] = [];
  private readonly calls = new Map<number, (answer: Answer) => void>();
  private readonly waiting = new Set<() => void>();
  private tables: PublishedTables | null = null;
  private nextCall = 0;
  private isStopping = false;

  constructor(private readonly options: WorkerPoolOptions) {
    const outstanding = new SharedArrayBuffer(MAX_ENDPOINTS * 4);
    this.outstanding = new Int32Array(outstanding);
    this.podClocks = new SharedArrayBuffer(options.workers * 8);
    this.seats = Array.from({ length: options.workers }, (_, slot) => this.newSeat(slot, outstanding));
  }

  get memories(): readonly WorkerMemory[] {
    return this.seats.map(({ memory }) => memory);
  }

  /** Open ones of clients, by the listener's engine id. */
  connectionsOf(listener: number): number {
    return this.memories.reduce((total, { counters }) => total + counters[this.options.counters + listener]!, 0);
  }

  /** Resolves when every worker decides by these tables; starts the workers the first time. Calls must not overlap. */
  async publish(tables: PublishedTables): Promise<void> {
    this.tables = tables;
    for (const seat of this.seats) {
      if (seat.thread === null) this.startThread(seat);
      else this.send(seat, { kind: 'tables', tables });
    }
    await this.until(() => this.isStopping || this.seats.every(({ applied }) => applied === tables.handle));
  }

  /**
   * Every worker listens, or none: the error's text says why. Returns the port, with `ports: 'each'` the last worker's. All inherited sockets are served, each by one worker: what
   * waits in them would be lost. A worker that inherits none of its own slot opens one.
   */
  async listen(
    id: number,
    listenerOf: ListenerOf,
    ports: 'shared' | 'each' = 'shared',
    inherited: readonly InheritedSocket[] = [],
  ): Promise<{ port: number; error: string | null }> {
    let port: number | null = null;
    let error = this.isStopping ? 'the proxy is draining' : null;
    for (const { slot, descriptor } of this.socketsOf(inherited)) {
      if (error !== null) {
        if (descriptor !== null) this.options.closeDescriptor(descriptor);
        continue;
      }
      const seat = this.seats[slot % this.seats.length]!;
      const spec: ListenerSpec = listenerOf(slot);
      const answer = await this.callListen(seat, port === null || ports === 'each' ? spec : { ...spec, port }, descriptor);
      error = answer.error;
      port = answer.port;
    }
    if (error !== null) {
      this.unlisten(id);
      return { port: 0, error };
    }
    const bound = port ?? 0;
    this.listeners.set(id, ports === 'each' ? listenerOf : (slot) => ({ ...listenerOf(slot), port: bound }));
    return { port: bound, error: null };
  }

  /** Resolves when the connections that any worker accepts from then on use them; open ones keep what they began with. */
  async setListener(id: number, settings: ListenerSettings): Promise<void> {
    const listenerOf = this.listeners.get(id);
    if (listenerOf === undefined) return;
    // First: a worker that is started meanwhile listens with them.
    this.listeners.set(id, (slot) => ({ ...listenerOf(slot), ...settings }));
    await Promise.all(this.seats.map((seat) => this.call(seat, (call) => ({ kind: 'listenerSettings', call, id, settings }))));
  }

  /**
   * To every worker: what it sheds from its next beat on. Returns how late each one's event loop is, ms: as its last beats
   * say, or as late for each of so many as it has been silent.
   */
  tellOverload(of: (slot: number) => { readonly level: OverloadLevel; readonly reason: number }): readonly number[] {
    const now = Number(process.hrtime.bigint()) / 1e6;
    return this.seats.map(({ slot, memory }) => {
      const { pulse } = memory;
      const { level, reason } = of(slot);
      pulse[Pulse.Reason] = reason;
      pulse[Pulse.Level] = level;
      const beatMs = pulse[Pulse.BeatMs]!;
      return beatMs === 0 ? 0 : Math.max(pulse[Pulse.DelayMs]!, (now - beatMs - PULSE_MS) / LATE_BEATS);
    });
  }

  /** False: the worker does not run. */
  tellFilters(slot: number, message: Extract<ToWorker, { kind: 'filterChannel' | 'filterGone' }>): boolean {
    const seat = this.seats[slot];
    if (seat === undefined || seat.thread === null) return false;
    this.send(seat, message);
    return true;
  }

  unlisten(id: number): void {
    this.listeners.delete(id);
    for (const seat of this.seats) this.send(seat, { kind: 'unlisten', id });
  }

  /** Every worker listens in the pod's namespace, or none; null, or why not. What is inherited is served as with listen(). */
  async joinPod(
    key: number,
    listeners: readonly { readonly listener: ListenerSpec; readonly inherited: readonly InheritedSocket[] }[],
  ): Promise<string | null> {
    let failure: string | null = this.isStopping ? 'the proxy is draining' : null;
    for (const { listener, inherited } of listeners) {
      for (const { slot, descriptor } of this.socketsOf(inherited)) {
        if (failure !== null) {
          if (descriptor !== null) this.options.closeDescriptor(descriptor);
          continue;
        }
        const { error } = await this.callListen(this.seats[slot % this.seats.length]!, listener, descriptor);
        // A pod without IPv6 has nothing there to capture.
        if (error !== null && !(listener.address.includes(':') && /EAFNOSUPPORT|EADDRNOTAVAIL/.test(error))) failure = error;
      }
    }
    if (failure === null)
      this.pods.set(
        key,
        listeners.map(({ listener }) => listener),
      );
    else await this.leavePod(key);
    return failure;
  }

  /** Its connections are reset, its namespace is held no more. */
  async leavePod(key: number): Promise<void> {
    this.pods.delete(key);
    await Promise.all(this.seats.map((seat) => this.call(seat, (call) => ({ kind: 'leavePod', call, key }))));
  }

  /** Resolves when the descriptors of the beats before are not used any more. */
  async setPodBeats(beats: readonly PodBeat[]): Promise<void> {
    this.podBeats = beats;
    await this.call(this.seats[0]!, (call) => ({ kind: 'podBeats', call, beats }));
  }

  /** Resolves when no pod's connections are redirected here any more, but for those of fail-closed ones. */
  async expirePods(): Promise<void> {
    if (this.podBeats.length === 0) return;
    this.podBeats = [];
    await this.call(this.seats[0]!, (call) => ({ kind: 'expirePods', call }));
  }

  /** Duplicates of every worker's listening sockets; the caller's to close. */
  async share(): Promise<readonly SharedListener[]> {
    const answers = await Promise.all(this.seats.map((seat) => this.call(seat, (call) => ({ kind: 'share', call }))));
    return answers.flatMap(({ shared }) => shared);
  }

  /** Resolves when every connection has ended, or close() was called, and the threads are gone. `idleMs` as in Engine.drain(). */
  async drain(idleMs: number): Promise<void> {
    this.isStopping = true;
    this.wake();
    for (const seat of this.seats) this.send(seat, { kind: 'drain', idleMs });
    await this.until(() => this.seats.every(({ thread }) => thread === null));
  }

  /** Closes every connection now; drain() then resolves. */
  close(): void {
    this.isStopping = true;
    this.wake();
    for (const seat of this.seats) this.send(seat, { kind: 'close' });
  }

  private newSeat(slot: number, outstanding: SharedArrayBuffer): Seat {
    const { options } = this;
    const cells = Cells.allocate();
    const counters = new SharedArrayBuffer((options.counters + MAX_LISTENERS) * 8);
    const tenants = new SharedArrayBuffer(MAX_TENANTS * TENANT_WORDS * 8);
    const pulse = new SharedArrayBuffer(PULSE_WORDS * 8);
    const filterCells = FilterCells.allocate();
    const accessLog = options.accessLog ? new SharedArrayBuffer(ACCESS_LOG_BYTES) : null;
    const heartbeat = options.heartbeatMap === null ? null : { map: options.heartbeatMap, slot, slots: options.workers };
    const podBeats = options.podAliveMs === null ? null : { slot, beats: this.podClocks, aliveMs: options.podAliveMs };
    return {
      slot,
      start: {
        limits: options.limits,
        cells,
        outstanding,
        connectionCounts: this.connections.words.buffer as SharedArrayBuffer,
        endpoints: this.states.buffer,
        resilience: this.resilience.buffer,
        resilienceShare: allocateShare(),
        counters,
        tenants,
        pulse,
        accessLog,
        filterCells,
        heartbeat,
        host: options.host,
        via: options.via,
        podBeats,
      },
      memory: {
        cells: new Cells(cells),
        counters: new Float64Array(counters),
        tenants: new Float64Array(tenants),
        accessLog: accessLog === null ? null : new Uint8Array(accessLog),
        pulse: new Float64Array(pulse),
        filters: new FilterCells(filterCells),
      },
      thread: null,
      isAgain: false,
      applied: -1,
    };
  }

  private startThread(seat: Seat): void {
    const tables = this.tables;
    if (tables === null || this.isStopping) return;
    const startedAt = performance.now();
    takeBack();
    const thread = new Worker(new URL('./worker.js', import.meta.url), {
      workerData: { ...seat.start, tables },
      name: `weft-worker-${seat.slot}`,
    });
    seat.thread = thread;
    thread.on('message', (message: FromWorker) => this.receive(seat, message, tables));
    thread.on('error', (error) =>
      this.options.log.error({ err: error, worker: seat.slot }, `worker ${seat.slot} crashed; its connections are lost; starting it again`),
    );
    thread.on('exit', () => {
      seat.thread = null;
      seat.applied = -1;
      seat.memory.pulse.fill(0);
      this.giveBack(seat);
      this.wake();
      if (this.isStopping) return;
      const delay = performance.now() - startedAt < RESTART_DELAY_MS ? RESTART_DELAY_MS : 0;
      setTimeout(() => this.startThread(seat), delay);
    });
  }

  private receive(seat: Seat, message: FromWorker, startedWith: PublishedTables): void {
    if (message.kind === 'answer') {
      this.calls.get(message.call)?.(message);
      this.calls.delete(message.call);
      return;
    }
    if (message.kind === 'filterStuck') {
      this.options.onFilterStuck(message.key);
      return;
    }
    if (message.kind === 'failures') {
      this.options.onFailures(message.failures);
      return;
    }
    if (message.kind === 'ready') {
      seat.applied = startedWith.handle;
      if (this.seats.every(({ applied }) => applied !== -1)) giveWay();
      if (this.tables !== null && this.tables.handle !== startedWith.handle) this.send(seat, { kind: 'tables', tables: this.tables });
      if (seat.isAgain) this.options.onRestart(seat.slot);
      seat.isAgain = true;
      for (const listenerOf of this.listeners.values()) void this.relisten(seat, listenerOf(seat.slot));
      for (const listener of [...this.pods.values()].flat()) void this.relisten(seat, listener);
      if (seat.slot === 0 && this.podBeats.length > 0) void this.setPodBeats(this.podBeats);
    } else {
      seat.applied = message.handle;
    }
    this.wake();
  }

  private async relisten(seat: Seat, listener: ListenerSpec): Promise<void> {
    const { error } = await this.callListen(seat, listener, null);
    if (error !== null)
      this.options.log.error({ worker: seat.slot, listener: listener.id }, `worker ${seat.slot} can't listen again: ${error}`);
  }

  /** A worker that inherits none of its own slot opens one. */
  private socketsOf(inherited: readonly InheritedSocket[]): readonly { readonly slot: number; readonly descriptor: number | null }[] {
    const missing = this.seats.filter(({ slot }) => !inherited.some((socket) => socket.slot === slot));
    return [...inherited, ...missing.map(({ slot }) => ({ slot, descriptor: null }))];
  }

  private callListen(seat: Seat, listener: ListenerSpec, descriptor: number | null): Promise<Answer> {
    return this.call(seat, (call) => ({ kind: 'listen', call, listener, descriptor }));
  }

  /** The thread's answer to a message that carries the number of the call. */
  private call(seat: Seat, message: (call: number) => ToWorker): Promise<Answer> {
    const call = this.nextCall++;
    return new Promise((resolve) => {
      const thread = seat.thread;
      const lost = (): void => answer({ port: 0, error: `worker ${seat.slot} is not running; its crash is in the log`, shared: [] });
      const answer = (result: Answer): void => {
        thread?.off('exit', lost);
        this.calls.delete(call);
        resolve(result);
      };
      this.calls.set(call, answer);
      if (thread === null) lost();
      else thread.once('exit', lost);
      this.send(seat, message(call));
    });
  }

  /** The engine of a crashed worker can't subtract its requests and connections any more. */
  private giveBack({ memory, start }: Seat): void {
    giveBack(this.resilience, start.resilienceShare);
    const { inFlight } = memory.cells;
    for (let endpoint = 0; endpoint < inFlight.length; endpoint++) {
      if (inFlight[endpoint] !== 0) Atomics.sub(this.outstanding, endpoint, inFlight[endpoint]!);
    }
    inFlight.fill(0);
    memory.counters.fill(0, this.options.counters);
    for (let tenant = 0; tenant < MAX_TENANTS; tenant++) {
      for (const word of [TenantWord.Connections, TenantWord.Requests, TenantWord.BufferedBytes])
        memory.tenants[tenant * TENANT_WORDS + word] = 0;
    }
  }

  private send(seat: Seat, message: ToWorker): void {
    seat.thread?.postMessage(message);
  }

  private async until(isTrue: () => boolean): Promise<void> {
    while (!isTrue()) await new Promise<void>((resolve) => this.waiting.add(resolve));
  }

  private wake(): void {
    const waiting = [...this.waiting];
    this.waiting.clear();
    for (const resolve of waiting) resolve();
  }
}
