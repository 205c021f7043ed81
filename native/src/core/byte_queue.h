// Bytes that wait: output a peer did not take yet, or a head that is not whole. Holds no memory while empty, so idle connections cost none.
// What it holds may be on somebody's account: one number, in bytes, of the thread that uses the queue.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace weft {

class ByteQueue {
 public:
  ByteQueue() = default;
  // `account` outlives the queue; null: nobody's.
  explicit ByteQueue(double* account) : account_(account) {}
  ByteQueue(const ByteQueue&) = delete;
  ByteQueue& operator=(const ByteQueue&) = delete;
  ByteQueue(ByteQueue&& other) noexcept : account_(other.account_) { take(&other); }
  // Each keeps its account.
  ByteQueue& operator=(ByteQueue&& other) noexcept {
    if (this != &other) {
      clear();
      other.charge(-static_cast<double>(other.capacity_));
      take(&other);
      charge(capacity_);
    }
    return *this;
  }
  ~ByteQueue() { clear(); }
  void set_account(double* account) {
    charge(-static_cast<double>(capacity_));
    account_ = account;
    charge(capacity_);
  }

  const uint8_t* data() const { return memory_ + begin_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  // Memory is readable 64 bytes past the end, as the head scanner wants it.
  void append(const void* bytes, size_t count) {
    if (count == 0) return;
    if (size_t{begin_} + size_ + count + kPadding > capacity_) grow(count);
    memcpy(memory_ + begin_ + size_, bytes, count);
    size_ += static_cast<uint32_t>(count);
  }
  // Room for `count` bytes behind the content; commit() makes the first of them content.
  uint8_t* reserve(size_t count) {
    if (size_t{begin_} + size_ + count + kPadding > capacity_) grow(count);
    return memory_ + begin_ + size_;
  }
  void commit(size_t count) { size_ += static_cast<uint32_t>(count); }
  void consume(size_t count) {
    begin_ += static_cast<uint32_t>(count);
    size_ -= static_cast<uint32_t>(count);
    if (size_ == 0) clear();
  }
  void clear() {
    if (memory_ == nullptr) return;
    charge(-static_cast<double>(capacity_));
    free(memory_);
    memory_ = nullptr;
    begin_ = size_ = capacity_ = 0;
  }

 private:
  static constexpr size_t kPadding = 64;
  static constexpr size_t kGrown = 2048;

  void charge(double bytes) {
    if (account_ != nullptr) *account_ += bytes;
  }
  void grow(size_t count) {
    const size_t needed = size_ + count + kPadding;
    // What has grown once is a connection's output: sixteen answers in one send.
    size_t capacity = capacity_ == 0 ? needed : std::max(2 * needed, kGrown);
    capacity = (capacity + 63) & ~size_t{63};
    // Whoever lets so much wait knows no bound.
    if (capacity > UINT32_MAX) abort();
    auto* memory = static_cast<uint8_t*>(malloc(capacity));
    if (memory == nullptr) abort();
    if (size_ != 0) memcpy(memory, memory_ + begin_, size_);
    free(memory_);
    charge(static_cast<double>(capacity) - capacity_);
    memory_ = memory;
    capacity_ = static_cast<uint32_t>(capacity);
    begin_ = 0;
  }
  // What is charged stays where it is.
  void take(ByteQueue* other) {
    memory_ = other->memory_;
    begin_ = other->begin_;
    size_ = other->size_;
    capacity_ = other->capacity_;
    other->memory_ = nullptr;
    other->begin_ = other->size_ = other->capacity_ = 0;
  }

  uint8_t* memory_ = nullptr;
  double* account_ = nullptr;
  uint32_t begin_ = 0;
  uint32_t size_ = 0;
  uint32_t capacity_ = 0;
};

}  // namespace weft
