// The decoder. Whatever a block asks for costs time in proportion to its bytes; what is stored is bounded by BlockLimits and the table.
#include "core/http2/hpack_decoder.h"

#include <algorithm>
#include <cstring>

#include "core/http2/hpack_huffman.h"
#include "core/http2/hpack_integer.h"

namespace weft::http2 {
namespace {

constexpr const char* kFaultNames[] = {
#define WEFT_X(name, text, code) text,
    WEFT_HTTP2_HPACK_FAULTS(WEFT_X)
#undef WEFT_X
};

constexpr ErrorCode kFaultCodes[] = {
#define WEFT_X(name, text, code) ErrorCode::k##code,
    WEFT_HTTP2_HPACK_FAULTS(WEFT_X)
#undef WEFT_X
};

HpackFault fault_of(IntegerStatus status) { return status == IntegerStatus::kTruncated ? HpackFault::kTruncated : HpackFault::kInteger; }

/// A string literal on the wire (RFC 7541 5.2).
struct Literal {
  const uint8_t* bytes = nullptr;
  uint32_t size = 0;
  bool is_encoded = false;

  size_t text_bound() const { return is_encoded ? huffman_decoded_bound(size) : size; }
  /// The text's length, -1 if it is no valid encoding. `out` has room for text_bound().
  int64_t write(char* out) const {
    if (is_encoded) return huffman_decode(bytes, size, out);
    if (size != 0) memcpy(out, bytes, size);
    return size;
  }
};

}  // namespace

const char* hpack_fault_name(HpackFault fault) { return fault < HpackFault::kCount ? kFaultNames[static_cast<size_t>(fault)] : "?"; }

ErrorCode hpack_fault_code(HpackFault fault) {
  return fault < HpackFault::kCount ? kFaultCodes[static_cast<size_t>(fault)] : ErrorCode::kInternalError;
}

struct HpackDecoder::Cursor {
  const uint8_t* at;
  const uint8_t* end;

