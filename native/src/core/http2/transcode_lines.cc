// See transcode_lines.h.
#include "core/http2/transcode_lines.h"

#include <charconv>
#include <cstring>
#include <string>

#include "core/http2/hpack_integer.h"

namespace weft::http2 {
namespace {

/// Names longer than this are lowered in memory of their own.
constexpr size_t kUsualName = 128;

uint8_t* write_raw(std::string_view text, uint8_t* out) {
  if (!text.empty()) memcpy(out, text.data(), text.size());
  return out + text.size();
}

/// RFC 7541 6.2.2, with a literal name: for names that no table has.
uint8_t* write_new_field(std::string_view name, std::string_view value, uint8_t* out) {
  out = write_integer(0, 4, 0, out);
  out = write_raw(name, write_integer(0, 7, static_cast<uint32_t>(name.size()), out));
  return write_raw(value, write_integer(0, 7, static_cast<uint32_t>(value.size()), out));
}

bool is_hop_by_hop(std::string_view name) {
  const http1::KnownHeader known = http1::known_header(name);
  return known != http1::KnownHeader::kOther && (http1::kHopByHop & http1::known_bit(known)) != 0;
}

}  // namespace

size_t options_bound(const ForwardOptions& options) {
  const size_t mutations = options.mutations != nullptr ? lines_bound(options.mutations->lines()) : 0;
  return kFixedBound + options.authority.size() + options.target.size() + options.forwarded_for.size() + options.forwarded_proto.size() +
         options.request_id.size() + lines_bound(options.extra_lines) + lines_bound(options.steady_lines) + lines_bound(options.via_line) +
         field_bound(options.own[0].field) + field_bound(options.own[1].field) + mutations;
}

uint8_t* write_field(std::string_view name, std::string_view value, Indexing indexing, HpackEncoder* encoder, uint8_t* out) {
  if (name.size() > kUsualName) {
    std::string lowered(name.size(), '\0');
    http1::copy_lower(name, lowered.data());
    return encoder->write_text(lowered, value, Indexing::kNone, out);
  }
  char lowered[kUsualName];
  http1::copy_lower(name, lowered);
  return encoder->write_text({lowered, name.size()}, value, indexing, out);
}

uint8_t* write_lines(std::string_view lines, Indexing indexing, HpackEncoder* encoder, uint8_t* out) {
  for_each_line(lines, [&](std::string_view name, std::string_view value) {
    if (!is_hop_by_hop(name)) out = write_field(name, value, indexing, encoder, out);
  });
  return out;
}

uint8_t* write_status(int status, HpackEncoder* encoder, uint8_t* out) {
  const char digits[3] = {static_cast<char>('0' + status / 100), static_cast<char>('0' + status / 10 % 10),
                          static_cast<char>('0' + status % 10)};
  return encoder->write_text(":status", {digits, 3}, Indexing::kAllowed, out);
}

uint8_t* write_length(uint64_t length, HpackEncoder* encoder, uint8_t* out) {
  char digits[20];
  const auto result = std::to_chars(digits, digits + sizeof(digits), length);
  return encoder->write_text("content-length", {digits, static_cast<size_t>(result.ptr - digits)}, Indexing::kNone, out);
}

uint8_t* write_additions(const ForwardOptions& options, HpackEncoder* encoder, uint8_t* out) {
  if (!options.forwarded_proto.empty()) {
    out = encoder->write_text("x-forwarded-proto", options.forwarded_proto, Indexing::kAllowed, out);
  }
  if (!options.request_id.empty()) out = write_new_field("x-request-id", options.request_id, out);
  out = write_lines(options.via_line, Indexing::kAllowed, encoder, out);
  for (const Interned& own : options.own) {
    if (own.field != nullptr) out = encoder->write_interned(own.field, own.fresh, out);
  }
  out = write_lines(options.extra_lines, Indexing::kNone, encoder, out);
  out = write_lines(options.steady_lines, Indexing::kAllowed, encoder, out);
  if (options.mutations != nullptr) out = write_lines(options.mutations->lines(), Indexing::kAllowed, encoder, out);
  return out;
}

uint8_t* JoinedField::write(std::string_view last, HpackEncoder* encoder, uint8_t* out) const {
  if (count_ == 0) return encoder->write_text(name_, last, Indexing::kAllowed, out);
  size_t size = last.size();
  for (size_t i = 0; i < count_; i++) size += values_[i].size() + separator_.size();
  out = write_integer(0, 4, 0, out);  // RFC 7541 6.2.2, with a literal name.
  out = write_raw(name_, write_integer(0, 7, static_cast<uint32_t>(name_.size()), out));
  out = write_integer(0, 7, static_cast<uint32_t>(size), out);
  for (size_t i = 0; i < count_; i++) out = write_raw(separator_, write_raw(values_[i], out));
  return write_raw(last, out);
}

}  // namespace weft::http2
