// The codes of findings, which `weft analyze` prints and scripts may rely on. Those that Istio's analysis has too have its names. The one list.

export type Severity = 'error' | 'warning' | 'info';

export const SEVERITY_OF = {
  // One object by itself.
  Invalid: 'error',
  NotActedOn: 'warning',
  Deprecated: 'warning',
  NegativeConditionStatus: 'warning',
  // References.
  ReferencedResourceNotFound: 'error',
  ReferencedInternalGateway: 'warning',
  NoMatchingWorkloadsFound: 'warning',
  IneffectiveSelector: 'warning',
  // Of the Gateway API's objects and Weft's: the reasons of their conditions.
  ConditionNotMet: 'warning',
  RouteMatchUnreachable: 'warning',
  // Istio's Gateways.
  ConflictingGateways: 'error',
  GatewayDuplicateCertificate: 'warning',
  GatewayPortNotDefinedOnService: 'warning',
  InvalidGatewayCredential: 'error',
  // VirtualServices.
  ConflictingMeshGatewayVirtualServiceHosts: 'error',
  IngressRouteRulesNotAffected: 'warning',
  JwtClaimBasedRoutingWithoutRequestAuthN: 'error',
  VirtualServiceDestinationPortSelectorRequired: 'error',
  VirtualServiceHostNotFoundInGateway: 'warning',
  VirtualServiceIneffectiveMatch: 'info',
  VirtualServiceUnreachableRule: 'warning',
  // DestinationRules.
  DestinationRuleSubsetNotSelectPods: 'warning',
  UnknownDestinationRuleHost: 'warning',
  // Services and ServiceEntries.
  ConflictingServiceEntryProtocol: 'warning',
  ExternalNameServiceTypeInvalidPortName: 'warning',
  PortNameIsNotUnderNamingConvention: 'info',
  ServiceEntryAddressesRequired: 'warning',
  // Sidecars and Telemetries.
  ConflictingSidecarWorkloadSelectors: 'error',
  ConflictingTelemetryWorkloadSelectors: 'error',
  InvalidTelemetryProvider: 'warning',
  MultipleSidecarsWithoutWorkloadSelectors: 'error',
  MultipleTelemetriesWithoutWorkloadSelectors: 'error',
} as const satisfies Readonly<Record<string, Severity>>;

export type Code = keyof typeof SEVERITY_OF;
