// Base64 and SHA-1, of the sizes that the handshake needs. SHA-1 is no protection here, only what RFC 6455 asks for.
#include "core/http2/websocket.h"

#include <cstddef>
#include <cstring>
#include <string>

#include "core/http1/ascii.h"

namespace weft::http2 {
namespace {

constexpr std::string_view kGuid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
constexpr size_t kBlock = 64;

uint32_t rotate(uint32_t word, unsigned bits) { return word << bits | word >> (32 - bits); }

void store(uint32_t word, uint8_t* out) {
  for (int i = 0; i < 4; i++) out[i] = static_cast<uint8_t>(word >> (24 - 8 * i));
}

using Digest = std::array<uint32_t, 5>;

/// FIPS 180-4 6.1.2.
void add_block(const uint8_t* block, Digest* digest) {
  uint32_t words[80];
  for (int t = 0; t < 16; t++) {
    memcpy(&words[t], block + 4 * t, 4);
    words[t] = __builtin_bswap32(words[t]);
  }
  for (int t = 16; t < 80; t++) words[t] = rotate(words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16], 1);
  auto [a, b, c, d, e] = *digest;
  for (int t = 0; t < 80; t++) {
    uint32_t mix = t < 20 ? ((b & c) | (~b & d)) + 0x5a827999u : t < 40 ? (b ^ c ^ d) + 0x6ed9eba1u : 0;
    if (t >= 40) mix = t < 60 ? ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdcu : (b ^ c ^ d) + 0xca62c1d6u;
    const uint32_t next = rotate(a, 5) + mix + e + words[t];
    e = d;
    d = c;
    c = rotate(b, 30);
    b = a;
    a = next;
  }
  const Digest sum = {a, b, c, d, e};
  for (size_t i = 0; i < sum.size(); i++) (*digest)[i] += sum[i];
}

std::array<uint8_t, 20> sha1(std::string message) {
  const uint64_t bits = uint64_t{message.size()} * 8;
  message += '\x80';
  message.append((kBlock + 56 - message.size() % kBlock) % kBlock, '\0');
  for (int shift = 56; shift >= 0; shift -= 8) message += static_cast<char>(bits >> shift);
  Digest digest = {0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u};
  for (size_t at = 0; at < message.size(); at += kBlock) add_block(reinterpret_cast<const uint8_t*>(message.data()) + at, &digest);
  std::array<uint8_t, 20> out;
  for (size_t i = 0; i < digest.size(); i++) store(digest[i], out.data() + 4 * i);
  return out;
}

/// With padding; `out` has room for (size + 2) / 3 * 4 bytes.
void base64(const uint8_t* bytes, size_t size, char* out) {
  static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t at = 0; at < size; at += 3, out += 4) {
    uint32_t group = 0;
    for (size_t i = 0; i < 3; i++) group = group << 8 | (at + i < size ? bytes[at + i] : 0u);
    for (int i = 0; i < 4; i++) out[i] = kDigits[group >> (18 - 6 * i) & 63];
    if (at + 1 >= size) out[2] = '=';
    if (at + 2 >= size) out[3] = '=';
  }
}

/// The only field of that name; empty: none, or more.
std::string_view only_value(const http1::FieldBlock& head, const uint8_t* base, std::string_view lower_name) {
  std::string_view found;
  for (size_t i = 0; i < head.field_count; i++) {
    if (!http1::equals_lower(head.fields[i].name(base), lower_name)) continue;
    if (!found.empty()) return {};
    found = head.fields[i].value.in(base);
  }
  return found;
}

}  // namespace

std::array<char, 24> websocket_key(uint64_t high, uint64_t low) {
  uint8_t bytes[16];
  memcpy(bytes, &high, 8);
  memcpy(bytes + 8, &low, 8);
  std::array<char, 24> key;
  base64(bytes, sizeof(bytes), key.data());
  return key;
}

std::array<char, 28> websocket_accept(std::string_view key) {
  const std::array<uint8_t, 20> digest = sha1(std::string(key) + std::string(kGuid));
  std::array<char, 28> accept;
  base64(digest.data(), digest.size(), accept.data());
  return accept;
}

std::string_view websocket_key_of(const http1::RequestHead& head, const uint8_t* base) {
  return only_value(head, base, "sec-websocket-key");
}

bool accepts_websocket(const http1::ResponseHead& head, const uint8_t* base, std::string_view accept) {
  const http1::Field* upgrade = head.find(http1::KnownHeader::kUpgrade);
  return upgrade != nullptr && http1::equals_lower(upgrade->value.in(base), "websocket") &&
         (head.connection_options & http1::kConnectionUpgrade) != 0 && only_value(head, base, "sec-websocket-accept") == accept;
}

}  // namespace weft::http2
