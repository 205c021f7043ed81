// What the writers of field blocks share: text lines as fields, joined fields, bounds.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/http1/ascii.h"
#include "core/http2/hpack_encoder.h"
#include "core/http2/transcode.h"

namespace weft::http2 {

/// Table size updates, pseudo-header fields of our own and content-length, without the texts that vary.
inline constexpr size_t kFixedBound = 256;

/// A line "a: b" CRLF takes more as a field: the encoder's overhead instead of ": " and CRLF. No line is shorter than 4 bytes.
constexpr size_t lines_bound(std::string_view lines) { return lines.size() * (HpackEncoder::kMaxFieldOverhead / 4 + 1); }
/// A field that is held interned; null: none.
inline size_t field_bound(const InternedField* field) { return field == nullptr ? 0 : field->hpack_size(); }
static_assert(HpackEncoder::kMaxFieldOverhead <= 32, "hpack_size() counts 32 bytes beside name and value");
/// What options may add.
size_t options_bound(const ForwardOptions& options);

/// Calls visit(name, value) for each line; names as they stand, values trimmed.
template <typename Visit>
void for_each_line(std::string_view lines, Visit visit) {
  while (!lines.empty()) {
    const size_t end = std::min(lines.find("\r\n"), lines.size());
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(std::min(end + 2, lines.size()));
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0) continue;
    visit(line.substr(0, colon), http1::trim(line.substr(colon + 1)));
  }
}

/// Names in any case. Lines that are this hop's alone are left out.
uint8_t* write_lines(std::string_view lines, Indexing indexing, HpackEncoder* encoder, uint8_t* out);
/// Name in any case.
uint8_t* write_field(std::string_view name, std::string_view value, Indexing indexing, HpackEncoder* encoder, uint8_t* out);
uint8_t* write_status(int status, HpackEncoder* encoder, uint8_t* out);
uint8_t* write_length(uint64_t length, HpackEncoder* encoder, uint8_t* out);
/// x-forwarded-proto, the lines of the options and of their mutations.
uint8_t* write_additions(const ForwardOptions& options, HpackEncoder* encoder, uint8_t* out);

/// One field of the values of several.
class JoinedField {
 public:
  JoinedField(std::string_view name, std::string_view separator) : name_(name), separator_(separator) {}
  /// The view must stay valid. Empty ones are left out.
  void add(std::string_view value) {
    if (!value.empty() && count_ < http1::kMaxFields) values_[count_++] = value;
  }
  /// Ends with `last`. Alone it goes into the table: it is the same for the whole connection.
  uint8_t* write(std::string_view last, HpackEncoder* encoder, uint8_t* out) const;

 private:
  std::string_view name_;
  std::string_view separator_;
  size_t count_ = 0;
  std::array<std::string_view, http1::kMaxFields> values_;
};

}  // namespace weft::http2
