// The tick. See reactor.h.
#include "core/reactor.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/body_relay.h"
#include "core/dns_listener.h"
#include "core/handshakes_aside.h"

namespace weft {

namespace {
// Of one look at epoll, so that what came last is not far behind a flood.
constexpr int kMaxEvents = 512;
constexpr uint64_t kBeatMs = 100;
// Turns for what the tick has left over before epoll is asked again.
constexpr int kRounds = 8;
// How long before epoll is asked again, with one tenant at work and with several.
constexpr uint64_t kTickNs = 1'000'000;
constexpr uint64_t kSharedTickNs = 30'000;
// A look at the clock takes as long as 150 instructions: while a tenant is alone one charges so many turns, of no more than kSharedTickNs.
constexpr uint64_t kTurnsPerLook = 4;
// Somebody's second request after seconds is not to wait for ticks and turns of a millisecond.
constexpr uint64_t kSharedForNs = 10'000'000'000;
// Requests that are decided and sent on at once while there are several tenants: what takes a tick's time, and no more than these.
constexpr int32_t kSharedBatch = 8;

std::shared_ptr<const Tables> empty_tables() {
  std::string error;
  return Tables::build(TableSpec{}, &error);
}

}  // namespace

struct EventBuffer {
  epoll_event events[kMaxEvents];
};

uint64_t monotonic_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
}

Reactor::Reactor(const EngineOptions& options, Decide decide, void* context)
    : options_(options),
      decide_(decide),
      context_(context),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      now_ns_(options.clock_ns()),
      now_us_(now_ns_ / 1000),
      accounts_(options.tenants),
      counters_(options.counters),
      tables_(empty_tables()),
      timers_(now_us_ / 1000),
      connection_limits_(this, options.connection_counts, options.outstanding_count, options.connection_services),
      deferrals_(std::min<uint32_t>(options.limits.max_deferred, kMaxDeferred)),
      events_(new EventBuffer),
      read_scratch_(new uint8_t[kReadScratch + kScanPadding]),
      body_scratch_bytes_(body_relay_capacity(std::max<size_t>(kReadScratch, options.limits.max_buffered_bytes) + 64 * 1024)),
      body_scratch_(new uint8_t[body_scratch_bytes_]),
      head_scratch_(new char[kHeadScratch]),
      replay_head_(new http1::RequestHead),
      response_head_(new http1::ResponseHead) {
  if (getrandom(random_state_, sizeof(random_state_), 0) != sizeof(random_state_)) random_state_[0] = now_us_ | 1;
  random_state_[1] |= 1;
  buffer_bytes_ = options.limits.max_buffered_bytes;
  keep_reserve();
  if (epoll_ < 0) start_error_ = std::string("epoll_create1: ") + strerror(errno);
  if (options.access_log != nullptr) {
    access_log_ = AccessLog(options.access_log, options.access_log_bytes);
    if (!access_log_.valid()) start_error_ = "the access log ring must have 64 bytes plus a power of two of at least 4096";
  }
  if (!options.heartbeat.map.empty()) {
    const int result = heartbeat_.open(options.heartbeat.map, options.heartbeat.slot, options.heartbeat.slots);
    if (result < 0) start_error_ = "heartbeat map " + options.heartbeat.map + ": " + strerror(-result);
  }
}

Reactor::~Reactor() {
  // Whom the last completions would be told is gone perhaps.
  decide_ = [](void*) { return false; };
  close_everything();
}

bool Reactor::many_cut_off() {
  constexpr uint32_t kClosedInSecond = 64;
  const uint64_t second = now_ms() / 1000;
  if (second != cut_off_second_) {
    cut_off_second_ = second;
    cut_offs_ = 0;
  }
  return ++cut_offs_ > kClosedInSecond;
}

// xorshift128+: for load balancing and ids that must not collide, not for secrets.
uint64_t Reactor::random() {
  uint64_t x = random_state_[0];
  const uint64_t y = random_state_[1];
  random_state_[0] = y;
  x ^= x << 23;
  random_state_[1] = x ^ y ^ (x >> 17) ^ (y >> 26);
  return random_state_[1] + y;
}

void Reactor::update_clock() {
  now_ns_ = options_.clock_ns();
  now_us_ = now_ns_ / 1000;
}

