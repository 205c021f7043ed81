// Literals that a peer repeats without putting them into its table, as nghttp2 and what is built on it do with :path and content-length: of
// those that came twice running the line is held, so that from then on neither its Huffman code nor its syntax nor its routes are looked at
// again. One a decoder, for bytes that mean the same whenever they come. Holds no memory while empty.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "core/http2/intern_table.h"

namespace weft::http2 {

class LiteralMemory {
 public:
  struct Entry {
    /// With a reference; null until it is known.
    InternedField* line;
    uint8_t size;
    uint8_t bytes[119];
  };

  explicit LiteralMemory(InternTable* table) : table_(table) {}
  LiteralMemory(const LiteralMemory&) = delete;
  LiteralMemory& operator=(const LiteralMemory&) = delete;
  ~LiteralMemory() {
    for (size_t i = 0; entries_ != nullptr && i < kEntries; i++) forget(&entries_[i]);
  }

  /// Of a literal's bytes, at least two: null unless the last one in their place was the same. It is from now on.
  Entry* recall(const uint8_t* literal, size_t size) {
    if (size > sizeof(Entry::bytes)) return nullptr;
    if (entries_ == nullptr) entries_.reset(new Entry[kEntries]());
    // Its name's index, or of a new name the length; the length of the value.
    Entry* entry = &entries_[(literal[0] + literal[1]) % kEntries];
    if (entry->size == size && memcmp(entry->bytes, literal, size) == 0) return entry;
    forget(entry);
    entry->size = static_cast<uint8_t>(size);
    memcpy(entry->bytes, literal, size);
    return nullptr;
  }

 private:
  static constexpr size_t kEntries = 8;

  void forget(Entry* entry) {
    if (entry->line != nullptr) table_->release(entry->line);
    entry->line = nullptr;
  }

  InternTable* table_;
  std::unique_ptr<Entry[]> entries_;
};

}  // namespace weft::http2
