// See listener.h.
#include "core/listener.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/downstream_http1.h"
#include "core/downstream_http2.h"
#include "core/downstream_opening.h"
#include "core/opaque.h"
#include "core/reactor.h"
#include "core/tls/tls_context.h"

namespace weft {

namespace {
constexpr uint64_t kRestMs = 100;
// As many as the kernel keeps waiting.
constexpr int kAcceptsAtStop = 4096;

ListenerInfo info_of(const ListenerSpec& spec, SharedScope scope) {
  // By address translation or by the host's hooks, never straight.
  const bool all_captured =
      spec.place == ListenerPlace::kPod || (spec.place == ListenerPlace::kHost && spec.kind == ListenerKind::Outbound);
  return {spec.id, spec.kind, all_captured ? uint16_t{0} : spec.port, spec.forwarding, std::move(scope)};
}

// By plain text or TLS, by which client certificates, and who the client is said to be.
bool lets_in_alike(const ListenerSettings& one, const ListenerSettings& other) {
  if (one.proxy_protocol != other.proxy_protocol) return false;
  const TlsContext* before = one.tls == nullptr ? nullptr : one.tls->context.get();
  const TlsContext* now = other.tls == nullptr ? nullptr : other.tls->context.get();
  return before == nullptr || now == nullptr ? before == now : before->lets_in_as(*now);
}
}  // namespace

Listener::Listener(Reactor* reactor, int fd, const ListenerSpec& spec, SharedScope scope)
    : Connection(reactor, fd), spec_(spec), info_(info_of(spec, std::move(scope))) {
  is_common_ = spec.is_captured();
}

bool Listener::set(const ListenerSettings& settings) {
  const bool lets_in_others = !lets_in_alike(spec_, settings);
  static_cast<ListenerSettings&>(spec_) = settings;
  info_ = Shared(info_of(spec_, info_->scope));
  return lets_in_others;
}

void Listener::on_events(uint32_t) { accept_some(); }
void Listener::on_resume() { accept_some(); }
void Listener::on_timer() { accept_some(); }

void Listener::accept_some() {
  // Reactor::set_overload() resumes it.
  if (!reactor_->accepts()) return;
  for (int i = 0; i < reactor_->accepts_per_turn(); i++) {
    switch (accept_next()) {
      case Accepted::One:
        if (reactor_->turn_is_long()) return reactor_->resume_later(this);
        continue;
      case Accepted::None:
        return;
      case Accepted::Later:
        // The queue stays; edge-triggered, so nothing spins meanwhile.
        return reactor_->schedule(this, kRestMs);
    }
  }
  reactor_->resume_later(this);
}

// Where what was sent here by address wanted to go is not the socket's own name. What nobody sent here has no destination but this
// listener itself: dialling it would never end.
bool Listener::find_destination(int fd, DownstreamOrigin* origin) const {
  const bool is_outbound = spec_.kind == ListenerKind::Outbound;
  if (spec_.place == ListenerPlace::kPod) return translated_peer(fd, &origin->destination);
  if (spec_.place == ListenerPlace::kHost && !is_outbound) origin->scope_source = ScopeSource::Destination;
  if (spec_.place == ListenerPlace::kOwn || !is_outbound) return local_peer(fd, &origin->destination);
  HostFlow flow;
  if (!reactor_->host_flows().find(origin->client, &flow)) return false;
  origin->destination = flow.destination;
  if (flow.source != Address{}) origin->client.address = flow.source;
  if (flow.bound) origin->scope_source = ScopeSource::Client;
  return true;
}

Listener::Accepted Listener::accept_next() {
  sockaddr_storage client;
  socklen_t length = sizeof(client);
  const int fd = accept4(fd_, reinterpret_cast<sockaddr*>(&client), &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd >= 0) {
    accept_one(fd, client);
    return Accepted::One;
  }
  if (errno == EAGAIN) return Accepted::None;
  if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
    const bool no_descriptors = errno == EMFILE || errno == ENFILE;
    if (no_descriptors && reactor_->refuse_connection(fd_)) return Accepted::One;
    if (no_descriptors && errno == EAGAIN) return Accepted::None;
    reactor_->counters().add(Counter::AcceptPausedNoDescriptors);
    return Accepted::Later;
  }
  // ECONNABORTED and the network errors that accept(2) hands on belong to that one connection.
  reactor_->counters().add(Counter::AcceptErrors);
  return Accepted::One;
}

void Listener::stop() {
  for (int i = 0; i < kAcceptsAtStop && accept_next() == Accepted::One; i++) {
  }
  // Where another process shares the socket, closing alone would leave it in the epoll set.
  reactor_->unwatch(this);
  reactor_->close(this);
}

void Listener::accept_one(int fd, const sockaddr_storage& client) {
  Counters& counters = reactor_->counters();
  if (reactor_->open_downstream() >= reactor_->limits().max_connections) {
    counters.add(Counter::DownstreamRefusedLimit);
    ::close(fd);
    return;
  }
  DownstreamOrigin origin;
  origin.listener = info_;
  Protocol protocol = spec_.protocol;
  if (!address_of(reinterpret_cast<const sockaddr*>(&client), &origin.client.address, &origin.client.port) ||
      (spec_.is_captured() && !find_destination(fd, &origin))) {
    counters.add(Counter::AcceptErrors);
    ::close(fd);
    return;
  }
  origin.tenant = tenant_;
  if (spec_.is_captured()) {
    const Tables& tables = *reactor_->tables();
    const Destination known = tables.destination(origin.destination.address, origin.destination.port);
    if (known.id >= 0) protocol = known.protocol;
    origin.tenant =
        TenantScheduler::checked(spec_.kind == ListenerKind::Inbound ? tables.destination_tenant(known.id)
                                                                     : tables.source_tenant(tables.source(origin.client.address)));
  }
  admit(fd, origin, protocol);
  // Before it was accepted nobody knew whose it would be.
  if (is_common_) reactor_->charge(origin.tenant);
}

void Listener::admit(int fd, const DownstreamOrigin& origin, Protocol protocol) {
  Counters& counters = reactor_->counters();
  if (reactor_->tenants().has_reached(origin.tenant, TenantWord::Connections, reactor_->limits().max_tenant_connections)) {
    reactor_->tenants().add(origin.tenant, TenantWord::RefusedConnections);
    ::close(fd);
    return;
  }
  counters.add(Counter::DownstreamAccepted);
  reactor_->count_downstream(spec_.id, origin.tenant, 1);
  if (protocol == Protocol::kDetect && reactor_->limits().detect_timeout_ms == 0) protocol = Protocol::kOpaque;
  if (const OpeningPlan plan{protocol, spec_.proxy_protocol, spec_.tls}; plan.is_needed()) {
    DownstreamOpening::accept(reactor_, fd, origin, plan);
  } else if (protocol == Protocol::kOpaque) {
    OpaqueDownstream::accept(reactor_, fd, origin, false);
  } else if (protocol == Protocol::kDetect) {
    OpaqueDownstream::accept(reactor_, fd, origin, true);
  } else if (protocol == Protocol::kHttp2) {
    DownstreamHttp2::accept(reactor_, fd, origin);
  } else {
    DownstreamHttp1::accept(reactor_, fd, origin);
  }
}

}  // namespace weft