int Reactor::wait_ms(int timeout_ms) const {
  // What was answered, accepted or said between two ticks.
  if (connection_limits_.has_freed() || !resumes_.empty() || !scheduler_.empty() || batch_.has_answered() || batch_.size() != 0 ||
      !flushes_.empty())
    return 0;
  int wait = timeout_ms;
  const auto sooner = [&wait](int other) {
    if (other >= 0 && (wait < 0 || other < wait)) wait = other;
  };
  const uint64_t now = now_ms();
  sooner(timers_.next_timeout_ms(now));
  if (heartbeat_.is_open()) sooner(next_beat_ms_ > now ? static_cast<int>(next_beat_ms_ - now) : 0);
  if (batch_.completions() != 0) sooner(completions_due_ms_ > now ? static_cast<int>(completions_due_ms_ - now) : 0);
  return wait;
}

int Reactor::run_once(int timeout_ms) {
  if (closed_) return 0;
  watched_ready_ = false;
  decided_ = false;
  if (timeout_ms != 0) {
    update_clock();
    timeout_ms = wait_ms(timeout_ms);
  }
  const int count = epoll_wait(epoll_, events_->events, kMaxEvents, timeout_ms);
  update_clock();
  counters_.add(Counter::Ticks);
  if (count > 0) queue_events(count);
  take_answered();
  serve();
  if (connection_limits_.has_freed() && !closed_) connection_limits_.serve();
  flush_connections();
  if (!closed_ && (completion_is_urgent_ || (batch_.completions() != 0 && now_ms() >= completions_due_ms_))) decide_batch();
  beat();
  reap();
  return count > 0 ? count : 0;
}

void Reactor::queue_events(int count) {
  for (int i = 0; i < count; i++) {
    const epoll_event& event = events_->events[i];
    if (event.data.u64 == kWatched) {
      watched_ready_ = true;
      continue;
    }
    if (event.data.u64 == kNamespaceSockets) {
      take_namespace_sockets();
      continue;
    }
    if (event.data.u64 == kHandshakeTaken) {
      take_handshake();
      continue;
    }
    const Handle handle = {static_cast<uint32_t>(event.data.u64), static_cast<uint32_t>(event.data.u64 >> 32)};
    Connection* connection = connections_.get(handle);
    if (connection == nullptr) continue;
    connection->ready_events_ |= static_cast<uint16_t>(event.events);
    if (connection->ready_) continue;
    connection->ready_ = true;
    scheduler_.make_ready(connection->tenant_, handle);
  }
}

void Reactor::queue_resumes() {
  for (const Handle handle : resumes_) {
    if (Connection* connection = connections_.get(handle)) scheduler_.make_ready(connection->tenant_, handle);
  }
  resumes_.clear();
}

// Alone, a tenant has longer ticks: batches are larger, and who comes meanwhile waits once.
uint64_t Reactor::tick_ns() const { return is_shared() ? kSharedTickNs : kTickNs; }

int32_t Reactor::shared_batch() const {
  return std::clamp(static_cast<int32_t>(kSharedTickNs / std::max<uint64_t>(decision_ns_, 1)), 1, kSharedBatch);
}

// Quickly more, slowly less: a request with a connection to be made takes ten times one without.
void Reactor::note_decision_cost(uint64_t ns) {
  ns = std::min(ns, kSharedTickNs);
  decision_ns_ = ns > decision_ns_ ? (decision_ns_ + ns) / 2 : decision_ns_ - (decision_ns_ - ns) / 16;
}

void Reactor::serve() {
  const uint64_t until_ns = now_ns_ + tick_ns();
  for (int round = 0; round < kRounds && !closed_; round++) {
    queue_resumes();
    batch_.bound(is_shared() ? shared_batch() : kMaxBatch);
    serve_round(until_ns);
    if (round == 0 && !closed_) fire_timers();
    if ((batch_.size() != 0 || completion_is_urgent_) && !closed_) decide_batch();
    if (closed_) return;
    arena().reset();
    if (now_ns_ >= until_ns || (scheduler_.empty() && resumes_.empty())) return;
  }
}

// What a tenant asks that is new is decided before others' turns, not with what they ask.
void Reactor::serve_round(uint64_t until_ns) {
  TenantScheduler::Turn turn;
  bool only_new = false;
  while (!closed_ && now_ns_ < until_ns && !batch_.is_full() && scheduler_.next(&turn, only_new)) {
    give_turn(turn);
    only_new = turn.is_new && batch_.size() != 0 && is_shared();
  }
  charge_turns();
}

