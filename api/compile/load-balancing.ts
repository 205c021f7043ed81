// What a DestinationRule or a TrafficPolicy says of balancing → the model's LoadBalancing. Pure.
import {
  Failover,
  type HashKey,
  type LoadBalancing,
  LoadBalancing_Algorithm,
  type LoadWeights,
  LoadWeights_Source,
  type LocalityBalancing,
} from '../gen/mesh/v1/model.js';
import { durationMs, REGION_LABEL, ZONE_LABEL } from '../resources/index.js';
import { goDurationMs } from '../resources/istio-common.js';
import { TRAFFIC_DISTRIBUTION } from '../resources/kind-service.js';
import type { Stored } from './input.js';

type RulePolicy = NonNullable<Stored<'DestinationRule'>['manifest']['spec']['trafficPolicy']>;
type RuleBalancer = NonNullable<RulePolicy['loadBalancer']>;
type OwnBalancer = NonNullable<Stored<'TrafficPolicy'>['manifest']['spec']['loadBalancer']>;

const { LEAST_REQUEST, MAGLEV, PASSTHROUGH, PEAK_EWMA, RANDOM, RING_HASH, ROUND_ROBIN, UNSPECIFIED } = {
  ...LoadBalancing_Algorithm,
  UNSPECIFIED: LoadBalancing_Algorithm.UNSPECIFIED,
};
const ALL_CHOICES = 0xffff_ffff;
const NOTHING: LoadBalancing = {
  algorithm: UNSPECIFIED,
  choices: 0,
  decayMs: 0,
  hash: undefined,
  minRingSize: 0,
  maxRingSize: 0,
  tableSize: 0,
  locality: undefined,
  slowStart: undefined,
  panicPercent: 0,
  failover: Failover.CONSISTENT,
  weights: undefined,
};

const SIMPLE = {
  UNSPECIFIED,
  LEAST_CONN: LEAST_REQUEST,
  LEAST_REQUEST,
  RANDOM,
  ROUND_ROBIN,
  PASSTHROUGH,
} as const;

/** Of a DestinationRule. */
export function balancingOfRule({
  simple = 'UNSPECIFIED',
  consistentHash,
  localityLbSetting,
  warmup,
  warmupDurationSecs,
}: RuleBalancer): LoadBalancing {
  const window = warmup?.duration ?? warmupDurationSecs;
  return {
    ...NOTHING,
    algorithm: SIMPLE[simple],
    ...(consistentHash === undefined ? {} : hashOfRule(consistentHash)),
    locality: localityOf(localityLbSetting ?? {}, localityLbSetting !== undefined),
    slowStart:
      window === undefined
        ? undefined
        : {
            windowMs: whole(goDurationMs(window)),
            aggression: warmup?.aggression ?? 0,
            minimumPercent: Math.round(warmup?.minimumPercent ?? 10),
          },
  };
}

/** With what outlier detection says of it: the threshold of panic, where there is none, and whether near endpoints go first. */
export function heedingOutliers(
  balancing: LoadBalancing | undefined,
  { minHealthPercent, prefersNear }: { readonly minHealthPercent: number; readonly prefersNear: boolean },
): LoadBalancing | undefined {
  if (minHealthPercent === 0 && !prefersNear) return balancing;
  const { locality, panicPercent, ...rest } = balancing ?? NOTHING;
  return { ...rest, locality: prefersNear ? localityOf({}, true) : locality, panicPercent: panicPercent || minHealthPercent };
}

const REGION_AND_ZONE = [REGION_LABEL, ZONE_LABEL];
const NEAR: Readonly<Record<string, readonly string[]>> = {
  PreferClose: REGION_AND_ZONE,
  PreferSameZone: REGION_AND_ZONE,
  PreferSameNode: [...REGION_AND_ZONE, 'kubernetes.io/hostname'],
};

/** Of a Service: its session affinity, and what of its endpoints goes first (Kubernetes); undefined: it says nothing. */
export function balancingOfService({ metadata, spec }: Stored<'Service'>['manifest']): LoadBalancing | undefined {
  const priorityLabels = NEAR[spec.trafficDistribution ?? metadata.annotations?.[TRAFFIC_DISTRIBUTION] ?? ''];
  const isSticky = spec.sessionAffinity === 'ClientIP';
  if (!isSticky && priorityLabels === undefined) return undefined;
  return {
    ...NOTHING,
    ...(isSticky ? { algorithm: RING_HASH, hash: keyOf({ sourceAddress: true }) } : {}),
    locality: priorityLabels === undefined ? undefined : { distributions: [], failovers: [], priorityLabels: [...priorityLabels] },
  };
}

function hashOfRule(hash: NonNullable<RuleBalancer['consistentHash']>): Partial<LoadBalancing> {
  const { httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName, ringHash, maglev, minimumRingSize } = hash;
  const key = keyOf({
    header: httpHeaderName,
    // 0s: as long as the client's session; without one no cookie is given (Istio).
    cookie:
      httpCookie === undefined ? undefined : { ...httpCookie, ttlMs: httpCookie.ttl === undefined ? null : goDurationMs(httpCookie.ttl) },
    sourceAddress: useSourceIp,
    queryParameter: httpQueryParameterName,
  });
  // Without a key Envoy takes any place of the ring.
  if (key === undefined) return { algorithm: RANDOM };
  return {
    algorithm: maglev === undefined ? RING_HASH : MAGLEV,
    hash: key,
    minRingSize: ringHash?.minimumRingSize ?? minimumRingSize ?? 0,
    tableSize: maglev?.tableSize ?? 0,
  };
}

