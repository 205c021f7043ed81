// The client connection's own life: reading heads, idling, timeouts, closing. The exchange is in downstream_http1_exchange.cc.
#include "core/downstream_http1.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

#include "core/reactor.h"

namespace weft {

namespace {
constexpr size_t kHeadReadBytes = 16 * 1024;
// After our end is closed, how long the client may still send before it would get a reset that could eat our answer.
constexpr uint64_t kLingerMs = 2'000;
}  // namespace

DownstreamHttp1::DownstreamHttp1(Reactor* reactor, int fd, const DownstreamOrigin& origin) : Downstream(reactor, fd, origin) {}

DownstreamHttp1::Request& DownstreamHttp1::request() {
  if (request_ == nullptr) request_ = std::make_unique<Request>(reactor_->buffer_account(tenant_));
  return *request_;
}

size_t DownstreamHttp1::buffer_share() const { return reactor_->buffer_bytes(tenant_); }

void DownstreamHttp1::accept(Reactor* reactor, int fd, const DownstreamOrigin& origin) {
  auto* connection = new DownstreamHttp1(reactor, fd, origin);
  reactor->adopt(connection);
  reactor->schedule(connection, connection->idle_timeout_ms());
}

void DownstreamHttp1::take_over(Reactor* reactor, Connection* opening, const DownstreamOrigin& origin, int32_t dialled) {
  auto* connection = new DownstreamHttp1(reactor, -1, origin);
  connection->dialled_ = dialled;
  reactor->succeed(opening, connection);
  reactor->schedule(connection, connection->idle_timeout_ms());
  reactor->resume_later(connection);
}

void DownstreamHttp1::on_events(uint32_t events) {
  // In a tunnel the end of both directions is no end of what they carried, and a reset is met where the bytes end.
  HttpExchange* const under_way = exchange();
  const bool tunnel = under_way != nullptr && under_way->is_tunnel;
  const uint32_t fatal = !tunnel ? EPOLLERR | EPOLLHUP : under_way->request_complete() ? uint32_t{EPOLLERR} : 0;
  if ((events & fatal) != 0) {
    // Reset, or both directions are finished: nobody reads an answer. There is no second event to say so.
    if (state_ != State::Idle && state_ != State::Deciding) return abort(Reason::DownstreamClosed);
    is_gone_ = true;
  }
  if ((events & EPOLLOUT) != 0 && !(tunnel && (events & EPOLLERR) != 0) && !output_.empty()) {
    const size_t before = output_.size();
    if (!flush()) return abort(Reason::DownstreamClosed);
    if (state_ == State::Closing && output_.empty()) return linger();
    // read_head() waited for this room; without it a client could pile up answers that it never reads.
    // The bound may have grown since.
    const size_t bound = reactor_->buffer_bytes(tenant_);
    if (state_ == State::Idle && output_.size() < bound && (readable_ || has_input())) reactor_->resume_later(this);
    if (output_.size() != before) progress_ms_ = reactor_->now_ms();
    if (state_ == State::Idle && output_.empty() && !awaits_head()) reactor_->schedule(this, idle_timeout_ms());
    if (under_way != nullptr && output_.size() < bound && output_.size() != before) {
      const Handle self = handle_;
      under_way->on_client_writable();
      if (reactor_->find(self) == nullptr) return;
    }
  }
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) == 0) return;
  readable_ = true;
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) peer_finished_ = true;
  proceed();
}

void DownstreamHttp1::on_resume() { proceed(); }

void DownstreamHttp1::proceed() {
  switch (state_) {
    case State::Idle:
      return read_head();
    case State::Busy:
      if (!exchange()->request_complete()) return pump_request();
      return read_ahead_check();
    case State::Lingering:
      return linger();
    case State::Requeue:
      return enter_batch_again();
    case State::Deciding:
    case State::Closing:
      return;
  }
}

// The client sent FIN. Unread bytes are pipelined requests of a client that sends no more: they are answered. Without any it has gone, as
// far as HTTP/1 proxies can tell (nginx and Envoy see it so too), and its request need not be finished. But close_notify says in so many
// words that its own direction alone is over (RFC 8446 6.1): what follows it, a FIN too, takes no answer away.
void DownstreamHttp1::read_ahead_check() {
  if (exchange()->is_tunnel || !peer_finished_ || has_input() || has_unread()) return;
  if (tls_ != nullptr && tls_->peer_has_ended()) return;
  abort(Reason::DownstreamClosed);
}

