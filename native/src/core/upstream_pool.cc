// See upstream_pool.h.
#include "core/upstream_pool.h"

namespace weft {

UpstreamPool::Group* UpstreamPool::group(const UpstreamTarget& target) {
  Group*& at_hand = recent(target);
  if (at_hand == nullptr || !(at_hand->target == target)) {
    Group& group = groups_[target];
    if (group.open == 0) {
      group.target = target;
      group.target.tls = nullptr;
    }
    at_hand = &group;
  }
  // The key of an endpoint is not its policy's.
  if (at_hand->target.policy != target.policy) at_hand->target.policy = target.policy;
  return at_hand;
}

PoolLink* UpstreamPool::take(Group* group) {
  PoolLink* newest = group->newest;
  if (newest != nullptr) remove(group, newest);
  return newest;
}

void UpstreamPool::put(Group* group, PoolLink* connection) {
  connection->older = group->newest;
  connection->newer = nullptr;
  (group->newest != nullptr ? group->newest->newer : group->oldest) = connection;
  group->newest = connection;
  group->idle++;
}

void UpstreamPool::remove(Group* group, PoolLink* connection) {
  (connection->newer != nullptr ? connection->newer->older : group->newest) = connection->older;
  (connection->older != nullptr ? connection->older->newer : group->oldest) = connection->newer;
  connection->newer = connection->older = nullptr;
  group->idle--;
}

void UpstreamPool::closed(Group* group) {
  group->open--;
  drop_if_unused(group);
}

void UpstreamPool::wait(Group* group, PoolWaiter* waiter) {
  waiter->waits_in = group;
  waiter->next_waiter = nullptr;
  waiter->previous_waiter = group->last_waiter;
  (group->last_waiter != nullptr ? group->last_waiter->next_waiter : group->first_waiter) = waiter;
  group->last_waiter = waiter;
  group->waiters++;
}

void UpstreamPool::stop_waiting(PoolWaiter* waiter) {
  Group* group = waiter->waits_in;
  if (group == nullptr) return;
  (waiter->previous_waiter != nullptr ? waiter->previous_waiter->next_waiter : group->first_waiter) = waiter->next_waiter;
  (waiter->next_waiter != nullptr ? waiter->next_waiter->previous_waiter : group->last_waiter) = waiter->previous_waiter;
  waiter->next_waiter = waiter->previous_waiter = nullptr;
  waiter->waits_in = nullptr;
  group->waiters--;
  waiter->stop_counting();
}

void UpstreamPool::drop_if_unused(Group* group) {
  if (group->open != 0 || group->waiters != 0 || group->is_limited) return;
  // By value: erase() destroys the key it is given otherwise.
  const UpstreamTarget target = group->target;
  if (recent(target) == group) recent(target) = nullptr;
  groups_.erase(target);
}

}  // namespace weft
