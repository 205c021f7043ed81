// Bytes that wait: output a peer did not take yet, or a head that is not whole. Holds no memory while empty, so idle connections cost none.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace weft {

class ByteQueue {
 public:
  ByteQueue() = default;
  ByteQueue(const ByteQueue&) = delete;
  ByteQueue& operator=(const ByteQueue&) = delete;
  ByteQueue(ByteQueue&& other) noexcept { take(&other); }
  ByteQueue& operator=(ByteQueue&& other) noexcept {
    if (this != &other) {
      clear();
      take(&other);
    }
    return *this;
  }
  ~ByteQueue() { free(memory_); }

  const uint8_t* data() const { return memory_ + begin_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  // Memory is readable 64 bytes past the end, as the head scanner wants it.
  void append(const void* bytes, size_t count) {
    if (count == 0) return;
    if (begin_ + size_ + count + kPadding > capacity_) grow(count);
    memcpy(memory_ + begin_ + size_, bytes, count);
    size_ += count;
  }
  // Room for `count` bytes behind the content; commit() makes the first of them content.
  uint8_t* reserve(size_t count) {
    if (begin_ + size_ + count + kPadding > capacity_) grow(count);
    return memory_ + begin_ + size_;
  }
  void commit(size_t count) { size_ += count; }
  void consume(size_t count) {
    begin_ += count;
    size_ -= count;
    if (size_ == 0) clear();
  }
  void clear() {
    free(memory_);
    memory_ = nullptr;
    begin_ = size_ = capacity_ = 0;
  }

 private:
  static constexpr size_t kPadding = 64;

  void grow(size_t count) {
    const size_t needed = size_ + count + kPadding;
    size_t capacity = capacity_ == 0 ? needed : needed + needed / 2;
    capacity = (capacity + 63) & ~size_t{63};
    auto* memory = static_cast<uint8_t*>(malloc(capacity));
    if (memory == nullptr) abort();
    if (size_ != 0) memcpy(memory, memory_ + begin_, size_);
    free(memory_);
    memory_ = memory;
    capacity_ = capacity;
    begin_ = 0;
  }
  void take(ByteQueue* other) {
    memory_ = other->memory_;
    begin_ = other->begin_;
    size_ = other->size_;
    capacity_ = other->capacity_;
    other->memory_ = nullptr;
    other->begin_ = other->size_ = other->capacity_ = 0;
  }

  uint8_t* memory_ = nullptr;
  size_t begin_ = 0;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

}  // namespace weft
