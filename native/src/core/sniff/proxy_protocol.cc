// See proxy_protocol.h.
#include "core/sniff/proxy_protocol.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string_view>

namespace weft {

namespace {

constexpr uint8_t kSignature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
constexpr size_t kFixedBytes = 16;
constexpr std::string_view kV1Begin = "PROXY ";

void set_v4(const uint8_t* bytes, Address* out) {
  out->bytes = {};
  out->bytes[10] = out->bytes[11] = 0xff;
  memcpy(out->bytes.data() + 12, bytes, 4);
}

uint16_t port_at(const uint8_t* bytes) { return static_cast<uint16_t>(bytes[0] << 8 | bytes[1]); }

ProxyStatus parse_v2(const uint8_t* bytes, size_t size, ProxyHeader* out) {
  if (size < kFixedBytes) return ProxyStatus::kIncomplete;
  const uint8_t command = bytes[12] & 0x0f;
  if (bytes[12] >> 4 != 2 || command > 1) return ProxyStatus::kInvalid;
  const size_t length = port_at(bytes + 14);
  if (kFixedBytes + length > kMaxProxyHeaderV2) return ProxyStatus::kTooLong;
  if (size < kFixedBytes + length) return ProxyStatus::kIncomplete;
  out->size = kFixedBytes + length;
  const uint8_t* at = bytes + kFixedBytes;
  const uint8_t family = bytes[13] >> 4;
  const bool is_stream = (bytes[13] & 0x0f) == 1;
  // LOCAL, and families without addresses of ours: the socket's hold.
  out->is_local = command == 0 || !is_stream || (family != 1 && family != 2);
  if (out->is_local) return ProxyStatus::kComplete;
  if (family == 1) {
    if (length < 12) return ProxyStatus::kInvalid;
    set_v4(at, &out->source.address);
    set_v4(at + 4, &out->destination.address);
    out->source.port = port_at(at + 8);
    out->destination.port = port_at(at + 10);
  } else {
    if (length < 36) return ProxyStatus::kInvalid;
    memcpy(out->source.address.bytes.data(), at, 16);
    memcpy(out->destination.address.bytes.data(), at + 16, 16);
    out->source.port = port_at(at + 32);
    out->destination.port = port_at(at + 34);
  }
  return ProxyStatus::kComplete;
}

// The next word, ended by one space or by the end.
std::string_view next_word(std::string_view* text) {
  const size_t end = std::min(text->find(' '), text->size());
  const std::string_view word = text->substr(0, end);
  text->remove_prefix(std::min(end + 1, text->size()));
  return word;
}

// Decimal without leading zeros, up to 65535.
bool read_port(std::string_view text, uint16_t* out) {
  if (text.empty() || text.size() > 5 || (text.size() > 1 && text[0] == '0')) return false;
  uint32_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    value = value * 10 + static_cast<uint32_t>(c - '0');
  }
  *out = static_cast<uint16_t>(value);
  return value <= UINT16_MAX;
}

bool read_text_address(int family, std::string_view text, Address* out) {
  char zeroed[INET6_ADDRSTRLEN] = {};
  uint8_t bytes[16];
  if (text.empty() || text.size() >= sizeof(zeroed)) return false;
  memcpy(zeroed, text.data(), text.size());
  if (inet_pton(family, zeroed, bytes) != 1) return false;
  if (family == AF_INET) {
    set_v4(bytes, out);
  } else {
    memcpy(out->bytes.data(), bytes, 16);
  }
  return true;
}

bool parse_v1_line(std::string_view line, ProxyHeader* out) {
  const std::string_view protocol = next_word(&line);
  // What follows UNKNOWN is to be ignored.
  if (protocol == "UNKNOWN") return out->is_local = true;
  if (protocol != "TCP4" && protocol != "TCP6") return false;
  const int family = protocol == "TCP4" ? AF_INET : AF_INET6;
  const std::string_view source = next_word(&line);
  const std::string_view destination = next_word(&line);
  const std::string_view source_port = next_word(&line);
  return read_text_address(family, source, &out->source.address) && read_text_address(family, destination, &out->destination.address) &&
         read_port(source_port, &out->source.port) && read_port(line, &out->destination.port);
}

ProxyStatus parse_v1(const uint8_t* bytes, size_t size, ProxyHeader* out) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), std::min(size, kMaxProxyHeaderV1));
  const size_t end = text.find('\n');
  if (end == std::string_view::npos) {
    if (text.size() == kMaxProxyHeaderV1) return ProxyStatus::kInvalid;
    // A CR is the last byte but one.
    const size_t cr = text.find('\r');
    return cr != std::string_view::npos && cr + 1 != text.size() ? ProxyStatus::kInvalid : ProxyStatus::kIncomplete;
  }
  // The first CR, too: what UNKNOWN lets be ignored holds no line end.
  if (end < kV1Begin.size() + 1 || text.find('\r') != end - 1) return ProxyStatus::kInvalid;
  out->size = end + 1;
  const std::string_view line = text.substr(kV1Begin.size(), end - 1 - kV1Begin.size());
  return parse_v1_line(line, out) ? ProxyStatus::kComplete : ProxyStatus::kInvalid;
}

