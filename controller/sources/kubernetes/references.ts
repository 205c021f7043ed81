// Which Secrets and ConfigMaps objects name: these alone are read from the API server. Pure; reads manifests that nothing has validated.
import { ROOT_NAMESPACE } from '../../../api/resources/index.js';
import { isUnchecked, textOf, type Unchecked } from '../../../api/resources/schema.js';
import { isName, itemsOf } from './object.js';

export interface Reference {
  readonly kind: 'Secret' | 'ConfigMap';
  readonly namespace: string;
  readonly name: string;
}

function at(value: unknown, ...path: readonly string[]): unknown {
  return path.reduce<unknown>((inner, field) => (isUnchecked(inner) ? inner[field] : undefined), value);
}

/** "<namespace>/<name>" of the Gateway that it adds to; none: of something else. */
export function gatewaysOfListenerSet(own: string, { spec }: Unchecked): string[] {
  const { kind = 'Gateway', namespace = own, name } = one(at(spec, 'parentRef'))[0] ?? {};
  return kind === 'Gateway' ? [`${String(namespace)}/${String(name)}`] : [];
}

/** Of a Gateway, or a ListenerSet: certificates it shows, authorities it trusts. */
export function referencesOfGateway(namespace: string, body: Unchecked): Reference[] {
  const { spec } = body;
  const certificates = [
    ...itemsOf(at(spec, 'listeners')).flatMap((listener) => itemsOf(at(listener, 'tls', 'certificateRefs'))),
    ...one(at(spec, 'tls', 'backend', 'clientCertificateRef')),
    ...one(at(spec, 'backendTLS', 'clientCertificateRef')),
  ];
  const frontends = [at(spec, 'tls', 'frontend', 'default'), ...itemsOf(at(spec, 'tls', 'frontend', 'perPort')).map(({ tls }) => tls)];
  const authorities = frontends.flatMap((frontend) => itemsOf(at(frontend, 'validation', 'caCertificateRefs')));
  return [
    ...certificates.flatMap((reference) => named('Secret', namespace, { kind: 'Secret', ...reference })),
    ...authorities.flatMap((reference) => named('ConfigMap', namespace, reference)),
  ];
}

/** Of a Gateway of Istio: the Secrets that its names may be those of, beside it and in Istio's root namespace. */
export function referencesOfIstioGateway(namespace: string, body: Unchecked): Reference[] {
  const names = itemsOf(at(body.spec, 'servers')).flatMap(({ tls }) => {
    const { credentialName, credentialNames, caCertCredentialName: authority } = isUnchecked(tls) ? tls : {};
    const [credential] = [credentialName, ...(Array.isArray(credentialNames) ? (credentialNames as unknown[]) : [])].filter(Boolean);
    return typeof credential === 'string' ? [credential, typeof authority === 'string' ? authority : `${credential}-cacert`] : [];
  });
  return [namespace, ROOT_NAMESPACE].flatMap((within) => names.flatMap((name) => named('Secret', within, { kind: 'Secret', name })));
}

/** Of a BackendTLSPolicy: authorities it trusts. */
export function referencesOfPolicy(namespace: string, body: Unchecked): Reference[] {
  return itemsOf(at(body.spec, 'validation', 'caCertificateRefs')).flatMap((reference) => named('ConfigMap', namespace, reference));
}

/** Of a DestinationRule: what clients show and trust, each a Secret that may have its authorities in another one. */
export function referencesOfRule(namespace: string, { spec }: Unchecked): Reference[] {
  const policies = [at(spec, 'trafficPolicy'), ...itemsOf(at(spec, 'subsets')).map(({ trafficPolicy }) => trafficPolicy)];
  const settings = policies.flatMap((policy) => [policy, ...itemsOf(at(policy, 'portLevelSettings'))]);
  return settings.flatMap((each) => {
    const { mode, credentialName: name } = one(at(each, 'tls'))[0] ?? {};
    if (typeof name !== 'string' || (mode !== 'SIMPLE' && mode !== 'MUTUAL')) return [];
    return [name, `${name}-cacert`].flatMap((secret) => (name === '' ? [] : named('Secret', namespace, { kind: 'Secret', name: secret })));
  });
}

function one(value: unknown): Unchecked[] {
  return isUnchecked(value) ? [value] : [];
}

function named(kind: Reference['kind'], namespace: string, reference: Unchecked): Reference[] {
  const name = textOf(reference, 'name') ?? '';
  const group = textOf(reference, 'group') ?? '';
  const within = textOf(reference, 'namespace') ?? namespace;
  if (reference.kind !== kind || group !== '' || !isName(name) || !isName(within)) return [];
  return [{ kind, namespace: within, name }];
}
