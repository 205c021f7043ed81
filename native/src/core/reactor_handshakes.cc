// While tenants share the loop, steps of TLS handshakes are taken by a thread beside it, one at a time, in deficit round robin over the
// tenants: a signature with an RSA key holds up others' requests twice, on their way up and on their way back. Alone, a tenant's
// handshakes are turns like any other: that costs less.
#include <sys/epoll.h>

#include <utility>

#include "core/handshakes_aside.h"
#include "core/reactor.h"

namespace weft {

bool Reactor::shakes_aside() {
  // What waits is worked at to its end: the two threads would wait for each other's locks.
  const bool is_working = handshakes_ != nullptr && handshakes_->thread != nullptr && handshakes_->thread->is_busy();
  if (!is_shared() && !is_working) return false;
  if (handshakes_ == nullptr) {
    handshakes_ = std::make_unique<HandshakesAside>();
    set_weights(&handshakes_->order);
    HandshakeThread* thread = handshakes_->thread.get();
    if (thread != nullptr && !watch(thread->fd(), kHandshakeTaken)) handshakes_->thread = nullptr;
  }
  return handshakes_->thread != nullptr;
}

void Reactor::shake_aside(Connection* connection) {
  connection->handshake_at_ = HandshakeAt::Queue;
  handshakes_->order.make_ready(connection->tenant_, connection->handle_);
  begin_next_handshake();
}

void Reactor::drop_tls(std::unique_ptr<TlsSession> session) {
  if (session == nullptr || handshakes_ == nullptr || handshakes_->thread == nullptr || !handshakes_->thread->is_busy()) return;
  handshakes_->dropped.push_back(std::move(session));
}

void Reactor::begin_next_handshake() {
  TenantScheduler::Turn turn;
  while (!handshakes_->thread->is_busy() && handshakes_->order.next(&turn)) {
    Connection* connection = connections_.get(turn.handle);
    if (connection == nullptr) continue;
    connection->handshake_at_ = HandshakeAt::Thread;
    handshakes_->paying = turn.tenant;
    handshakes_->thread->take({turn.handle, std::move(connection->tls_)});
  }
}

// Its tenant pays for it twice: in the order of handshakes, and with its turns of the loop.
void Reactor::take_handshake() {
  HandshakeStep step;
  if (!handshakes_->thread->finish(&step)) return;
  handshakes_->dropped.clear();
  charge(handshakes_->paying, step.took_ns);
  handshakes_->order.charge(handshakes_->paying, step.took_ns);
  counters_.add(Counter::TlsHandshakeCpuUs, static_cast<double>(step.took_ns) / 1e3);
  counters_.add(Counter::TlsHandshakeStepsAside);
  if (Connection* connection = connections_.get(step.connection)) {
    connection->tls_ = std::move(step.session);
    connection->handshake_at_ = HandshakeAt::Loop;
    connection->ready_events_ |= EPOLLIN;
    if (!std::exchange(connection->ready_, true)) scheduler_.make_ready(connection->tenant_, step.connection);
  }
  // If nobody wants it any more: before the next.
  step.session = nullptr;
  begin_next_handshake();
}

}  // namespace weft