void Reactor::give_turn(const TenantScheduler::Turn& turn) {
  Connection* connection = connections_.get(turn.handle);
  if (connection == nullptr) return;
  if (turn.tenant != last_tenant_ && !connection->is_common_) {
    last_tenant_ = turn.tenant;
    shared_until_ns_ = now_ns_ + kSharedForNs;
  }
  if (turn.tenant != turns_of_) charge_turns();
  turns_of_ = turn.tenant;
  turn_began_ns_ = now_ns_;
  connection->ready_ = false;
  const uint32_t events = std::exchange(connection->ready_events_, uint16_t{0});
  const bool resumes = std::exchange(connection->resume_pending_, false);
  if (events != 0) connection->on_events(events);
  if (resumes && connections_.get(turn.handle) != nullptr) connection->on_resume();
  if (connection->flush_due_ && connections_.get(turn.handle) != nullptr) flush(connection);
  if (++turns_due_ >= turns_per_look_ || is_shared()) charge_turns();
}

void Reactor::charge_turns() {
  if (turns_due_ == 0) return;
  const uint64_t since = now_ns_;
  charge(turns_of_);
  const uint64_t turn_ns = (now_ns_ - since) / std::exchange(turns_due_, 0);
  turns_per_look_ = std::clamp<uint64_t>(kSharedTickNs / std::max<uint64_t>(turn_ns, 1), 1, kTurnsPerLook);
}

// After the events: what lay in the socket while the process was held up is no timeout. Nor is what still waits for its turn. What came at
// one moment ends at one moment, thousands perhaps: no longer than a tick.
void Reactor::fire_timers() {
  const auto fire = [](void* context, TimerNode* node) {
    auto* reactor = static_cast<Reactor*>(context);
    auto* timer = static_cast<Timer*>(node);
    if (timer->is_held_up()) {
      reactor->schedule(timer, TimerWheel::kSlotMs);
    } else {
      timer->on_timer();
    }
    return !reactor->turn_is_long();
  };
  turn_began_ns_ = now_ns_;
  timers_.advance(now_ms(), fire, this);
}

bool Reactor::turn_is_long() {
  constexpr uint32_t kStepsBetweenLooks = 16;
  // A step may be a frame that is sent on, or a head of 60 KB: others do not wait for sixteen of these.
  if (++steps_ % kStepsBetweenLooks != 0 && !is_shared()) return false;
  return options_.clock_ns() - turn_began_ns_ > tick_ns();
}

void Reactor::charge(TenantId tenant) {
  const uint64_t since = now_ns_;
  update_clock();
  charge(tenant, now_ns_ - since);
}

void Reactor::charge(TenantId tenant, uint64_t ns) {
  scheduler_.charge(tenant, ns);
  accounts_.add(tenant, TenantWord::CpuUs, static_cast<double>(ns) / 1e3);
}

void Reactor::resume_later(Connection* connection) {
  if (std::exchange(connection->resume_pending_, true)) return;
  queue_turn(connection);
}

void Reactor::flush_in_next_turn(Connection* connection) {
  connection->ready_events_ |= EPOLLOUT;
  queue_turn(connection);
}

void Reactor::queue_turn(Connection* connection) {
  if (std::exchange(connection->ready_, true)) return;
  resumes_.push_back(connection->handle_);
}

void Reactor::flush_later(Connection* connection) {
  if (connection->flush_pending_) return;
  connection->flush_pending_ = true;
  flushes_.push_back(connection->handle_);
}

void Reactor::flush(Connection* connection) {
  connection->flush_pending_ = connection->flush_due_ = false;
  connection->on_flush();
}

// A connection that breaks may give others something to say: they have their turn too. One turn may have given hundreds something to say:
// while others wait it all takes no longer than a tick, and what is left is turns like any other.
void Reactor::flush_connections() {
  const uint64_t until_ns = is_shared() ? now_ns_ + kSharedTickNs : UINT64_MAX;
  for (size_t i = 0; i < flushes_.size() && !closed_; i++) {
    const Handle handle = flushes_[i];
    Connection* connection = connections_.get(handle);
    if (connection == nullptr) continue;
    if (now_ns_ >= until_ns) {
      connection->flush_due_ = true;
      if (!std::exchange(connection->ready_, true)) scheduler_.make_ready(connection->tenant_, handle);
      continue;
    }
    const TenantId tenant = connection->tenant_;
    turn_began_ns_ = now_ns_;
    flush(connection);
    charge(tenant);
  }
  flushes_.clear();
}

void Reactor::reap() {
  retired_.clear();
  connections_.reap();
}

void Reactor::beat() {
  if (!heartbeat_.is_open() || now_ms() < next_beat_ms_) return;
  heartbeat_.beat();
  next_beat_ms_ = now_ms() + kBeatMs;
}

