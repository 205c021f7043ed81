// Upstream connections that can take a request, by target, most recently used first: idle ones of HTTP/1, those with a free stream of
// HTTP/2. Owns no connection; the reactor's slab does.
#pragma once
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "core/upstream_target.h"

namespace weft {

// Intrusive: a connection is in at most one group's list.
class PoolLink {
 public:
  // Its target is no longer wanted: closed when nothing is under way on it.
  virtual void give_up() {}
  // Nothing is.
  virtual bool is_resting() const { return false; }
  PoolLink* newer = nullptr;
  PoolLink* older = nullptr;
};

// Words that all workers share (EngineOptions.connection_counts), of one endpoint and of its service; null: nobody counts.
struct LimitCounts {
  // Of an endpoint, and of a service, which has two more: what was refused since the start, wrapping.
  static constexpr size_t kOpen = 0, kWaiting = 1, kEndpointWords = 2;
  static constexpr size_t kRefusedConnections = 2, kRefusedRequests = 3, kServiceWords = 4;
  // Requests that wait, of whatever service.
  int32_t* all = nullptr;
  int32_t* endpoint = nullptr;
  int32_t* service = nullptr;
};

// Intrusive: an exchange that waits for one of the group's connections, for a stream of one, or for leave to open one.
struct PoolWaiter {
  void stop_counting();
  LimitCounts waiting_counts;
  PoolWaiter* next_waiter = nullptr;
  PoolWaiter* previous_waiter = nullptr;
  // Null: it does not wait.
  struct UpstreamGroup* waits_in = nullptr;
};

struct UpstreamGroup {
  UpstreamTarget target;
  // Ends of the list. HTTP/1: idle connections; HTTP/2: those with a free stream.
  PoolLink* newest = nullptr;
  PoolLink* oldest = nullptr;
  // Length of the list.
  uint32_t idle = 0;
  // Connections of this target, idle or busy.
  uint32_t open = 0;
  // HTTP/2: those of them that take no more streams, and end with those they have.
  uint32_t leaving = 0;
  // HTTP/2: streams a connection could have when its peer last said; what a new one begins with.
  uint32_t stream_limit = 100;
  PoolWaiter* first_waiter = nullptr;
  PoolWaiter* last_waiter = nullptr;
  uint32_t waiters = 0;
  // Whether the tables of that serial still want its connections; of 0: none was asked.
  uint64_t judged_by = 0;
  bool is_wanted = false;
  // ConnectionLimits looks after its waiters.
  bool is_limited = false;
  // Requests since it last left its places to others; and until when it does.
  uint32_t carried = 0;
  uint64_t yields_until_ms = 0;
};

class UpstreamPool {
 public:
  using Group = UpstreamGroup;

  // The target's group, made if need be; valid while open > 0. The caller calls opened() or drop_if_unused() in the same breath.
  Group* group(const UpstreamTarget& target);
  // The newest idle connection, taken off the list; null if there is none.
  PoolLink* take(Group* group);
  void put(Group* group, PoolLink* connection);
  // Takes an idle connection off the list.
  void remove(Group* group, PoolLink* connection);
  void opened(Group* group) { group->open++; }
  // The connection is closed; forgets the group with its last one.
  void closed(Group* group);
  void drop_if_unused(Group* group);
  // First come, first served. The group stays while any waits.
  static void wait(Group* group, PoolWaiter* waiter);
  static void stop_waiting(PoolWaiter* waiter);

  size_t groups() const { return groups_.size(); }
  // `visit` may close connections of the group that it is given.
  template <typename Visit>
  void for_each_group(Visit visit) {
    for (auto next = groups_.begin(); next != groups_.end();) visit(&(next++)->second);
  }
  // Every idle connection whose target `wanted` refuses.
  template <typename Wanted>
  std::vector<PoolLink*> idle_unless(Wanted wanted) const {
    std::vector<PoolLink*> found;
    for (const auto& [target, group] : groups_) {
      if (wanted(target)) continue;
      for (PoolLink* link = group.newest; link != nullptr; link = link->older) found.push_back(link);
    }
    return found;
  }

 private:
  struct Hash {
    size_t operator()(const UpstreamTarget& target) const { return target.hash(); }
  };
  static constexpr size_t kRecent = 16;
  Group*& recent(const UpstreamTarget& target) { return recent_[static_cast<size_t>(target.endpoint) % kRecent]; }

  std::unordered_map<UpstreamTarget, Group, Hash> groups_;
  // Asked for last, of those with such an endpoint: saves the hash of all of the target. Null: none.
  Group* recent_[kRecent] = {};
};

}  // namespace weft
