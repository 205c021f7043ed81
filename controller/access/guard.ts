// What stands before every service of a controller: who calls, whether they may, how often and how many at once; and what is left of it in metrics and the
// audit log. Decides by a call's head: what it may not send is not read.
import { constants, type ServerHttp2Stream } from 'node:http2';
import { Metadata, ServerInterceptingCall, type ServerInterceptor, status } from '@grpc/grpc-js';
import { retryInfo } from '../../api/grpc/retry-info.js';
import { statusDetails } from '../../api/grpc/status-details.js';
import type { Clock } from '../clock.js';
import type { AuditLog } from './audit-log.js';
import type { Authentication, Authenticator, CallCredentials, ListenerSecurity } from './authenticator.js';
import { type Method, methodAt } from './methods.js';
import { nameOf, type Principal, principalOf, refusal, setPrincipal } from './principal.js';
import { type Rate, RateLimits } from './rate-limits.js';

export interface GuardParts {
  readonly authenticator: Authenticator;
  readonly audit: AuditLog;
  readonly clock: Clock;
  readonly observe: {
    /** `reason`: "unauthenticated", "unready", "role", "rate", "concurrency", "metadata". */
    refused(method: string, reason: string): void;
    called(method: string, code: string): void;
  };
}

type InterceptedCall = Parameters<ServerInterceptor>[1];

interface Limits {
  readonly calls: Rate;
  readonly concurrent: number;
}

/** Of headers together, names and values: a Kubernetes token has some 1.5 KiB. */
const MAX_METADATA_BYTES = 8 * 1_024;
/** Of one stream: an agent gathers its changes for 20 ms. */
const MESSAGES: Rate = { perSecond: 200, burst: 400 };
/** An agent has two streams, and one for each of its proxies; it opens them again after 100 ms to 5 s. */
const NODE: Limits = { calls: { perSecond: 10, burst: 50 }, concurrent: 16 };
const OPERATOR: Limits = { calls: { perSecond: 50, burst: 200 }, concurrent: 64 };
/** Of one address. */
const STRANGER: Limits = { calls: { perSecond: 5, burst: 50 }, concurrent: 16 };
/** Of all addresses: they may send messages of the largest size. */
const STRANGERS_CONCURRENT = 32;
/** All of a plaintext listener's nodes and operators are one caller; also a thousand simulated ones. */
const LOCAL: Limits = { calls: { perSecond: 2_000, burst: 20_000 }, concurrent: 20_000 };
/** A stranger who begins a call and sends nothing, or doesn't read the answer. */
const STRANGER_TIMEOUT_MS = 5_000;
/** An answer that was not read by then. */
const UNREAD_MS = 60_000;
const SWEEP_MS = 1_000;

export interface Refusal {
  readonly reason: 'unauthenticated' | 'unready' | 'role' | 'rate' | 'concurrency' | 'metadata';
  readonly code: status;
  readonly message: string;
  readonly retryAfterMs: number;
}

/** What a request over HTTP proves its caller by. */
export interface RequestHead {
  /** The header; empty: none. */
  readonly authorization: string;
  /** DER of a certificate that TLS has verified; null: none. */
  readonly certificate: Buffer | null;
  readonly peer: string;
}

export type RequestRefusal = Pick<Refusal, 'reason' | 'message'>;

/** A call that was let in, until its stream is closed: so long it takes memory, whatever was answered. */
interface OpenCall {
  readonly principal: Principal;
  readonly startedMs: number;
  /** It was answered then; null: not yet. */
  readonly answeredMs: number | null;
  end(code: status, details: string): void;
  /** What of the answer was not read by now never will be. */
  reset(): void;
}

export class Guard {
  readonly #parts: GuardParts;
  readonly #rates: RateLimits;
  readonly #concurrent = new Map<string, number>();
  readonly #open = new Set<OpenCall>();
  readonly #sweeper: NodeJS.Timeout;

  constructor(parts: GuardParts) {
    this.#parts = parts;
    this.#rates = new RateLimits(parts.clock.now);
    this.#sweeper = setInterval(() => this.#sweep(), SWEEP_MS);
    this.#sweeper.unref();
  }

