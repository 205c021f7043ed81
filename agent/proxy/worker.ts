// A worker thread: one engine and the decision, nothing else. No configuration, no logging, no resources: garbage here is latency there.
import { Socket } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import { FilterChannel } from '../../api/filter/channel.js';
import { loadAddon } from '../native/addon.js';
import { DecisionFlag, OverloadLevel } from '../native/engine.js';
import { Calls } from './calls.js';
import type { Learnt } from './decide/deferral.js';
import { Decider } from './decide.js';
import { DeferredDecisions } from './deferred.js';
import { EndpointStates } from './endpoint-states.js';
import { FilterCalls } from './filters/filter-calls.js';
import { FilterCells } from './filters/filter-cells.js';
import { Cells } from './metrics/cells.js';
import { Patterns } from './patterns.js';
import { PodHeart } from './pod-heart.js';
import { Limits } from './rate-limit/limits.js';
import { ServiceAsks } from './rate-limit/service-asks.js';
import { Gate } from './resilience/gate.js';
import { ResilienceState } from './resilience/state.js';
import { DecisionTables } from './tables/decision-tables.js';
import {
  type Answer,
  type FromWorker,
  LATE_BEATS,
  PULSE_MS,
  type PublishedTables,
  Pulse,
  type ToWorker,
  type WorkerStart,
} from './worker-messages.js';

/** How often a draining worker looks whether its last connection has ended. */
const DRAIN_POLL_MS = 50;
/** How often failures of connections are told; the engine keeps the first 64 of each kind until then. */
const FAILURES_INTERVAL_MS = 1_000;
/** Sources for a pod that reaches itself through the mesh: never on the wire. IPv6 has a unique local one: a link-local needs a scope to be bound. */
const HAIRPIN = { v4: '169.254.7.8', v6: 'fd77:6566:7400::78' };

function run(start: WorkerStart): void {
  const port = parentPort;
  if (port === null) throw new Error('worker.ts runs in a worker thread only');
  const outstanding = new Int32Array(start.outstanding);
  const states = new EndpointStates(start.endpoints);
  const gate = new Gate(new ResilienceState(start.resilience), start.resilienceShare);
  const logFlag = start.accessLog === null ? 0 : DecisionFlag.Log;
  const decider = new Decider(tablesOf(start.tables), new Cells(start.cells), outstanding, states, gate, logFlag);
  const engine = loadAddon().createEngine(
    {
      limits: start.limits,
      outstanding,
      connectionCounts: new Int32Array(start.connectionCounts),
      counters: new Float64Array(start.counters),
      tenants: new Float64Array(start.tenants),
      accessLog: start.accessLog === null ? null : new Uint8Array(start.accessLog),
      heartbeat: start.heartbeat,
      host: start.host,
      via: start.via,
      hairpin: HAIRPIN,
    },
    decider.run,
  );
  const deferred = new DeferredDecisions<Learnt>(engine, start.limits.maxDeferred);
  const filters = new FilterCalls(engine, deferred, new FilterCells(start.filterCells));
  const calls = new Calls(engine);
  const asker = new ServiceAsks(engine, deferred, calls, start.limits.deferredTimeoutMs);
  decider.attach(engine, { deferred, filters, asker, calls });
  engine.useTables(start.tables.handle);
  const stopBeating = beat(new Float64Array(start.pulse), (level, reason) => engine.setOverload(level, reason));
  const send = (message: FromWorker): void => port.postMessage(message);

  const failures = setInterval(() => {
    const taken = engine.takeFailures();
    if (taken.tls.length + taken.proxyHeaders.length > 0) send({ kind: 'failures', failures: taken });
  }, FAILURES_INTERVAL_MS);
  const pods = start.podBeats === null ? null : new PodHeart(start.podBeats);
  const close = (): void => {
    clearInterval(failures);
    stopBeating();
    pods?.stop();
    deferred.close();
    filters.closeAll();
    engine.close();
    port.close();
  };
  const answer = (call: number, some: Partial<Answer>): void => send({ kind: 'answer', call, port: 0, error: null, shared: [], ...some });
  const drain = (idleMs: number): void => {
    pods?.stop();
    engine.drain(idleMs);
    const poll = setInterval(() => {
      if (engine.connections() > 0) return;
      clearInterval(poll);
      close();
    }, DRAIN_POLL_MS);
  };
  port.on('message', (message: ToWorker) => {
    switch (message.kind) {
      case 'tables':
        decider.install(tablesOf(message.tables));
        engine.useTables(message.tables.handle);
        send({ kind: 'applied', handle: message.tables.handle });
        break;
      case 'listen':
        try {
          const { listener, descriptor } = message;
          answer(message.call, { port: descriptor === null ? engine.listen(listener) : engine.adopt(listener, descriptor) });
        } catch (error) {
          answer(message.call, { error: (error as Error).message });
        }
        break;
      case 'listenerSettings':
        // A listener that is not open here is told them when it opens.
        engine.setListener(message.id, message.settings);
        answer(message.call, {});
        break;
      case 'unlisten':
        engine.unlisten(message.id);
        break;
      case 'leavePod':
        engine.leavePod(message.key);
        answer(message.call, {});
        break;
      case 'podBeats':
        pods?.keep(message.beats);
        answer(message.call, {});
        break;
      case 'expirePods':
        pods?.expire();
        answer(message.call, {});
        break;
      case 'share':
        answer(message.call, { shared: engine.shareListeners() });
        break;
      case 'filterChannel': {
        const { key, timeoutMs, descriptor } = message;
        const stuck = (): void => send({ kind: 'filterStuck', key });
        filters.open(key, new FilterChannel(new Socket({ fd: descriptor }), timeoutMs, stuck));
        break;
      }
      case 'filterGone':
        filters.close(message.key);
        break;
      case 'drain':
        drain(message.idleMs);
        break;
      case 'close':
        close();
        break;
    }
  });
  send({ kind: 'ready' });
}

const tablesOf = ({ buffer, patterns, limits, sessions, filters }: PublishedTables): DecisionTables =>
  new DecisionTables(buffer, new Patterns(patterns), new Limits(limits), sessions, filters);

/** Says how late the event loop is, and hears what it is to shed; again and again, for each time more of it is shed. */
function beat(pulse: Float64Array, setOverload: (level: OverloadLevel, reason: number) => void): () => void {
  const now = (): number => Number(process.hrtime.bigint()) / 1e6;
  // A worker that hangs before its first beat is noticed too.
  pulse[Pulse.BeatMs] = now();
  let due = now() + PULSE_MS;
  const delays = new Float64Array(LATE_BEATS);
  let beats = 0;
  let before = OverloadLevel.None;
  const timer = setInterval(() => {
    const at = now();
    delays[beats++ % LATE_BEATS] = Math.max(0, at - due);
    pulse[Pulse.DelayMs] = Math.min(...delays);
    pulse[Pulse.BeatMs] = at;
    due = at + PULSE_MS;
    const level: OverloadLevel = pulse[Pulse.Level]!;
    if (level !== OverloadLevel.None || before !== OverloadLevel.None) setOverload(level, pulse[Pulse.Reason]!);
    before = level;
  }, PULSE_MS);
  return () => clearInterval(timer);
}

run(workerData as WorkerStart);
