// Connections by slot and generation. A handle that epoll, a batch or a resume list kept goes stale by itself when its connection is
// closed. Closed connections stay in memory until reap(), so that the functions further up the stack may still look at `this`.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

namespace weft {

struct Handle {
  uint32_t slot = UINT32_MAX;
  uint32_t generation = 0;
};

template <typename T>
class Slab {
 public:
  // Takes ownership.
  Handle add(T* item) {
    uint32_t slot;
    if (free_.empty()) {
      slot = static_cast<uint32_t>(entries_.size());
      entries_.push_back({});
    } else {
      slot = free_.back();
      free_.pop_back();
    }
    entries_[slot].item.reset(item);
    count_++;
    return {slot, entries_[slot].generation};
  }
  // Null for a stale handle.
  T* get(Handle handle) const {
    if (handle.slot >= entries_.size()) return nullptr;
    const Entry& entry = entries_[handle.slot];
    return entry.generation == handle.generation ? entry.item.get() : nullptr;
  }
  void release(Handle handle) {
    if (get(handle) == nullptr) return;
    Entry& entry = entries_[handle.slot];
    dead_.push_back(std::move(entry.item));
    // 31 bits, so that it is never negative in an Int32Array.
    entry.generation = (entry.generation + 1) & INT32_MAX;
    free_.push_back(handle.slot);
    count_--;
  }
  void reap() { dead_.clear(); }
  size_t size() const { return count_; }

  // `visit` may release what it is given.
  template <typename Visit>
  void for_each(Visit visit) {
    for (size_t slot = 0; slot < entries_.size(); slot++) {
      if (entries_[slot].item) visit(entries_[slot].item.get());
    }
  }

 private:
  struct Entry {
    std::unique_ptr<T> item;
    uint32_t generation = 0;
  };
  std::vector<Entry> entries_;
  std::vector<uint32_t> free_;
  std::vector<std::unique_ptr<T>> dead_;
  size_t count_ = 0;
};

}  // namespace weft
