// Decisions: asked for with the batch, carried out, put off until somebody else has answered (deferrals.h).
#include <algorithm>
#include <utility>

#include "core/downstream.h"
#include "core/reactor.h"

namespace weft {

void Reactor::decide_batch() {
  const int32_t count = batch_.size();
  batch_.prepare(tables_->generation(), now_us_, ended_calls_.size());
  counters_.add(Counter::DecideCalls);
  decided_ = true;
  const bool outer = deciding_;
  deciding_ = true;
  const bool made = decide_(context_);
  deciding_ = outer;
  batch_.clear();
  completion_is_urgent_ = false;
  if (!made) counters_.add(Counter::DecideFailures);
  if (count != 0) execute_decisions(count, made);
  if (close_wanted_ && !deciding_) close();
}

// Each tenant pays for its own, and for its part of the call.
void Reactor::execute_decisions(int32_t count, bool made) {
  const uint64_t called_ns = now_ns_;
  update_clock();
  const uint64_t share_ns = (now_ns_ - called_ns) / static_cast<uint64_t>(count);
  TenantId paying = 0;
  uint64_t shares_ns = 0;
  const auto pay = [&] {
    charge(paying, std::exchange(shares_ns, 0));
    charge(paying);
  };
  for (int32_t i = 0; i < count; i++) {
    Decision decision = batch_.decision(i);
    Connection* connection = connections_.get(batch_.pending(i).handle);
    if (!made) {
      give_back(decision.target);
      decision = Decision{};
    }
    if (connection == nullptr) {
      abandon(decision);
      continue;
    }
    if (connection->tenant_ != paying) {
      if (i != 0) pay();
      paying = connection->tenant_;
    }
    shares_ns += share_ns;
    static_cast<Downstream*>(connection)->on_decision(batch_.pending(i), decision);
  }
  pay();
  note_decision_cost((now_ns_ - called_ns) / static_cast<uint64_t>(count));
}

void Reactor::take_answered() {
  if (closed_ || !batch_.has_answered()) return;
  batch_.take_answered([this](int32_t token) {
    Deferrable* item = deferrals_.find(token);
    if (item == nullptr) return;
    end_deferral(item);
    item->on_answered();
  });
}

bool Reactor::defer(Deferrable* item, const Decision& decision) {
  if (!deferrals_.add(item, decision.token)) {
    counters_.add(Counter::DeferredOverflows);
    return false;
  }
  counters_.add(Counter::Deferred);
  counters_.add(Counter::DeferredOpen);
  return true;
}

HttpExchange* Reactor::deferred(int32_t token) const {
  Deferrable* item = closed_ ? nullptr : deferrals_.find(token);
  return item == nullptr ? nullptr : item->exchange();
}

void Reactor::end_deferral(Deferrable* item) {
  if (!item->is_deferred()) return;
  deferrals_.remove(item);
  counters_.add(Counter::DeferredOpen, -1);
}

uint64_t Reactor::deferral_deadline_ms(const Decision& decision) const {
  const uint32_t limit = limits().deferred_timeout_ms;
  return ms_after(decision.attempt_timeout_ms > 0 ? std::min(limit, static_cast<uint32_t>(decision.attempt_timeout_ms)) : limit);
}

}  // namespace weft