const TYPES = {
  RoundRobin: ROUND_ROBIN,
  Random: RANDOM,
  LeastRequest: LEAST_REQUEST,
  PeakEWMA: PEAK_EWMA,
  RingHash: RING_HASH,
  Maglev: MAGLEV,
} as const;

const FAILOVERS = {
  Consistent: Failover.CONSISTENT,
  Random: Failover.RANDOM,
  Dynamic: Failover.DYNAMIC,
  FailFast: Failover.FAIL_FAST,
} as const;

/** Of a TrafficPolicy. */
export function balancingOfPolicy(balancer: OwnBalancer): LoadBalancing {
  const { type, leastRequest, peakEWMA, hash, ringHash, maglev, failover, locality, slowStart, panicThreshold, weights } = balancer;
  return {
    ...NOTHING,
    algorithm: type === undefined ? UNSPECIFIED : TYPES[type],
    choices: leastRequest?.fullScan === true ? ALL_CHOICES : (leastRequest?.choices ?? 0),
    decayMs: whole(durationMs(peakEWMA?.decay ?? '')),
    hash:
      hash === undefined
        ? undefined
        : keyOf({
            ...hash,
            cookie:
              hash.cookie === undefined
                ? undefined
                : { ...hash.cookie, ttlMs: hash.cookie.ttl === undefined ? null : durationMs(hash.cookie.ttl) },
          }),
    minRingSize: ringHash?.minimumSize ?? 0,
    maxRingSize: ringHash?.maximumSize ?? 0,
    tableSize: maglev?.tableSize ?? 0,
    locality: localityOf(locality ?? {}, locality !== undefined),
    slowStart:
      slowStart === undefined
        ? undefined
        : {
            windowMs: whole(durationMs(slowStart.window)),
            aggression: slowStart.aggression ?? 0,
            minimumPercent: slowStart.minimumPercent,
          },
    panicPercent: panicThreshold ?? 0,
    failover: FAILOVERS[failover ?? 'Consistent'],
    weights: weights === undefined || weights.source === 'Static' ? undefined : weightsOf(weights),
  };
}

const SOURCES = { ORCA: LoadWeights_Source.ORCA, Node: LoadWeights_Source.NODE } as const;

/** Periods as by default in gRFC A58, and in Envoy. */
function weightsOf(weights: NonNullable<OwnBalancer['weights']>): LoadWeights {
  const { source, blackoutPeriod = '10s', expirationPeriod = '3m', updatePeriod = '1s', errorUtilizationPenalty = 1 } = weights;
  return {
    source: source === 'Static' ? LoadWeights_Source.UNSPECIFIED : SOURCES[source],
    blackoutMs: whole(durationMs(blackoutPeriod)),
    expirationMs: whole(durationMs(expirationPeriod)),
    updateMs: whole(durationMs(updatePeriod)),
    errorPenalty: errorUtilizationPenalty,
  };
}

interface Key {
  readonly header?: string | undefined;
  readonly cookie?: Cookie | undefined;
  readonly sourceAddress?: boolean | undefined;
  readonly queryParameter?: string | undefined;
  readonly path?: boolean | undefined;
}

interface Cookie {
  readonly name: string;
  readonly path?: string | undefined;
  /** Null: none is given to who has none. */
  readonly ttlMs: number | null;
  readonly attributes?: readonly { readonly name: string; readonly value?: string | undefined }[] | undefined;
}

function keyOf({ header, cookie, sourceAddress, queryParameter, path }: Key): HashKey | undefined {
  if (header !== undefined) return { key: { $case: 'header', value: header.toLowerCase() } };
  if (cookie !== undefined) return { key: { $case: 'cookie', value: cookieOf(cookie) } };
  if (sourceAddress === true) return { key: { $case: 'sourceAddress', value: true } };
  if (queryParameter !== undefined) return { key: { $case: 'query', value: queryParameter } };
  return path === true ? { key: { $case: 'path', value: true } } : undefined;
}

function cookieOf({ name, path, ttlMs, attributes }: Cookie) {
  return {
    name,
    path: path ?? '',
    ttlSeconds: ttlMs === null ? undefined : Math.ceil(ttlMs / 1000),
    attributes: (attributes ?? []).map((attribute) => ({ name: attribute.name, value: attribute.value ?? '' })),
  };
}

type Locality = NonNullable<RuleBalancer['localityLbSetting']>;

function localityOf({ enabled, distribute, failover, failoverPriority }: Locality, isAsked: boolean): LocalityBalancing | undefined {
  if (!isAsked || enabled === false) return undefined;
  return {
    distributions: (distribute ?? []).map(({ from, to }) => ({ from, to: sorted(to) })),
    failovers: (failover ?? []).map(({ from, to }) => ({ from, to })),
    priorityLabels: [...(failoverPriority ?? [])],
  };
}

/** Maps are encoded as they stand, and the same policy is to be the same bytes. */
export function sorted<Value>(map: Readonly<Record<string, Value>>): Record<string, Value> {
  return Object.fromEntries(Object.entries(map).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function whole(ms: number | null): number {
  return Math.min(Math.round(ms ?? 0), 0x7fff_ffff);
}
