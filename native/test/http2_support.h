// What the HTTP/2 tests share: bytes from hex, blocks from lists and back, a seeded generator.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/http2/hpack_decoder.h"
#include "core/http2/hpack_encoder.h"

namespace weft::test {

using FieldList = std::vector<std::pair<std::string, std::string>>;

inline std::string from_hex(std::string_view hex) {
  std::string bytes, digits;
  for (const char c : hex) {
    if (c == ' ' || c == '\n') continue;
    digits += c;
    if (digits.size() < 2) continue;
    bytes += static_cast<char>(strtoul(digits.c_str(), nullptr, 16));
    digits.clear();
  }
  return bytes;
}

inline const uint8_t* data_of(std::string_view bytes) { return reinterpret_cast<const uint8_t*>(bytes.data()); }

inline FieldList list_of(const http2::HeaderBlock& block) {
  FieldList list;
  for (const http2::HeaderField& field : block) list.emplace_back(block.name(field), block.value(field));
  return list;
}

inline std::string shown_list(const FieldList& list) {
  std::string text;
  for (const auto& [name, value] : list) text += name + ": " + value + "\n";
  return text;
}

/// Fields as text, none interned.
inline void add_text(std::string_view name, std::string_view value, bool never_indexed, http2::HeaderBlock* block) {
  char* room = block->text_room(name.size() + value.size());
  name.copy(room, name.size());
  value.copy(room + name.size(), value.size());
  block->count_size(name.size() + value.size() + 32);
  block->add_text(static_cast<uint32_t>(name.size()), static_cast<uint32_t>(value.size()), 0,
                  http2::with_value(http2::name_traits(name), value), never_indexed);
}

inline http2::HeaderBlock block_of(const FieldList& list, http2::InternTable* table) {
  http2::HeaderBlock block(table);
  for (const auto& [name, value] : list) add_text(name, value, false, &block);
  return block;
}

/// xorshift64*.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2 + 1) {}
  uint32_t below(uint32_t bound) {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<uint32_t>((state_ * 0x2545f4914f6cdd1dull) >> 33) % bound;
  }

 private:
  uint64_t state_;
};

}  // namespace weft::test
