// Istio's kinds that are about Envoy itself: EnvoyFilter, WasmPlugin, ProxyConfig. Read so that whole repositories of manifests can be checked
// and applied; there is no Envoy here for them to act on. Owner: Istio API, the rules of its CRDs.
import { z } from 'zod';
import {
  checkTargets,
  filled,
  has,
  istioKind,
  labelsSelector,
  listOf,
  mapOf,
  regex,
  targetRef,
  targets,
  workloadSelector,
} from './istio-common.js';
import {
  choice,
  describe,
  fields,
  isUnchecked,
  portNumber,
  type Report,
  text,
  textOf,
  type Unchecked,
  unique,
  wholeNumber,
  withRule,
} from './schema.js';

const anything = mapOf(z.unknown());

const filterMatch = fields({
  name: z.string().optional(),
  subFilter: fields({ name: z.string().optional() }).optional(),
});

const match = withRule(
  fields({
    context: choice(['ANY', 'SIDECAR_INBOUND', 'SIDECAR_OUTBOUND', 'GATEWAY', 'WAYPOINT']).optional(),
    proxy: fields({
      proxyVersion: z.union([z.literal(''), regex], { error: 'expected a regular expression of RE2' }).optional(),
      metadata: mapOf(z.string()).optional(),
    }).optional(),
    listener: anything.optional(),
    routeConfiguration: anything.optional(),
    cluster: anything.optional(),
    waypoint: fields({
      portNumber: portNumber.optional(),
      filter: filterMatch.optional(),
      route: fields({ name: z.string().optional() }).optional(),
    }).optional(),
  }),
  ({ context, waypoint, listener, routeConfiguration, cluster }, report) => {
    const isOfWaypoint = context === 'WAYPOINT';
    if (waypoint !== undefined && !isOfWaypoint) report(['waypoint'], 'goes with context: WAYPOINT alone');
    for (const [field, value] of Object.entries({ listener, routeConfiguration, cluster }))
      if (value !== undefined && isOfWaypoint) report([field], 'not with context: WAYPOINT: expected waypoint');
  },
);

/** What is matched where a patch applies. */
const OBJECT_OF: Readonly<Record<string, string>> = {
  LISTENER: 'listener',
  FILTER_CHAIN: 'listener',
  NETWORK_FILTER: 'listener',
  HTTP_FILTER: 'listener',
  ROUTE_CONFIGURATION: 'routeConfiguration',
  VIRTUAL_HOST: 'routeConfiguration',
  HTTP_ROUTE: 'routeConfiguration',
  CLUSTER: 'cluster',
  UPSTREAM_HTTP_FILTER: 'cluster',
};
const CONNECTION_MANAGERS = ['envoy.filters.network.http_connection_manager', 'envoy.http_connection_manager'];

function checkPatch({ applyTo, match: of, patch }: Unchecked, report: Report): void {
  if (applyTo === undefined || applyTo === 'INVALID') report(['applyTo'], 'required: what is patched');
  if (!isUnchecked(patch)) {
    if (patch === undefined) report(['patch'], 'required: the operation and its value');
  } else if (patch.operation === undefined || patch.operation === 'INVALID') report(['patch', 'operation'], 'required: what is done');
  else if (patch.operation !== 'REMOVE' && patch.value === undefined)
    report(['patch', 'value'], `required by operation ${patch.operation}`);
  if (!isUnchecked(of)) return;
  const object = OBJECT_OF[String(applyTo)];
  for (const field of ['listener', 'routeConfiguration', 'cluster'])
    if (object !== undefined && field !== object && of[field] !== undefined)
      report(['match', field], `expected ${object} with applyTo: ${applyTo}`);
  if (isUnchecked(of.listener)) checkFilterMatch(applyTo, of.listener, report);
  const upstream = isUnchecked(of.cluster) ? of.cluster.filter : undefined;
  if (!isUnchecked(upstream)) return;
  if (applyTo === 'CLUSTER') report(['match', 'cluster', 'filter'], 'of no use with applyTo: CLUSTER');
  else if (!has(upstream, 'name')) report(['match', 'cluster', 'filter', 'name'], 'required: the filter');
}

function checkFilterMatch(applyTo: unknown, { filterChain }: Unchecked, report: Report): void {
  const filter = isUnchecked(filterChain) ? filterChain.filter : undefined;
  if (!isUnchecked(filter)) return;
  const at = ['match', 'listener', 'filterChain', 'filter'];
  if (!has(filter, 'name')) report([...at, 'name'], 'required: the filter');
  const { subFilter } = filter;
  if (!isUnchecked(subFilter)) return;
  if (applyTo !== 'HTTP_FILTER') report([...at, 'subFilter'], 'goes with applyTo: HTTP_FILTER alone');
  else if (!CONNECTION_MANAGERS.includes(String(filter.name)))
    report([...at, 'name'], `expected ${CONNECTION_MANAGERS[0]}, which has filters`);
  else if (!has(subFilter, 'name')) report([...at, 'subFilter', 'name'], 'required: the filter');
}

