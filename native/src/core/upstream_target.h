// Where a decision sends an exchange: the address to dial, the source to borrow, the mark. Also the key of the upstream pools: two
// exchanges may share a connection exactly if their targets are equal.
#pragma once
#include <cstddef>
#include <memory>

#include "core/options.h"
#include "core/records.h"
#include "core/socket.h"
#include "core/tenant_scheduler.h"

namespace weft {

// What the PROXY protocol tells the endpoint. Names one connection of one client, so only that client's requests share a connection.
struct ProxiedClient {
  ProxyAnnouncement as = ProxyAnnouncement::kNone;
  Peer source;
  Peer destination;

  bool operator==(const ProxiedClient& other) const {
    return as == other.as && (as == ProxyAnnouncement::kNone || (source == other.source && destination == other.destination));
  }
};

struct UpstreamTarget {
  // -1: the original destination.
  int32_t endpoint = -1;
  ConnectOptions connect;
  // HTTP/2 with prior knowledge; else HTTP/1.
  bool http2 = false;
  // Not known to speak HTTP: CONNECT ends here and its bytes go straight to it; anything else is HTTP/1.
  bool opaque = false;
  // How the endpoint is spoken to; valid as long as the tables that gave it, so pools know only its key. 0: plain text.
  const EndpointTls* tls = nullptr;
  uint64_t tls_key = 0;
  // Null: none. An endpoint has one, so pools need not look at it.
  std::shared_ptr<const ConnectionPolicy> policy;
  // Tenants share no connection: neither its turns nor its window.
  TenantId tenant = 0;
  ProxiedClient proxied;

  bool operator==(const UpstreamTarget& other) const;
  size_t hash() const;
};

// Where a connection in another scope than the proxy's own comes from. Any: the kernel chooses. Destination: the address that it goes to,
// by which host_lookup knows that it has been through the proxy.
enum class ScopeSource : uint8_t { Any, Client, Destination };

// What resolve_target needs to know of the connection the exchange came on.
struct TargetContext {
  Peer client;
  // Original destination of a captured connection.
  Peer destination;
  bool has_destination = false;
  // The client's socket, for its local address.
  int socket = -1;
  // What the client speaks, its original destination does too; so does an endpoint of no declared protocol, if the client's was `detected`.
  bool http2 = false;
  bool detected = false;
  TenantId tenant = 0;
  // Null: the proxy's own namespace. Otherwise marks and borrowed addresses have no meaning, `source` says what to bind.
  SharedScope scope;
  ScopeSource source = ScopeSource::Any;
  Address hairpin_v4;
  Address hairpin_v6;
};

// False: the endpoint is not in the tables, can't be reached from any address of the client's, or there is no original destination.
bool resolve_target(const Decision& decision, const Tables& tables, const TargetContext& context, UpstreamTarget* out);

}  // namespace weft
