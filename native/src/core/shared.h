// A value that does not change and that several hold, counted by the one thread that they all are of: half the size of std::shared_ptr,
// and no atomic steps.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>

namespace weft {

template <typename T>
class Shared {
 public:
  // Null.
  Shared() = default;
  explicit Shared(T value) : record_(new Record{std::move(value)}) {}
  Shared(const Shared& other) : record_(other.record_) {
    if (record_ != nullptr) record_->holders++;
  }
  Shared(Shared&& other) noexcept : record_(std::exchange(other.record_, nullptr)) {}
  Shared& operator=(Shared other) noexcept {
    std::swap(record_, other.record_);
    return *this;
  }
  ~Shared() {
    if (record_ != nullptr && --record_->holders == 0) delete record_;
  }

  const T* get() const { return record_ != nullptr ? &record_->value : nullptr; }
  // Not of null.
  const T* operator->() const { return &record_->value; }
  bool operator==(std::nullptr_t) const { return record_ == nullptr; }

 private:
  struct Record {
    T value;
    size_t holders = 1;
  };
  Record* record_ = nullptr;
};

}  // namespace weft
