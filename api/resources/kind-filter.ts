// mesh.weft.dev/v1 Filter: an operator's code over requests and answers. Owner: Weft, docs/traffic/filters.md.
import { z } from 'zod';
import { bundleModule } from '../filter/bundle.js';
import { MAX_BODY_BYTES } from '../filter/outcome.js';
import { objectOf } from './metadata.js';
import { GATEWAY_GROUP } from './route-references.js';
import { choice, fields, type Report, textOf, type Unchecked, unique, wholeNumber, withRule } from './schema.js';
import { dnsSubdomain, duration, durationMs, objectName, sectionName } from './syntax.js';

const GROUPS: Readonly<Record<string, string>> = {
  Service: '',
  HTTPRoute: GATEWAY_GROUP,
  GRPCRoute: GATEWAY_GROUP,
  Gateway: GATEWAY_GROUP,
};

const targetRef = withRule(
  fields({
    group: z.string().max(253),
    kind: choice(['Service', 'HTTPRoute', 'GRPCRoute', 'Gateway']),
    name: objectName,
    // A rule of the route by its name, a listener of the gateway.
    sectionName: sectionName.optional(),
  }),
  ({ group, kind, sectionName: section }, report) => {
    const expected = typeof kind === 'string' ? GROUPS[kind] : undefined;
    if (expected !== undefined && group !== undefined && group !== expected)
      report(['group'], `expected group: ${JSON.stringify(expected)}, that of ${kind}`);
    if (kind === 'Service' && section !== undefined) report(['sectionName'], 'a Service has no sections');
  },
);

const MAX_TIMEOUT_MS = 10_000;
const NO_FILE = 'is read by `weft apply`, `weft validate` and `weft filter`: here the module itself is expected, as spec.module';

/** Types are checked where the module is written (`weft apply`, `weft validate`). */
function checkSpec({ module, moduleFile, timeout }: Unchecked, report: Report): void {
  if (moduleFile !== undefined) report(['moduleFile'], NO_FILE);
  else if (module === undefined) report(['module'], 'required: the module in TypeScript (or moduleFile, a file that has it)');
  if (typeof module === 'string') {
    const bundled = bundleModule(module);
    for (const { line, column, message } of bundled.ok ? [] : bundled.mistakes)
      report(['module'], `line ${line}, column ${column}: ${message}`);
  }
  const ms = durationMs(textOf({ timeout }, 'timeout') ?? '');
  if (ms !== null && (ms < 1 || ms > MAX_TIMEOUT_MS)) report(['timeout'], `expected 1ms to 10s, found ${timeout}`);
}

export const filterKind = {
  kind: 'Filter',
  apiVersion: 'mesh.weft.dev/v1',
  olderVersions: [],
  plural: 'filters',
  shortNames: [],
  schema: objectOf(
    { kind: 'Filter', apiVersion: 'mesh.weft.dev/v1', name: dnsSubdomain },
    {
      spec: withRule(
        fields({
          targetRefs: unique(z.array(targetRef).max(16), 'targetRefs', ['name'], (item) =>
            typeof item.name === 'string' ? `${item.kind} ${item.name} ${textOf(item, 'sectionName') ?? ''}`.trim() : null,
          ).default([]),
          module: z.string().max(1_000_000).optional(),
          moduleFile: z.string().max(4_096).optional(),
          priority: wholeNumber(-1_000_000, 1_000_000).default(0),
          failurePolicy: choice(['FailClosed', 'FailOpen']).default('FailClosed'),
          timeout: duration.default('1s'),
          memoryMiB: wholeNumber(16, 1_024).default(64),
          body: fields({ maxBytes: wholeNumber(1, MAX_BODY_BYTES) }).optional(),
        }),
        checkSpec,
      ),
    },
  ),
} as const;
