// Annotations of a Gateway: what the Gateway API has no field for, and Istio says by gatewayTopology. Owner: Weft (keys of mesh.weft.dev).
import { type LabelSelector, labelSelectorOf } from './label-selector.js';
import { suggestion } from './nearest.js';
import { describe, type Report, type Unchecked } from './schema.js';

const TRUSTED_HOPS = 'mesh.weft.dev/trusted-hops';
const FORWARD_CLIENT_CERT = 'mesh.weft.dev/forward-client-cert';
const PROXY_PROTOCOL = 'mesh.weft.dev/proxy-protocol';
const NODE_SELECTOR = 'mesh.weft.dev/node-selector';
const KEYS = [TRUSTED_HOPS, FORWARD_CLIENT_CERT, PROXY_PROTOCOL, NODE_SELECTOR];
const MAX_TRUSTED_HOPS = 16;
/** Envoy's names, which are Istio's. */
const CLIENT_CERT_MODES = ['SANITIZE', 'FORWARD_ONLY', 'APPEND_FORWARD', 'SANITIZE_SET', 'ALWAYS_FORWARD_ONLY'] as const;

export interface GatewayForwarding {
  /** Undefined: nothing said. */
  readonly trustedHops: number | undefined;
  readonly clientCert: (typeof CLIENT_CERT_MODES)[number];
  /** Connections begin with a PROXY protocol header. */
  readonly proxyProtocol: boolean;
}

/** Keys of other owners are theirs. */
export function checkGatewayAnnotations(annotations: Unchecked, report: Report): void {
  for (const key of Object.keys(annotations))
    if (key.startsWith('mesh.weft.dev/') && !KEYS.includes(key))
      report([key], `no annotation of a Gateway, only ${KEYS.join(', ')}${suggestion(key, KEYS)}`);
  const { [TRUSTED_HOPS]: hops, [FORWARD_CLIENT_CERT]: mode, [PROXY_PROTOCOL]: header, [NODE_SELECTOR]: nodes } = annotations;
  if (typeof hops === 'string' && (!/^\d{1,2}$/.test(hops) || Number(hops) > MAX_TRUSTED_HOPS))
    report([TRUSTED_HOPS], `expected a number from "0" to "${MAX_TRUSTED_HOPS}", found ${describe(hops)}`);
  if (typeof mode === 'string' && !(CLIENT_CERT_MODES as readonly string[]).includes(mode))
    report(
      [FORWARD_CLIENT_CERT],
      `expected one of ${CLIENT_CERT_MODES.join(', ')}, found ${describe(mode)}${suggestion(mode, [...CLIENT_CERT_MODES])}`,
    );
  if (typeof header === 'string' && header !== 'true' && header !== 'false')
    report([PROXY_PROTOCOL], `expected "true" or "false", found ${describe(header)}`);
  if (typeof nodes === 'string' && labelSelectorOf(nodes) === null)
    report([NODE_SELECTOR], `expected labels of nodes such as "role=edge,zone in (a,b)", found ${describe(nodes)}`);
}

/** On which nodes the gateway runs; null: on all. Of annotations that were found good. */
export function gatewayNodes(annotations: Readonly<Record<string, string>> | undefined): LabelSelector | null {
  const nodes = annotations?.[NODE_SELECTOR];
  return nodes === undefined ? null : labelSelectorOf(nodes);
}

/** Of annotations that were found good. */
export function gatewayForwarding(annotations: Readonly<Record<string, string>> | undefined): GatewayForwarding {
  const hops = annotations?.[TRUSTED_HOPS];
  return {
    trustedHops: hops === undefined ? undefined : Number(hops),
    clientCert: (annotations?.[FORWARD_CLIENT_CERT] ?? 'SANITIZE') as GatewayForwarding['clientCert'],
    proxyProtocol: annotations?.[PROXY_PROTOCOL] === 'true',
  };
}
