// Bytes that wait: output a peer did not take yet, or a head that is not whole. Holds no memory while empty, so idle connections cost none.
// What it holds may be on somebody's account: one number, in bytes, of the thread that uses the queue.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

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
  ByteQueue(ByteQueue&& other) noexcept : block_(other.take()), account_(other.account_) {}
  // Each keeps its account.
  ByteQueue& operator=(ByteQueue&& other) noexcept {
    if (this != &other) {
      clear();
      other.charge(-1);
      block_ = other.take();
      charge(1);
    }
    return *this;
  }
  ~ByteQueue() { clear(); }
  void set_account(double* account) {
    charge(-1);
    account_ = account;
    charge(1);
  }

  const uint8_t* data() const { return block_->bytes() + block_->begin; }
  size_t size() const { return block_->size; }
  bool empty() const { return block_->size == 0; }

  // Memory is readable 64 bytes past the end, as the head scanner wants it.
  void append(const void* bytes, size_t count) {
    if (count == 0) return;
    memcpy(reserve(count), bytes, count);
    commit(count);
  }
  // Room for `count` bytes behind the content; commit() makes the first of them content.
  uint8_t* reserve(size_t count) {
    if (size_t{block_->begin} + block_->size + count + kPadding > block_->capacity) grow(count);
    return block_->bytes() + block_->begin + block_->size;
  }
  // Behind reserve().
  void commit(size_t count) { block_->size += static_cast<uint32_t>(count); }
  void consume(size_t count) {
    if (count == size()) return clear();
    block_->begin += static_cast<uint32_t>(count);
    block_->size -= static_cast<uint32_t>(count);
  }
  void clear() {
    if (block_ == none()) return;
    charge(-1);
    give_back();
    block_ = none();
  }

 private:
  static constexpr size_t kPadding = 64;
  static constexpr size_t kGrown = 2048;
  // What it holds, behind how much that is.
  struct alignas(16) Block {
    uint32_t begin;
    uint32_t size;
    uint32_t capacity;

    uint8_t* bytes() { return reinterpret_cast<uint8_t*>(this + 1); }
  };
  // The block of those that hold nothing, which has room for nothing and is never written.
  static constexpr Block kNone = {};
  static Block* none() { return const_cast<Block*>(&kNone); }
  // Of the two usual sizes: a small message, as waits for its decision with each request, and the frames of a connection in one tick. They
  // come and go too many at once for malloc's cache.
  struct Small : Recycled<Small> {
    Block block;
    uint8_t bytes[256];
  };
  struct Large : Recycled<Large, 64> {
    Block block;
    uint8_t bytes[kTickBytes + kPadding];
  };
  void charge(int times) {
    if (account_ != nullptr) *account_ += times * static_cast<double>(block_->capacity);
  }
  void grow(size_t count) {
    const size_t needed = size() + count + kPadding;
    // What has grown once is a connection's output: sixteen answers in one send.
    size_t capacity = block_->capacity == 0 ? needed : std::max(2 * needed, kGrown);
    capacity = (capacity + 63) & ~size_t{63};
    // Whoever lets so much wait knows no bound.
    if (capacity > UINT32_MAX) abort();
    Block* grown = make_block(capacity);
    grown->size = block_->size;
    if (!empty()) memcpy(grown->bytes(), data(), size());
    clear();
    block_ = grown;
    charge(1);
  }
  static Block* make_block(size_t capacity) {
    Block* block;
    if (capacity <= sizeof(Small::bytes)) {
      capacity = sizeof(Small::bytes);
      block = &(new Small)->block;
    } else if (capacity == sizeof(Large::bytes)) {
      block = &(new Large)->block;
    } else {
      block = static_cast<Block*>(malloc(sizeof(Block) + capacity));
      if (block == nullptr) abort();
    }
    block->begin = 0;
    block->capacity = static_cast<uint32_t>(capacity);
    return block;
  }
  void give_back() {
    if (block_->capacity == sizeof(Small::bytes)) {
      delete reinterpret_cast<Small*>(block_);
    } else if (block_->capacity == sizeof(Large::bytes)) {
      delete reinterpret_cast<Large*>(block_);
    } else {
      free(block_);
    }
  }
  Block* take() { return std::exchange(block_, none()); }

  Block* block_ = none();
  double* account_ = nullptr;
};

}  // namespace weft
