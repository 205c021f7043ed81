// See opaque.h.
#include "core/opaque.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "core/reactor.h"
#include "core/upstream_connect.h"

namespace weft {

namespace {
constexpr int32_t kMaxAttempts = 16;
// For a client that reads slowly, or never, what a broken upstream said.
constexpr uint64_t kBreakMs = 10'000;
}  // namespace

void OpaqueDownstream::accept(Reactor* reactor, int fd, const DownstreamOrigin& origin, bool detects) {
  auto* connection = new OpaqueDownstream(reactor, fd, origin);
  reactor->adopt(connection);
  connection->begin(detects);
}

void OpaqueDownstream::take_over(Reactor* reactor, Connection* opening, const DownstreamOrigin& origin, bool detects) {
  auto* connection = new OpaqueDownstream(reactor, -1, origin);
  reactor->succeed(opening, connection);
  connection->begin(detects);
}

OpaqueDownstream::~OpaqueDownstream() { reactor_->end_deferral(this); }

void OpaqueDownstream::begin(bool detects) {
  exchange_ = std::make_unique<Exchange>();
  exchange_->started_us = reactor_->now_us();
  if (detects) {
    detection_ = std::make_unique<Detection>();
    detection_->deadline_ms = reactor_->ms_after(reactor_->limits().detect_timeout_ms);
    reactor_->schedule_at(this, detection_->deadline_ms);
    if (!detect()) return;
    return enter_batch();
  }
  reactor_->counters().add(Counter::OpaqueConnections);
  reactor_->counters().add(Counter::OpaqueOpen);
  enter_batch();
}

void OpaqueDownstream::enter_batch() {
  const Tables& tables = *reactor_->tables();
  if (!reactor_->batch().has_room(tables.client_value() >= 0 ? tables.match_words() : 0)) {
    state_ = State::Queueing;
    return reactor_->resume_later(this);
  }
  state_ = State::Deciding;
  DescriptorContext context = descriptor_context(exchange_.get());
  if (detection_ != nullptr) context.flags |= kDescriptorTentative;
  reactor_->batch().add_opaque(context, tables);
}

void OpaqueDownstream::on_decision(const Batch::Pending&, const Decision& decision) {
  Exchange& exchange = *exchange_;
  exchange.tables = reactor_->tables();
  exchange.decision = decision;
  exchange.decided_us = reactor_->now_us();
  exchange.counted_target = decision.target >= 0 ? decision.target : -1;
  exchange.is_answered = false;
  exchange.attempt_failed = false;
  // Often it is here by now, and then what is HTTP costs no connection.
  if (detection_ != nullptr && !detect()) return;
  if (decision.target == kTargetDeferred) return defer();
  exchange.attempts++;
  dial();
}

void OpaqueDownstream::dial() {
  Exchange& exchange = *exchange_;
  const Decision& decision = exchange.decision;
  UpstreamTarget target;
  if (decision.is_local()) return refuse(decision.target == kTargetUndecided ? Reason::LocalReset : Reason::None);
  if (!resolve_target(decision, *exchange.tables, target_context(StreamKind::Opaque), &target)) return refuse(Reason::NoHealthyUpstream);
  if (detection_ != nullptr) detection_->target = target;
  exchange.upstream = target.connect.to;
  const ConnectionPolicy* policy = target.policy.get();
  idle_timeout_ms_ =
      policy != nullptr && policy->tcp_idle_timeout_ms != 0 ? policy->tcp_idle_timeout_ms : reactor_->limits().tcp_idle_timeout_ms;
  if (policy != nullptr && policy->max_duration_ms != 0) ends_ms_ = reactor_->ms_after(policy->max_duration_ms);
  auto upstream = std::make_unique<OpaqueUpstream>(reactor_, this);
  if (policy != nullptr && !upstream->counted_.take(&reactor_->connection_limits(), target)) {
    reactor_->connection_limits().refuse_connection(target);
    return refuse(Reason::Overflow);
  }
  reactor_->counters().add(Counter::UpstreamConnects);
  upstream->is_connecting_ = true;
  if (!reactor_->dial(upstream.get(), target.connect)) return on_upstream_failed(false);
  state_ = State::Connecting;
  upstream_ = upstream.release();
  upstream_->open_as(target);
  reactor_->schedule(upstream_, connect_timeout_ms(reactor_, target));
}

// Nothing of the client is read: its bytes wait in the socket.
void OpaqueDownstream::defer() {
  if (!reactor_->defer(this, exchange_->decision)) return finish(Reason::Overflow, true);
  state_ = State::Deferred;
  reactor_->schedule_at(this, reactor_->deferral_deadline_ms(exchange_->decision));
}

void OpaqueDownstream::on_answered() {
  if (detection_ != nullptr)
    reactor_->schedule_at(this, detection_->deadline_ms);
  else
    reactor_->cancel(this);
  exchange_->is_answered = true;
  state_ = State::Queueing;
  reactor_->resume_later(this);
}

void OpaqueDownstream::on_upstream_failed(bool timed_out) {
  Counters& counters = reactor_->counters();
  counters.add(timed_out ? Counter::TimeoutsConnect : Counter::UpstreamConnectFailures);
  if (upstream_ != nullptr) reactor_->close(upstream_);
  upstream_ = nullptr;
  if (!exchange_->decision.has(kRetry) || exchange_->attempts >= kMaxAttempts) {
    // The client's connect has succeeded long ago; a reset is the only honest answer.
    return refuse(exchange_->attempts > 1 ? Reason::RetriesExhausted : Reason::ConnectFailure);
  }
  exchange_->failure = {503, Reason::ConnectFailure, -1};
  reactor_->report_failed_attempt(*exchange_);
  counters.add(Counter::RetriesDecided);
  state_ = State::Queueing;
  reactor_->resume_later(this);
}

void OpaqueDownstream::on_upstream_connected() {
  upstream_->is_connecting_ = false;
  reactor_->cancel(upstream_);
  if (detection_ == nullptr) return open_relay();
  state_ = State::Open;
  on_upstream_spoke();
}

void OpaqueDownstream::refuse(Reason reason) {
  if (detection_ == nullptr) return finish(reason, true);
  detection_->refusal = reason;
  state_ = State::Refused;
}

void OpaqueDownstream::open_relay() {
  state_ = State::Open;
  note_progress();
  await_end();
  if (!flush()) return finish(Reason::DownstreamClosed, true);
  if (!upstream_->flush()) return finish(Reason::UpstreamReset, true);
  relay();
}

void OpaqueDownstream::await_end() {
  const uint64_t next = std::min(idle_due_ms(), ends_ms_);
  if (next == UINT64_MAX) return reactor_->cancel(this);
  reactor_->schedule_at(this, next);
}

void OpaqueDownstream::note_progress() { progress_ms_ = reactor_->now_ms(); }

void OpaqueDownstream::on_events(uint32_t events) {
  // What it sent before its reset is still there to be read (Linux keeps it), so the reset is met where the bytes end.
  if ((events & EPOLLERR) != 0 && (state_ != State::Open || client_ended_)) return finish(Reason::DownstreamClosed, true);
  if ((events & EPOLLOUT) != 0 && (events & EPOLLERR) == 0 && !output_.empty() && !flush()) return finish(Reason::DownstreamClosed, true);
  note_readable(events);
  if (detection_ == nullptr) {
    if (state_ == State::Open) relay();
  } else if (readable_ && may_detect()) {
    detect();
  }
}

void OpaqueUpstream::on_events(uint32_t events) {
  if (is_connecting_) {
    const Opening opening = continue_opening(events);
    if (opening == Opening::Waiting) return;
    if (opening == Opening::Failed || !flush()) return client_->on_upstream_failed(false);
    if ((events & (EPOLLIN | EPOLLRDHUP)) != 0) readable_ = true;
    if ((events & (EPOLLRDHUP | EPOLLHUP)) != 0) readable_ = peer_finished_ = true;
    return client_->on_upstream_connected();
  }
  if ((events & EPOLLERR) != 0 && client_->upstream_ended_) return client_->finish(Reason::UpstreamReset, true);
  if ((events & EPOLLOUT) != 0 && (events & EPOLLERR) == 0 && !output_.empty() && !flush()) {
    return client_->finish(Reason::UpstreamReset, true);
  }
  note_readable(events);
  if (client_->detection_ != nullptr) return client_->on_upstream_spoke();
  client_->relay();
}

void OpaqueUpstream::on_timer() {
  if (is_connecting_) client_->on_upstream_failed(true);
}

OpaqueDownstream::Pump OpaqueDownstream::pump(Connection* from, Connection* to, bool* from_ended, uint64_t* count) {
  for (int turn = 0; from->is_readable() && !*from_ended; turn++) {
    if (to->output().size() >= reactor_->buffer_bytes(tenant_)) break;
    if (turn == reactor_->reads_per_turn()) {
      reactor_->resume_later(this);
      break;
    }
    const int64_t size = from->receive(reactor_->read_scratch(), reactor_->read_bytes());
    if (size == -1) break;
    if (size == -2) return Pump::SourceBroken;
    note_progress();
    if (size == 0) {
      *from_ended = true;
      break;
    }
    *count += static_cast<uint64_t>(size);
    if (!to->write(reactor_->read_scratch(), static_cast<size_t>(size))) return Pump::SinkBroken;
  }
  return Pump::Waiting;
}

void OpaqueDownstream::relay() {
  const Pump up = pump(this, upstream_, &client_ended_, &exchange_->received);
  if (up == Pump::SourceBroken) return finish(Reason::DownstreamClosed, true);
  const uint64_t sent = exchange_->sent;
  const Pump down = pump(upstream_, this, &upstream_ended_, &exchange_->sent);
  // An upstream that takes no more may have said something before: that was handed down first.
  if (up == Pump::SinkBroken || down == Pump::SourceBroken) return break_off();
  if (down == Pump::SinkBroken) return finish(Reason::DownstreamClosed, true);
  if (sent != exchange_->sent && exchange_->first_byte_us == 0) exchange_->first_byte_us = reactor_->now_us();
  pass_ends_on();
}

// Half-closes what its source has ended and everything was sent to. With both at their end, closing is enough.
void OpaqueDownstream::pass_ends_on() {
  const bool up_ended = client_ended_ && upstream_->output().empty();
  const bool down_ended = upstream_ended_ && output().empty();
  if (up_ended && down_ended) return finish(Reason::None, false);
  if (up_ended && !upstream_shut_) {
    upstream_shut_ = true;
    upstream_->finish_output();
  }
  if (down_ended && !client_shut_) {
    client_shut_ = true;
    finish_output();
  }
}

void OpaqueDownstream::break_off() {
  state_ = State::Breaking;
  upstream_->make_close_abortive();
  reactor_->close(upstream_);
  upstream_ = nullptr;
  note_progress();
  continue_breaking();
}

// A reset drops what the socket's queue still holds, and overtakes nothing that was acknowledged.
void OpaqueDownstream::continue_breaking() {
  const bool is_drained = unacknowledged() == 0 || is_torn_down(fd());
  if (is_drained || reactor_->now_ms() >= progress_ms_ + kBreakMs) return finish(Reason::UpstreamReset, true);
  // No event tells of acknowledgements.
  reactor_->schedule(this, TimerWheel::kSlotMs);
}

void OpaqueDownstream::on_resume() {
  if (state_ == State::Queueing) return enter_batch();
  if (state_ == State::Open && detection_ == nullptr) relay();
}

void OpaqueDownstream::on_timer() {
  if (state_ == State::Deferred) {
    reactor_->counters().add(Counter::TimeoutsDeferred);
    return finish(Reason::UpstreamTimeout, true);
  }
  if (state_ == State::Breaking) return continue_breaking();
  if (detection_ != nullptr) {
    // Its decision is a moment away.
    if (state_ == State::Deciding) return reactor_->schedule(this, TimerWheel::kSlotMs);
    settle(Counter::TimeoutsDetect);
    return;
  }
  if (state_ != State::Open) return;
  if (reactor_->now_ms() >= ends_ms_) {
    reactor_->counters().add(Counter::TimeoutsDuration);
    return finish(Reason::DownstreamTimeout, true);
  }
  if (reactor_->now_ms() < idle_due_ms()) return await_end();
  // A reader that takes what it was sent long ago is at work, and no event tells of it.
  if (const size_t now = bytes_on_their_way(); now != std::exchange(seen_on_their_way_, now)) {
    note_progress();
    return await_end();
  }
  reactor_->counters().add(Counter::TimeoutsTcpIdle);
  finish(Reason::DownstreamTimeout, true);
}

size_t OpaqueDownstream::bytes_on_their_way() const { return unacknowledged() + upstream_->unacknowledged(); }

void OpaqueDownstream::on_engine_close() { account(Reason::LocalReset); }

void OpaqueDownstream::finish(Reason reason, bool abortive) {
  if (abortive) {
    make_close_abortive();
    if (upstream_ != nullptr) upstream_->make_close_abortive();
    reactor_->counters().add(Counter::DownstreamResets);
  }
  if (upstream_ != nullptr) reactor_->close(upstream_);
  upstream_ = nullptr;
  account(reason);
  reactor_->close_downstream(this);
}

void OpaqueDownstream::account(Reason reason) {
  if (detection_ != nullptr) end_detection();
  reactor_->end_deferral(this);
  reactor_->report(*exchange_, *this, reason);
  reactor_->counters().add(Counter::OpaqueOpen, -1);
}

}  // namespace weft
