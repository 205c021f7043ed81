// The upstream connection's life: connecting, pooling, timeouts. Reading answers is in upstream_http1_response.cc.
#include "core/upstream_http1.h"

#include <errno.h>
#include <sys/epoll.h>

#include <cstring>
#include <utility>

#include "core/http2/transcode.h"
#include "core/http2/websocket.h"
#include "core/reactor.h"
#include "core/request_lines.h"

namespace weft {

UpstreamHttp1::UpstreamHttp1(Reactor* reactor, UpstreamPool::Group* group)
    : Connection(reactor, -1, group->target.tenant),
      group_(group),
      opened_ms_(reactor->ms_after(0)),
      input_(reactor->buffer_account(tenant_)) {}

Acquired UpstreamHttp1::acquire(Reactor* reactor, HttpExchange* exchange, const UpstreamTarget& target, Reuse reuse,
                                UpstreamHttp1** found) {
  UpstreamPool& pool = reactor->pool();
  UpstreamPool::Group* group = pool.group(target);
  while (reuse != Reuse::Never && group->idle != 0) {
    auto* connection = static_cast<UpstreamHttp1*>(group->newest);
    connection->leave_pool();
    // Its last end would take the group along.
    if (reuse == Reuse::Checked && has_input_or_end(connection->fd_)) {
      pool.opened(group);
      connection->close_now();
      group->open--;
      continue;
    }
    connection->reused_ = !connection->is_connecting_;
    reactor->counters().add(Counter::UpstreamReuses);
    *found = connection;
    return Acquired::Stream;
  }
  auto made = std::make_unique<UpstreamHttp1>(reactor, group);
  if (target.policy != nullptr && !takes_place(reactor, group, &made->counted_)) {
    if (group->idle == 0) return wait_for_connection(reactor, group, exchange);
    // One that rests is of no use to this request, and leaves it its place.
    pool.opened(group);
    static_cast<UpstreamHttp1*>(group->oldest)->close_idle();
    group->open--;
    if (!takes_place(reactor, group, &made->counted_)) return wait_for_connection(reactor, group, exchange);
  }
  reactor->counters().add(Counter::UpstreamConnects);
  made->is_connecting_ = true;
  if (!reactor->dial(made.get(), target.connect)) {
    pool.drop_if_unused(group);
    reactor->counters().add(Counter::UpstreamConnectFailures);
    return Acquired::Failed;
  }
  pool.opened(group);
  UpstreamHttp1* connection = made.release();
  connection->open_as(target);
  reactor->counters().add(Counter::UpstreamOpen);
  *found = connection;
  return Acquired::Stream;
}

void UpstreamHttp1::park(Reactor* reactor, Connection* dialled, const UpstreamTarget& target) {
  UpstreamPool& pool = reactor->pool();
  UpstreamPool::Group* group = pool.group(target);
  // Nor is one kept that counts as what it was dialled for.
  if (target.http2 || target.policy != nullptr || dialled->is_readable() || !dialled->is_at_hand() || reactor->is_draining() ||
      group->idle >= reactor->limits().max_idle_per_endpoint) {
    pool.drop_if_unused(group);
    return reactor->close(dialled);
  }
  pool.opened(group);
  auto* connection = new UpstreamHttp1(reactor, group);
  reactor->succeed(dialled, connection);
  reactor->counters().add(Counter::UpstreamOpen);
  connection->become_idle();
  // The request that it was dialled for comes at once. Another proxy behind it would take longer silence for an opaque protocol.
  constexpr uint64_t kUnusedMs = 50;
  reactor->schedule(connection, kUnusedMs);
}

void UpstreamHttp1::begin(HttpExchange* exchange) {
  exchange_ = exchange;
  state_ = State::Head;
  interim_ = 0;
  requests_++;
  group_->carried++;
  // The timer of a connection that rested stays: it means nothing until the connection rests again, and moving it then is a store.
  if (is_connecting_) reactor_->schedule(this, connect_timeout_ms(reactor_, group_->target));
}

void UpstreamHttp1::on_events(uint32_t events) {
  if (state_ == State::Idle) return on_idle_events(events);
  if (exchange_ != nullptr) exchange_->hear(this);
  bool opened = false;
  if (is_connecting_) {
    const Opening opening = continue_opening(events);
    if (opening == Opening::Waiting) return;
    if (opening == Opening::Failed) {
      reactor_->counters().add(Counter::UpstreamConnectFailures);
      return exchange_->on_attempt_end(AttemptEnd::ConnectFailed);
    }
    reactor_->cancel(this);
    opened = true;
  }
  const Handle self = handle_;
  // A TLS handshake that is over has emptied the output without a word from the socket.
  if (opened || ((events & EPOLLOUT) != 0 && !output_.empty())) {
    if (!flush()) return on_write_broken();
    if (exchange_ != nullptr && output_.size() < reactor_->buffer_bytes(tenant_)) {
      exchange_->on_upstream_writable();
      if (reactor_->find(self) == nullptr || exchange_ == nullptr) return;
    }
  }
  if (opened && ends_connect()) {
    open_bare_tunnel();
    if (exchange_ == nullptr) return;
  }
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) == 0) return;
  // A tunnel whose upstream had ended its direction, and takes no more of the other.
  if (state_ == State::Complete && (events & EPOLLERR) != 0) return exchange_->on_response_broken(Reason::UpstreamReset);
  readable_ = true;
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) peer_finished_ = true;
  read_response();
}

