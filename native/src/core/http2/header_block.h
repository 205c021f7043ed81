// One decoded field block: the list of fields, each an interned line or text of its own, and the checks of RFC 9113 8.2 and 8.3 over it.
// Self-contained: holds its references and bytes, so it may be moved into whatever outlives the tick (a request kept for a retry).
// Does not decode (hpack_decoder.h) and writes nothing (transcode.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "core/http2/intern_table.h"
#include "core/recycled.h"

namespace weft::http2 {

struct HeaderField {
  /// The whole line; null: name and value stand in the block's bytes, and only then the next five mean anything.
  InternedField* interned;
  uint32_t name_at;
  uint32_t name_size;
  uint32_t value_at;
  uint32_t value_size;
  /// The value as it came Huffman-encoded, where that is shorter; it stands behind the value. 0: there is none.
  uint32_t encoded_size;
  FieldTraits traits;
  /// RFC 7541 6.2.3: never to be put into a table, by any hop.
  bool never_indexed;
  /// First sight of this line in this worker: not worth an entry in the next hop's table yet.
  bool fresh;
};

class HeaderBlock {
 public:
  explicit HeaderBlock(InternTable* table) : table_(table) {}
  HeaderBlock(HeaderBlock&& other) noexcept { take(&other); }
  HeaderBlock& operator=(HeaderBlock&& other) noexcept {
    if (this != &other) {
      clear();
      take(&other);
    }
    return *this;
  }
  ~HeaderBlock() { clear(); }

  const HeaderField* begin() const { return fields_; }
  const HeaderField* end() const { return fields_ + count_; }
  size_t size() const { return count_; }
  bool empty() const { return count_ == 0; }
  InternTable* table() const { return table_; }

  // Valid until the block is cleared or added to; moving it does no harm.
  std::string_view name(const HeaderField& field) const {
    return field.interned != nullptr ? field.interned->name() : std::string_view(bytes_ + field.name_at, field.name_size);
  }
  std::string_view value(const HeaderField& field) const {
    return field.interned != nullptr ? field.interned->value() : std::string_view(bytes_ + field.value_at, field.value_size);
  }
  std::string_view encoded_value(const HeaderField& field) const {
    if (field.interned != nullptr) return field.interned->encoded_value();
    return {bytes_ + field.value_at + field.value_size, field.encoded_size};
  }

  /// First field of that name (lower case); null if there is none.
  const HeaderField* find(std::string_view name) const;
  const HeaderField* find(http1::KnownHeader known) const;
  const HeaderField* find(Pseudo pseudo) const;
  /// Of what find() finds; empty if that is nothing.
  template <typename Wanted>
  std::string_view value_of(Wanted wanted) const {
    const HeaderField* field = find(wanted);
    return field != nullptr ? value(*field) : std::string_view();
  }

  /// RFC 9113 6.5.2: names, values and 32 for each. Counts what was left off too.
  uint64_t list_size() const { return list_size_; }
  /// The decoder left fields off, as a limit was passed; the checks say which.
  bool is_truncated() const { return too_many_ || too_long_; }

  // For the decoder, and for those who make blocks. Nothing is checked here; see check_*().
  /// Releases everything but the usual memory.
  void clear();
  /// Takes over one reference.
  void add_interned(InternedField* field, bool fresh) {
    HeaderField* added = push();
    added->interned = field;
    added->traits = field->traits();
    added->never_indexed = false;
    added->fresh = fresh;
  }
  /// Memory for `bytes` of text behind what there is; valid until the next call. add_text() makes it part of the block.
  char* text_room(size_t bytes) {
    if (bytes_used_ + bytes > bytes_capacity_) grow_bytes(bytes);
    return bytes_ + bytes_used_;
  }
  /// The text stands in text_room(): name, value, encoded value, without gaps.
  void add_text(uint32_t name_size, uint32_t value_size, uint32_t encoded_size, const FieldTraits& traits, bool never_indexed);
  void count_size(uint64_t bytes) { list_size_ += bytes; }
  void mark_too_many() { too_many_ = true; }
  void mark_too_long() { too_long_ = true; }
  bool too_many() const { return too_many_; }
  bool too_long() const { return too_long_; }

 private:
  /// What nearly every block has room in: one piece, that comes back with the next block.
  struct Usual : Recycled<Usual> {
    static constexpr size_t kFields = 24;
    static constexpr size_t kBytes = 1024;
    alignas(HeaderField) char fields[kFields * sizeof(HeaderField)];
    char bytes[kBytes];
  };

  HeaderField* push() {
    if (count_ == capacity_) grow_fields();
    return &fields_[count_++];
  }
  void take_usual();
  void grow_fields();
  void grow_bytes(size_t bytes);
  void take(HeaderBlock* other);

