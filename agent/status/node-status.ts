// Answers mesh.v1.NodeStatus: gathers what the agent's parts and the proxy say of themselves. Changes nothing.
import type { ServerUnaryCall, sendUnaryData, UntypedServiceImplementation } from '@grpc/grpc-js';
import { status } from '@grpc/grpc-js';
import type { Rejection } from '../../api/gen/mesh/v1/discovery.js';
import type { ExplainRequest, ExplainResponse } from '../../api/gen/mesh/v1/explain.js';
import type { CaptureState, CheckState, ControllerLink, StatusRequest, StatusResponse, XdsState } from '../../api/gen/mesh/v1/status.js';
import { messageOf } from '../../api/message-of.js';
import type { ProxyStatus } from './proxy-status.js';

/** What the agent knows itself, at one moment. */
export interface AgentFacts {
  readonly node: string;
  readonly version: string;
  readonly uptimeSeconds: number;
  /** 0: nothing applied yet. */
  readonly appliedRevision: number;
  readonly controller: ControllerLink;
  readonly capture: CaptureState;
  readonly rejected: readonly Rejection[];
  /** What of the configuration is left aside, in words. */
  readonly notices: readonly string[];
  readonly checks: readonly CheckState[];
  /** Proxies subscribed to this agent's configuration. */
  readonly subscribedProxies: number;
  readonly isProxyStalled: boolean;
  /** Null: no proxyless clients are served. */
  readonly xds: (XdsState & XdsCounters) | null;
}

/** Since the agent's start. */
export interface XdsCounters {
  readonly responses: number;
  readonly refusals: number;
  readonly refusedStreams: number;
}

export async function nodeStatus(facts: AgentFacts, proxy: ProxyStatus): Promise<StatusResponse> {
  const answer = await proxy.get();
  return {
    node: facts.node,
    version: facts.version,
    uptimeSeconds: facts.uptimeSeconds,
    appliedRevision: facts.appliedRevision,
    controller: facts.controller,
    capture: facts.capture,
    proxy: answer.kind === 'ok' ? answer.value : undefined,
    proxyError: proxyError(facts, answer.kind === 'ok' ? '' : answer.reason),
    rejected: [...facts.rejected],
    notices: [...facts.notices],
    xds: facts.xds === null ? undefined : { clients: facts.xds.clients, faults: facts.xds.faults },
    checks: [...facts.checks],
  };
}

function proxyError(facts: AgentFacts, unavailable: string): string {
  const problems = unavailable === '' ? [] : [unavailable];
  if (facts.subscribedProxies === 0) problems.push('no proxy takes its configuration from this agent: revisions are acked without one');
  if (facts.isProxyStalled)
    problems.push('the proxy does not ack its configuration and serves an older revision: look at its log, or restart it');
  return problems.join('; ');
}

export function nodeStatusImplementation(facts: () => AgentFacts, proxy: ProxyStatus): UntypedServiceImplementation {
  return {
    get: (_call: ServerUnaryCall<StatusRequest, StatusResponse>, reply: sendUnaryData<StatusResponse>) => {
      nodeStatus(facts(), proxy).then(
        (response) => reply(null, response),
        (error: unknown) => reply({ code: status.INTERNAL, details: messageOf(error) }),
      );
    },
    explain: ({ request }: ServerUnaryCall<ExplainRequest, ExplainResponse>, reply: sendUnaryData<ExplainResponse>) => {
      void proxy.explain(request).then((answer) => {
        if (answer.kind === 'ok') reply(null, answer.value);
        else reply({ code: answer.kind === 'refused' ? status.INVALID_ARGUMENT : status.UNAVAILABLE, details: answer.reason });
      });
    },
  };
}
