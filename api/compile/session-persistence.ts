// SessionPersistence of a route's rule, else of the Services that it leads to (XBackendTrafficPolicy) → the model's. Its key is that of a Secret in the namespace of whoever asks for it, so that all nodes read each other's tokens.
import { createHash } from 'node:crypto';
import { type SessionPersistence, SessionPersistence_Type } from '../gen/mesh/v1/model.js';
import { durationMs, secretBytes } from '../resources/index.js';
import type { ObjectIndex, Stored } from './input.js';
import type { ReportProblem } from './problem.js';

export type SessionIndex = Pick<ObjectIndex, 'secrets' | 'backendTrafficByService'>;
type Route = Stored<'HTTPRoute'> | Stored<'GRPCRoute'>;
type Declared = Stored<'HTTPRoute'>['manifest']['spec']['rules'][number]['sessionPersistence'];

/** Name and key of the Secret. */
const SECRET = 'weft-session-key';
const KEY = 'key';
const KEY_BYTES = 32;
const MAX_SECONDS = 0x7fff_ffff;

export function compileSession(
  route: Route,
  ofRule: Declared,
  position: number,
  services: readonly string[],
  index: SessionIndex,
  report: ReportProblem,
): SessionPersistence | undefined {
  const { owner, declared } = ofRule === undefined ? ofServices(services, index) : { owner: route, declared: ofRule };
  if (declared === undefined) return undefined;
  const { kind, namespace, name } = owner;
  const { secrets } = index;
  const { type, sessionName, absoluteTimeout, idleTimeout, cookieConfig } = declared;
  const secret = secrets.get(`${namespace}/${SECRET}`);
  const bytes = secret === undefined ? null : secretBytes(secret.manifest, KEY);
  const isKey = bytes !== null && bytes.length >= KEY_BYTES;
  if (secret !== undefined && !isKey) {
    const message = `Secret ${namespace}/${SECRET} has no ${KEY} of at least ${KEY_BYTES} bytes: sessions hold on the node that began them`;
    report(`spec.rules[${position}].sessionPersistence`, message, 'TargetNotFound');
  }
  const isHeader = type === 'Header';
  const own = createHash('sha256')
    .update(`${kind} ${namespace}/${name} ${owner === route ? position : ''}`)
    .digest('hex')
    .slice(0, 8);
  return {
    type: isHeader ? SessionPersistence_Type.HEADER : SessionPersistence_Type.COOKIE,
    name:
      sessionName === undefined || sessionName === ''
        ? `${isHeader ? 'x-' : ''}weft-session-${own}`
        : isHeader
          ? sessionName.toLowerCase()
          : sessionName,
    absoluteSeconds: secondsOf(absoluteTimeout),
    idleSeconds: secondsOf(idleTimeout),
    permanent: cookieConfig?.lifetimeType === 'Permanent',
    key: isKey ? createHash('sha256').update(bytes).digest() : Buffer.alloc(0),
  };
}

interface Sessions {
  readonly owner: Pick<Route, 'namespace' | 'name'> & { readonly kind: string };
  readonly declared: Declared;
}
const NONE: Sessions = { owner: { kind: '', namespace: '', name: '' }, declared: undefined };

/** Those of the first, where all have some: of a split, one Service that keeps none would lose whom the others keep. */
function ofServices(services: readonly string[], { backendTrafficByService }: SessionIndex): Sessions {
  const found = services.map((service): Sessions => {
    const owner = backendTrafficByService.get(service)?.find(({ manifest }) => manifest.spec.sessionPersistence !== undefined);
    return owner === undefined ? NONE : { owner, declared: owner.manifest.spec.sessionPersistence };
  });
  return found.every(({ declared }) => declared !== undefined) ? (found[0] ?? NONE) : NONE;
}

/** 0s is no limit. */
function secondsOf(duration: string | undefined): number {
  return duration === undefined ? 0 : Math.min(Math.ceil((durationMs(duration) ?? 0) / 1_000), MAX_SECONDS);
}
