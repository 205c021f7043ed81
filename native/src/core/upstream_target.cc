// See upstream_target.h.
#include "core/upstream_target.h"

#include <cstring>

#include "core/namespace_sockets.h"

namespace weft {

bool UpstreamTarget::operator==(const UpstreamTarget& other) const {
  return endpoint == other.endpoint && http2 == other.http2 && opaque == other.opaque && connect.mark == other.connect.mark &&
         connect.scope == other.connect.scope && connect.bind_source == other.connect.bind_source && connect.to == other.connect.to &&
         connect.source == other.connect.source && tls_key == other.tls_key && tenant == other.tenant && proxied == other.proxied;
}

size_t UpstreamTarget::hash() const {
  uint64_t words[4];
  const uint64_t client = uint64_t{proxied.source.port} << 24;
  memcpy(words, connect.to.address.bytes.data(), 16);
  memcpy(words + 2, connect.source.bytes.data(), 16);
  uint64_t hash = (static_cast<uint64_t>(static_cast<uint32_t>(endpoint)) << 32) ^ (uint64_t{connect.to.port} << 8) ^ connect.mark ^
                  tls_key ^ (uint64_t{http2} << 31) ^ (uint64_t{tenant} << 48) ^ client;
  for (const uint64_t word : words) hash = (hash ^ word) * 0x9e3779b97f4a7c15u, hash ^= hash >> 29;
  return hash;
}

namespace {

void bind_in_scope(const TargetContext& context, ConnectOptions* connect) {
  connect->scope = context.scope;
  connect->mark = context.scope->mark();
  connect->source = context.source == ScopeSource::Client ? context.client.address : connect->to.address;
  // An endpoint of the other IP version can't be reached from the client's address.
  connect->bind_source = context.source != ScopeSource::Any && is_mapped(connect->source) == is_mapped(connect->to.address);
}

// False: the client has no address from which this one is reached.
bool borrow_source(const Tables& tables, const TargetContext& context, ConnectOptions* connect) {
  const bool is_v4 = is_mapped(connect->to.address);
  const Address& hairpin = is_v4 ? context.hairpin_v4 : context.hairpin_v6;
  connect->bind_source = true;
  connect->source = context.client.address;
  if (is_mapped(connect->source) != is_v4) {
    const Address* twin = tables.source_twin(connect->source);
    // What is delivered on this host is answered to the proxy whatever its source.
    if (twin == nullptr && connect->mark != kMarkValueDeliver) return false;
    connect->source = twin != nullptr ? *twin : hairpin;
  }
  if (connect->source == connect->to.address) {
    // The kernel calls a packet from its own address martian: such a pod gets the link-local source instead.
    connect->source = hairpin;
    connect->mark = kMarkValueDeliver;
  }
  return true;
}

}  // namespace

bool resolve_target(const Decision& decision, const Tables& tables, const TargetContext& context, UpstreamTarget* out) {
  out->endpoint = decision.target;
  out->tenant = context.tenant;
  if (decision.target >= 0) {
    const Endpoint* endpoint = tables.endpoint(decision.target);
    if (endpoint == nullptr) return false;
    out->connect.to = {endpoint->address, endpoint->port};
    out->opaque = endpoint->protocol == Protocol::kOpaque;
    out->http2 = endpoint->protocol == Protocol::kHttp2 || (out->opaque && context.http2 && context.detected);
    if (endpoint->tls != nullptr) {
      out->tls = endpoint->tls.get();
      out->tls_key = endpoint->tls->key;
    }
    out->policy = endpoint->connections;
    if (endpoint->proxy != ProxyAnnouncement::kNone) {
      out->proxied = {endpoint->proxy, context.client, context.destination};
      // On a gateway: where the client connected to.
      if (context.destination.port == 0) local_peer(context.socket, &out->proxied.destination);
    }
  } else {
    if (decision.target != kTargetOriginal || !context.has_destination) return false;
    out->connect.to = context.destination;
    out->http2 = context.http2;
  }
  if (out->policy != nullptr) {
    out->connect.keepalive = {out->policy->keepalive_time_s, out->policy->keepalive_interval_s, out->policy->keepalive_probes};
  }
  if (context.scope != nullptr) {
    bind_in_scope(context, &out->connect);
    return true;
  }
  if (decision.has(kMarkInject)) out->connect.mark = kMarkValueInject;
  if (decision.has(kMarkDeliver)) out->connect.mark = kMarkValueDeliver;
  if (!decision.has(kBindClient)) return true;
  return borrow_source(tables, context, &out->connect);
}

}  // namespace weft
