// The encoder: which representation a line gets, and the index from lines to places in the table.
#include "core/http2/hpack_encoder.h"

#include <algorithm>
#include <cstring>

#include "core/http2/hpack_integer.h"

namespace weft::http2 {
namespace {

/// Numbers of lines are kept modulo this in one byte; a table of 4,096 bytes has at most so many lines.
constexpr uint32_t kNumbers = HpackEncoder::kMaxTableSize / 32;
static_assert(kNumbers == 128);

// Patterns of RFC 7541 6.2.
constexpr uint8_t kIncremental = 0x40;
constexpr uint8_t kWithoutIndexing = 0x00;
constexpr uint8_t kNeverIndexed = 0x10;

uint8_t* write_string(std::string_view text, bool is_encoded, uint8_t* out) {
  out = write_integer(is_encoded ? 0x80 : 0, 7, static_cast<uint32_t>(text.size()), out);
  if (!text.empty()) memcpy(out, text.data(), text.size());
  return out + text.size();
}

uint8_t* write_literal(uint8_t pattern, uint8_t static_name, std::string_view name, std::string_view value, std::string_view encoded,
                       uint8_t* out) {
  out = write_integer(pattern, pattern == kIncremental ? 6 : 4, static_name, out);
  if (static_name == 0) out = write_string(name, false, out);
  return encoded.empty() ? write_string(value, false, out) : write_string(encoded, true, out);
}

uint32_t line_hash(const InternedField* field) {
  return static_cast<uint32_t>((reinterpret_cast<uintptr_t>(field) >> 4) * 0x9e3779b97f4a7c15ull >> 56);
}

}  // namespace

void HpackEncoder::set_peer_limit(uint32_t bytes) {
  const uint32_t size = std::min(bytes, kMaxTableSize);
  if (size == ring_.max_size() && !update_pending_) return;
  smallest_pending_ = update_pending_ ? std::min(smallest_pending_, size) : size;
  update_pending_ = true;
  ring_.set_max_size(size);
  while (ring_.size() > size) drop_oldest();
}

uint8_t* HpackEncoder::begin(uint8_t* out) {
  if (!update_pending_) return out;
  update_pending_ = false;
  if (smallest_pending_ < ring_.max_size()) out = write_integer(0x20, 5, smallest_pending_, out);
  return write_integer(0x20, 5, ring_.max_size(), out);
}

uint8_t* HpackEncoder::write_own(const HeaderBlock& block, const HeaderField& field, uint8_t* out) {
  return write_literal(field.never_indexed ? kNeverIndexed : kWithoutIndexing, field.traits.static_name, block.name(field),
                       block.value(field), block.encoded_value(field), out);
}

uint8_t* HpackEncoder::write_interned(InternedField* field, bool fresh, uint8_t* out) {
  if (field->static_index() != 0) return write_static(field->static_index(), out);
  const uint32_t index = find(field);
  return index != 0 ? write_integer(0x80, 7, index, out) : write_new(field, fresh, out);
}

uint8_t* HpackEncoder::write_new(InternedField* field, bool fresh, uint8_t* out) {
  // A line of more than half the table would drop most of what serves others.
  const bool into_table = !fresh && field->hpack_size() <= ring_.max_size() / 2;
  out = write_literal(into_table ? kIncremental : kWithoutIndexing, field->traits().static_name, field->name(), field->value(),
                      field->encoded_value(), out);
  if (into_table) add(field);
  return out;
}

uint8_t* HpackEncoder::write_text(std::string_view name, std::string_view value, Indexing indexing, uint8_t* out) {
  if (indexing == Indexing::kAllowed) {
    const Interned interned = table_->intern(name, value);
    out = write_interned(interned.field, interned.fresh, out);
    table_->release(interned.field);
    return out;
  }
  return write_literal(indexing == Indexing::kNever ? kNeverIndexed : kWithoutIndexing, static_name_index(name), name, value, {}, out);
}

uint32_t HpackEncoder::find(const InternedField* field) const {
  if (ring_.count() == 0) return 0;
  for (uint32_t at = line_hash(field) & index_mask_; index_[at] != 0; at = (at + 1) & index_mask_) {
    if (ring_.of_number(index_[at] - 1u) != field) continue;
    return InternTable::kStaticFields + 1 + (ring_.next() - index_[at]) % kNumbers;
  }
  return 0;
}

void HpackEncoder::add(InternedField* field) {
  while (!ring_.has_room(field->hpack_size())) drop_oldest();
  if (index_ == nullptr || (ring_.count() + 1) * 2 > index_mask_ + 1) grow_index();
  place(field, ring_.next());
  ring_.add(field);
}

void HpackEncoder::place(const InternedField* field, uint32_t number) {
  uint32_t at = line_hash(field) & index_mask_;
  while (index_[at] != 0) at = (at + 1) & index_mask_;
  index_[at] = static_cast<uint8_t>(number % kNumbers + 1);
}

void HpackEncoder::drop_oldest() {
  const auto tag = static_cast<uint8_t>((ring_.next() - ring_.count()) % kNumbers + 1);
  uint32_t hole = line_hash(ring_.oldest()) & index_mask_;
  while (index_[hole] != tag) hole = (hole + 1) & index_mask_;
  // Later ones of the run move up where their own place is not behind the hole.
  for (uint32_t at = (hole + 1) & index_mask_; index_[at] != 0; at = (at + 1) & index_mask_) {
    const uint32_t age = (ring_.next() - index_[at]) % kNumbers;
    const uint32_t home = line_hash(ring_.at(age)) & index_mask_;
    if (((at - home) & index_mask_) < ((at - hole) & index_mask_)) continue;
    index_[hole] = index_[at];
    hole = at;
  }
  index_[hole] = 0;
  ring_.drop_oldest();
}

void HpackEncoder::grow_index() {
  const uint32_t slots = index_ == nullptr ? 16 : (index_mask_ + 1) * 2;
  index_.reset(new uint8_t[slots]());
  index_mask_ = slots - 1;
  for (uint32_t age = 0; age < ring_.count(); age++) place(ring_.at(age), ring_.next() - 1 - age);
}

}  // namespace weft::http2