  close(): void {
    clearInterval(this.#sweeper);
  }

  /** For a listener of that kind. */
  interceptor(security: ListenerSecurity): ServerInterceptor {
    return ({ path }, call) => new GuardedCall(this, security, path, call).intercepting;
  }

  /** The caller's hold on one of its places; with a `refusal` it gets none. */
  admit(method: Method | null, call: CallCredentials): Admission {
    const { principal, peer, refusal } = this.#judge(method, call);
    return refusal === null ? this.#takePlace(principal, peer) : { principal, peer, refusal, release: null };
  }

  /**
   * Of a request over HTTP and TLS, for what `method` is over gRPC. Null: it may. It takes no place: the server of the listener bounds its connections.
   */
  admitRequest(path: string, { authorization, certificate, peer }: RequestHead): RequestRefusal | null {
    const method = methodAt(path);
    const metadata = new Metadata();
    // Others can't stand in metadata, nor in a token.
    if (/^[\x20-\x7e]+$/.test(authorization)) metadata.set('authorization', authorization);
    const judged = this.#judge(method, { security: 'tls', metadata, peer, certificate });
    if (judged.refusal !== null) this.refused(method, path, judged, judged.refusal);
    return judged.refusal;
  }

  /** Who calls, and why it may not; a null `refusal`: it may. */
  #judge(method: Method | null, call: CallCredentials): Judgement {
    const { metadata, peer } = call;
    if (metadataBytes(metadata) > MAX_METADATA_BYTES) {
      const message = `metadata of more than ${MAX_METADATA_BYTES} bytes`;
      return { principal: STRANGER_PRINCIPAL, peer, refusal: refusedFor('metadata', status.RESOURCE_EXHAUSTED, message) };
    }
    const found = this.#identify(method, call);
    const principal = found.kind === 'refused' || found.kind === 'unready' ? STRANGER_PRINCIPAL : found;
    const judged = (refusal: Refusal | null): Judgement => ({ principal, peer, refusal });
    const waitMs = this.#rates.take(callerKey(principal, peer), limitsOf(principal).calls);
    if (waitMs > 0) return judged(refusedFor('rate', status.RESOURCE_EXHAUSTED, `too many calls: again in ${waitMs} ms`, waitMs));
    if (found.kind === 'unready') return judged(refusedFor('unready', status.UNAVAILABLE, found.message, 1_000));
    if (found.kind === 'refused') return judged(refusedFor('unauthenticated', status.UNAUTHENTICATED, found.message));
    const denied = method === null ? 'no role is declared for this method: a bug of weft' : refusal(principal, method.requirement);
    if (denied === null) return judged(null);
    return judged(
      principal.kind === 'stranger'
        ? refusedFor('unauthenticated', status.UNAUTHENTICATED, denied)
        : refusedFor('role', status.PERMISSION_DENIED, denied),
    );
  }

