// See http_exchange.h.
#include "core/http_exchange.h"

#include <algorithm>
#include <utility>

#include "core/held_answer.h"
#include "core/http2/websocket.h"
#include "core/reactor.h"
#include "core/upstream_connect.h"

namespace weft {

namespace {
// Bytes kept for the access log.
constexpr size_t kMaxGrpcMessage = 512;
// Of a 405.
constexpr std::string_view kAllow = "allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n";
}  // namespace

HttpExchange::HttpExchange(Reactor* reactor, Downstream* connection, ClientStream* client)
    : reactor_(reactor), connection_(connection), client_(client) {
  raw.set_account(reactor->buffer_account(connection->tenant()));
}

HttpExchange::~HttpExchange() {
  UpstreamPool::stop_waiting(this);
  reactor_->end_deferral(this);
  reactor_->cancel(this);
}

void HttpExchange::decide(const Decision& made) {
  awaits_decision_ = false;
  is_answered = false;
  attempt_failed = false;
  tables = reactor_->tables();
  decision = made;
  is_filtered |= made.has(kFiltered);
  decided_us = reactor_->now_us();
  counted_target = decision.target >= 0 ? decision.target : -1;
  if (has_begun_) target_ = UpstreamTarget{};
  has_target_ = !decision.is_local() && resolve_target(decision, *tables, connection_->target_context(kind), &target_);
  prepare_changes();
  // A tunnel leads straight there.
  if (target_.opaque && tunnel == Tunnel::Connect) target_.http2 = false;
  if (decision.answer_filters >= 0 && has_target_) hold_answers();
}

void HttpExchange::begin(const Decision& made, uint64_t client_timeout_ms) {
  if (is_grpc_web(grpc)) {
    grpc_web_ = std::make_unique<GrpcWebStreams>(this, client_, grpc);
    client_ = grpc_web_->client();
  }
  decide(made);
  uint64_t timeout_ms = decision.timeout_ms > 0 ? static_cast<uint32_t>(decision.timeout_ms) : reactor_->limits().request_timeout_ms;
  if (client_timeout_ms != 0 && (timeout_ms == 0 || client_timeout_ms < timeout_ms)) timeout_ms = client_timeout_ms;
  expires_ms = timeout_ms == 0 ? 0 : reactor_->ms_after(timeout_ms);
  reactor_->counters().add(Counter::Requests);
  TenantAccounts& tenants = reactor_->tenants();
  const TenantId tenant = connection_->tenant();
  if (tenants.has_reached(tenant, TenantWord::Requests, reactor_->limits().max_tenant_requests)) {
    refused_by_ = TenantWord::RefusedRequests;
  } else if (reactor_->buffers_are_full(tenant)) {
    refused_by_ = TenantWord::RefusedForBuffers;
  }
  tenants.add(tenant, TenantWord::Requests);
  take_mirrors();
  replayable = true;
  has_begun_ = true;
  note_progress();
  set_timer();
}

uint64_t HttpExchange::remaining_ms() const {
  if (expires_ms == 0) return 0;
  // Rounded as expires_ms is: no more than what was left in the beginning.
  const uint64_t now = reactor_->ms_after(0);
  return expires_ms > now ? expires_ms - now : 1;
}

BodyTransfer HttpExchange::take_body(const uint8_t* bytes, size_t size) {
  const http1::Framing to = !has_target_ || target_.http2 ? http1::Framing::kUntilClose : request_framing;
  const BodyTransfer body = relay_body(&request_body, request_framing, to, bytes, size, reactor_->body_scratch(size));
  received = head_size + body.consumed;
  collected_ = body.size;
  request_ended = body.done;
  keep_for_replay(bytes, body.consumed);
  return body;
}

void HttpExchange::start(const RequestForm& request, const BodyTransfer& body) {
  if (body.invalid) return refuse_body();
  if (refused_by_ != TenantWord::Count) return refuse_over_limit();
  if (!reactor_->accepts_requests()) return refuse_overloaded();
  if (max_forwards == 0 || max_forwards == kBadMaxForwards) return answer_as_last_hop();
  if (decision.delay_ms > 0) {
    rests_until_ms_ = reactor_->ms_after(static_cast<uint32_t>(decision.delay_ms));
    return set_timer();
  }
  if (decision.target == kTargetCollect)
    return collect_body(request.head != nullptr ? request.head->expects_continue : request.summary->expects_continue);
  if (!has_target_) return carry_out_without_target();
  attempts = 1;
  if (mirror_mask_ != 0 && request_ended) mirror_whole_request();
  start_attempt(request, body, true);
}

// What came with the head was kept: it goes the way of another attempt.
void HttpExchange::begin_late() {
  if (!has_target_) return carry_out_without_target();
  if (!replayable) return fail(503, Reason::Overflow);
  if (mirror_mask_ != 0 && request_ended) mirror_whole_request();
  begin_attempt();
  if (!over_) client_->resume_request();
}

http1::RequestHead& HttpExchange::parse_kept_head() {
  http1::RequestHead& head = reactor_->replay_head();
  http1::parse_request_head(sent_head().data(), sent_head().size(), reactor_->head_limits(), &head);
  return head;
}

void HttpExchange::try_again(const Decision& made) {
  // Of the decision before.
  target.clear();
  answer_lines.clear();
  const bool is_first = decision.target == kTargetDeferred || decision.target == kTargetCollect;
  decide(made);
  note_progress();
  if (!is_first || made.target == kTargetDeferred) return begin_attempt();
  if (made.target == kTargetCollect) return collect_late();
  // What was put off begins here.
  take_mirrors();
  if (made.delay_ms <= 0) return begin_late();
  rests_until_ms_ = reactor_->ms_after(static_cast<uint32_t>(made.delay_ms));
  set_timer();
}

void HttpExchange::carry_out_without_target() {
  if (decision.is_local()) return answer_as_decided();
  if (decision.target == kTargetDeferred) return defer();
  fail(503, Reason::NoHealthyUpstream);
}

// What came with the head is kept as for another attempt, so that on_answered() needs no other way than a retry's.
void HttpExchange::defer() {
  if (!replayable || !reactor_->defer(this, decision)) return fail(503, Reason::Overflow);
  attempt_deadline_ms_ = reactor_->deferral_deadline_ms(decision);
  set_timer();
}

void HttpExchange::on_answered() {
  attempt_deadline_ms_ = 0;
  if (holds_answer()) return held_->on_answered();
  awaits_decision_ = true;
  is_answered = true;
  client_->requeue();
}

// As a new decision said.
void HttpExchange::begin_attempt() {
  if (!has_target_) return carry_out_without_target();
  attempts++;
  replay(true);
}

// Sends the kept request, perhaps again.
void HttpExchange::replay(bool may_reuse) {
  RequestForm request;
  BodyTransfer body;
  if (http2 != nullptr) {
    request.block = &sent_http2().block;
    request.summary = &sent_http2().summary;
    body.bytes = raw.data();
    body.size = raw.size();
    return start_attempt(request, body, may_reuse);
  }
  http1::RequestHead& head = parse_kept_head();
  request.head = &head;
  request.base = sent_head().data();
  request_body.begin(http1::request_body_framing(head));
  const http1::Framing to = target_.http2 ? http1::Framing::kUntilClose : request_framing;
  const size_t kept = raw.size() - head_size;
  body = relay_body(&request_body, request_framing, to, raw.data() + head_size, kept, reactor_->body_scratch(kept));
  start_attempt(request, body, may_reuse);
}

// A stream that takes all that was kept at once asks for no more by itself. Whoever led here may have bytes in the memory that an HTTP/1
// connection reads into: that has a turn of its own.
void HttpExchange::go_on_with_request() {
  if (over_ || request_ended) return;
  if (http2 != nullptr) return client_->resume_request();
  reactor_->resume_later(connection_);
}

void HttpExchange::start_attempt(const RequestForm& request, const BodyTransfer& body, bool may_reuse) {
  upstream = target_.connect.to;
  // An HTTP/2 upstream knows no key; who sent none would be told that it was answered.
  if (tunnel == Tunnel::WebSocket && target_.http2 && request.head != nullptr &&
      http2::websocket_key_of(*request.head, request.base).empty()) {
    return fail(400, Reason::DownstreamProtocol);
  }
  // RFC 9113 8.3.1: nor does it take what HTTP/1.0 may ask, a request without a host: it would reset that, and be blamed for it.
  if (target_.http2 && request.head != nullptr && request.head->authority.size == 0 && authority_to_send().empty())
    return fail(400, Reason::DownstreamProtocol);
  const Reuse reuse = !may_reuse ? Reuse::Never : is_idempotent() ? Reuse::Unchecked : Reuse::Checked;
  attempt_deadline_ms_ = decision.attempt_timeout_ms > 0 ? reactor_->ms_after(static_cast<uint32_t>(decision.attempt_timeout_ms)) : 0;
  hedge_at_ms_ = decision.hedge_ms > 0 && hedge_ == nullptr ? reactor_->ms_after(static_cast<uint32_t>(decision.hedge_ms)) : 0;
  if (attempt_deadline_ms_ != 0 || hedge_at_ms_ != 0) set_timer();
  switch (acquire_upstream(reactor_, this, target_, reuse, &upstream_)) {
    case Acquired::Failed:
      return on_attempt_end(AttemptEnd::ConnectFailed);
    case Acquired::Full:
      return refuse_to_wait();
    case Acquired::Waiting:
      return replayable ? void() : fail(503, Reason::Overflow);
    case Acquired::Unsupported:
      return fail(501, Reason::UpstreamProtocol);
    case Acquired::Stream:
      break;
  }
  // A service that is declared to speak HTTP/2; the original destination is spoken to as the client does.
  if (grpc_web_ != nullptr) upstream_ = grpc_web_->toward(upstream_, target_.http2 && target_.endpoint >= 0);
  const bool ends = request_ended && tunnel == Tunnel::None && body.size == 0 && trailers_ == nullptr &&
                    (http2 != nullptr || request_body.trailers().empty());
  if (!upstream_->begin_request(request, ends)) return give_up_attempt(431, Reason::LocalReset);
  send_first(body);
}

// So that no proxy in front tries again.
void HttpExchange::refuse_to_wait() {
  if (has_two_attempts()) return give_up_attempt(503, Reason::Overflow);
  detach_upstream();
  reply_local(503, "x-envoy-overloaded: true\r\ncontent-type: text/plain; charset=utf-8\r\n",
              "weft: no connection to the service is free\n", Reason::Overflow);
}

void HttpExchange::send_first(const BodyTransfer& body) {
  if (http2 == nullptr) {
    upstream_->send_framed(body.bytes, body.size, request_ended && tunnel == Tunnel::None, request_body.trailers());
    return;
  }
  if (!upstream_->send_payload(body.bytes, body.size, request_ended && trailers_ == nullptr)) return;
  if (request_ended && trailers_ != nullptr) upstream_->send_trailers(*trailers_);
}

void HttpExchange::on_upstream_available() {
  hear(nullptr);
  replay(true);
  if (!over_) client_->resume_request();
}

void HttpExchange::keep_for_replay(const uint8_t* bytes, size_t count) {
  if (!replayable && mirror_mask_ == 0) return;
  if (is_collecting() || raw.size() + count <= client_->buffer_share()) return raw.append(bytes, count);
  replayable = false;
  drop_mirrors();
  ByteQueue head;
  if (decision.has(kLog) || held_ != nullptr) head.append(raw.data(), head_size);
  raw = std::move(head);
}

bool HttpExchange::takes_body() const {
  if (is_collecting()) return !request_ended;
  return upstream_ != nullptr && !request_ended && (tunnel == Tunnel::None || is_tunnel) && upstream_->unsent() < client_->buffer_share();
}

size_t HttpExchange::body_room() const {
  if (!takes_body()) return 0;
  if (is_collecting() || !replayable || !upstream_->is_unconnected()) return SIZE_MAX;
  const size_t share = client_->buffer_share();
  return share - std::min(share, raw.size());
}

bool HttpExchange::give_body(const uint8_t* bytes, size_t size, size_t* consumed) {
  const http1::Framing to = upstream_ != nullptr ? upstream_->framing() : http1::Framing::kUntilClose;
  const BodyTransfer body = relay_body(&request_body, request_framing, to, bytes, size, reactor_->body_scratch(size));
  *consumed = body.consumed;
  received += body.consumed;
  request_ended = body.done;
  note_progress();
  if (body.invalid) {
    refuse_body();
    return false;
  }
  keep_for_replay(bytes, body.consumed);
  if (is_collecting()) {
    collected_ += body.size;
    return look_at_collected(), true;
  }
  if (mirror_mask_ != 0 && request_ended) mirror_whole_request();
  if (body.size == 0 && !body.done) return true;
  return upstream_->send_framed(body.bytes, body.size, body.done, request_body.trailers());
}

bool HttpExchange::give_payload(const uint8_t* bytes, size_t size, bool end) {
  request_ended = end;
  note_progress();
  keep_for_replay(bytes, size);
  if (is_collecting()) return look_at_collected(), true;
  if (mirror_mask_ != 0 && request_ended) mirror_whole_request();
  return upstream_->send_payload(bytes, size, end) && !finish_tunnel_if_done();
}

bool HttpExchange::give_trailers(http2::HeaderBlock trailers) {
  request_ended = true;
  note_progress();
  trailers_ = std::make_unique<http2::HeaderBlock>(std::move(trailers));
  if (is_collecting()) return look_at_collected(), true;
  if (mirror_mask_ != 0) mirror_whole_request();
  return upstream_ == nullptr || upstream_->send_trailers(*trailers_);
}

void HttpExchange::refuse_over_limit() {
  reactor_->tenants().add(connection_->tenant(), refused_by_);
  const bool for_buffers = refused_by_ == TenantWord::RefusedForBuffers;
  reply_local(
      503, "retry-after: 1\r\ncontent-type: text/plain; charset=utf-8\r\n",
      for_buffers ? "weft: too many bytes wait in the namespace's buffers\n" : "weft: the namespace has too many requests in flight\n",
      Reason::Overflow);
}

// RFC 9110 7.6.2: who may not pass it on answers as the final recipient. What we are asked about is no resource of ours, and TRACE would
// show what proxies in front have added.
void HttpExchange::answer_as_last_hop() {
  if (max_forwards == kBadMaxForwards) return fail(400, Reason::DownstreamProtocol);
  reactor_->counters().add(Counter::LocalReplies);
  reply_local(method == http1::Method::kOptions ? 200 : 405, kAllow, {}, Reason::None);
}

void HttpExchange::refuse_overloaded() {
  reactor_->note_shed(Shed::Requests, reactor_->overload_reason());
  reply_local(503, "retry-after: 1\r\ncontent-type: text/plain; charset=utf-8\r\n", "weft: the proxy is overloaded\n", Reason::Overflow);
}

void HttpExchange::refuse_body() {
  reactor_->counters().add(Counter::RequestsRefusedBody);
  fail(400, Reason::DownstreamProtocol);
}

void HttpExchange::on_upstream_writable() {
  note_progress();
  if (finish_tunnel_if_done()) return;
  if (!awaits_decision_ && !request_ended) client_->resume_request();
}

void HttpExchange::on_client_writable() {
  note_progress();
  if (drains_) {
    if (client_->unsent() == 0) finish(true, reason_);
    return;
  }
  if (upstream_ != nullptr) upstream_->resume_response();
}

void HttpExchange::note_progress() { progress_ms_ = reactor_->now_ms(); }

void HttpExchange::on_response_begun(int answer_status) {
  if (hedge_ != nullptr) win_over_other();
  replayable = false;
  drop_mirrors();
  first_byte_us = reactor_->now_us();
  if (held_ != nullptr) {
    attempt_deadline_ms_ = hedge_at_ms_ = 0;
    if (held_->is_holding()) return ask_of_answer();
    client_ = held_->client();
  }
  status = answer_status;
  response_started = true;
  if (http2 != nullptr || !decision.has(kLog)) raw.clear();
}

void HttpExchange::note_grpc_status(const http2::HeaderBlock& block) {
  if (grpc == GrpcForm::None) return;
  const http2::HeaderField* found = block.find("grpc-status");
  if (found == nullptr) return;
  grpc_status = static_cast<int8_t>(parse_grpc_status(block.value(*found)));
  const http2::HeaderField* text = decision.has(kLog) ? block.find("grpc-message") : nullptr;
  if (text != nullptr) grpc_message = block.value(*text).substr(0, kMaxGrpcMessage);
}

// 1xx: handed down as it is; the answer is still to come.
// Of two attempts it may not be the one that answers.
bool HttpExchange::on_interim(const ResponseForm& response) {
  note_progress();
  if (has_two_attempts()) return true;
  replayable = false;
  reactor_->counters().add(Counter::Responses1xx);
  return client_->send_interim(response);
}

void HttpExchange::on_response_broken(Reason reason) { fail(503, reason); }

void HttpExchange::on_response_complete() {
  if (holds_answer()) return std::exchange(upstream_, nullptr)->release();
  if (!is_tunnel) return finish(true, retries_exhausted_ ? Reason::RetriesExhausted : Reason::None);
  response_ended_ = true;
  finish_tunnel_if_done();
}

bool HttpExchange::opens_tunnel(const ResponseForm& response) const {
  if (tunnel == Tunnel::None) return false;
  const bool switches = tunnel == Tunnel::WebSocket && response.head != nullptr;
  return switches ? response.head->status == 101 : response.status() / 100 == 2;
}

void HttpExchange::open_tunnel() {
  is_tunnel = true;
  // As the client is told.
  if (tunnel == Tunnel::WebSocket) status = http2 != nullptr ? 200 : 101;
  expires_ms = attempt_deadline_ms_ = 0;
  reactor_->counters().add(Counter::Upgrades);
  reactor_->counters().add(Counter::OpaqueOpen);
  note_progress();
  set_timer();
  if (http2 != nullptr) return client_->resume_request();
  request_ended = false;
  request_framing = http1::Framing::kTunnel;
  request_body.begin({http1::Framing::kTunnel});
  reactor_->resume_later(connection_);
}

void HttpExchange::end_tunnel_input() {
  request_ended = true;
  note_progress();
  if (upstream_->send_payload(nullptr, 0, true)) finish_tunnel_if_done();
}

// True: it is over. Both directions have ended, and what the client sent is out of our hands; what it is sent, its side sees to.
bool HttpExchange::finish_tunnel_if_done() {
  if (!is_tunnel || over_ || !request_ended || !response_ended_) return over_;
  if (upstream_ != nullptr && upstream_->unsent() != 0) return false;
  finish(true, Reason::None);
  return true;
}

void HttpExchange::fail(int answer_status, Reason reason) {
  detach_upstream();
  if (response_started) return abort(reason);
  reply_local(answer_status, {}, {}, reason);
}

void HttpExchange::reply_local(int answer_status, std::string_view lines, std::string_view body, Reason reason) {
  give_back_outstanding();
  // A page would be read as the tunnel's bytes.
  if (answer_status / 100 == 2 && is_opened_by_2xx()) {
    answer_status = 405;
    lines = kAllow;
    body = {};
  }
  status = answer_status;
  response_started = true;
  if (grpc != GrpcForm::None) {
    grpc_status = static_cast<int8_t>(grpc_status_in_place_of(answer_status, reason));
    if (decision.has(kLog)) grpc_message = grpc_message_of(answer_status, reason);
  }
  if (client_->reply_local(answer_status, lines, body, reason)) finish(true, reason);
}

void HttpExchange::abort(Reason reason) { finish(false, reason); }

void HttpExchange::finish(bool whole, Reason reason) {
  if (over_) return;
  detach_upstream();
  // HTTP/2: its windows may be closed. An HTTP/1 connection empties its output by itself.
  if (whole && kind == StreamKind::Http2 && client_->unsent() != 0) {
    drains_ = true;
    reason_ = reason;
    return;
  }
  account(reason);
  client_->on_exchange_end(whole, reason);
}

void HttpExchange::account(Reason reason) {
  over_ = true;
  if (has_begun_) reactor_->tenants().add(connection_->tenant(), TenantWord::Requests, -1);
  reactor_->cancel(this);
  if (is_tunnel) reactor_->counters().add(Counter::OpaqueOpen, -1);
  reactor_->report(*this, *connection_, reason);
}

void HttpExchange::on_engine_close() {
  if (over_) return;
  detach_upstream();
  if (has_begun_) account(Reason::LocalReset);
}

void HttpExchange::give_back_outstanding() {
  reactor_->give_back(counted_target);
  counted_target = -1;
}

void HttpExchange::detach_upstream() {
  if (hedge_ != nullptr) drop_other();
  drop_held_answer();
  release_upstream();
}

// Of the attempt that is looked at.
void HttpExchange::release_upstream() {
  reactor_->end_deferral(this);
  if (upstream_ == nullptr) return UpstreamPool::stop_waiting(this);
  UpstreamStream* stream = upstream_;
  upstream_ = nullptr;
  stream->release();
}

void HttpExchange::set_timer() {
  if (is_tunnel) {
    const uint64_t idle_ms = reactor_->limits().tcp_idle_timeout_ms;
    return idle_ms != 0 ? reactor_->schedule_at(this, progress_ms_ + idle_ms) : reactor_->cancel(this);
  }
  // Who is waited for and does nothing is given the stream's idle timeout, whatever the exchange may take.
  uint64_t due = reactor_->ms_after(idle_timeout_ms());
  if (expires_ms != 0) due = std::min(due, expires_ms);
  if (attempt_deadline_ms_ != 0 && !response_started) due = std::min(due, attempt_deadline_ms_);
  if (hedge_at_ms_ != 0 && !response_started) due = std::min(due, hedge_at_ms_);
  if (const uint64_t other_ms = others_deadline_ms(); other_ms != 0) due = std::min(due, other_ms);
  if (rests_until_ms_ != 0) due = std::min(due, rests_until_ms_);
  reactor_->schedule_at(this, due);
}

uint64_t HttpExchange::idle_timeout_ms() const {
  return decision.idle_timeout_ms > 0 ? static_cast<uint32_t>(decision.idle_timeout_ms) : reactor_->limits().stream_idle_timeout_ms;
}

void HttpExchange::on_timer() {
  if (over_) return;
  if (awaits_decision_ && rests_until_ms_ == 0) return set_timer();
  if (is_tunnel) return on_tunnel_timer();
  Counters& counters = reactor_->counters();
  const uint64_t now = reactor_->now_ms();
  if (expires_ms != 0 && now >= expires_ms) {
    counters.add(Counter::TimeoutsRequest);
    return fail(504, Reason::UpstreamTimeout);
  }
  if (rests_until_ms_ != 0) {
    if (now < rests_until_ms_) return set_timer();
    rests_until_ms_ = 0;
    note_progress();
    set_timer();
    return awaits_decision_ ? client_->requeue() : begin_late();
  }
  if (hedge_at_ms_ != 0 && !response_started && now >= hedge_at_ms_) {
    ask_for_hedge();
    return set_timer();
  }
  if (const uint64_t other_ms = others_deadline_ms(); other_ms != 0 && now >= other_ms) look_at_other();
  // The attempt's time ends with the answer's first byte; the whole exchange has a limit of its own.
  if (attempt_deadline_ms_ != 0 && !response_started && now >= attempt_deadline_ms_) {
    counters.add(is_deferred() ? Counter::TimeoutsDeferred : Counter::TimeoutsAttempt);
    attempt_deadline_ms_ = 0;
    return is_deferred() ? fail(504, Reason::UpstreamTimeout) : on_attempt_end(AttemptEnd::TimedOut);
  }
  // Whom filters keep waiting is waited for by nobody else.
  if (holds_answer()) return set_timer();
  const bool waits_for_upstream =
      !is_collecting() && (upstream_ == nullptr || upstream_->is_unconnected() || upstream_->unsent() >= client_->buffer_share());
  // A call that streams both ways may rest in its middle; over HTTP/2 its connection has timeouts of its own.
  const bool may_rest = http2 != nullptr && !is_collecting() && (response_started || grpc != GrpcForm::None);
  const bool waits_for_client = client_->unsent() != 0 || (!request_ended && tunnel == Tunnel::None && !waits_for_upstream && !may_rest);
  // Nor is an upstream waited for for ever, unless its route says for how long. The head of an answer is all it owes in time: what streams
  // may rest, and a gRPC call that is answered by a stream does so before its head.
  const bool waits_for_answer = !waits_for_client && !response_started && expires_ms == 0 && grpc == GrpcForm::None;
  if (now < progress_ms_ + idle_timeout_ms()) return set_timer();
  if (waits_for_client) {
    counters.add(Counter::TimeoutsIdle);
    return fail(408, Reason::DownstreamTimeout);
  }
  if (waits_for_answer) {
    counters.add(Counter::TimeoutsAnswer);
    return fail(504, Reason::UpstreamTimeout);
  }
  // Nobody would end an answer that rests for a client that has left behind pipelined bytes or close_notify, or for nobody (mirrors).
  if (expires_ms == 0 && connection_->peer_has_finished()) {
    counters.add(Counter::TimeoutsIdle);
    return fail(408, Reason::DownstreamTimeout);
  }
  set_timer();
}

void HttpExchange::on_tunnel_timer() {
  if (reactor_->now_ms() < progress_ms_ + reactor_->limits().tcp_idle_timeout_ms) return set_timer();
  // A reader that takes what it was sent long ago is at work, and no event tells of it.
  const size_t undelivered = client_->undelivered() + (upstream_ != nullptr ? upstream_->undelivered() : 0);
  if (undelivered != std::exchange(seen_undelivered_, undelivered)) {
    note_progress();
    return set_timer();
  }
  reactor_->counters().add(Counter::TimeoutsTcpIdle);
  abort(Reason::DownstreamTimeout);
}

}  // namespace weft
