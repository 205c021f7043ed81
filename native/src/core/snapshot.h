// The tables as one reactor uses them: a reference count without atomics over the shared, atomic one, since each request holds them.
#pragma once
#include <memory>
#include <utility>

#include "core/tables/tables.h"

namespace weft {

class Snapshot {
 public:
  Snapshot() = default;
  explicit Snapshot(std::shared_ptr<const Tables> tables) : shared_(new Shared{std::move(tables), 1}) {}
  Snapshot(const Snapshot& other) : shared_(other.shared_) {
    if (shared_ != nullptr) shared_->uses++;
  }
  Snapshot(Snapshot&& other) noexcept : shared_(std::exchange(other.shared_, nullptr)) {}
  Snapshot& operator=(Snapshot other) noexcept {
    std::swap(shared_, other.shared_);
    return *this;
  }
  ~Snapshot() {
    if (shared_ != nullptr && --shared_->uses == 0) delete shared_;
  }
  const Tables* operator->() const { return shared_->tables.get(); }
  const Tables& operator*() const { return *shared_->tables; }

 private:
  struct Shared {
    std::shared_ptr<const Tables> tables;
    uint32_t uses;
  };
  Shared* shared_ = nullptr;
};

}  // namespace weft