  #identify(method: Method | null, call: CallCredentials): Authentication {
    const { authenticator } = this.#parts;
    if (method?.requirement !== 'anyone' || call.security !== 'tls') return authenticator.authenticate(call);
    // Its bearer token is the method's business. A node that shows its certificate is not among the strangers, who may be many.
    const found = call.certificate === null ? STRANGER_PRINCIPAL : authenticator.authenticate({ ...call, metadata: new Metadata() });
    return found.kind === 'node' ? found : STRANGER_PRINCIPAL;
  }

  #takePlace(principal: Principal, peer: string): Admission {
    const places = new Map([[callerKey(principal, peer), limitsOf(principal).concurrent]]);
    if (principal.kind === 'stranger') places.set('strangers', STRANGERS_CONCURRENT);
    for (const [key, most] of places) {
      if ((this.#concurrent.get(key) ?? 0) < most) continue;
      const message = `${most} calls at once already: wait until some have ended`;
      return { principal, peer, refusal: refusedFor('concurrency', status.RESOURCE_EXHAUSTED, message, 1_000), release: null };
    }
    for (const key of places.keys()) this.#concurrent.set(key, (this.#concurrent.get(key) ?? 0) + 1);
    let isReleased = false;
    const release = (): void => {
      if (isReleased) return;
      isReleased = true;
      for (const key of places.keys()) this.#release(key);
    };
    return { principal, peer, refusal: null, release };
  }

  #release(key: string): void {
    const left = (this.#concurrent.get(key) ?? 1) - 1;
    if (left === 0) this.#concurrent.delete(key);
    else this.#concurrent.set(key, left);
  }

  track(call: OpenCall): () => void {
    this.#open.add(call);
    return () => void this.#open.delete(call);
  }

  get now(): number {
    return this.#parts.clock.now();
  }

  refused(method: Method | null, path: string, { principal, peer }: Caller, { reason, code, message }: Refusal): void {
    const name = method?.name ?? path;
    this.#parts.observe.refused(name, reason);
    // Of what is merely too much the metrics tell.
    if (reason !== 'unauthenticated' && reason !== 'role') return;
    this.#parts.audit.refused({ ...nameOf(principal), peer, method: name, detail: '', result: status[code] ?? '', message });
  }

  ended(method: Method, admission: Caller, request: unknown, response: unknown, code: status, message: string): void {
    const result = status[code] ?? String(code);
    this.#parts.observe.called(method.name, result);
    // Nothing was asked: a stranger may end a call before its first message, or be ended.
    const detail = request === null ? null : (method.trace?.(request, response) ?? null);
    if (detail === null) return;
    const facts = { ...nameOf(admission.principal), peer: admission.peer, method: method.name, detail, result, message };
    if (code === status.OK) this.#parts.audit.done(facts);
    else this.#parts.audit.refused(facts);
  }

  /** Ends streams of who is no longer what it was let in as, strangers that dawdle, and who doesn't read what was answered. */
  #sweep(): void {
    const nowMs = this.now;
    for (const call of [...this.#open]) {
      const { principal, startedMs, answeredMs } = call;
      const isLate = principal.kind === 'stranger' && nowMs - startedMs > STRANGER_TIMEOUT_MS;
      if (answeredMs !== null) {
        if (isLate || nowMs - answeredMs > UNREAD_MS) call.reset();
      } else if (isLate) {
        call.end(status.DEADLINE_EXCEEDED, 'nothing came in time');
      } else {
        const fault = this.#parts.authenticator.fault(principal);
        if (fault !== null) call.end(status.UNAUTHENTICATED, fault);
      }
    }
  }
}

export interface Caller {
  readonly principal: Principal;
  readonly peer: string;
}

type Judgement = Caller & { readonly refusal: Refusal | null };

export type Admission = Caller &
  ({ readonly refusal: null; readonly release: () => void } | { readonly refusal: Refusal; readonly release: null });

/** One call's way through the guard. */
class GuardedCall implements OpenCall {
  readonly intercepting: ServerInterceptingCall;
  answeredMs: number | null = null;
  startedMs = 0;
  #request: unknown = null;
  #response: unknown = null;
  #admission: Admission | null = null;
  #metadata: Metadata | null = null;
  readonly #messages: RateLimits;

