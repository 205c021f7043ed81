// Whose turn it is: deficit round robin over tenants by the time their turns take, new tenants first (RFC 8290's two lists, tenants for
// flows). A tenant's weight divides what its turns cost it. Knows no connection and reads no clock: it is given handles and told what their
// turns cost.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "core/slab.h"

namespace weft {

// Small, stable, given by TypeScript; 0: nobody's.
using TenantId = uint16_t;
inline constexpr size_t kMaxTenants = 1024;

class TenantScheduler {
 public:
  // What a tenant may use before the next one's turn, at the weight that all have if nothing is said.
  static constexpr int64_t kQuantumNs = 30'000;
  // A turn can't be interrupted; what it took too much is paid back, up to this.
  static constexpr int64_t kMaxDebtNs = 20'000'000;

  // Of cgroup v2's cpu.weight, so much that neither a quantum nor what counts of a debt is out of proportion.
  static constexpr int32_t kMinWeight = 10;
  static constexpr int32_t kDefaultWeight = 100;
  static constexpr int32_t kMaxWeight = 1000;

  struct Turn {
    TenantId tenant = 0;
    Handle handle;
    // Of a tenant that is new: it waits behind nobody.
    bool is_new = false;
  };

  TenantScheduler() : tenants_(new Tenant[kMaxTenants]) {}
  // Ids out of range are nobody's.
  static TenantId checked(int64_t id) { return id >= 0 && id < static_cast<int64_t>(kMaxTenants) ? static_cast<TenantId>(id) : 0; }

  // The same handle may stand in the queue more than once: that is the caller's affair.
  void make_ready(TenantId tenant, Handle handle);
  // Takes the next turn; false: nothing is ready, or, if only new tenants are asked for, nothing of theirs.
  bool next(Turn* turn, bool only_new = false);
  void charge(TenantId tenant, uint64_t ns);
  // kMinWeight … kMaxWeight: its share of the time, against others', while all have work.
  void set_weight(TenantId tenant, int32_t weight) { tenants_[tenant].weight = weight; }
  bool empty() const { return ready_ == 0; }
  size_t ready() const { return ready_; }

 private:
  struct Tenant {
    std::vector<Handle> queue;
    // Of the queue, what was served.
    size_t served = 0;
    int64_t deficit_ns = 0;
    Tenant* next = nullptr;
    bool is_listed = false;
    int32_t weight = kDefaultWeight;
  };
  struct List {
    Tenant* first = nullptr;
    Tenant* last = nullptr;
    void append(Tenant* tenant);
    Tenant* pop();
  };

  TenantId id_of(const Tenant* tenant) const { return static_cast<TenantId>(tenant - tenants_.get()); }
  static Handle pop_ready(Tenant* tenant);

  std::unique_ptr<Tenant[]> tenants_;
  // Those with something ready, and those that just had: new ones that have not used their first quantum, and the others.
  List fresh_;
  List others_;
  size_t ready_ = 0;
};

}  // namespace weft