// A body that is kept for filters may be larger than what is kept otherwise.
uint8_t* Reactor::body_scratch(size_t input) {
  if (const size_t wanted = body_relay_capacity(input); wanted > body_scratch_bytes_) {
    body_scratch_.reset(new uint8_t[wanted]);
    body_scratch_bytes_ = wanted;
  }
  return body_scratch_.get();
}

TlsWire& Reactor::tls_wire() {
  if (tls_wire_ == nullptr) tls_wire_ = std::make_unique<TlsWire>();
  return *tls_wire_;
}

void Reactor::use_tables(std::shared_ptr<const Tables> tables) {
  tables_ = Snapshot(std::move(tables));
  for (Listener* listener : listeners_) listener->set_tenant(TenantScheduler::checked(tables_->listener_tenant(listener->spec().id)));
  set_weights(&scheduler_);
  if (handshakes_ != nullptr) set_weights(&handshakes_->order);
  for (PoolLink* link : pool_.idle_unless([this](const UpstreamTarget& target) { return still_wanted(target); })) {
    link->give_up();
  }
}

void Reactor::set_weights(TenantScheduler* scheduler) const {
  for (size_t tenant = 0; tenant < kMaxTenants; tenant++) {
    const int32_t weight = tables_->tenant_weight(static_cast<int32_t>(tenant));
    const int32_t bounded = std::clamp(weight, TenantScheduler::kMinWeight, TenantScheduler::kMaxWeight);
    scheduler->set_weight(static_cast<TenantId>(tenant), weight == 0 ? TenantScheduler::kDefaultWeight : bounded);
  }
}

bool Reactor::still_wanted(const UpstreamTarget& target) const {
  if (target.endpoint < 0) return true;
  const Endpoint* endpoint = tables_->endpoint(target.endpoint);
  return endpoint != nullptr && endpoint->address == target.connect.to.address && endpoint->port == target.connect.to.port &&
         (endpoint->protocol == Protocol::kOpaque ? target.opaque : (endpoint->protocol == Protocol::kHttp2) == target.http2) &&
         endpoint->proxy == target.proxied.as && (endpoint->tls == nullptr ? 0 : endpoint->tls->key) == target.tls_key;
}

bool Reactor::still_wanted(UpstreamGroup* group) const {
  if (group->judged_by != tables_->serial()) {
    group->judged_by = tables_->serial();
    group->is_wanted = still_wanted(group->target);
  }
  return group->is_wanted;
}

void Reactor::drain(uint32_t idle_ms) {
  if (draining_) return;
  draining_ = true;
  drain_idle_ms_ = idle_ms;
  for (Listener* listener : listeners_) listener->stop();
  listeners_.clear();
  for (DnsListener* listener : dns_listeners_) listener->stop();
  dns_listeners_.clear();
  // The programs give a worker without listeners nothing; a successor beats in the same slot.
  heartbeat_.close();
  connections_.for_each([](Connection* connection) { connection->on_drain(); });
}

// Of those who leave spread over twice the time, so that the clients do not come back all at once.
uint64_t Reactor::idle_timeout_ms(bool leaves) {
  if (!leaves) return limits().idle_timeout_ms;
  // A client's request may be under way, which would be lost.
  constexpr uint32_t kRetiredIdleMs = 5'000;
  const uint32_t least_ms = draining_ ? drain_idle_ms_ : kRetiredIdleMs;
  return least_ms + (least_ms == 0 ? 0 : random() % least_ms);
}

void Reactor::close() {
  close_wanted_ = true;
  if (deciding_) return;
  close_everything();
  if (batch_.completions() != 0) decide_batch();
}

void Reactor::close_everything() {
  if (closed_) return;
  closed_ = true;
  timers_.cancel(&connection_limits_);
  batch_.drop_requests();
  connections_.for_each([this](Connection* connection) {
    connection->on_engine_close();
    if (connection->is_downstream()) count_downstream(connection->listener_id(), connection->tenant_, -1);
    timers_.cancel(connection);
    if (connection->fd_ >= 0) ::close(connection->fd_);
    connection->fd_ = -1;
  });
  heartbeat_.close();
  host_scope_ = nullptr;
  pods_.clear();
  namespace_sockets_ = nullptr;
  handshakes_ = nullptr;
  if (epoll_ >= 0) ::close(epoll_);
  if (reserve_ >= 0) ::close(reserve_);
  reserve_ = -1;
  epoll_ = -1;
}

}  // namespace weft
