// Limits of connections, and of requests that wait for one, by endpoint and by service, over all workers: what is counted in memory that
// they share. Who is beyond a limit waits in its group of the pool and is served from here when something was freed; what other workers
// free, or want, is found by looking once a timer's slot while anybody waits here or a counted connection is open. Opens nothing.
#pragma once
#include <vector>

#include "core/tables/connection_policy.h"
#include "core/timer_wheel.h"
#include "core/upstream_pool.h"

namespace weft {

class ConnectionLimits;
class Reactor;

// A connection that is counted as long as this holds its place.
class CountedConnection {
 public:
  CountedConnection() = default;
  CountedConnection(const CountedConnection&) = delete;
  CountedConnection& operator=(const CountedConnection&) = delete;
  ~CountedConnection() { drop(); }
  // False: it would be beyond a limit. True too where there is none.
  bool take(ConnectionLimits* limits, const UpstreamTarget& target);
  // Who waits for the place is served in the same tick. Idempotent.
  void drop();

 private:
  // Null: it has no place.
  ConnectionLimits* limits_ = nullptr;
  LimitCounts counts_;
};

class ConnectionLimits final : public Timer {
 public:
  // `counts`: EngineOptions.connection_counts. Null: nothing is counted, and nothing limited.
  ConnectionLimits(Reactor* reactor, int32_t* counts, size_t endpoints, size_t services);

  // The exchange waits in its group until a connection may be opened, or is free there. False: as many wait already as may.
  bool wait(UpstreamGroup* group, PoolWaiter* waiter);
  // Of one that doesn't wait.
  void refuse_connection(const UpstreamTarget& target);
  // To be served in this tick.
  bool has_freed() const { return has_freed_; }
  void serve();
  // Others, elsewhere, wait for the place of a connection of the group's, and there is no other.
  bool is_wanted(const UpstreamGroup& group) const;
  // Others, elsewhere, wait, and it is their turn: the group takes no place for a moment.
  bool yields(UpstreamGroup* group);

  void on_timer() override;

 private:
  friend class CountedConnection;
  LimitCounts counts_of(const UpstreamTarget& target) const;
  void look_soon();
  bool may_open(const UpstreamGroup& group) const;
  void serve_group(UpstreamGroup* group);
  void free_resting();

  Reactor* reactor_;
  int32_t* counts_;
  size_t endpoints_;
  size_t services_;
  // In which somebody waits, or has; each once.
  std::vector<UpstreamGroup*> groups_;
  // Connections of this worker that have a place.
  uint32_t held_ = 0;
  bool has_freed_ = false;
};

}  // namespace weft
