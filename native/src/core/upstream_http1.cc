// The upstream connection's life: connecting, pooling, timeouts. Reading answers is in upstream_http1_response.cc.
#include "core/upstream_http1.h"

#include <errno.h>
#include <sys/epoll.h>

#include "core/downstream_http1.h"
#include "core/reactor.h"

namespace weft {

UpstreamHttp1* UpstreamHttp1::acquire(Reactor* reactor, const UpstreamTarget& target, Reuse reuse) {
  UpstreamPool& pool = reactor->pool();
  UpstreamPool::Group* group = pool.group(target);
  while (reuse != Reuse::Never && group->idle != 0) {
    auto* connection = static_cast<UpstreamHttp1*>(pool.take(group));
    reactor->counters().add(Counter::UpstreamIdleOpen, -1);
    // Its last end would take the group along.
    if (reuse == Reuse::Checked && has_input_or_end(connection->fd_)) {
      pool.opened(group);
      connection->close_now();
      group->open--;
      continue;
    }
    connection->reused_ = true;
    reactor->counters().add(Counter::UpstreamReuses);
    return connection;
  }
  reactor->counters().add(Counter::UpstreamConnects);
  const int fd = open_connection(target.connect);
  if (fd < 0) {
    pool.drop_if_unused(group);
    reactor->counters().add(Counter::UpstreamConnectFailures);
    return nullptr;
  }
  pool.opened(group);
  auto* connection = new UpstreamHttp1(reactor, fd, group);
  connection->is_connecting_ = true;
  reactor->adopt(connection);
  reactor->counters().add(Counter::UpstreamOpen);
  return connection;
}

void UpstreamHttp1::begin(DownstreamHttp1* client, int32_t attempt_timeout_ms) {
  client_ = client;
  state_ = State::Head;
  interim_ = 0;
  const uint64_t now = reactor_->now_ms();
  attempt_deadline_ms_ = attempt_timeout_ms > 0 ? now + static_cast<uint64_t>(attempt_timeout_ms) : 0;
  uint64_t deadline = attempt_deadline_ms_;
  if (is_connecting_) {
    const uint64_t connect = now + reactor_->limits().connect_timeout_ms;
    if (deadline == 0 || connect < deadline) deadline = connect;
  }
  if (deadline != 0) {
    reactor_->schedule_at(this, deadline);
  } else {
    reactor_->cancel(this);
  }
}

void UpstreamHttp1::on_events(uint32_t events) {
  if (state_ == State::Idle) {
    // The edge of bytes that were read before their event came shows itself as writable alone, and means nothing.
    if ((events & ~static_cast<uint32_t>(EPOLLOUT)) != 0) close_idle();
    return;
  }
  if (is_connecting_) {
    if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) == 0) return;
    if (pending_error(fd_) != 0) {
      reactor_->counters().add(Counter::UpstreamConnectFailures);
      return client_->on_attempt_end(AttemptEnd::ConnectFailed);
    }
    on_connected();
  }
  const Handle self = handle_;
  if ((events & EPOLLOUT) != 0 && !output_.empty()) {
    if (!flush()) return on_write_broken();
    if (client_ != nullptr && output_.size() < reactor_->limits().max_buffered_bytes) {
      client_->on_upstream_writable();
      if (reactor_->find(self) == nullptr || client_ == nullptr) return;
    }
  }
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) == 0) return;
  readable_ = true;
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) peer_finished_ = true;
  read_response();
}

void UpstreamHttp1::on_connected() {
  is_connecting_ = false;
  if (attempt_deadline_ms_ != 0) {
    reactor_->schedule_at(this, attempt_deadline_ms_);
  } else {
    reactor_->cancel(this);
  }
}

void UpstreamHttp1::on_timer() {
  if (state_ == State::Idle) {
    reactor_->counters().add(Counter::TimeoutsUpstreamIdle);
    return close_idle();
  }
  if (client_ == nullptr) return close_now();
  if (is_connecting_ && (attempt_deadline_ms_ == 0 || reactor_->now_ms() < attempt_deadline_ms_)) {
    reactor_->counters().add(Counter::TimeoutsConnect);
    return client_->on_attempt_end(AttemptEnd::ConnectTimedOut);
  }
  // The attempt's time ends with the answer's first byte; the whole exchange has a limit of its own.
  if (state_ != State::Head) return;
  reactor_->counters().add(Counter::TimeoutsAttempt);
  client_->on_attempt_end(AttemptEnd::TimedOut);
}

void UpstreamHttp1::on_resume() {
  if (state_ == State::Idle || client_ == nullptr) return;
  read_response();
}

void UpstreamHttp1::on_drain() {
  if (state_ == State::Idle) close_idle();
}

bool UpstreamHttp1::send_request(const void* first, size_t first_count, const void* second, size_t second_count) {
  return write(first, first_count, second, second_count);
}

void UpstreamHttp1::on_write_broken() {
  output_.clear();
  readable_ = true;
  peer_finished_ = true;
  read_response();
}

void UpstreamHttp1::release() {
  client_ = nullptr;
  // Readable: the last read was full, so bytes behind the answer may lie in the socket, and their event has come already.
  const bool whole = state_ == State::Complete && reusable_ && output_.empty() && !peer_finished_ && !readable_;
  if (!whole || reactor_->is_draining() || group_->idle >= reactor_->limits().max_idle_per_endpoint ||
      !reactor_->still_wanted(group_->target)) {
    return close_now();
  }
  state_ = State::Idle;
  reactor_->pool().put(group_, this);
  reactor_->counters().add(Counter::UpstreamIdleOpen);
  reactor_->schedule(this, reactor_->limits().upstream_idle_timeout_ms);
}

void UpstreamHttp1::close_idle() {
  reactor_->pool().remove(group_, this);
  reactor_->counters().add(Counter::UpstreamIdleOpen, -1);
  close_now();
}

void UpstreamHttp1::close_now() {
  client_ = nullptr;
  reactor_->counters().add(Counter::UpstreamOpen, -1);
  UpstreamPool::Group* group = group_;
  reactor_->close(this);
  reactor_->pool().closed(group);
}

int UpstreamHttp1::take_socket(ByteQueue* unsent) {
  *unsent = std::move(output_);
  const int fd = fd_;
  client_ = nullptr;
  UpstreamPool::Group* group = group_;
  reactor_->counters().add(Counter::UpstreamOpen, -1);
  reactor_->forget(this);
  reactor_->pool().closed(group);
  return fd;
}

}  // namespace weft
