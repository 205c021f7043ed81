// See connection_limits.h.
#include "core/connection_limits.h"

#include <algorithm>

#include "core/http_exchange.h"
#include "core/reactor.h"

namespace weft {

namespace {
// Of one group, whatever the policy says.
constexpr uint32_t kMostWaiting = 4096;
constexpr uint64_t kLookMs = TimerWheel::kSlotMs;
// A group's requests while others wait for its places; and how long it leaves them to whoever looks.
constexpr uint32_t kTurn = 32;
constexpr uint64_t kYieldMs = 2 * kLookMs;

int32_t read(const int32_t* count) { return __atomic_load_n(count, __ATOMIC_RELAXED); }
void add(int32_t* count, int32_t change) { __atomic_add_fetch(count, change, __ATOMIC_RELAXED); }

bool is_below(const int32_t* count, int32_t limit) { return limit < 0 || read(count) < limit; }

// False, and nothing is counted: there are as many already.
bool take_one(int32_t* count, int32_t limit) {
  if (__atomic_fetch_add(count, 1, __ATOMIC_RELAXED) < limit || limit < 0) return true;
  add(count, -1);
  return false;
}

bool take_both(const LimitCounts& counts, size_t word, int32_t endpoint_limit, int32_t service_limit) {
  if (!take_one(counts.endpoint + word, endpoint_limit)) return false;
  if (take_one(counts.service + word, service_limit)) return true;
  add(counts.endpoint + word, -1);
  return false;
}

void give_back(const LimitCounts& counts, size_t word) {
  add(counts.endpoint + word, -1);
  add(counts.service + word, -1);
}

}  // namespace

bool CountedConnection::take(ConnectionLimits* limits, const UpstreamTarget& target) {
  const LimitCounts counts = limits->counts_of(target);
  if (counts.service == nullptr) return true;
  if (!take_both(counts, LimitCounts::kOpen, target.policy->max_endpoint_connections, target.policy->max_connections)) return false;
  limits_ = limits;
  counts_ = counts;
  limits->held_++;
  limits->look_soon();
  return true;
}

void CountedConnection::drop() {
  if (limits_ == nullptr) return;
  give_back(counts_, LimitCounts::kOpen);
  limits_->held_--;
  limits_->has_freed_ = !limits_->groups_.empty();
  limits_ = nullptr;
}

void PoolWaiter::stop_counting() {
  if (waiting_counts.service == nullptr) return;
  give_back(waiting_counts, LimitCounts::kWaiting);
  add(waiting_counts.all, -1);
  waiting_counts = {};
}

ConnectionLimits::ConnectionLimits(Reactor* reactor, int32_t* counts, size_t endpoints, size_t services)
    : reactor_(reactor), counts_(counts), endpoints_(endpoints), services_(services) {}

LimitCounts ConnectionLimits::counts_of(const UpstreamTarget& target) const {
  const ConnectionPolicy* policy = target.policy.get();
  const auto endpoint = static_cast<size_t>(target.endpoint);
  if (counts_ == nullptr || policy == nullptr || target.endpoint < 0 || endpoint >= endpoints_) return {};
  const auto service = static_cast<size_t>(policy->service);
  if (service >= services_) return {};
  int32_t* endpoint_words = counts_ + 1;
  int32_t* service_words = endpoint_words + endpoints_ * LimitCounts::kEndpointWords;
  return {counts_, endpoint_words + endpoint * LimitCounts::kEndpointWords, service_words + service * LimitCounts::kServiceWords};
}

bool ConnectionLimits::wait(UpstreamGroup* group, PoolWaiter* waiter) {
  if (group->waiters >= kMostWaiting) return false;
  const LimitCounts counts = counts_of(group->target);
  if (counts.service != nullptr) {
    const ConnectionPolicy& policy = *group->target.policy;
    if (!take_both(counts, LimitCounts::kWaiting, policy.max_endpoint_pending, policy.max_pending)) {
      add(counts.service + LimitCounts::kRefusedRequests, 1);
      return false;
    }
    add(counts.all, 1);
  }
  waiter->waiting_counts = counts;
  UpstreamPool::wait(group, waiter);
  if (!group->is_limited) {
    group->is_limited = true;
    groups_.push_back(group);
    has_freed_ = true;
  }
  look_soon();
  return true;
}

void ConnectionLimits::look_soon() {
  if (!is_scheduled()) reactor_->schedule(this, kLookMs);
}

void ConnectionLimits::refuse_connection(const UpstreamTarget& target) {
  add(counts_of(target).service + LimitCounts::kRefusedConnections, 1);
}

bool ConnectionLimits::may_open(const UpstreamGroup& group) const {
  const LimitCounts counts = counts_of(group.target);
  if (counts.service == nullptr) return true;
  const ConnectionPolicy& policy = *group.target.policy;
  return is_below(counts.endpoint + LimitCounts::kOpen, policy.max_endpoint_connections) &&
         is_below(counts.service + LimitCounts::kOpen, policy.max_connections);
}

// The group that was served last is the last the next time.
void ConnectionLimits::serve() {
  has_freed_ = false;
  free_resting();
  size_t at = 0;
  for (size_t left = groups_.size(); left != 0; left--) {
    UpstreamGroup* group = groups_[at];
    const uint32_t before = group->waiters;
    serve_group(group);
    if (group->waiters == before && before != 0) {
      at++;
      continue;
    }
    groups_.erase(groups_.begin() + static_cast<ptrdiff_t>(at));
    group->is_limited = group->first_waiter != nullptr;
    if (group->is_limited) {
      groups_.push_back(group);
    } else {
      reactor_->pool().drop_if_unused(group);
    }
  }
}

// Each once: those that another connection must say something to wait on.
void ConnectionLimits::serve_group(UpstreamGroup* group) {
  for (uint32_t left = group->waiters; left != 0 && group->first_waiter != nullptr; left--) {
    if (group->newest == nullptr && (!may_open(*group) || yields(group))) return;
    auto* exchange = static_cast<HttpExchange*>(group->first_waiter);
    UpstreamPool::stop_waiting(exchange);
    exchange->on_upstream_available();
  }
}

bool ConnectionLimits::is_wanted(const UpstreamGroup& group) const {
  const LimitCounts counts = counts_of(group.target);
  if (counts.service == nullptr || read(counts.all) == 0) return false;
  const ConnectionPolicy& policy = *group.target.policy;
  const auto own = static_cast<int32_t>(group.waiters);
  const auto wants = [own](const int32_t* words, int32_t limit) {
    return !is_below(words + LimitCounts::kOpen, limit) && read(words + LimitCounts::kWaiting) > own;
  };
  return wants(counts.service, policy.max_connections) || wants(counts.endpoint, policy.max_endpoint_connections);
}

bool ConnectionLimits::yields(UpstreamGroup* group) {
  const LimitCounts counts = counts_of(group->target);
  if (counts.service == nullptr || read(counts.all) == 0) return false;
  const ConnectionPolicy& policy = *group->target.policy;
  const auto own = static_cast<int32_t>(group->waiters);
  const auto wait = [own](const int32_t* words, int32_t limit) { return limit >= 0 && read(words + LimitCounts::kWaiting) > own; };
  if (!wait(counts.service, policy.max_connections) && !wait(counts.endpoint, policy.max_endpoint_connections)) return false;
  if (group->carried >= kTurn) {
    group->carried = 0;
    group->yields_until_ms = reactor_->now_ms() + kYieldMs;
  }
  return reactor_->now_ms() < group->yields_until_ms;
}

// What rests here while others wait for its place is closed.
void ConnectionLimits::free_resting() {
  if (held_ == 0 || read(counts_) == 0) return;
  reactor_->pool().for_each_group([this](UpstreamGroup* group) {
    if (group->target.policy == nullptr) return;
    for (PoolLink *link = group->oldest, *next; link != nullptr && is_wanted(*group); link = next) {
      next = link->newer;
      // Of the last one the group goes along.
      const bool is_last = group->open == 1 && group->waiters == 0;
      if (!link->is_resting()) continue;
      link->give_up();
      if (is_last) return;
    }
  });
}

void ConnectionLimits::on_timer() {
  serve();
  if (!groups_.empty() || held_ != 0) look_soon();
}

}  // namespace weft