  constructor(
    readonly guard: Guard,
    security: ListenerSecurity,
    readonly path: string,
    readonly call: InterceptedCall,
  ) {
    const method = methodAt(path);
    this.#messages = new RateLimits(() => guard.now);
    this.intercepting = new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMetadata: (metadata, deliver) => {
            if (this.#enters(method, metadata, security)) deliver(metadata);
          },
          onReceiveMessage: (message, deliver) => {
            const waitMs = this.#messages.take('', MESSAGES);
            if (waitMs > 0) return this.#tooMany(waitMs);
            if (method?.trace != null) this.#request ??= message;
            deliver(message);
          },
        }),
      sendMessage: (message, next) => {
        if (method?.trace != null) this.#response = message;
        next(message);
      },
      sendStatus: (outcome, next) => {
        // Also when the caller is gone: what it asked for may have been done.
        if (method !== null && this.#admission !== null && this.answeredMs === null) {
          const { code, details } = outcome;
          guard.ended(
            method,
            { ...this.#admission, principal: this.principal },
            this.#request,
            this.#response,
            code ?? status.UNKNOWN,
            code === status.OK ? '' : (details ?? ''),
          );
        }
        this.answeredMs ??= guard.now;
        next({ ...outcome, details: statusDetails(outcome.details ?? '') });
      },
    });
  }

  /** A throw here would be nobody's to catch: what can't be judged doesn't come in. */
  #enters(method: Method | null, metadata: Metadata, security: ListenerSecurity): boolean {
    try {
      return this.#enter(method, metadata, security);
    } catch (error) {
      this.call.sendStatus({ code: status.INTERNAL, details: `the caller could not be judged, a bug of weft: ${String(error)}` });
      return false;
    }
  }

  /** False: refused, and told so. */
  #enter(method: Method | null, metadata: Metadata, security: ListenerSecurity): boolean {
    const admission = this.guard.admit(method, {
      ...{ security, metadata },
      peer: security === 'local socket' ? '' : this.call.getPeer(),
      certificate: this.call.getAuthContext().sslPeerCertificate?.raw ?? null,
    });
    if (admission.refusal !== null) {
      const { code, message, retryAfterMs } = admission.refusal;
      this.guard.refused(method, this.path, admission, admission.refusal);
      this.call.sendStatus({ code, details: message, metadata: retryAfterMs > 0 ? retryInfo(code, message, retryAfterMs) : null });
      // It took no place: a caller that leaves its half open would have as many of them as it likes.
      this.#stream.close(constants.NGHTTP2_NO_ERROR);
      return false;
    }
    this.#admission = admission;
    this.#metadata = metadata;
    this.startedMs = this.guard.now;
    setPrincipal(metadata, admission.principal);
    const untrack = this.guard.track(this);
    this.#stream.once('close', () => {
      untrack();
      admission.release();
    });
    return true;
  }

  end(code: status, details: string): void {
    this.intercepting.sendStatus({ code, details });
  }

  reset(): void {
    this.#stream.close(constants.NGHTTP2_CANCEL);
  }

  /** grpc-js has no word for it. */
  get #stream(): ServerHttp2Stream {
    return (this.call as unknown as { readonly stream: ServerHttp2Stream }).stream;
  }

  /** The service may have found out more: a stranger that joins is a node. */
  get principal(): Principal {
    return this.#metadata === null ? STRANGER_PRINCIPAL : principalOf({ metadata: this.#metadata });
  }

  #tooMany(waitMs: number): void {
    const message = `more than ${MESSAGES.perSecond} messages a second on one stream`;
    this.intercepting.sendStatus({
      ...{ code: status.RESOURCE_EXHAUSTED, details: message },
      metadata: retryInfo(status.RESOURCE_EXHAUSTED, message, waitMs),
    });
  }
}

const STRANGER_PRINCIPAL: Principal = { kind: 'stranger' };

function refusedFor(reason: Refusal['reason'], code: status, message: string, retryAfterMs = 0): Refusal {
  return { reason, code, message, retryAfterMs };
}

function limitsOf({ kind }: Principal): Limits {
  switch (kind) {
    case 'node':
      return NODE;
    case 'operator':
      return OPERATOR;
    case 'local':
      return LOCAL;
    case 'stranger':
      return STRANGER;
  }
}

function callerKey(principal: Principal, peer: string): string {
  switch (principal.kind) {
    case 'node':
    case 'operator':
      return `${principal.kind} ${principal.name}`;
    case 'local':
      return principal.by;
    case 'stranger':
      return `stranger ${peer.slice(0, peer.lastIndexOf(':'))}`;
  }
}

function metadataBytes(metadata: Metadata): number {
  let bytes = 0;
  for (const [name, values] of Object.entries(metadata.toHttp2Headers())) {
    for (const value of Array.isArray(values) ? values : [values]) bytes += name.length + Buffer.byteLength(String(value ?? ''));
  }
  return bytes;
}
