// Bytes that wait: output a peer did not take yet, or a head that is not whole. Holds no memory while empty, so idle connections cost none.
// What it holds may be on somebody's account: one number, in bytes, of the thread that uses the queue.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "core/recycled.h"

namespace weft {

class ByteQueue {
 public:
  // To reserve at once where frame by frame would follow.
  static constexpr size_t kTickBytes = 16384;

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
    give_back();
    memory_ = nullptr;
    begin_ = size_ = capacity_ = 0;
  }

 private:
  static constexpr size_t kPadding = 64;
  static constexpr size_t kGrown = 2048;
  // Of the two usual sizes: a small message, as waits for its decision with each request, and the frames of a connection in one tick. They
  // come and go too many at once for malloc's cache.
  struct Small : Recycled<Small> {
    uint8_t bytes[256];
  };
  struct Large : Recycled<Large, 64> {
    uint8_t bytes[kTickBytes + kPadding];
  };
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
    uint8_t* memory = take_memory(&capacity);
    if (size_ != 0) memcpy(memory, memory_ + begin_, size_);
    give_back();
    charge(static_cast<double>(capacity) - capacity_);
    memory_ = memory;
    capacity_ = static_cast<uint32_t>(capacity);
    begin_ = 0;
  }
  static uint8_t* take_memory(size_t* capacity) {
    if (*capacity <= sizeof(Small)) {
      *capacity = sizeof(Small);
      return (new Small)->bytes;
    }
    if (*capacity == sizeof(Large)) return (new Large)->bytes;
    void* memory = malloc(*capacity);
    if (memory == nullptr) abort();
    return static_cast<uint8_t*>(memory);
  }
  void give_back() {
    if (capacity_ == sizeof(Small)) {
      delete reinterpret_cast<Small*>(memory_);
    } else if (capacity_ == sizeof(Large)) {
      delete reinterpret_cast<Large*>(memory_);
    } else {
      free(memory_);
    }
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
