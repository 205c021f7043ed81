// Two attempts of one request under way: the exchange looks at one of them, and turns to the other when that one is heard of. Whichever is
// first to answer is the exchange's; the other one is reset.
#include <utility>

#include "core/hedge.h"
#include "core/http_exchange.h"
#include "core/reactor.h"

namespace weft {

// A request that is not whole, or waits itself, is looked at again after as long a time.
void HttpExchange::ask_for_hedge() {
  hedge_at_ms_ = 0;
  if (!replayable || grpc_web_ != nullptr || tunnel != Tunnel::None || hedge_ != nullptr) return;
  if (!request_ended || upstream_ == nullptr) {
    hedge_at_ms_ = reactor_->ms_after(static_cast<uint32_t>(decision.hedge_ms));
    return;
  }
  note_tried(decision.target);
  hedge_ = Hedge::ask(reactor_, this, connection_->origin());
}

void HttpExchange::hedge_with(const Decision& made) {
  if (made.target < 0 || !replayable || upstream_ == nullptr) {
    reactor_->abandon(made);
    return end_hedge();
  }
  reactor_->counters().add(Counter::Hedges);
  hedge_->other.emplace();
  look_at_other();
  decide(made);
  if (!has_target_) return give_up_attempt(503, Reason::NoHealthyUpstream);
  begin_attempt();
}

void HttpExchange::look_at_other() {
  OtherAttempt& other = *hedge_->other;
  std::swap<DecidedAttempt>(other, *this);
  std::swap(other.to, target_);
  std::swap(other.stream, upstream_);
  std::swap(other.deadline_ms, attempt_deadline_ms_);
}

bool HttpExchange::has_two_attempts() const { return hedge_ != nullptr && hedge_->other.has_value(); }

void HttpExchange::turn_to(const UpstreamStream* stream) {
  if (upstream_ != stream && has_two_attempts()) look_at_other();
}

uint64_t HttpExchange::others_deadline_ms() const { return has_two_attempts() ? hedge_->other->deadline_ms : 0; }

// The one that is looked at is over, without an answer.
void HttpExchange::leave_to_other() {
  reactor_->report_failed_attempt(*this);
  release_upstream();
  look_at_other();
  has_target_ = true;
  attempt_failed = false;
  hedge_->other.reset();
  end_hedge();
  set_timer();
}

void HttpExchange::win_over_other() {
  if (has_two_attempts() && decided_us > hedge_->other->decided_us) reactor_->counters().add(Counter::HedgesWon);
  drop_other();
}

void HttpExchange::drop_other() {
  if (has_two_attempts()) {
    look_at_other();
    reactor_->report_given_up_attempt(*this);
    release_upstream();
    look_at_other();
    hedge_->other.reset();
  }
  end_hedge();
}

void HttpExchange::end_hedge() { std::exchange(hedge_, nullptr)->leave(); }

}  // namespace weft
