// See upstream_pool.h.
#include "core/upstream_pool.h"

namespace weft {

UpstreamPool::Group* UpstreamPool::group(const UpstreamTarget& target) {
  Group& group = groups_[target];
  if (group.open == 0) {
    group.target = target;
    group.target.tls = nullptr;
  }
  return &group;
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

void UpstreamPool::drop_if_unused(Group* group) {
  if (group->open != 0) return;
  // By value: erase() destroys the key it is given otherwise.
  const UpstreamTarget target = group->target;
  groups_.erase(target);
}

}  // namespace weft