void UpstreamHttp1::on_idle_events(uint32_t events) {
  if (is_connecting_) {
    const Opening opening = continue_opening(events);
    if (opening == Opening::Waiting) return;
    if (opening == Opening::Failed || !flush()) {
      reactor_->counters().add(Counter::UpstreamConnectFailures);
      return close_idle();
    }
  }
  // The edge of bytes that were read before their event came shows itself as writable alone, and means nothing.
  if ((events & ~static_cast<uint32_t>(EPOLLOUT)) == 0) return;
  note_readable(events);
  // TLS tickets and key updates come when the peer likes; they are no answer and no end.
  const bool only_tickets = tls_ != nullptr && !peer_finished_ && receive(reactor_->read_scratch(), Reactor::kReadScratch) == -1;
  if (!only_tickets) close_idle();
}

// The tunnel of a CONNECT begins with the connection itself, which is asked nothing.
bool UpstreamHttp1::ends_connect() const { return group_->target.opaque && exchange_->tunnel == Tunnel::Connect; }

void UpstreamHttp1::open_bare_tunnel() {
  static constexpr std::string_view kEstablished = "HTTP/1.1 200 OK\r\n\r\n";
  uint8_t answer[kEstablished.size() + http1::kReadPastEnd] = {};
  memcpy(answer, kEstablished.data(), kEstablished.size());
  on_head(answer, kEstablished.size());
}

void UpstreamHttp1::on_timer() {
  if (state_ == State::Idle) {
    const bool is_over = duration_left_ms(reactor_, group_->target, opened_ms_) == 0;
    reactor_->counters().add(is_over ? Counter::TimeoutsDuration : Counter::TimeoutsUpstreamIdle);
    return close_idle();
  }
  if (exchange_ == nullptr) return close_now();
  if (!is_connecting_) return;
  exchange_->hear(this);
  reactor_->counters().add(Counter::TimeoutsConnect);
  exchange_->on_attempt_end(AttemptEnd::ConnectTimedOut);
}

void UpstreamHttp1::on_resume() {
  if (state_ == State::Idle && group_->first_waiter != nullptr) {
    auto* exchange = static_cast<HttpExchange*>(group_->first_waiter);
    UpstreamPool::stop_waiting(exchange);
    return exchange->on_upstream_available();
  }
  if (state_ == State::Idle || exchange_ == nullptr) return;
  exchange_->hear(this);
  if (state_ == State::Complete && write_broken_) return exchange_->on_response_broken(Reason::UpstreamReset);
  read_response();
}

void UpstreamHttp1::on_drain() {
  if (state_ == State::Idle) close_idle();
}

int64_t UpstreamHttp1::idle_since_ms() const {
  return state_ == State::Idle ? Connection::idle_since_ms(idle_timeout_ms(reactor_, group_->target)) : kNotIdle;
}

bool UpstreamHttp1::close_if_idle() {
  close_idle();
  return true;
}

bool UpstreamHttp1::begin_request(const RequestForm& request, bool ends) {
  if (ends_connect()) return true;
  http1::RequestHeadOptions options;
  options.mutations = exchange_->tables->mutation(exchange_->decision.request_mutation);
  const ForwardedLines lines(reactor_, exchange_->connection(), request.head != nullptr ? request.head->present : request.summary->present,
                             exchange_, false);
  options.forwarded_for = lines.client();
  options.forwarded_proto = lines.proto();
  options.extra_lines = lines.lines();
  options.drop_known = lines.dropped();
  options.via_line = reactor_->hop_lines().via(request);
  options.authority = exchange_->authority_to_send();
  options.target = exchange_->target;
  char* out = reactor_->head_scratch();
  size_t size = 0;
  std::string handshake;
  bool fits;
  if (request.head != nullptr) {
    options.framing = http1::request_body_framing(*request.head);
    options.keep_upgrade = exchange_->tunnel == Tunnel::WebSocket;
    fits = http1::write_request_head(*request.head, request.base, options, out, Reactor::kHeadScratch, &size);
  } else {
    options.framing = http2::request_framing(*request.summary, ends);
    if (request.summary->is_extended_connect) options.extra_lines = handshake = begin_handshake(lines.lines());
    fits = http2::write_request_head(*request.block, *request.summary, options, out, Reactor::kHeadScratch, &size);
  }
  head_.stage(size);
  framing_ = options.framing.kind;
  return fits;
}

