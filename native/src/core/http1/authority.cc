// Syntax of an authority (Host, and the host part of an absolute-form target).
#include <arpa/inet.h>

#include <array>
#include <cstring>

#include "core/http1/ascii.h"
#include "core/http1/head.h"

namespace weft::http1 {
namespace {

/// 253 of a DNS name, a dot, ":65535".
constexpr size_t kMaxAuthority = 260;

constexpr std::array<bool, 256> make_name_bytes() {
  std::array<bool, 256> allowed{};
  for (unsigned c = 0; c < 256; c++) {
    allowed[c] = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_' || c == '~';
  }
  return allowed;
}
constexpr std::array<bool, 256> kNameBytes = make_name_bytes();

bool is_ipv6(std::string_view text) {
  char copy[INET6_ADDRSTRLEN];
  if (text.empty() || text.size() >= sizeof(copy)) return false;
  memcpy(copy, text.data(), text.size());
  copy[text.size()] = 0;
  in6_addr address;
  return memchr(copy, 0, text.size()) == nullptr && inet_pton(AF_INET6, copy, &address) == 1;
}

/// `text` begins with ":"; the number may be absent (RFC 3986 3.2.3).
bool is_port(std::string_view text) {
  if (text[0] != ':' || text.size() > 6) return false;
  unsigned port = 0;
  for (const char c : text.substr(1)) {
    if (!is_digit(static_cast<unsigned char>(c))) return false;
    port = port * 10 + static_cast<unsigned>(c - '0');
  }
  return port <= 65535;
}

}  // namespace

bool is_valid_authority(std::string_view authority) {
  if (authority.empty() || authority.size() > kMaxAuthority) return false;
  size_t end;
  if (authority[0] == '[') {
    const size_t bracket = authority.find(']');
    if (bracket == std::string_view::npos || !is_ipv6(authority.substr(1, bracket - 1))) return false;
    end = bracket + 1;
  } else {
    end = 0;
    while (end < authority.size() && kNameBytes[static_cast<unsigned char>(authority[end])]) end++;
    if (end == 0) return false;
  }
  return end == authority.size() || is_port(authority.substr(end));
}

bool is_connect_authority(std::string_view authority) {
  if (!is_valid_authority(authority)) return false;
  const size_t bracket = authority.find(']');
  const size_t colon = authority.find(':', bracket == std::string_view::npos ? 0 : bracket);
  return colon != std::string_view::npos && authority.find_first_not_of('0', colon + 1) != std::string_view::npos;
}

}  // namespace weft::http1
