// HPACK decoding (RFC 7541): one direction of one connection. Turns a field block into a HeaderBlock and keeps the dynamic table in step.
// Checks only the compression; what the fields may be is checked in header_block.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/http2/field_ring.h"
#include "core/http2/frame.h"
#include "core/http2/header_block.h"
#include "core/http2/literal_memory.h"

namespace weft::http2 {

/// Errors of the whole connection (RFC 9113 4.3). The name is a metric label and the GOAWAY's debug data.
#define WEFT_HTTP2_HPACK_FAULTS(X)                                      \
  X(None, "none", NoError)                                              \
  X(Truncated, "hpack_truncated", CompressionError)                     \
  X(Integer, "hpack_integer", CompressionError)                         \
  X(Index, "hpack_index", CompressionError)                             \
  X(Huffman, "hpack_huffman", CompressionError)                         \
  X(TableSizeTooLarge, "hpack_table_size_too_large", CompressionError)  \
  X(TableSizeMisplaced, "hpack_table_size_misplaced", CompressionError) \
  X(TableSizeMissing, "hpack_table_size_missing", CompressionError)     \
  X(Bomb, "hpack_bomb", EnhanceYourCalm)

enum class HpackFault : uint8_t {
#define WEFT_X(name, text, code) k##name,
  WEFT_HTTP2_HPACK_FAULTS(WEFT_X)
#undef WEFT_X
      kCount,
};
const char* hpack_fault_name(HpackFault fault);
ErrorCode hpack_fault_code(HpackFault fault);

class HpackDecoder {
 public:
  /// A list this many times its limit is an attack (kBomb): few bytes can name the same long line again and again.
  static constexpr uint64_t kBombFactor = 8;

  explicit HpackDecoder(InternTable* table) : table_(table), ring_(table, 4096), literals_(table) {}

  /// The peer has acknowledged our SETTINGS_HEADER_TABLE_SIZE. If that is less than its table now, its next block must begin with an
  /// update.
  void set_limit(uint32_t bytes);

  /// Decodes one whole block into `out`, which is empty. Work is linear in `size` and
  /// the list's limit; memory is bounded by that and the table.
  /// After a fault the connection must end.
  HpackFault decode(const uint8_t* block, size_t size, const BlockLimits& limits, HeaderBlock* out);

  uint32_t table_size() const { return ring_.size(); }
  uint32_t table_count() const { return ring_.count(); }

 private:
  struct Cursor;
  HpackFault update_size(Cursor* in);
  HpackFault indexed(Cursor* in, HeaderBlock* out);
  HpackFault literal(Cursor* in, HeaderBlock* out);
  InternedField* lookup(uint32_t index) const;
  HpackFault take(InternedField* field, bool fresh, HeaderBlock* out);
  void add(InternedField* field);
  bool admit(HeaderBlock* out) const;
  bool is_bomb(uint64_t more, const HeaderBlock& out) const;

  InternTable* table_;
  FieldRing ring_;
  LiteralMemory literals_;
  /// What the peer may set its table to.
  uint32_t limit_ = 4096;
  /// The lowest limit since the last block, if the peer must follow it; UINT32_MAX: none.
  uint32_t update_owed_ = UINT32_MAX;
  BlockLimits limits_;
};

}  // namespace weft::http2
