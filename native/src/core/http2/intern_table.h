// Field lines (name and value) that a worker has met, each stored once: HPACK's tables, decoded blocks and encoders hold references to
// them, so that an indexed field in becomes an indexed field out without its bytes being touched. What is checked or looked up about a
// line is kept on it. One table a worker thread; not thread-safe. Knows neither wire formats nor connections.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/http1/head.h"

namespace weft::http2 {

/// RFC 9113 8.3, 8.4 and RFC 8441 4. The order is the bit in HeaderBlock's masks.
enum class Pseudo : uint8_t { kNone, kMethod, kScheme, kAuthority, kPath, kProtocol, kStatus, kUnknown };

/// Bits of what is known of a field line.
enum FieldFlag : uint8_t {
  /// The name is empty, has upper case or a byte that no token has (RFC 9113 8.2.1).
  kFieldBadName = 1,
  /// The value has a control byte other than HTAB, or white space around it (RFC 9113 8.2.1), or is not what its name asks for.
  kFieldBadValue = 2,
  /// RFC 9113 8.2.2: connection-specific, or TE other than "trailers".
  kFieldConnectionSpecific = 4,
  kFieldCookie = 8,
  /// :path with what two implementations may read differently; see http1::RequestHead::path_is_ambiguous.
  kFieldAmbiguousPath = 16,
};

/// What was found about name and value, in either form. `flags` are FieldFlags.
struct FieldTraits {
  http1::KnownHeader known = http1::KnownHeader::kOther;
  Pseudo pseudo = Pseudo::kNone;
  uint8_t flags = 0;
  /// Static table index (RFC 7541 A) of an entry with this name; 0: none.
  uint8_t static_name = 0;
};
/// What the name says: no flags of values.
FieldTraits name_traits(std::string_view name);
/// Of a line's traits what its name says.
FieldTraits name_only(FieldTraits traits);
/// HPACK's static table index of an entry with this name; 0: none.
uint8_t static_name_index(std::string_view name);
/// Adds what the value says to its name's traits. Values of :method, :scheme, :authority, :path, :status, Host and Content-Length are
/// checked for their own syntax too (kFieldBadValue).
FieldTraits with_value(FieldTraits name, std::string_view value);

/// What lookup tables said of a line. Valid for the tables whose Tables::serial() it names; see match.h.
struct MatchCache {
  uint64_t tables_serial = 0;
  /// :authority and host: the host id. :path: the path id.
  int32_t id = -1;
  bool exact = false;
  /// Index of the predicate name that this header is, and the first predicate that its value (also a method, a path) fulfils; -1: none.
  int32_t predicate_name = -1;
  int32_t predicate = -1;
};

class InternedField {
 public:
  std::string_view name() const { return {bytes(), name_size_}; }
  std::string_view value() const { return {bytes() + name_size_, value_size_}; }
  /// The value as it came Huffman-encoded, where that is shorter; else empty.
  std::string_view encoded_value() const { return {bytes() + name_size_ + value_size_, encoded_size_}; }
  const FieldTraits& traits() const { return traits_; }
  /// Index in HPACK's static table of exactly this line; 0: it is not there.
  uint8_t static_index() const { return static_index_; }
  /// RFC 7541 4.1.
  uint32_t hpack_size() const { return name_size_ + value_size_ + 32; }
  uint32_t references() const { return references_; }
  /// May be filled by whoever looks the line up; the line itself never changes.
  MatchCache& match_cache() const { return match_cache_; }

 private:
  friend class InternTable;
  InternedField() = default;
  const char* bytes() const { return reinterpret_cast<const char*>(this + 1); }

  uint64_t hash_ = 0;
  InternedField* next_in_bucket_ = nullptr;
  /// Among those without references, least recently released first.
  InternedField* older_ = nullptr;
  InternedField* newer_ = nullptr;
  uint32_t references_ = 0;
  uint32_t name_size_ = 0;
  uint32_t value_size_ = 0;
  uint32_t encoded_size_ = 0;
  FieldTraits traits_;
  uint8_t static_index_ = 0;
  mutable MatchCache match_cache_;
};

struct InternLimits {
  /// Of lines that nobody refers to, kept because they may come again. What is referred to is bounded by the holders: connections times
  /// the size of their HPACK tables, and blocks in flight.
  size_t max_unreferenced = 8192;
  size_t max_unreferenced_bytes = 2u << 20;
};

struct Interned {
  InternedField* field = nullptr;
  /// It was not there before.
  bool fresh = false;
};

class InternTable {
 public:
  static constexpr uint32_t kStaticFields = 61;

  explicit InternTable(const InternLimits& limits = {});
  ~InternTable();
  InternTable(const InternTable&) = delete;
  InternTable& operator=(const InternTable&) = delete;

  /// The line, with one reference that is the caller's. `encoded_value` (may be empty) is kept if the line is new.
  Interned intern(std::string_view name, std::string_view value, std::string_view encoded_value = {});
  /// Index 1 to kStaticFields; these live as long as the table; references count as on others.
  InternedField* static_field(uint32_t index) const { return static_[index]; }

  void retain(InternedField* field) {
    if (field->references_++ == 0) unlink(field);
  }
  /// The line may be gone afterwards.
  void release(InternedField* field) {
    if (--field->references_ == 0) keep_unreferenced(field);
  }

  // All but the static lines.
  size_t size() const { return count_; }
  size_t bytes() const { return bytes_; }
  size_t unreferenced() const { return unreferenced_; }
  size_t unreferenced_bytes() const { return unreferenced_bytes_; }
  /// Forgotten to make room, since the start.
  uint64_t evictions() const { return evictions_; }

 private:
  InternedField* create(std::string_view name, std::string_view value, std::string_view encoded_value, uint64_t hash);
  void unlink(InternedField* field);
  void keep_unreferenced(InternedField* field);
  void forget(InternedField* field);
  void grow();

  InternLimits limits_;
  std::vector<InternedField*> buckets_;
  InternedField* static_[kStaticFields + 1] = {};
  InternedField* oldest_ = nullptr;
  InternedField* newest_ = nullptr;
  size_t count_ = 0;
  size_t bytes_ = 0;
  size_t unreferenced_ = 0;
  size_t unreferenced_bytes_ = 0;
  uint64_t evictions_ = 0;
};

}  // namespace weft::http2
