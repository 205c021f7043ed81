// What names and values say of a field line, found once a line.
#include <array>
#include <cstring>

#include "core/http1/ascii.h"
#include "core/http1/target.h"
#include "core/http2/hpack_static.h"
#include "core/http2/intern_table.h"
#include "core/tables/byte_index.h"

namespace weft::http2 {
namespace {

using http1::KnownHeader;

constexpr std::array<bool, 256> make_name_bytes() {
  std::array<bool, 256> allowed{};
  for (unsigned c = '0'; c <= '9'; c++) allowed[c] = true;
  for (unsigned c = 'a'; c <= 'z'; c++) allowed[c] = true;
  for (const char c : std::string_view("!#$%&'*+-.^_`|~")) allowed[static_cast<unsigned char>(c)] = true;
  return allowed;
}
/// Token characters (RFC 9110 5.6.2) without upper case.
constexpr std::array<bool, 256> kNameBytes = make_name_bytes();

bool is_lower_token(std::string_view name) {
  bool good = !name.empty();
  for (const char c : name) good &= kNameBytes[static_cast<unsigned char>(c)];
  return good;
}

/// First static entry of each name.
const ByteIndex& static_names() {
  static const ByteIndex index = [] {
    ByteIndex names;
    for (uint32_t i = 0; i < kStaticTable.size(); i++) names.insert(kStaticTable[i].name, static_cast<int32_t>(i + 1));
    return names;
  }();
  return index;
}

Pseudo pseudo_of(std::string_view name) {
  if (name == ":method") return Pseudo::kMethod;
  if (name == ":path") return Pseudo::kPath;
  if (name == ":scheme") return Pseudo::kScheme;
  if (name == ":authority") return Pseudo::kAuthority;
  if (name == ":status") return Pseudo::kStatus;
  if (name == ":protocol") return Pseudo::kProtocol;
  return Pseudo::kUnknown;
}

/// RFC 9113 8.2.2, and what some servers take for it. Content-Length is framing too, but HTTP/2 has it.
bool is_connection_specific(KnownHeader known) {
  return known == KnownHeader::kConnection || known == KnownHeader::kProxyConnection || known == KnownHeader::kKeepAlive ||
         known == KnownHeader::kTransferEncoding || known == KnownHeader::kUpgrade || known == KnownHeader::kLengthLookalike ||
         known == KnownHeader::kEncodingLookalike;
}

/// As http1::is_field_value, and nothing blank around; eight bytes at a time.
bool is_clean_value(std::string_view value) {
  if (value.empty()) return true;
  if (http1::is_blank(static_cast<unsigned char>(value.front())) || http1::is_blank(static_cast<unsigned char>(value.back()))) return false;
  constexpr uint64_t ones = 0x0101010101010101ull, high = ones * 0x80;
  size_t at = 0;
  for (; at + 8 <= value.size(); at += 8) {
    uint64_t word;
    memcpy(&word, value.data() + at, sizeof(word));
    // Exact only where the high bit is clear, which is where it is asked.
    const uint64_t low7 = word & ~high;
    const uint64_t below_space = ~(low7 + ones * (0x80 - 0x20)), is_delete = low7 + ones;
    if (((below_space | is_delete) & ~word & high) == 0) continue;
    if (!http1::is_field_value(value.substr(at, 8))) return false;
  }
  return http1::is_field_value(value.substr(at));
}

/// RFC 3986 3.3 and 3.4 as far as http1 refuses too: 0x21 to 0x7e without "#"; "*" stands for itself.
bool is_path(std::string_view value) {
  if (value == "*") return true;
  bool good = !value.empty() && value[0] == '/';
  for (const char c : value) good &= c >= 0x21 && c <= 0x7e && c != '#';
  return good;
}

bool is_status(std::string_view value) {
  return value.size() == 3 && value[0] >= '1' && value[0] <= '5' && http1::is_digit(static_cast<unsigned char>(value[1])) &&
         http1::is_digit(static_cast<unsigned char>(value[2]));
}

bool is_length(std::string_view value) {
  bool good = !value.empty() && value.size() <= 18;
  for (const char c : value) good &= http1::is_digit(static_cast<unsigned char>(c));
  return good;
}

bool is_value_of(const FieldTraits& traits, std::string_view value) {
  switch (traits.pseudo) {
    case Pseudo::kMethod:
    case Pseudo::kProtocol:
      return http1::is_token(value) && value.size() <= 32;
    case Pseudo::kScheme:
      return value == "http" || value == "https";
    case Pseudo::kAuthority:
      return http1::is_valid_authority(value);
    case Pseudo::kPath:
      return is_path(value);
    case Pseudo::kStatus:
      return is_status(value);
    default:
      break;
  }
  if (traits.known == KnownHeader::kHost) return http1::is_valid_authority(value);
  if (traits.known == KnownHeader::kContentLength) return is_length(value);
  return is_clean_value(value);
}

/// What a name alone can say; TE's verdict comes with its value.
constexpr uint8_t kNameFlags = kFieldBadName | kFieldConnectionSpecific | kFieldCookie;

}  // namespace

uint8_t static_name_index(std::string_view name) {
  const int32_t index = static_names().find(name);
  return index > 0 ? static_cast<uint8_t>(index) : 0;
}

FieldTraits name_only(FieldTraits traits) {
  traits.flags &= kNameFlags;
  if (traits.known == KnownHeader::kTe) traits.flags = 0;
  return traits;
}

FieldTraits name_traits(std::string_view name) {
  FieldTraits traits;
  traits.static_name = static_name_index(name);
  if (!name.empty() && name[0] == ':') {
    traits.pseudo = pseudo_of(name);
    return traits;
  }
  if (!is_lower_token(name)) {
    traits.flags = kFieldBadName;
    return traits;
  }
  traits.known = http1::known_header(name);
  if (is_connection_specific(traits.known)) traits.flags |= kFieldConnectionSpecific;
  if (name == "cookie") traits.flags |= kFieldCookie;
  return traits;
}

FieldTraits with_value(FieldTraits name, std::string_view value) {
  if (!is_value_of(name, value)) name.flags |= kFieldBadValue;
  if (name.known == KnownHeader::kTe && !http1::equals_lower(value, "trailers")) name.flags |= kFieldConnectionSpecific;
  if (name.pseudo == Pseudo::kPath && http1::path_is_ambiguous(value.substr(0, value.find('?')))) name.flags |= kFieldAmbiguousPath;
  return name;
}

}  // namespace weft::http2
