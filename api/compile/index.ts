// What others import of api/compile.
export { type Attachments, attachmentsOf } from './attachments.js';
export { type CompileOutput, compileModel } from './compile.js';
export { CONTROLLER_NAME, type Judged, type Subject, statusOf } from './conditions.js';
export { compileConnectionRoute } from './connection-route.js';
export { compileEndpoints } from './endpoints.js';
export { compileGateway, type GatewayContext, type NamedListener } from './gateway.js';
export { compileGrpcRoute } from './grpc-route.js';
export { compileHttpRoute } from './http-route.js';
export { type CompileInput, indexObjects, type ObjectIndex, type Running, type RunningWorkload, type Stored } from './input.js';
export { CompileMemo } from './memo.js';
export type { ConditionReason, Problem, ReportProblem } from './problem.js';
export { type FailingCheck, type LiveNode, NO_REPORTS, type RegisteredInstance, type RegistryReports } from './registry.js';
export { compareCandidates, compareHostnames, compareText, hostnameMatches, type RouteCandidate } from './route-order.js';
export { compileService } from './service.js';
export { namesToResolve, type ResolvedName, type ResolvedNames, resolvableName } from './service-entry.js';
export { compileVisibility, type EgressScope, runsOn, type Visibility } from './visibility.js';
export { type CompiledResource, type DecodedResource, decodeResource, encodeResource } from './wire.js';
export { compileWorkload, type Place, placeOf } from './workload.js';
