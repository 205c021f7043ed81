// What an engine is created with: EngineLimits, EngineOptions and ListenerSpec of agent/native/engine.ts, already validated.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "core/tables/tables.h"

namespace weft {

struct EngineLimits {
  uint32_t max_connections = 10'000;
  uint32_t max_head_bytes = 32 * 1024;
  uint32_t max_headers = 100;
  uint32_t max_buffered_bytes = 256 * 1024;
  uint32_t max_idle_per_endpoint = 64;
  // HTTP/2: of one client connection at once.
  uint32_t max_streams = 128;
  uint32_t header_timeout_ms = 10'000;
  uint32_t idle_timeout_ms = 60'000;
  // Of one exchange, while somebody is waited for who does nothing: a client, or an upstream before its answer's head.
  uint32_t stream_idle_timeout_ms = 60'000;
  uint32_t upstream_idle_timeout_ms = 30'000;
  uint32_t connect_timeout_ms = 5'000;
  uint32_t request_timeout_ms = 0;
  uint32_t tcp_idle_timeout_ms = 0;
  // Until a protocol that nobody declared is taken for opaque; 0: at once, but for kDetectFirst.
  uint32_t detect_timeout_ms = 100;
  uint32_t max_deferred = 1'024;
  uint32_t deferred_timeout_ms = 10'000;
  // Of one tenant in this worker; 0: no limit.
  uint32_t max_tenant_connections = 0;
  uint32_t max_tenant_requests = 0;
  uint32_t max_tenant_buffered_bytes = 0;
};

struct HeartbeatOptions {
  // Empty: no heartbeat.
  std::string map;
  uint32_t slot = 0;
  uint32_t slots = 1;
};

struct HostOptions {
  // Descriptor of the host's network namespace; -1: host processes are not served.
  int netns = -1;
  // Channel to weft-netns, which opens sockets there.
  int sockets = -1;
  uint32_t mark = 0;
  // The pinned `host_flows` map.
  std::string flows;
};

// CLOCK_MONOTONIC.
uint64_t monotonic_ns();

struct EngineOptions {
  EngineLimits limits;
  // What every timer and latency goes by; tests and fuzzers turn one of their own.
  uint64_t (*clock_ns)() = monotonic_ns;
  // Shared by all workers; the engine only subtracts.
  int32_t* outstanding = nullptr;
  size_t outstanding_count = 0;
  // Of connection policies, shared by all workers: how many requests wait; then LimitCounts' words of each endpoint that `outstanding` has;
  // then those of each service. Null: nothing is counted, and nothing limited.
  int32_t* connection_counts = nullptr;
  size_t connection_services = 0;
  double* counters = nullptr;
  // Open connections by listener id.
  double* listener_connections = nullptr;
  size_t listener_count = 0;
  // kMaxTenants × TenantAccounts::kWords; null: kept to itself.
  double* tenants = nullptr;
  uint8_t* access_log = nullptr;
  size_t access_log_bytes = 0;
  HeartbeatOptions heartbeat;
  HostOptions host;
  // This hop's name in Via; empty: none is added.
  std::string via;
  Address hairpin_v4;
  Address hairpin_v6;
};

inline constexpr int64_t kMaxTrustedHops = 16;

// Dns: captured queries, over UDP.
enum class ListenerKind : uint8_t { Gateway, Outbound, Inbound, Dns };

// Where a listener's socket is, and how what it accepts was captured. kOwn: in the proxy's own namespace, by the redirection programs or
// not at all. kHost: in the host's, by connect() hooks and socket lookup. kPod: in a pod's, by address translation.
enum class ListenerPlace : uint8_t { kOwn, kHost, kPod };

// A pod's network namespace, by what it is called in calls and its descriptor, the caller's.
struct PodScope {
  int64_t key = -1;
  int netns = -1;
  // Channel to weft-netns.
  int sockets = -1;
  // SO_MARK of connections that leave from there.
  uint32_t mark = 0;
};

// kTerminate: every connection is TLS. kPermissive: TLS if its first bytes are a ClientHello, else plain. kPassthrough: the ClientHello is
// read for its server name, the bytes go on as they are. kByServerName: that or kTerminate, as the context says.
enum class TlsMode : uint8_t { kTerminate, kPermissive, kPassthrough, kByServerName };
struct ListenerTls {
  TlsMode mode = TlsMode::kTerminate;
  // Null for kPassthrough.
  std::shared_ptr<const TlsContext> context;
};

// What a gateway passes on, and says itself, of its clients' certificates in X-Forwarded-Client-Cert: Envoy's forward_client_cert_details.
// Those that keep what came do so from clients whose certificate was verified, but for the last.
enum class ForwardClientCert : uint8_t { kSanitize, kForwardOnly, kAppendForward, kSanitizeSet, kAlwaysForwardOnly };

// What a gateway believes of what it is told of clients, and tells of them.
struct Forwarding {
  // Proxies in front whose X-Forwarded-* are believed; -1: fields are left as they come.
  int32_t trusted_hops = -1;
  ForwardClientCert client_cert = ForwardClientCert::kSanitize;

  bool tells_certificate() const {
    return client_cert == ForwardClientCert::kAppendForward || client_cert == ForwardClientCert::kSanitizeSet;
  }
  bool keeps_certificate(bool verified) const {
    if (client_cert == ForwardClientCert::kAlwaysForwardOnly) return true;
    return verified && (client_cert == ForwardClientCert::kForwardOnly || client_cert == ForwardClientCert::kAppendForward);
  }
};

// What may change while it listens.
struct ListenerSettings {
  Forwarding forwarding;
  // Null: none.
  std::shared_ptr<const ListenerTls> tls;
  // Every connection begins with a PROXY protocol header, v1 or v2, whose source stands for the socket's.
  bool proxy_protocol = false;
};

struct ListenerSpec : ListenerSettings {
  int32_t id = 0;
  ListenerKind kind = ListenerKind::Gateway;
  ListenerPlace place = ListenerPlace::kOwn;
  // For kPod.
  PodScope pod;
  Address address;
  uint16_t port = 0;
  Protocol protocol = Protocol::kHttp1;
  // Empty: not registered.
  std::string sockmap;
  uint32_t sockmap_key = 0;

  bool is_captured() const { return kind != ListenerKind::Gateway; }
};

}  // namespace weft