void DownstreamHttp1::read_head() {
  while (state_ == State::Idle && (readable_ || has_input()) && output_.size() < reactor_->buffer_bytes(tenant_)) {
    const size_t have = has_input() ? request_->input.size() : 0;
    const size_t known = have != 0 ? request_->known_partial : 0;
    uint8_t* base = reactor_->arena().peek(have + kHeadReadBytes);
    if (base == nullptr || !reactor_->has_batch_room()) return reactor_->resume_later(this);
    if (have != 0) memcpy(base, request_->input.data(), have);
    int64_t count = 0;
    // Bytes that were never looked at come first: a pipelined request needs no recv.
    if (have == 0 || known == have) {
      if (!readable_) return;
      count = receive(base + have, kHeadReadBytes);
      if (count == 0 || count == -2) {
        reactor_->close_downstream(this);
        return;
      }
      if (count < 0) return;
    }
    Request& coming = request();
    const bool begins = coming.started_us == 0;
    if (begins) coming.started_us = reactor_->now_us();
    const size_t size = have + static_cast<size_t>(count);
    if (parse_head(base, size, known)) return;
    if (state_ != State::Idle) return;
    if (reactor_->refuses_part_of_head(tenant_, false)) return answer_head(503, "retry-after: 1\r\n", Reason::Overflow, base, size);
    if (begins) reactor_->schedule(this, reactor_->limits().header_timeout_ms);
    coming.input.append(base + have, static_cast<size_t>(count));
    coming.known_partial = static_cast<uint32_t>(size);
    // TLS gives it record by record, if need be.
    if (reactor_->turn_is_long()) return reactor_->resume_later(this);
  }
}

// True: the head was whole (and waits for its decision) or refused.
bool DownstreamHttp1::parse_head(uint8_t* base, size_t size, size_t known) {
  const http1::HeadLimits limits = reactor_->head_limits();
  if (known != 0 && !http1::may_complete_head(base, size, known, limits)) return false;
  const http1::ParseResult result = http1::parse_request_head(base, size, limits, &reactor_->batch().next()->head);
  if (result.status == http1::ParseStatus::kIncomplete) return false;
  if (result.status == http1::ParseStatus::kInvalid) {
    refuse_head(http1::head_error_status(result.error), Reason::DownstreamProtocol, base, size);
    return true;
  }
  reactor_->arena().commit(size);
  request_->input.clear();
  queue_descriptor(base, size);
  return true;
}

void DownstreamHttp1::queue_descriptor(const uint8_t* base, size_t size) {
  state_ = State::Deciding;
  const Tables& tables = *reactor_->tables();
  DescriptorContext context = descriptor_context(exchange());
  // Of a request that has no exchange yet.
  Address forwarded;
  if (tables.client_value() >= 0 && exchange() == nullptr && find_client(reactor_->batch().next()->head, base, &forwarded))
    context.client = &forwarded;
  reactor_->batch().add_request(context, tables, base, size);
}

// `bytes`: what came of the head, as the parser wants them.
void DownstreamHttp1::refuse_head(int status, Reason reason, const uint8_t* bytes, size_t size) {
  reactor_->counters().add(status == 431   ? Counter::RequestsRefusedHeadSize
                           : status == 408 ? Counter::TimeoutsHeader
                           : status == 400 ? Counter::RequestsRefusedMalformed
                                           : Counter::RequestsRefusedUnsupported);
  answer_head(status, {}, reason, bytes, size);
}

void DownstreamHttp1::answer_head(int status, std::string_view lines, Reason reason, const uint8_t* bytes, size_t size) {
  Counters& counters = reactor_->counters();
  size_t answer = 0;
  const bool sent = http1::write_local_response(status, reactor_->date_line(), lines, {}, http1::Method::kGet, true,
                                                reactor_->head_scratch(), Reactor::kHeadScratch, &answer) &&
                    write(reactor_->head_scratch(), answer);
  if (!sent) answer = 0;
  counters.add(Counter::BytesDownstreamSent, static_cast<double>(answer));
  if (reactor_->has_access_log()) log_refused_head(status, reason, bytes, size, answer);
  if (!sent) return reactor_->close_downstream(this);
  finish_and_close();
}

