// What one stream has asked for of one type, and was told of it (xDS, state of the world): nonces, acks and refusals. One response is under way
// at a time; what changes meanwhile goes out as one after its answer. Does no input or output.
import type { DiscoveryRequest, DiscoveryResponse } from '../../api/gen/envoy/service/discovery/v3/discovery.js';
import type { Any } from '../../api/gen/google/protobuf/any.js';
import { type ResourceKind, TYPE_URLS, type XdsResources } from './resources.js';

/** Of one type on one stream. */
export const MAX_NAMES = 1_000;
export const MAX_NAME_LENGTH = 512;
/** Clients take 4 MiB a message. A response of endpoints or routes need not be whole: the rest follows the answer. */
const MAX_RESPONSE_BYTES = 1_048_576;
const MAX_ERROR_LENGTH = 1_024;

export type Heard = { readonly kind: 'stale' | 'heard' | 'refused' } | { readonly kind: 'violation'; readonly message: string };

export class Subscription {
  readonly kind: ResourceKind;
  /** As told to the client; null: it was told, or could be, that there is none. Names it has not been told of are not in it. */
  readonly #told = new Map<string, Any | null>();
  #names: ReadonlySet<string> = new Set();
  #nonce = '';
  #version = '';
  #isUnderWay = false;
  #acked = '';
  #refused: { readonly version: string; readonly error: string } | null = null;

  constructor(kind: ResourceKind) {
    this.kind = kind;
  }

  get names(): ReadonlySet<string> {
    return this.#names;
  }

  /** Of the last response that the client accepted; empty: none yet. */
  get acked(): string {
    return this.#acked;
  }

  /** What the client refuses since its last answer; null: nothing. */
  get refused(): { readonly version: string; readonly error: string } | null {
    return this.#refused;
  }

  hear(request: DiscoveryRequest): Heard {
    const { responseNonce, resourceNames, errorDetail } = request;
    // Of an older response: the answer to the newest comes yet, with all names in it. A nonce of another stream means nothing here.
    if (this.#nonce !== '' && responseNonce !== this.#nonce) return { kind: 'stale' };
    if (resourceNames.length > MAX_NAMES) return violation(`${resourceNames.length} names of one type, at most ${MAX_NAMES}`);
    if (resourceNames.some((name) => name.length > MAX_NAME_LENGTH)) return violation(`a name of more than ${MAX_NAME_LENGTH} characters`);
    if (resourceNames.length === 0 && this.#nonce === '' && this.#names.size === 0)
      return violation('name the resources: this server is for proxyless gRPC clients and gives none unasked');
    this.#names = new Set(resourceNames);
    for (const name of this.#told.keys()) if (!this.#names.has(name)) this.#told.delete(name);
    if (this.#nonce === '') return { kind: 'heard' };
    const isAnswer = this.#isUnderWay;
    this.#isUnderWay = false;
    if (errorDetail !== undefined) {
      this.#refused = { version: this.#version, error: errorDetail.message.slice(0, MAX_ERROR_LENGTH) };
      return { kind: isAnswer ? 'refused' : 'heard' };
    }
    this.#refused = null;
    this.#acked = this.#version;
    return { kind: 'heard' };
  }

  /** What the client has not been told; null: nothing, or it has yet to answer. */
  next(resources: XdsResources, version: string, nonce: string): DiscoveryResponse | null {
    if (this.#isUnderWay) return null;
    const changed: [string, Any | null][] = [];
    for (const name of this.#names) {
      const now = resources.get(this.kind, name);
      if (!isSame(this.#told.get(name), now)) changed.push([name, now]);
    }
    // What never was and still isn't can't be said: clients wait for it for 15 s and call it missing.
    const news = changed.filter(([name, now]) => now !== null || (this.#told.get(name) ?? null) !== null);
    for (const [name, now] of changed) if (now === null) this.#told.set(name, null);
    if (news.length === 0) return null;
    // Listeners and clusters are whole: what is missing there is gone. Of the others nothing can be said to be.
    const isWhole = this.kind === 'listener' || this.kind === 'cluster';
    const told = isWhole ? [...this.#names].map((name): [string, Any | null] => [name, resources.get(this.kind, name)]) : part(news);
    for (const [name, now] of told) this.#told.set(name, now);
    const bodies = told.flatMap(([, now]) => (now === null ? [] : [now]));
    if (bodies.length === 0 && !isWhole) return null;
    this.#nonce = nonce;
    this.#version = version;
    this.#isUnderWay = true;
    return { versionInfo: version, resources: bodies, typeUrl: TYPE_URLS[this.kind], nonce };
  }
}

function violation(message: string): Heard {
  return { kind: 'violation', message };
}

function isSame(told: Any | null | undefined, now: Any | null): boolean {
  if (told === now) return true;
  return told !== undefined && told !== null && now !== null && told.value.equals(now.value);
}

/** As many as fit, one at least. */
function part(news: readonly [string, Any | null][]): [string, Any | null][] {
  let bytes = 0;
  const end = news.findIndex(([, now]) => {
    bytes += now?.value.length ?? 0;
    return bytes > MAX_RESPONSE_BYTES;
  });
  return news.slice(0, end < 0 ? news.length : Math.max(1, end));
}
