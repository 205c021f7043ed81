// See downstream.h.
#include "core/downstream.h"

#include <cstring>
#include <utility>

#include "core/exchange.h"
#include "core/reactor.h"
#include "core/socket.h"

namespace weft {

bool Downstream::is_leaving() const { return origin_.retired || reactor_->is_draining(); }

uint64_t Downstream::idle_timeout_ms() const { return reactor_->idle_timeout_ms(is_leaving()); }

void Downstream::retire() {
  if (origin_.retired) return;
  origin_.retired = true;
  on_drain();
}

DescriptorContext Downstream::descriptor_context(const Exchange* exchange) {
  const Snapshot& tables = reactor_->tables();
  if (ids_generation_ != tables->generation()) {
    ids_generation_ = tables->generation();
    source_id_ = tables->source(origin_.client.address);
    destination_id_ = origin_.listener->is_captured() ? tables->destination(origin_.destination.address, origin_.destination.port).id : -1;
    if (const ClientSecurity* security = origin_.security.get()) {
      server_name_id_ = security->server_name.empty() ? -1 : tables->host(security->server_name);
      identity_id_ = security->identity.empty() ? -1 : tables->identity(security->identity);
    }
  }
  DescriptorContext context;
  context.handle = handle_;
  context.listener_id = origin_.listener->id;
  context.destination_id = destination_id_;
  context.source_id = source_id_;
  context.server_name_id = server_name_id_;
  context.peer_identity_id = identity_id_;
  if (origin_.security != nullptr) context.flags = origin_.security->terminated ? kDescriptorTls : kDescriptorTlsPassthrough;
  context.random = static_cast<int32_t>(reactor_->random() >> 33);
  context.client = exchange != nullptr && exchange->has_forwarded_client ? &exchange->forwarded_client : &origin_.client.address;
  if (exchange != nullptr && exchange->attempts > 0) {
    context.attempt = exchange->attempts;
    context.tried = exchange->tried.get();
    context.previous_target = exchange->decision.target;
    context.previous_token = exchange->decision.token;
  }
  if (exchange != nullptr && exchange->is_filtered) context.flags |= kDescriptorFiltered;
  if (exchange != nullptr && exchange->held_body != HeldBody::None) context.flags |= body_flag(exchange->held_body);
  if (exchange != nullptr && exchange->is_answered) {
    context.flags |= kDescriptorAnswered;
    context.previous_target = kTargetDeferred;
    context.previous_token = exchange->decision.token;
  }
  if (dialled_ >= 0 && context.attempt == 0 && (context.flags & kDescriptorAnswered) == 0) {
    context.flags |= kDescriptorDialled;
    context.previous_target = std::exchange(dialled_, -1);
  }
  return context;
}

const uint8_t* Downstream::stage_request(const uint8_t* bytes, size_t size) {
  uint8_t* base = reactor_->arena().peek(size);
  if (base == nullptr || !reactor_->has_batch_room()) return nullptr;
  memcpy(base, bytes, size);
  reactor_->arena().commit(size);
  http1::parse_request_head(base, size, reactor_->head_limits(), &reactor_->batch().next()->head);
  return base;
}

const Peer& Downstream::reached() {
  if (origin_.destination.port == 0 && !origin_.listener->is_captured()) local_peer(fd_, &origin_.destination);
  return origin_.destination;
}

TargetContext Downstream::target_context(StreamKind kind) const {
  TargetContext context;
  context.client = origin_.client;
  context.destination = origin_.destination;
  // A connection made straight to the listener's port has no original destination but the listener: dialling it would never end.
  context.has_destination = origin_.listener->is_captured() && origin_.destination.port != origin_.listener->port;
  context.scope = origin_.listener->scope;
  context.source = origin_.scope_source;
  context.socket = fd_;
  context.http2 = kind == StreamKind::Http2;
  context.detected = origin_.detected;
  context.tenant = tenant_;
  context.hairpin_v4 = reactor_->options().hairpin_v4;
  context.hairpin_v6 = reactor_->options().hairpin_v6;
  return context;
}

}  // namespace weft
