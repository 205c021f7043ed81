// What others import of api/resources.
export { protocolNamed } from './app-protocol.js';
export { EXPORT_TO, exportedTo, seenFrom } from './export-to.js';
export { type FieldPath, type Finding, formatFieldPath, formatFinding } from './finding.js';
export { gatewayForwarding, gatewayNodes } from './gateway-annotations.js';
export { ROOT_NAMESPACE } from './istio-common.js';
export { configMapText } from './kind-config-map.js';
export { ENDPOINT_LABELS, endpointLabels, MAX_WEIGHT, SERVICE_NAME_LABEL, WEIGHT_LABEL } from './kind-endpoint-slice.js';
export { REGION_LABEL, ZONE_LABEL } from './kind-node.js';
export { caBundle, isHidden, secretBytes, tlsKeyPair, withoutSecrets } from './kind-secret.js';
export { findKind, KINDS, type Kind, type KindDefinition, kindDefinition, LATER_KINDS, manifestKind, manifestPlural } from './kinds.js';
export { type LabelSelector, selects } from './label-selector.js';
export { DEFAULT_NAMESPACE } from './metadata.js';
export { nearestName } from './nearest.js';
export { type ManifestOf, objectKey, qualifiedName, type ResourceObject, type StoredObject } from './object.js';
export {
  type ParseResult,
  parseManifests,
  parseManifestsInTurns,
  parseSources,
  type SourceObject,
  type ValidateResult,
  validateObject,
} from './parse.js';
export { durationMs, isLabelValue } from './syntax.js';
export { acceptedClients, CLIENT_NAMES, TLS_CIPHER_SUITES, type TlsLimits, tlsLimits } from './tls-options.js';
export { type CertificateTimes, certificateNames, certificateTimes, keyPairFault, trustFault } from './tls-pem.js';
