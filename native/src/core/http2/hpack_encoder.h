// HPACK encoding (RFC 7541): one direction of one connection. Fields written in one block are decoded in that order, so a block that was
// begun must be sent. Decides only the representation; what a message consists of is decided in transcode.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "core/http2/field_ring.h"
#include "core/http2/header_block.h"

namespace weft::http2 {

enum class Indexing : uint8_t {
  /// Into the table (RFC 7541 6.2.1), if it fits and has been met before.
  kAllowed,
  /// RFC 7541 6.2.2.
  kNone,
  /// RFC 7541 6.2.3, 7.1: secrets.
  kNever,
};

class HpackEncoder {
 public:
  /// Our own bound on the table, whatever the peer allows: it is memory per connection.
  static constexpr uint32_t kMaxTableSize = 4096;
  /// What begin() may write.
  static constexpr size_t kMaxBeginBytes = 12;
  /// What write() of a field takes at most: this plus name and value.
  static constexpr size_t kMaxFieldOverhead = 16;

  explicit HpackEncoder(InternTable* table) : table_(table), ring_(table, kMaxTableSize) {}

  /// The peer's SETTINGS_HEADER_TABLE_SIZE; before our ACK goes out.
  void set_peer_limit(uint32_t bytes);

  // Each writes at `out` and returns the end.
  /// First of every block: table size updates that are due.
  uint8_t* begin(uint8_t* out);
  /// A field as it was received: indexed stays indexed, never indexed stays never indexed, Huffman-encoded goes over as it is.
  uint8_t* write(const HeaderBlock& block, const HeaderField& field, uint8_t* out) {
    return field.interned != nullptr ? write_interned(field.interned, field.fresh, out) : write_own(block, field, out);
  }
  /// A line that is held interned. `fresh`: met for the first time, so not put into the table.
  uint8_t* write_interned(InternedField* field, bool fresh, uint8_t* out);
  /// Text of our own, not Huffman-encoded. kAllowed interns it: for what comes again. `name` in lower case.
  uint8_t* write_text(std::string_view name, std::string_view value, Indexing indexing, uint8_t* out);
  /// RFC 7541 6.1 of the static table (":method: GET" is 2, …).
  uint8_t* write_static(uint8_t index, uint8_t* out) {
    *out = static_cast<uint8_t>(0x80 | index);
    return out + 1;
  }

  uint32_t table_size() const { return ring_.size(); }
  uint32_t table_count() const { return ring_.count(); }

 private:
  uint8_t* write_own(const HeaderBlock& block, const HeaderField& field, uint8_t* out);
  /// Not inline: most lines are in the table, and need none of its registers.
  [[gnu::noinline]] uint8_t* write_new(InternedField* field, bool fresh, uint8_t* out);
  /// HPACK index of the line in the dynamic table; 0: not there.
  uint32_t find(const InternedField* field) const;
  void add(InternedField* field);
  void drop_oldest();
  void place(const InternedField* field, uint32_t number);
  void grow_index();

  InternTable* table_;
  FieldRing ring_;
  /// line → its number in the ring, modulo 128 and plus 1 (0: empty): open addressing, a power of two, at most half full.
  std::unique_ptr<uint8_t[]> index_;
  uint32_t index_mask_ = 0;
  /// Size updates to announce in the next block (RFC 7541 4.2): the smallest since the last one, then the last.
  uint32_t smallest_pending_ = 0;
  bool update_pending_ = false;
};

}  // namespace weft::http2
