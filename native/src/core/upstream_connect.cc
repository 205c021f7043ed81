// See upstream_connect.h.
#include "core/upstream_connect.h"

#include "core/reactor.h"
#include "core/upstream_http1.h"
#include "core/upstream_http2.h"

namespace weft {

Acquired acquire_upstream(Reactor* reactor, HttpExchange* exchange, const UpstreamTarget& target, Reuse reuse, UpstreamStream** stream) {
  if (target.http2) return UpstreamHttp2::acquire(reactor, exchange, target, stream);
  if (target.opaque && exchange->tunnel == Tunnel::Connect) reuse = Reuse::Never;
  UpstreamHttp1* connection = UpstreamHttp1::acquire(reactor, target, reuse);
  if (connection == nullptr) return Acquired::Failed;
  connection->begin(exchange);
  *stream = connection;
  return Acquired::Stream;
}

}  // namespace weft
