// HPACK's dynamic table (RFC 7541 2.3.2, 4) as a ring of references to interned lines, newest first. Decoder and encoder have one each.
// Holds no memory while empty.
#pragma once

#include <cstdint>
#include <memory>

#include "core/http2/intern_table.h"

namespace weft::http2 {

class FieldRing {
 public:
  FieldRing(InternTable* table, uint32_t max_size) : table_(table), max_size_(max_size) {}
  FieldRing(const FieldRing&) = delete;
  FieldRing& operator=(const FieldRing&) = delete;
  ~FieldRing() {
    while (count_ != 0) drop_oldest();
  }

  uint32_t count() const { return count_; }
  uint32_t size() const { return size_; }
  uint32_t max_size() const { return max_size_; }
  /// 0 is the newest; below count().
  InternedField* at(uint32_t age) const { return slots_[(next_ - 1 - age) & mask_]; }
  /// Running number of the entry that add() makes next; entry n has age next() - 1 - n.
  uint32_t next() const { return next_; }
  /// Of an entry that is there; its number modulo a power of two will do that is no less than the ring may grow.
  InternedField* of_number(uint32_t number) const { return slots_[number & mask_]; }
  InternedField* oldest() const { return at(count_ - 1); }

  /// Whether one more line of that size fits without dropping another.
  bool has_room(uint32_t hpack_size) const { return size_ + hpack_size <= max_size_; }
  void drop_oldest() {
    InternedField* field = oldest();
    size_ -= field->hpack_size();
    count_--;
    table_->release(field);
  }
  /// Needs has_room(). Takes a reference of its own.
  void add(InternedField* field) {
    if (count_ == capacity_) grow();
    slots_[next_++ & mask_] = field;
    count_++;
    size_ += field->hpack_size();
    table_->retain(field);
  }
  void set_max_size(uint32_t bytes) { max_size_ = bytes; }

 private:
  void grow() {
    const uint32_t capacity = capacity_ == 0 ? 8 : capacity_ * 2;
    std::unique_ptr<InternedField*[]> slots(new InternedField*[capacity]);
    for (uint32_t i = 1; i <= count_; i++) slots[(next_ - i) & (capacity - 1)] = slots_[(next_ - i) & mask_];
    slots_ = std::move(slots);
    capacity_ = capacity;
    mask_ = capacity - 1;
  }

  InternTable* table_;
  std::unique_ptr<InternedField*[]> slots_;
  uint32_t capacity_ = 0;
  uint32_t mask_ = 0;
  uint32_t next_ = 0;
  uint32_t count_ = 0;
  uint32_t size_ = 0;
  uint32_t max_size_;
};

}  // namespace weft::http2