  HpackFault integer(unsigned prefix_bits, uint32_t* value) {
    const IntegerStatus status = read_integer(&at, end, prefix_bits, value);
    return status == IntegerStatus::kGood ? HpackFault::kNone : fault_of(status);
  }
  HpackFault string(Literal* out) {
    if (at == end) return HpackFault::kTruncated;
    out->is_encoded = (*at & 0x80) != 0;
    const HpackFault fault = integer(7, &out->size);
    if (fault != HpackFault::kNone) return fault;
    if (out->size > static_cast<size_t>(end - at)) return HpackFault::kTruncated;
    out->bytes = at;
    at += out->size;
    return HpackFault::kNone;
  }
};

void HpackDecoder::set_limit(uint32_t bytes) {
  limit_ = bytes;
  if (bytes < ring_.max_size()) update_owed_ = std::min(update_owed_, bytes);
}

InternedField* HpackDecoder::lookup(uint32_t index) const {
  if (index <= InternTable::kStaticFields) return table_->static_field(index);
  const uint32_t age = index - InternTable::kStaticFields - 1;
  return age < ring_.count() ? ring_.at(age) : nullptr;
}

HpackFault HpackDecoder::decode(const uint8_t* block, size_t size, const BlockLimits& limits, HeaderBlock* out) {
  limits_ = limits;
  limits_.max_fields = std::min<uint32_t>(limits.max_fields, http1::kMaxFields);
  Cursor in{block, block + size};
  bool at_begin = true;
  while (in.at < in.end) {
    const uint8_t first = *in.at;
    const bool updates = (first & 0xe0) == 0x20;
    if (updates) {
      if (!at_begin) return HpackFault::kTableSizeMisplaced;
    } else {
      if (at_begin && update_owed_ != UINT32_MAX) return HpackFault::kTableSizeMissing;
      at_begin = false;
    }
    const HpackFault fault = updates ? update_size(&in) : (first & 0x80) != 0 ? indexed(&in, out) : literal(&in, out);
    if (fault != HpackFault::kNone) return fault;
  }
  return HpackFault::kNone;
}

/// RFC 7541 4.2, 6.3: only before the first field.
HpackFault HpackDecoder::update_size(Cursor* in) {
  uint32_t bytes;
  const HpackFault fault = in->integer(5, &bytes);
  if (fault != HpackFault::kNone) return fault;
  if (bytes > limit_) return HpackFault::kTableSizeTooLarge;
  // The first update after a lowered limit must follow it, even if a later one in the same block goes up again.
  if (bytes > update_owed_) return HpackFault::kTableSizeMissing;
  update_owed_ = UINT32_MAX;
  while (ring_.size() > bytes) ring_.drop_oldest();
  ring_.set_max_size(bytes);
  return HpackFault::kNone;
}

/// Whether the list may not even be decoded on.
bool HpackDecoder::is_bomb(uint64_t more, const HeaderBlock& out) const {
  return out.list_size() + more > kBombFactor * limits_.max_list_bytes;
}

/// Whether the field that was counted last may be stored.
bool HpackDecoder::admit(HeaderBlock* out) const {
  if (out->is_truncated()) return false;
  if (out->list_size() > limits_.max_list_bytes) {
    out->mark_too_long();
  } else if (out->size() >= limits_.max_fields) {
    out->mark_too_many();
  } else {
    return true;
  }
  return false;
}

HpackFault HpackDecoder::indexed(Cursor* in, HeaderBlock* out) {
  uint32_t index;
  const HpackFault fault = in->integer(7, &index);
  if (fault != HpackFault::kNone) return fault;
  InternedField* field = index != 0 ? lookup(index) : nullptr;
  return field != nullptr ? take(field, false, out) : HpackFault::kIndex;
}

/// A line that is held by another.
HpackFault HpackDecoder::take(InternedField* field, bool fresh, HeaderBlock* out) {
  if (is_bomb(field->hpack_size(), *out)) return HpackFault::kBomb;
  out->count_size(field->hpack_size());
  if (!admit(out)) return HpackFault::kNone;
  table_->retain(field);
  out->add_interned(field, fresh);
  return HpackFault::kNone;
}

/// RFC 7541 6.2.
HpackFault HpackDecoder::literal(Cursor* in, HeaderBlock* out) {
  const uint8_t* begin = in->at;
  const bool into_table = (*in->at & 0x40) != 0;
  const bool never_indexed = !into_table && (*in->at & 0x10) != 0;
  uint32_t index;
  HpackFault fault = in->integer(into_table ? 6 : 4, &index);
  if (fault != HpackFault::kNone) return fault;
  const InternedField* named = nullptr;
  Literal name, value;
  if (index != 0) {
    named = lookup(index);
    if (named == nullptr) return HpackFault::kIndex;
    name = {reinterpret_cast<const uint8_t*>(named->name().data()), static_cast<uint32_t>(named->name().size()), false};
  } else if ((fault = in->string(&name)) != HpackFault::kNone) {
    return fault;
  }
  if ((fault = in->string(&value)) != HpackFault::kNone) return fault;
  // An index of the peer's table may be another name's by now.
  const bool means_the_same = !into_table && !never_indexed && index <= InternTable::kStaticFields;
  LiteralMemory::Entry* again = means_the_same ? literals_.recall(begin, static_cast<size_t>(in->at - begin)) : nullptr;
  if (again != nullptr && again->line != nullptr) return take(again->line, false, out);

  // Before anything is copied: a name may be long and its index short.
  if (is_bomb(size_t{name.size} + value.size + 32, *out)) return HpackFault::kBomb;
  char* text = out->text_room(name.text_bound() + value.text_bound() + value.size);
  const int64_t name_size = name.write(text);
  if (name_size < 0) return HpackFault::kHuffman;
  char* value_text = text + name_size;
  const int64_t value_size = value.write(value_text);
  if (value_size < 0) return HpackFault::kHuffman;
  const std::string_view name_view(text, static_cast<size_t>(name_size)), value_view(value_text, static_cast<size_t>(value_size));
  std::string_view encoded;
  if (value.is_encoded && value.size < value_view.size()) encoded = {reinterpret_cast<const char*>(value.bytes), value.size};
  if (again != nullptr) {
    const Interned interned = table_->intern(name_view, value_view, encoded);
    again->line = interned.field;
    return take(interned.field, interned.fresh, out);
  }
  const uint64_t line_size = name_view.size() + value_view.size() + 32;
  out->count_size(line_size);
  const bool is_stored = admit(out);

  if (into_table && line_size <= ring_.max_size()) {
    const Interned interned = table_->intern(name_view, value_view, encoded);
    add(interned.field);
    if (is_stored) {
      out->add_interned(interned.field, interned.fresh);
    } else {
      table_->release(interned.field);
    }
    return HpackFault::kNone;
  }
  // RFC 7541 4.4: an entry larger than the table empties it.
  if (into_table) {
    while (ring_.count() != 0) ring_.drop_oldest();
  }
  if (!is_stored) return HpackFault::kNone;
  if (!encoded.empty()) memcpy(value_text + value_size, encoded.data(), encoded.size());
  const FieldTraits traits = with_value(named != nullptr ? name_only(named->traits()) : name_traits(name_view), value_view);
  out->add_text(static_cast<uint32_t>(name_size), static_cast<uint32_t>(value_size), static_cast<uint32_t>(encoded.size()), traits,
                never_indexed);
  return HpackFault::kNone;
}

void HpackDecoder::add(InternedField* field) {
  while (!ring_.has_room(field->hpack_size())) ring_.drop_oldest();
  ring_.add(field);
}

}  // namespace weft::http2
