// Tables, or TLS contexts, by handle, for all threads of the process: one thread builds, every worker's engine takes the same object.
// A handle is only a name: engines that use the tables keep them alive after release().
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "core/tables/tables.h"

namespace weft {

template <typename T>
class HandleRegistry {
 public:
  static HandleRegistry& instance() {
    static HandleRegistry registry;
    return registry;
  }
  uint32_t add(std::shared_ptr<T> item) {
    const std::lock_guard<std::mutex> lock(mutex_);
    items_.emplace(++last_, std::move(item));
    return last_;
  }
  // Null for a handle that was released or never given.
  std::shared_ptr<T> find(uint32_t handle) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto at = items_.find(handle);
    return at == items_.end() ? nullptr : at->second;
  }
  void release(uint32_t handle) {
    const std::lock_guard<std::mutex> lock(mutex_);
    items_.erase(handle);
  }

 private:
  std::mutex mutex_;
  std::unordered_map<uint32_t, std::shared_ptr<T>> items_;
  uint32_t last_ = 0;
};

using TlsContextRegistry = HandleRegistry<TlsContext>;

class TableRegistry : public HandleRegistry<const Tables> {
 public:
  // Bounds what a batch of match_predicates results may need.
  static constexpr size_t kMaxPredicateWords = 256;
};

}  // namespace weft