const envoyFilter = fields({
  workloadSelector: labelsSelector.optional(),
  targetRefs: z.array(targetRef).max(16).optional(),
  configPatches: listOf(
    withRule(
      fields({
        applyTo: choice([
          ...([
            'INVALID',
            'LISTENER',
            'FILTER_CHAIN',
            'NETWORK_FILTER',
            'HTTP_FILTER',
            'ROUTE_CONFIGURATION',
            'VIRTUAL_HOST',
            'HTTP_ROUTE',
          ] as const),
          ...(['CLUSTER', 'EXTENSION_CONFIG', 'BOOTSTRAP', 'LISTENER_FILTER', 'UPSTREAM_HTTP_FILTER'] as const),
        ]).optional(),
        match: match.optional(),
        patch: fields({
          operation: choice([
            ...([
              'INVALID',
              'MERGE',
              'ADD',
              'REMOVE',
              'INSERT_BEFORE',
              'INSERT_AFTER',
              'INSERT_FIRST',
              'REPLACE',
              'MERGE_AND_REPLACE_LIST',
            ] as const),
          ]).optional(),
          value: anything.optional(),
          filterClass: choice(['UNSPECIFIED', 'AUTHN', 'AUTHZ', 'STATS']).optional(),
        }).optional(),
      }),
      checkPatch,
    ),
    4096,
  ).optional(),
  priority: wholeNumber(-2_147_483_648, 2_147_483_647).optional(),
});

export const envoyFilterKind = istioKind(
  {
    kind: 'EnvoyFilter',
    group: 'networking.istio.io',
    versions: ['v1alpha3'],
    plural: 'envoyfilters',
    notActedOn: 'EnvoyFilter, and it never will be: it patches the configuration of Envoy, which is not here',
  },
  envoyFilter,
);

const environment = withRule(
  fields({
    name: filled('the name of a variable', 256),
    valueFrom: choice(['INLINE', 'HOST']).optional(),
    value: z.string().max(2048).optional(),
  }),
  ({ valueFrom, value }, report) => {
    if (valueFrom === 'HOST' && value !== undefined) report(['value'], 'may only be set when valueFrom is INLINE');
  },
);

/** Without a scheme it is the name of an image. */
const SCHEMES = ['http', 'https', 'file', 'oci'];

export const wasmPluginKind = istioKind(
  {
    kind: 'WasmPlugin',
    group: 'extensions.istio.io',
    plural: 'wasmplugins',
    notActedOn: 'WasmPlugin, and it never will be: it extends Envoy, which is not here',
  },
  withRule(
    fields({
      ...targets,
      url: filled('where the module is', 2048).refine(
        (value) => {
          const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(value)?.[1];
          return (scheme === undefined || SCHEMES.includes(scheme.toLowerCase())) && /^[A-Za-z0-9][A-Za-z0-9._~:/@%+=-]*$/.test(value);
        },
        { error: ({ input }) => `expected a URL with one of the schemes ${SCHEMES.join(', ')}, found ${describe(input)}` },
      ),
      sha256: text('64 hexadecimal digits', /^([a-f0-9]{64})?$/, 64, 0).optional(),
      imagePullPolicy: choice(['UNSPECIFIED_POLICY', 'IfNotPresent', 'Always']).optional(),
      imagePullSecret: filled('the name of a Secret', 253).optional(),
      verificationKey: z.string().optional(),
      pluginConfig: anything.optional(),
      pluginName: filled('the name of the plugin', 256).optional(),
      phase: choice(['UNSPECIFIED_PHASE', 'AUTHN', 'AUTHZ', 'STATS']).optional(),
      priority: wholeNumber(-2_147_483_648, 2_147_483_647).optional(),
      failStrategy: choice(['FAIL_CLOSE', 'FAIL_OPEN', 'FAIL_RELOAD']).optional(),
      vmConfig: fields({
        env: unique(listOf(environment), 'names of variables', ['name'], (item) => textOf(item, 'name')).optional(),
      }).optional(),
      match: listOf(
        fields({
          mode: choice(['UNDEFINED', 'CLIENT', 'SERVER', 'CLIENT_AND_SERVER']).optional(),
          ports: listOf(fields({ number: portNumber })).optional(),
        }),
      ).optional(),
      type: choice(['UNSPECIFIED_PLUGIN_TYPE', 'HTTP', 'NETWORK']).optional(),
    }),
    checkTargets,
  ),
);

export const proxyConfigKind = istioKind(
  {
    kind: 'ProxyConfig',
    group: 'networking.istio.io',
    versions: ['v1beta1'],
    plural: 'proxyconfigs',
    notActedOn: 'ProxyConfig, and it never will be: it is about the sidecars of Istio; the proxy of a node has its own flags',
  },
  fields({
    selector: workloadSelector.optional(),
    concurrency: wholeNumber(0, 2_147_483_647).optional(),
    environmentVariables: mapOf(z.string().max(2048)).optional(),
    image: fields({ imageType: z.string().optional() }).optional(),
  }),
);
