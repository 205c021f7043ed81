// HPACK decoding (RFC 7541): one direction of one connection. Turns a field block into a HeaderBlock and keeps the dynamic table in step.
// Checks only the compression; what the fields may be is checked in header_block.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/http2/field_ring.h"
#include "core/http2/header_block.h"

namespace weft::http2 {

/// Errors of the whole connection: COMPRESSION_ERROR (RFC 9113 4.3). The name is a metric label and the GOAWAY's debug data.
#define WEFT_HTTP2_HPACK_FAULTS(X)                    \
  X(None, "none")                                     \
  X(Truncated, "hpack_truncated")                     \
  X(Integer, "hpack_integer")                         \
  X(Index, "hpack_index")                             \
  X(Huffman, "hpack_huffman")                         \
  X(TableSizeTooLarge, "hpack_table_size_too_large")  \
  X(TableSizeMisplaced, "hpack_table_size_misplaced") \
  X(TableSizeMissing, "hpack_table_size_missing")

enum class HpackFault : uint8_t {
#define WEFT_X(name, text) k##name,
  WEFT_HTTP2_HPACK_FAULTS(WEFT_X)
#undef WEFT_X
      kCount,
};
const char* hpack_fault_name(HpackFault fault);

class HpackDecoder {
 public:
  explicit HpackDecoder(InternTable* table) : table_(table), ring_(table, 4096) {}

  /// The peer has acknowledged our SETTINGS_HEADER_TABLE_SIZE. If that is less than its table now, its next block must begin with an
  /// update.
  void set_limit(uint32_t bytes);

  /// Decodes one whole block into `out`, which is empty. Work is linear in `size`; memory is bounded by `limits` and the table.
  /// After a fault the connection must end.
  HpackFault decode(const uint8_t* block, size_t size, const BlockLimits& limits, HeaderBlock* out);

  uint32_t table_size() const { return ring_.size(); }
  uint32_t table_count() const { return ring_.count(); }

 private:
  struct Cursor;
  HpackFault update_size(Cursor* in, bool at_begin);
  HpackFault indexed(Cursor* in, HeaderBlock* out);
  HpackFault literal(Cursor* in, HeaderBlock* out);
  InternedField* lookup(uint32_t index) const;
  void add(InternedField* field);
  bool admit(uint64_t size, HeaderBlock* out) const;

  InternTable* table_;
  FieldRing ring_;
  /// What the peer may set its table to.
  uint32_t limit_ = 4096;
  /// The lowest limit since the last block, if the peer must follow it; UINT32_MAX: none.
  uint32_t update_owed_ = UINT32_MAX;
  BlockLimits limits_;
};

}  // namespace weft::http2