  InternTable* table_ = nullptr;
  std::unique_ptr<Usual> usual_;
  /// In `usual_` or, where that is too small, in memory of their own.
  HeaderField* fields_ = nullptr;
  char* bytes_ = nullptr;
  std::unique_ptr<HeaderField[]> more_fields_;
  std::unique_ptr<char[]> more_bytes_;
  size_t count_ = 0;
  size_t capacity_ = 0;
  size_t bytes_used_ = 0;
  size_t bytes_capacity_ = 0;
  uint64_t list_size_ = 0;
  bool too_many_ = false;
  bool too_long_ = false;
};

/// What a decoded block may be. Beyond it a block is decoded on (the HPACK tables must stay in step) but no longer stored.
struct BlockLimits {
  /// Our SETTINGS_MAX_HEADER_LIST_SIZE.
  uint32_t max_list_bytes = 32 * 1024;
  /// At most http1::kMaxFields.
  uint32_t max_fields = 100;
};

/// Why a block was refused. All are errors of the stream: with a status it may be answered (a request), else reset with PROTOCOL_ERROR.
/// A refused response is a 502 for the client. (What HPACK refuses is an error of the connection: HpackFault.)
#define WEFT_HTTP2_BLOCK_ERRORS(X)                              \
  X(None, "none", 0)                                            \
  X(TooManyFields, "too_many_fields", 431)                      \
  X(ListTooLong, "list_too_long", 431)                          \
  X(FieldName, "field_name", 0)                                 \
  X(FieldValue, "field_value", 0)                               \
  X(ConnectionSpecific, "connection_specific", 0)               \
  X(PseudoUnknown, "pseudo_unknown", 0)                         \
  X(PseudoRepeated, "pseudo_repeated", 0)                       \
  X(PseudoMisplaced, "pseudo_misplaced", 0)                     \
  X(PseudoMissing, "pseudo_missing", 0)                         \
  X(PseudoNotAllowed, "pseudo_not_allowed", 0)                  \
  X(Method, "method", 0)                                        \
  X(Scheme, "scheme", 0)                                        \
  X(Path, "path", 0)                                            \
  X(AuthorityMissing, "authority_missing", 0)                   \
  X(AuthoritySyntax, "authority_syntax", 0)                     \
  X(HostRepeated, "host_repeated", 0)                           \
  X(HostDiffers, "host_differs", 0)                             \
  X(ContentLengthSyntax, "content_length_syntax", 0)            \
  X(ContentLengthRepeated, "content_length_repeated", 0)        \
  X(ContentLengthWithoutBody, "content_length_without_body", 0) \
  X(Status, "status", 0)                                        \
  X(ExpectUnsupported, "expect_unsupported", 417)

enum class BlockError : uint8_t {
#define WEFT_X(name, text, status) k##name,
  WEFT_HTTP2_BLOCK_ERRORS(WEFT_X)
#undef WEFT_X
      kCount,
};
const char* block_error_name(BlockError error);
/// 0: reset the stream.
int block_error_status(BlockError error);

/// Common to requests and responses. Views are into the block.
struct MessageSummary {
  /// http1::known_bit() of every known header that occurs, and of those that occur more than once.
  uint64_t present = 0;
  uint64_t repeated = 0;
  bool has_content_length = false;
  uint64_t content_length = 0;

  bool has(http1::KnownHeader header) const { return (present & http1::known_bit(header)) != 0; }
};

struct RequestSummary : MessageSummary {
  /// GET of an extended CONNECT, as which HTTP/1 asks for the same: routes and logs tell them not apart.
  http1::Method method = http1::Method::kOther;
  /// OPTIONS *.
  bool is_asterisk = false;
  bool has_query = false;
  bool path_is_ambiguous = false;
  bool expects_continue = false;
  /// RFC 8441: CONNECT with :protocol (the only CONNECT that has a path).
  bool is_extended_connect = false;
  /// RFC 9113 8.5: has neither scheme nor path.
  bool is_plain_connect() const { return method == http1::Method::kConnect; }
  std::string_view method_token;
  std::string_view scheme;
  /// From :authority, else Host; never empty.
  std::string_view authority;
  /// :path as sent; empty for plain CONNECT.
  std::string_view target;
  /// Without the query.
  std::string_view path;
  std::string_view query;
  std::string_view protocol;
  /// The fields these came from; null: absent. authority_field may be Host's.
  const HeaderField* authority_field = nullptr;
  const HeaderField* path_field = nullptr;
  const HeaderField* method_field = nullptr;
};

struct ResponseSummary : MessageSummary {
  /// 100 to 599 but never 101 (RFC 9113 8.6).
  int status = 0;
  bool is_interim() const { return status < 200; }
};

/// RFC 9113 8.3.1, 8.1.1 (a content-length above 0 with `end_stream` is malformed), RFC 8441 (`extended_connect`: we announced it).
BlockError check_request(const HeaderBlock& block, bool end_stream, bool extended_connect, RequestSummary* summary);
/// RFC 9113 8.3.2. Of HEAD and 304 a content-length means no body; the caller compares lengths.
BlockError check_response(const HeaderBlock& block, ResponseSummary* summary);
/// RFC 9113 8.1: no pseudo-header fields; framing and routing fields (RFC 9110 6.5.1) are refused as in HTTP/1.
BlockError check_trailers(const HeaderBlock& block);

}  // namespace weft::http2
