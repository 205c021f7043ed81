// How connections to a service's endpoints are opened, kept and limited. Values only.
#pragma once

#include <cstdint>

namespace weft {

// The same as ConnectionPolicySpec in agent/native/engine-tables.ts, field by field. Limits: -1: none; times: 0: the engine's own.
struct ConnectionPolicy {
  /// Which of EngineOptions.connection_counts' services it is.
  int32_t service = 0;
  /// Open, and requests that wait for one: of the service in all workers, and of each endpoint.
  int32_t max_connections = -1;
  int32_t max_pending = -1;
  int32_t max_endpoint_connections = -1;
  int32_t max_endpoint_pending = -1;
  /// 0: any number.
  uint32_t max_requests = 0;
  /// HTTP/2, of one connection at once; 0: as the peer says.
  uint32_t max_streams = 0;
  uint32_t connect_timeout_ms = 0;
  uint32_t idle_timeout_ms = 0;
  /// Of what is not HTTP.
  uint32_t tcp_idle_timeout_ms = 0;
  /// Then an HTTP connection takes no more requests, and what is not HTTP is reset; 0: none.
  uint32_t max_duration_ms = 0;
  /// Seconds and a count; 0: the kernel's. All 0: no keepalive.
  uint32_t keepalive_time_s = 0;
  uint32_t keepalive_interval_s = 0;
  uint32_t keepalive_probes = 0;
};

}  // namespace weft
