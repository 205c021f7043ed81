// One exchange of an HTTP/1 client connection: from its decision over its attempts to its end. Heads and closing are in
// downstream_http1.cc.
#include <arpa/inet.h>

#include <algorithm>
#include <cstdio>

#include "core/downstream_http1.h"
#include "core/opaque.h"
#include "core/reactor.h"
#include "core/request_lines.h"
#include "core/upstream_http1.h"

namespace weft {

namespace {
// Even where every decision says Retry.
constexpr int32_t kMaxAttempts = 16;
// Reads of one body before others have their turn.
constexpr int kReadsPerTurn = 4;
// Pipelined requests behind a body that are read with it. Each costs a copy of all behind it, so they must not be many.
constexpr size_t kReadBeyondBody = 16 * 1024;

http1::Span span_of(const http1::FieldBlock& head, http1::KnownHeader header) {
  const http1::Field* field = head.has(header) ? head.find(header) : nullptr;
  return field != nullptr ? field->value : http1::Span{};
}

void describe(const http1::RequestHead& head, bool log, Exchange* exchange) {
  exchange->head_size = head.size;
  exchange->method = head.method;
  exchange->client_minor = head.minor;
  exchange->client_keeps_alive = head.keep_alive;
  const http1::BodyFraming framing = http1::request_body_framing(head);
  exchange->request_framing = framing.kind;
  exchange->request_body = http1::BodyReader(framing);
  if (!log) return;
  exchange->path = head.target;
  exchange->authority = head.authority;
  exchange->user_agent = span_of(head, http1::KnownHeader::kUserAgent);
  exchange->request_id = span_of(head, http1::KnownHeader::kXRequestId);
}

}  // namespace

void DownstreamHttp1::on_decision(const Batch::Pending& pending, const Decision& decision) {
  const Handle self = handle_;
  begin_exchange(pending, decision);
  // What came while the decision was made gave its event already.
  if (reactor_->find(self) != nullptr && state_ == State::Busy && (readable_ || peer_finished_)) proceed();
}

void DownstreamHttp1::begin_exchange(const Batch::Pending& pending, const Decision& decision) {
  state_ = State::Busy;
  const bool first = exchange_ == nullptr;
  if (first) {
    exchange_ = std::make_unique<Exchange>();
    exchange_->started_us = head_started_us_;
    describe(pending.head, decision.has(kLog), exchange_.get());
  }
  Exchange& exchange = *exchange_;
  exchange.tables = reactor_->tables();
  exchange.decision = decision;
  exchange.decided_us = reactor_->now_us();
  exchange.counted_target = decision.target >= 0 ? decision.target : -1;
  if (first) {
    const uint32_t timeout_ms =
        decision.timeout_ms > 0 ? static_cast<uint32_t>(decision.timeout_ms) : reactor_->limits().request_timeout_ms;
    exchange.deadline_ms = timeout_ms == 0 ? 0 : reactor_->now_ms() + timeout_ms;
    note_progress();
    set_exchange_timer();
  }
  if (!first) return replay(true);

  const size_t available = pending.size - exchange.head_size;
  const uint8_t* body_begin = pending.base + exchange.head_size;
  const BodyTransfer body = relay_body(&exchange.request_body, exchange.request_framing, exchange.request_framing, body_begin, available,
                                       reactor_->body_scratch());
  exchange.received = exchange.head_size + body.consumed;
  reactor_->counters().add(Counter::Requests);
  exchange.raw.append(pending.base, exchange.head_size);
  exchange.replayable = true;
  keep_for_replay(body_begin, body.consumed);
  if (available > body.consumed) input_.append(body_begin + body.consumed, available - body.consumed);
  if (body.invalid) {
    reactor_->counters().add(Counter::RequestsRefusedBody);
    return fail(400, Reason::DownstreamProtocol);
  }
  if (decision.is_local()) {
    if (decision.target == kTargetUndecided) return fail(503, Reason::LocalReset);
    reactor_->counters().add(Counter::LocalReplies);
    const LocalReply* reply = exchange.tables->local_reply(decision.local_reply);
    const int status = std::clamp(-decision.target, 200, 599);
    return reply_local(status, reply != nullptr ? std::string_view(reply->lines) : std::string_view(),
                       reply != nullptr ? std::string_view(reply->body) : std::string_view(), Reason::None, false);
  }
  exchange.attempts = 1;
  start_attempt(pending.head, pending.base, body, true);
}

// Sends the kept request again: to a fresh connection of the same target, or as a new decision said.
void DownstreamHttp1::replay(bool with_new_decision) {
  Exchange& exchange = *exchange_;
  if (with_new_decision) {
    if (exchange.decision.is_local()) {
      if (exchange.decision.target == kTargetUndecided) return fail(503, Reason::LocalReset);
      const LocalReply* reply = exchange.tables->local_reply(exchange.decision.local_reply);
      return reply_local(std::clamp(-exchange.decision.target, 200, 599),
                         reply != nullptr ? std::string_view(reply->lines) : std::string_view(),
                         reply != nullptr ? std::string_view(reply->body) : std::string_view(), Reason::None, false);
    }
    exchange.attempts++;
  }
  http1::RequestHead& head = reactor_->replay_head();
  const uint8_t* raw = exchange.raw.data();
  http1::parse_request_head(raw, exchange.raw.size(), reactor_->head_limits(), &head);
  exchange.request_body = http1::BodyReader(http1::request_body_framing(head));
  const size_t size = exchange.raw.size() - exchange.head_size;
  const BodyTransfer body = relay_body(&exchange.request_body, exchange.request_framing, exchange.request_framing, raw + exchange.head_size,
                                       size, reactor_->body_scratch());
  start_attempt(head, raw, body, with_new_decision);
}

void DownstreamHttp1::start_attempt(const http1::RequestHead& head, const uint8_t* base, const BodyTransfer& body, bool may_reuse) {
  Exchange& exchange = *exchange_;
  UpstreamTarget target;
  if (!resolve_target(exchange.decision, *exchange.tables, target_context(), &target)) return fail(503, Reason::NoHealthyUpstream);
  exchange.upstream = target.connect.to;
  const Reuse reuse = !may_reuse ? Reuse::Never : exchange.is_idempotent() ? Reuse::Unchecked : Reuse::Checked;
  upstream_ = UpstreamHttp1::acquire(reactor_, target, reuse);
  if (upstream_ == nullptr) return on_attempt_end(AttemptEnd::ConnectFailed);
  upstream_->begin(this, exchange.decision.attempt_timeout_ms);
  if (!write_request(head, base, body)) return fail(431, Reason::LocalReset);
}

// False: the head with its mutations does not fit. `base` is what the head was parsed from; exchange.raw may have let go of it.
bool DownstreamHttp1::write_request(const http1::RequestHead& head, const uint8_t* base, const BodyTransfer& body) {
  Exchange& exchange = *exchange_;
  exchange.forwards_upgrade = head.wants_upgrade;
  http1::RequestHeadOptions options;
  options.framing = http1::request_body_framing(head);
  options.keep_upgrade = exchange.forwards_upgrade;
  options.mutations = exchange.tables->mutation(exchange.decision.request_mutation);
  AddressText client;
  RequestIdLine request_id;
  if (origin_.listener.forwarded_headers) {
    options.forwarded_for = client.format(origin_.client.address);
    options.forwarded_proto = "http";
    if (!head.has(http1::KnownHeader::kXRequestId)) options.extra_lines = request_id.format(reactor_->random(), reactor_->random());
  }
  char* out = reactor_->head_scratch();
  size_t size = 0;
  if (!http1::write_request_head(head, base, options, out, Reactor::kHeadScratch, &size)) return false;
  UpstreamHttp1* upstream = upstream_;
  bool sent;
  if (body.size + size <= Reactor::kHeadScratch && body.size <= Reactor::kCopyBelow) {
    if (body.size != 0) memcpy(out + size, body.bytes, body.size);
    sent = upstream->send_request(out, size + body.size, nullptr, 0);
  } else {
    sent = upstream->send_request(out, size, body.bytes, body.size);
  }
  if (!sent) upstream->on_write_broken();
  return true;
}

void DownstreamHttp1::keep_for_replay(const uint8_t* bytes, size_t count) {
  Exchange& exchange = *exchange_;
  if (!exchange.replayable) return;
  if (exchange.raw.size() + count <= reactor_->limits().max_buffered_bytes) return exchange.raw.append(bytes, count);
  exchange.replayable = false;
  ByteQueue head;
  if (exchange.decision.has(kLog)) head.append(exchange.raw.data(), exchange.head_size);
  exchange.raw = std::move(head);
}

void DownstreamHttp1::on_upstream_writable() {
  if (state_ == State::Busy && !exchange_->request_complete()) pump_request();
}

void DownstreamHttp1::pump_request() {
  const Handle self = handle_;
  for (int turn = 0; readable_ && !exchange_->request_complete(); turn++) {
    if (upstream_ == nullptr || upstream_->output().size() >= reactor_->limits().max_buffered_bytes) return;
    if (turn == kReadsPerTurn) return reactor_->resume_later(this);
    uint8_t* bytes = reactor_->read_scratch();
    const int64_t count = receive(bytes, std::min<uint64_t>(exchange_->request_body.remaining() + kReadBeyondBody, Reactor::kReadScratch));
    if (count == -1) return;
    if (count <= 0) return abort(Reason::DownstreamClosed);
    Exchange& exchange = *exchange_;
    const auto size = static_cast<size_t>(count);
    const BodyTransfer body =
        relay_body(&exchange.request_body, exchange.request_framing, exchange.request_framing, bytes, size, reactor_->body_scratch());
    exchange.received += body.consumed;
    note_progress();
    if (body.invalid) {
      reactor_->counters().add(Counter::RequestsRefusedBody);
      return fail(400, Reason::DownstreamProtocol);
    }
    keep_for_replay(bytes, body.consumed);
    if (size > body.consumed) input_.append(bytes + body.consumed, size - body.consumed);
    if (body.size != 0 && !upstream_->send_request(body.bytes, body.size, nullptr, 0)) {
      upstream_->on_write_broken();
      return;
    }
    if (reactor_->find(self) == nullptr) return;
  }
  if (peer_finished_ && exchange_->request_complete()) read_ahead_check();
}

// A reused connection that ended before it gave a byte was, nearly always, closed by its idle timeout while the request was under way.
// Requests that must not run twice (RFC 9110 9.2.2) are never sent again: that the peer's TCP acknowledged nothing proves nothing, since
// the reset of a process that read them carries its acknowledgement where Linux does not count it (measured). Their connection was
// looked at just before they were sent instead.
bool DownstreamHttp1::may_retry_stale() const {
  return upstream_ != nullptr && upstream_->is_reused() && exchange_->replayable && exchange_->is_idempotent();
}

void DownstreamHttp1::on_attempt_end(AttemptEnd end) {
  Exchange& exchange = *exchange_;
  const bool unsent =
      end == AttemptEnd::ConnectFailed || end == AttemptEnd::ConnectTimedOut || (upstream_ != nullptr && upstream_->is_connecting());
  if (end == AttemptEnd::Reset && may_retry_stale()) {
    reactor_->counters().add(Counter::RetriesStale);
    detach_upstream();
    return replay(false);
  }
  const bool safe = unsent || (end != AttemptEnd::BadResponse && exchange.is_idempotent());
  detach_upstream();
  if (exchange.decision.has(kRetry) && exchange.replayable && safe && exchange.attempts < kMaxAttempts) return requeue();
  switch (end) {
    case AttemptEnd::ConnectFailed:
    case AttemptEnd::ConnectTimedOut:
      return fail(503, exchange.attempts > 1 ? Reason::RetriesExhausted : Reason::ConnectFailure);
    case AttemptEnd::Reset:
      return fail(503, Reason::UpstreamReset);
    case AttemptEnd::TimedOut:
      return fail(504, Reason::UpstreamTimeout);
    case AttemptEnd::BadResponse:
      return fail(502, Reason::UpstreamProtocol);
  }
}

// Asks for another decision: the request stands in the next batch, its bytes again in the arena.
void DownstreamHttp1::requeue() {
  give_back_outstanding();
  state_ = State::Requeue;
  reactor_->counters().add(Counter::RetriesDecided);
  reactor_->resume_later(this);
}

void DownstreamHttp1::enter_batch_again() {
  const ByteQueue& raw = exchange_->raw;
  uint8_t* base = reactor_->arena().peek(raw.size());
  if (base == nullptr || !reactor_->batch().has_room(reactor_->tables()->predicate_words())) return reactor_->resume_later(this);
  memcpy(base, raw.data(), raw.size());
  reactor_->arena().commit(raw.size());
  http1::parse_request_head(base, raw.size(), reactor_->head_limits(), &reactor_->batch().next()->head);
  queue_descriptor(base, raw.size());
}

bool DownstreamHttp1::send_response(const void* first, size_t first_count, const void* second, size_t second_count) {
  exchange_->sent += first_count + second_count;
  if (!write(first, first_count, second, second_count)) {
    abort(Reason::DownstreamClosed);
    return false;
  }
  if (output_.empty()) note_progress();
  return true;
}

void DownstreamHttp1::on_response_complete(bool must_close) {
  const bool close = must_close || !exchange_->client_keeps_alive || !exchange_->request_complete() || reactor_->is_draining();
  detach_upstream();
  reactor_->report(*exchange_, *this, Reason::None);
  end_exchange(close);
}

void DownstreamHttp1::on_response_broken(Reason reason) {
  detach_upstream();
  fail(503, reason);
}

void DownstreamHttp1::fail(int status, Reason reason) {
  detach_upstream();
  if (exchange_->response_started) return abort(reason);
  reply_local(status, {}, {}, reason, reason == Reason::DownstreamProtocol || reason == Reason::DownstreamTimeout);
}

void DownstreamHttp1::reply_local(int status, std::string_view lines, std::string_view body, Reason reason, bool force_close) {
  Exchange& exchange = *exchange_;
  give_back_outstanding();
  const bool close = force_close || !exchange.client_keeps_alive || !exchange.request_complete() || reactor_->is_draining();
  size_t size = 0;
  if (!http1::write_local_response(status, lines, body, exchange.method, close, reactor_->head_scratch(), Reactor::kHeadScratch, &size)) {
    http1::write_local_response(status, {}, {}, exchange.method, close, reactor_->head_scratch(), Reactor::kHeadScratch, &size);
  }
  exchange.status = status;
  exchange.response_started = true;
  if (!send_response(reactor_->head_scratch(), size, nullptr, 0)) return;
  reactor_->report(exchange, *this, reason);
  end_exchange(close);
}

// The client is gone, or must be told by a reset that the answer is not whole.
void DownstreamHttp1::abort(Reason reason) {
  if (exchange_ != nullptr) {
    detach_upstream();
    reactor_->report(*exchange_, *this, reason);
    exchange_.reset();
    set_abortive_close(fd_);
    reactor_->counters().add(Counter::DownstreamResets);
  }
  reactor_->close_downstream(this);
}

void DownstreamHttp1::end_exchange(bool close) {
  exchange_.reset();
  if (close) return finish_and_close();
  become_idle();
}

void DownstreamHttp1::give_back_outstanding() {
  reactor_->give_back(exchange_->counted_target);
  exchange_->counted_target = -1;
}

// Closes the upstream connection of an exchange that is not through with it.
void DownstreamHttp1::detach_upstream() {
  if (upstream_ == nullptr) return;
  UpstreamHttp1* upstream = upstream_;
  upstream_ = nullptr;
  upstream->release();
}

void DownstreamHttp1::become_tunnel(const uint8_t* early, size_t early_size) {
  UpstreamHttp1* upstream = upstream_;
  upstream_ = nullptr;
  OpaqueDownstream::take_over(reactor_, this, upstream, std::move(exchange_), early, early_size, std::move(input_));
}

}  // namespace weft