// With what can be read of it.
void DownstreamHttp1::log_refused_head(int status, Reason reason, const uint8_t* bytes, size_t size, size_t sent) {
  // Anew, from nothing: the parser leaves alone what it does not reach.
  http1::RequestHead head = {};
  http1::parse_request_head(bytes, size, reactor_->head_limits(), &head);
  Exchange exchange;
  exchange.kind = StreamKind::Http1;
  exchange.started_us = request_->started_us;
  exchange.status = status;
  exchange.received = size;
  exchange.sent = sent;
  exchange.method = http1::method_of(head.method_token.in(bytes));
  exchange.raw.append(bytes, size);
  exchange.describe_for_log(head);
  exchange.has_forwarded_client = find_client(head, bytes, &exchange.forwarded_client);
  reactor_->log_undecided(exchange, *this, reason);
}

// Whether the client took some of what waits for it within the stream's idle timeout; the timer is then set for the next look.
bool DownstreamHttp1::is_still_reading() {
  const uint64_t due = progress_ms_ + reactor_->limits().stream_idle_timeout_ms;
  if (output_.empty() || reactor_->now_ms() >= due) return false;
  reactor_->schedule_at(this, due);
  return true;
}

// The client took too long. Part of an answer must not look like a whole one that ends with the connection.
void DownstreamHttp1::close_late() {
  if (!output_.empty()) set_abortive_close(fd_);
  reactor_->close_downstream(this);
}

void DownstreamHttp1::on_timer() {
  switch (state_) {
    case State::Idle:
      if (awaits_head()) return refuse_head(408, Reason::DownstreamTimeout, request_->input.data(), request_->input.size());
      if (is_still_reading()) return;
      if (!is_leaving()) reactor_->counters().add(Counter::TimeoutsIdle);
      return close_late();
    // The exchange has a timer of its own.
    case State::Busy:
    case State::Deciding:
    case State::Requeue:
      return;
    case State::Closing:
      if (is_still_reading()) return;
      reactor_->counters().add(Counter::TimeoutsIdle);
      return close_late();
    case State::Lingering:
      return reactor_->close_downstream(this);
  }
}

void DownstreamHttp1::on_flush() {
  if (request_ != nullptr && request_->head.is_held()) send_framed(nullptr, 0, false, {});
}

void DownstreamHttp1::on_drain() {
  // Not closed at once: a request may be under way, which would be lost. Its answer says "connection: close".
  if (state_ == State::Idle && !awaits_head()) reactor_->schedule(this, idle_timeout_ms());
}

int64_t DownstreamHttp1::idle_since_ms() const {
  const bool idle = state_ == State::Idle && request_ == nullptr && output_.empty();
  return idle ? Connection::idle_since_ms(reactor_->limits().idle_timeout_ms) : kNotIdle;
}

bool DownstreamHttp1::close_if_idle() {
  if (has_unread()) return false;
  reactor_->close_downstream(this);
  return true;
}

void DownstreamHttp1::on_engine_close() {
  if (exchange() != nullptr) exchange()->on_engine_close();
}

void DownstreamHttp1::become_idle() {
  state_ = State::Idle;
  // Who has not taken the answer yet has the time of one that is under way for that.
  const uint64_t idle_ms = idle_timeout_ms();
  reactor_->schedule(this, output_.empty() ? idle_ms : std::min<uint64_t>(idle_ms, reactor_->limits().stream_idle_timeout_ms));
  progress_ms_ = reactor_->now_ms();
  if (readable_ || has_input() || peer_finished_) {
    if (peer_finished_) readable_ = true;
    reactor_->resume_later(this);
  }
}

void DownstreamHttp1::finish_and_close() {
  state_ = State::Closing;
  reactor_->schedule(this, reactor_->limits().stream_idle_timeout_ms);
  if (output_.empty()) linger();
}

// Closing a socket with unread input sends a reset, which can destroy an answer that is still on its way: say FIN, and read a while.
void DownstreamHttp1::linger() {
  if (state_ != State::Lingering) {
    state_ = State::Lingering;
    finish_output();
    reactor_->schedule(this, kLingerMs);
    request_.reset();
  }
  for (int i = 0; i < reactor_->reads_per_turn(); i++) {
    // Not the read scratch: the one who ends the exchange may be reading there.
    const int64_t count = receive(reactor_->body_scratch(), reactor_->read_bytes());
    if (count == -1) return;
    if (count <= 0) return reactor_->close_downstream(this);
  }
  reactor_->resume_later(this);
}

}  // namespace weft
