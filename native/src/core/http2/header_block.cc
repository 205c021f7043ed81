// The block's memory, and looking fields up.
#include "core/http2/header_block.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace weft::http2 {
namespace {

template <typename Matches>
const HeaderField* first_of(const HeaderBlock& block, Matches matches) {
  const HeaderField* found = std::find_if(block.begin(), block.end(), matches);
  return found == block.end() ? nullptr : found;
}

}  // namespace

void HeaderBlock::clear() {
  for (size_t i = 0; i < count_; i++) {
    if (fields_[i].interned != nullptr) table_->release(fields_[i].interned);
  }
  count_ = bytes_used_ = 0;
  list_size_ = 0;
  too_many_ = too_long_ = false;
  if (more_fields_ == nullptr && more_bytes_ == nullptr) return;
  more_fields_.reset();
  more_bytes_.reset();
  take_usual();
}

void HeaderBlock::take_usual() {
  if (usual_ == nullptr) usual_.reset(new Usual);
  fields_ = reinterpret_cast<HeaderField*>(usual_->fields);
  capacity_ = Usual::kFields;
  bytes_ = usual_->bytes;
  bytes_capacity_ = Usual::kBytes;
}

void HeaderBlock::add_text(uint32_t name_size, uint32_t value_size, uint32_t encoded_size, const FieldTraits& traits, bool never_indexed) {
  const auto at = static_cast<uint32_t>(bytes_used_);
  *push() = {nullptr, at, name_size, at + name_size, value_size, encoded_size, traits, never_indexed, false};
  bytes_used_ += size_t{name_size} + value_size + encoded_size;
}

void HeaderBlock::grow_fields() {
  if (usual_ == nullptr) return take_usual();
  const size_t capacity = capacity_ * 2;
  std::unique_ptr<HeaderField[]> fields(new HeaderField[capacity]);
  memcpy(static_cast<void*>(fields.get()), fields_, count_ * sizeof(HeaderField));
  more_fields_ = std::move(fields);
  fields_ = more_fields_.get();
  capacity_ = capacity;
}

void HeaderBlock::grow_bytes(size_t bytes) {
  if (usual_ == nullptr) {
    take_usual();
    if (bytes <= bytes_capacity_) return;
  }
  const size_t capacity = std::max(bytes_capacity_ * 2, bytes_used_ + bytes);
  std::unique_ptr<char[]> memory(new char[capacity]);
  memcpy(memory.get(), bytes_, bytes_used_);
  more_bytes_ = std::move(memory);
  bytes_ = more_bytes_.get();
  bytes_capacity_ = capacity;
}

void HeaderBlock::take(HeaderBlock* other) {
  table_ = other->table_;
  usual_ = std::move(other->usual_);
  fields_ = std::exchange(other->fields_, nullptr);
  bytes_ = std::exchange(other->bytes_, nullptr);
  more_fields_ = std::move(other->more_fields_);
  more_bytes_ = std::move(other->more_bytes_);
  count_ = std::exchange(other->count_, 0);
  capacity_ = std::exchange(other->capacity_, 0);
  bytes_used_ = std::exchange(other->bytes_used_, 0);
  bytes_capacity_ = std::exchange(other->bytes_capacity_, 0);
  list_size_ = std::exchange(other->list_size_, 0);
  too_many_ = std::exchange(other->too_many_, false);
  too_long_ = std::exchange(other->too_long_, false);
}

const HeaderField* HeaderBlock::find(std::string_view wanted) const {
  return first_of(*this, [&](const HeaderField& field) { return name(field) == wanted; });
}
const HeaderField* HeaderBlock::find(http1::KnownHeader known) const {
  return first_of(*this, [&](const HeaderField& field) { return field.traits.known == known; });
}
const HeaderField* HeaderBlock::find(Pseudo pseudo) const {
  return first_of(*this, [&](const HeaderField& field) { return field.traits.pseudo == pseudo; });
}

}  // namespace weft::http2
