// See tenant_scheduler.h.
#include "core/tenant_scheduler.h"

#include <algorithm>

namespace weft {

void TenantScheduler::List::append(Tenant* tenant) {
  tenant->next = nullptr;
  (last != nullptr ? last->next : first) = tenant;
  last = tenant;
}

TenantScheduler::Tenant* TenantScheduler::List::pop() {
  Tenant* tenant = first;
  first = tenant->next;
  if (first == nullptr) last = nullptr;
  return tenant;
}

void TenantScheduler::make_ready(TenantId id, Handle handle) {
  Tenant& tenant = tenants_[id];
  tenant.queue.push_back(handle);
  ready_++;
  if (tenant.is_listed) return;
  tenant.is_listed = true;
  // Credit does not outlive a pause, debt does: a tenant of few, long turns must not be new each time.
  const bool owes = tenant.deficit_ns < 0;
  tenant.deficit_ns = owes ? tenant.deficit_ns : kQuantumNs;
  (owes ? others_ : fresh_).append(&tenant);
}

bool TenantScheduler::next(Turn* turn, bool only_new) {
  while (ready_ != 0 && !(only_new && fresh_.first == nullptr)) {
    List& list = fresh_.first != nullptr ? fresh_ : others_;
    Tenant* tenant = list.first;
    if (tenant->deficit_ns <= 0) {
      list.pop();
      tenant->deficit_ns += kQuantumNs;
      others_.append(tenant);
      continue;
    }
    if (tenant->served == tenant->queue.size()) {
      list.pop();
      // Once round with the others, or it would be new with every event.
      if (&list == &fresh_ && others_.first != nullptr) {
        others_.append(tenant);
      } else {
        tenant->is_listed = false;
      }
      continue;
    }
    turn->tenant = id_of(tenant);
    turn->handle = pop_ready(tenant);
    turn->is_new = &list == &fresh_;
    ready_--;
    return true;
  }
  return false;
}

Handle TenantScheduler::pop_ready(Tenant* tenant) {
  const Handle handle = tenant->queue[tenant->served++];
  if (tenant->served == tenant->queue.size()) {
    tenant->queue.clear();
    tenant->served = 0;
  } else if (tenant->served >= 1024 && tenant->served * 2 >= tenant->queue.size()) {
    tenant->queue.erase(tenant->queue.begin(), tenant->queue.begin() + static_cast<ptrdiff_t>(tenant->served));
    tenant->served = 0;
  }
  return handle;
}

void TenantScheduler::charge(TenantId id, uint64_t ns) {
  Tenant& tenant = tenants_[id];
  // Bounded first, so that the product is.
  int64_t cost = static_cast<int64_t>(std::min<uint64_t>(ns, uint64_t{kMaxDebtNs} * kMaxWeight));
  if (tenant.weight != kDefaultWeight) cost = cost * kDefaultWeight / tenant.weight;
  tenant.deficit_ns = std::max(tenant.deficit_ns - cost, -kMaxDebtNs);
}

}  // namespace weft
