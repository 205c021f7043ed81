// One line per stored object: what an operator looks for first, by kind. Reads objects loosely: they were validated when stored. Pure.
import type { Column } from './terminal.js';

export interface StoredObject {
  readonly kind?: string;
  readonly metadata?: {
    readonly namespace?: string;
    readonly name?: string;

    readonly labels?: Record<string, string>;
  };
  readonly spec?: Record<string, unknown>;
  readonly [field: string]: unknown;
}

type Cells = (object: StoredObject) => string[];

interface View {
  readonly titles: readonly string[];
  readonly cells: Cells;
  readonly wideTitles: readonly string[];
  readonly wideCells: Cells;
}

const EMPTY: View = { titles: [], cells: () => [], wideTitles: [], wideCells: () => [] };

const ROUTE: View = {
  titles: ['PARENTS', 'BACKENDS'],
  cells: ({ spec }) => [
    records(spec?.parentRefs)
      .map((parent) => `${text(parent.kind) || 'Gateway'}/${text(parent.name)}`.toLowerCase())
      .join(','),
    records(spec?.rules)
      .map((rule) =>
        records(rule.backendRefs)
          .map((backend) => `${text(backend.name)}${backend.weight === undefined ? '' : `=${backend.weight}`}`)
          .join(','),
      )
      .join(' | '),
  ],
  wideTitles: ['HOSTNAMES'],
  wideCells: ({ spec }) => [list(spec?.hostnames)],
};

const VIEWS: Readonly<Record<string, View>> = {
  Service: {
    titles: ['ADDRESSES', 'PORTS'],
    cells: ({ spec }) => [
      list(spec?.clusterIPs ?? (spec?.clusterIP === undefined ? [] : [spec.clusterIP])),
      records(spec?.ports)
        .map((port) => `${port.port}${port.targetPort === undefined || port.targetPort === port.port ? '' : `→${port.targetPort}`}`)
        .join(','),
    ],
    wideTitles: ['SELECTOR'],
    wideCells: ({ spec }) => [pairs(spec?.selector)],
  },
  Workload: {
    titles: ['NODE', 'ADDRESSES'],
    cells: ({ spec }) => [text(spec?.node), list(spec?.addresses)],
    wideTitles: ['LABELS', 'NETWORK-NAMESPACE'],
    wideCells: ({ spec, metadata }) => [pairs(spec?.labels ?? metadata?.labels), text(spec?.networkNamespace ?? spec?.podUID)],
  },
  Secret: {
    titles: ['TYPE', 'KEYS'],
    cells: ({ type, data, stringData }) => [text(type), [...new Set([...keys(data), ...keys(stringData)])].join(',')],
    wideTitles: [],
    wideCells: () => [],
  },
  HTTPRoute: ROUTE,
  GRPCRoute: ROUTE,
  TLSRoute: ROUTE,
  TCPRoute: ROUTE,
};

export function columnsOf(kind: string, wide: boolean): Column[] {
  const view = VIEWS[kind] ?? EMPTY;
  return ['NAMESPACE', 'NAME', ...view.titles, 'STATUS', ...(wide ? view.wideTitles : [])].map((title) => ({ title }));
}

export function rowOf(kind: string, object: StoredObject, wide: boolean): string[] {
  const view = VIEWS[kind] ?? EMPTY;
  const { namespace = '', name = '' } = object.metadata ?? {};
  return [namespace, name, ...view.cells(object), statusText(object.status), ...(wide ? view.wideCells(object) : [])];
}

/** Good when they are False. */
const NEGATIVE = new Set(['Conflicted', 'PartiallyInvalid']);

/** The reasons of the conditions that aren't met, or "ok"; each once. */
function statusText(status: unknown): string {
  if (typeof status !== 'object' || status === null) return 'ok';
  const { conditions, parents, ancestors, listeners } = status as Record<string, unknown>;
  const all = [
    ...records(conditions),
    ...[parents, ancestors, listeners].flatMap((list) => records(list).flatMap((each) => records(each.conditions))),
  ];
  const unmet = all.filter(({ type, status: is }) => is === (NEGATIVE.has(text(type)) ? 'True' : 'False'));
  return [...new Set(unmet.map(({ reason }) => text(reason)))].join(',') || 'ok';
}

function text(value: unknown): string {
  return value === undefined || value === null ? '' : String(value);
}

function list(value: unknown): string {
  return Array.isArray(value) ? value.join(',') : '';
}

function records(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.filter((item): item is Record<string, unknown> => typeof item === 'object' && item !== null) : [];
}

function keys(value: unknown): string[] {
  return typeof value === 'object' && value !== null ? Object.keys(value) : [];
}

function pairs(value: unknown): string {
  return typeof value === 'object' && value !== null
    ? Object.entries(value)
        .map(([name, of]) => `${name}=${of}`)
        .join(',')
    : '';
}