// `lines` and a Sec-WebSocket-Key of ours.
std::string UpstreamHttp1::begin_handshake(std::string_view lines) {
  const std::array<char, 24> key = http2::websocket_key(reactor_->random(), reactor_->random());
  accept_ = std::make_unique<std::array<char, 28>>(http2::websocket_accept({key.data(), key.size()}));
  return std::string(lines).append("sec-websocket-key: ").append(key.data(), key.size()).append("\r\n");
}

bool UpstreamHttp1::send_output(const void* first, size_t first_count, const void* second, size_t second_count) {
  if (!write(first, first_count, second, second_count)) on_write_broken();
  return true;
}

bool UpstreamHttp1::send_framed(const void* bytes, size_t size, bool, std::string_view) {
  return head_.send_with(reactor_, bytes, size, [this](const void* first, size_t first_count, const void* second, size_t second_count) {
    return send_output(first, first_count, second, second_count);
  });
}

bool UpstreamHttp1::send_payload(const void* bytes, size_t size, bool end) {
  const BodyTransfer body = frame_payload(framing_, bytes, size, end, reactor_->body_scratch(size));
  send_framed(body.bytes, body.size, end, {});
  if (end && framing_ == http1::Framing::kTunnel && !write_broken_) finish_output();
  return true;
}

bool UpstreamHttp1::send_trailers(const http2::HeaderBlock& block) {
  if (framing_ != http1::Framing::kChunked) return send_framed(nullptr, 0, true, {});
  char last[http2::kLastChunkRoom];
  return send_framed(last, http2::write_last_chunk(block, last), true, {});
}

void UpstreamHttp1::on_write_broken() {
  write_broken_ = true;
  output_.clear();
  readable_ = true;
  peer_finished_ = true;
  reactor_->resume_later(this);
}

void UpstreamHttp1::release() {
  // A tunnel that is cut off ends in a reset: the peer must not take what it has for the whole.
  const bool is_cut_off = state_ != State::Complete || !exchange_->request_complete() || !output_.empty();
  if (is_cut_off && (framing_in_ == http1::Framing::kTunnel || reactor_->many_cut_off())) make_close_abortive();
  accept_.reset();
  exchange_ = nullptr;
  // Readable: the last read was full, so bytes behind the answer may lie in the socket, and their event has come already.
  const bool whole = state_ == State::Complete && reusable_ && output_.empty() && !peer_finished_ && !readable_;
  if (!whole || reactor_->is_draining() || group_->idle >= reactor_->limits().max_idle_per_endpoint || !reactor_->still_wanted(group_) ||
      !may_be_reused()) {
    return close_now();
  }
  become_idle();
}

// By the policy of its service.
bool UpstreamHttp1::may_be_reused() const {
  const ConnectionPolicy* policy = group_->target.policy.get();
  if (policy == nullptr) return true;
  if (policy->max_requests != 0 && requests_ >= policy->max_requests) return false;
  if (duration_left_ms(reactor_, group_->target, opened_ms_) == 0) {
    reactor_->counters().add(Counter::TimeoutsDuration);
    return false;
  }
  ConnectionLimits& limits = reactor_->connection_limits();
  return !limits.is_wanted(*group_) || (group_->first_waiter != nullptr && !limits.yields(group_));
}

void UpstreamHttp1::become_idle() {
  state_ = State::Idle;
  reactor_->pool().put(group_, this);
  reactor_->counters().add(Counter::UpstreamIdleOpen);
  reactor_->schedule(this, resting_ms(reactor_, group_->target, opened_ms_));
  if (group_->first_waiter != nullptr) reactor_->resume_later(this);
}

void UpstreamHttp1::leave_pool() {
  reactor_->pool().remove(group_, this);
  reactor_->counters().add(Counter::UpstreamIdleOpen, -1);
}

void UpstreamHttp1::close_idle() {
  leave_pool();
  close_now();
}

void UpstreamHttp1::close_now() {
  exchange_ = nullptr;
  reactor_->counters().add(Counter::UpstreamOpen, -1);
  UpstreamPool::Group* group = group_;
  counted_.drop();
  reactor_->close(this);
  reactor_->pool().closed(group);
}

}  // namespace weft