void put_port(uint16_t port, uint8_t* out) {
  out[0] = static_cast<uint8_t>(port >> 8);
  out[1] = static_cast<uint8_t>(port);
}

size_t write_v1(const Peer& source, const Peer& destination, uint8_t* out) {
  auto* text = reinterpret_cast<char*>(out);
  // Of two families both are written as IPv6, as in version 2: UNKNOWN would have the server take us for its client.
  const bool v4 = is_mapped(source.address) && is_mapped(destination.address);
  char from[INET6_ADDRSTRLEN];
  char to[INET6_ADDRSTRLEN];
  const int family = v4 ? AF_INET : AF_INET6;
  inet_ntop(family, source.address.bytes.data() + (v4 ? 12 : 0), from, sizeof(from));
  inet_ntop(family, destination.address.bytes.data() + (v4 ? 12 : 0), to, sizeof(to));
  return static_cast<size_t>(
      snprintf(text, kProxyHeaderCapacity, "PROXY TCP%c %s %s %u %u\r\n", v4 ? '4' : '6', from, to, source.port, destination.port));
}

size_t write_v2(const Peer& source, const Peer& destination, uint8_t* out) {
  const bool v4 = is_mapped(source.address) && is_mapped(destination.address);
  const size_t address = v4 ? 4 : 16;
  memcpy(out, kSignature, sizeof(kSignature));
  out[12] = 0x21;
  out[13] = v4 ? 0x11 : 0x21;
  out[14] = 0;
  out[15] = static_cast<uint8_t>(2 * address + 4);
  uint8_t* at = out + kFixedBytes;
  memcpy(at, source.address.bytes.data() + 16 - address, address);
  memcpy(at + address, destination.address.bytes.data() + 16 - address, address);
  put_port(source.port, at + 2 * address);
  put_port(destination.port, at + 2 * address + 2);
  return kFixedBytes + 2 * address + 4;
}

}  // namespace

ProxyStatus parse_proxy_header(const uint8_t* bytes, size_t size, ProxyHeader* out) {
  *out = {};
  if (size == 0) return ProxyStatus::kIncomplete;
  if (memcmp(bytes, kSignature, std::min(size, sizeof(kSignature))) == 0) return parse_v2(bytes, size, out);
  if (memcmp(bytes, kV1Begin.data(), std::min(size, kV1Begin.size())) == 0) return parse_v1(bytes, size, out);
  return ProxyStatus::kAbsent;
}

size_t write_proxy_header(ProxyVersion version, const Peer& source, const Peer& destination, uint8_t* out) {
  return version == ProxyVersion::kV1 ? write_v1(source, destination, out) : write_v2(source, destination, out);
}

}  // namespace weft
