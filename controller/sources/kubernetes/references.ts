// Which Secrets and ConfigMaps objects name: these alone are read from the API server. Pure; reads manifests that nothing has validated.
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

/** Of a Gateway: certificates it shows, authorities it trusts. */
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

/** Of a BackendTLSPolicy: authorities it trusts. */
export function referencesOfPolicy(namespace: string, body: Unchecked): Reference[] {
  return itemsOf(at(body.spec, 'validation', 'caCertificateRefs')).flatMap((reference) => named('ConfigMap', namespace, reference));
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
