// See upstream_connect.h.
#include "core/upstream_connect.h"

#include <algorithm>

#include "core/reactor.h"
#include "core/upstream_http1.h"
#include "core/upstream_http2.h"

namespace weft {

Acquired wait_for_connection(Reactor* reactor, UpstreamGroup* group, HttpExchange* exchange) {
  if (!reactor->connection_limits().wait(group, exchange)) {
    reactor->pool().drop_if_unused(group);
    reactor->counters().add(Counter::UpstreamWaitOverflows);
    return Acquired::Full;
  }
  reactor->counters().add(Counter::UpstreamWaits);
  return Acquired::Waiting;
}

bool takes_place(Reactor* reactor, UpstreamGroup* group, CountedConnection* place) {
  ConnectionLimits& limits = reactor->connection_limits();
  return !limits.yields(group) && place->take(&limits, group->target);
}

uint32_t connect_timeout_ms(const Reactor* reactor, const UpstreamTarget& target) {
  const ConnectionPolicy* policy = target.policy.get();
  return policy != nullptr && policy->connect_timeout_ms != 0 ? policy->connect_timeout_ms : reactor->limits().connect_timeout_ms;
}

uint32_t idle_timeout_ms(const Reactor* reactor, const UpstreamTarget& target) {
  const ConnectionPolicy* policy = target.policy.get();
  return policy != nullptr && policy->idle_timeout_ms != 0 ? policy->idle_timeout_ms : reactor->limits().upstream_idle_timeout_ms;
}

uint64_t duration_left_ms(const Reactor* reactor, const UpstreamTarget& target, uint64_t opened_ms) {
  const ConnectionPolicy* policy = target.policy.get();
  if (policy == nullptr || policy->max_duration_ms == 0) return UINT64_MAX;
  const uint64_t end = opened_ms + policy->max_duration_ms;
  return end > reactor->now_ms() ? end - reactor->now_ms() : 0;
}

uint64_t resting_ms(const Reactor* reactor, const UpstreamTarget& target, uint64_t opened_ms) {
  return std::min<uint64_t>(idle_timeout_ms(reactor, target), duration_left_ms(reactor, target, opened_ms));
}

Acquired acquire_upstream(Reactor* reactor, HttpExchange* exchange, const UpstreamTarget& target, Reuse reuse, UpstreamStream** stream) {
  if (target.http2) return UpstreamHttp2::acquire(reactor, exchange, target, stream);
  if (target.opaque && exchange->tunnel == Tunnel::Connect) reuse = Reuse::Never;
  UpstreamHttp1* connection = nullptr;
  const Acquired acquired = UpstreamHttp1::acquire(reactor, exchange, target, reuse, &connection);
  if (acquired != Acquired::Stream) return acquired;
  connection->begin(exchange);
  *stream = connection;
  return Acquired::Stream;
}

}  // namespace weft
