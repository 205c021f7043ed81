// What each tenant has of this worker, in memory that other threads read (EngineOptions.tenants): TenantWord of
// agent/native/engine-tables.ts. One writer, so no atomics. Decides nothing; whoever admits work asks for what there is.
#pragma once
#include <cstddef>
#include <memory>

#include "core/tenant_scheduler.h"

namespace weft {

enum class TenantWord : size_t {
  Connections,
  Requests,
  CpuUs,
  RefusedConnections,
  RefusedRequests,
  // Of memory: what waits to be sent, heads that are not whole, what is kept for another attempt.
  BufferedBytes,
  RefusedForBuffers,
  Count,
};

class TenantAccounts {
 public:
  static constexpr size_t kWords = static_cast<size_t>(TenantWord::Count);

  // Does not own `shared`; null: its own memory.
  explicit TenantAccounts(double* shared)
      : own_(shared == nullptr ? new double[kMaxTenants * kWords]() : nullptr), words_(shared == nullptr ? own_.get() : shared) {}

  void add(TenantId tenant, TenantWord word, double amount = 1) { words_[at(tenant, word)] += amount; }
  double get(TenantId tenant, TenantWord word) const { return words_[at(tenant, word)]; }
  double* word_of(TenantId tenant, TenantWord word) { return &words_[at(tenant, word)]; }
  // `limit` 0: none.
  bool has_reached(TenantId tenant, TenantWord word, uint32_t limit) const { return limit != 0 && get(tenant, word) >= limit; }

 private:
  static size_t at(TenantId tenant, TenantWord word) { return size_t{tenant} * kWords + static_cast<size_t>(word); }

  std::unique_ptr<double[]> own_;
  double* words_;
};

}  // namespace weft
