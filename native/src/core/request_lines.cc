// See request_lines.h.
#include "core/request_lines.h"

#include <arpa/inet.h>

#include <cstring>

#include "core/downstream.h"
#include "core/reactor.h"
#include "core/socket.h"

namespace weft {

namespace {

char* put_byte(char* out, uint8_t byte) {
  if (byte >= 100) *out++ = static_cast<char>('0' + byte / 100);
  if (byte >= 10) *out++ = static_cast<char>('0' + byte / 10 % 10);
  *out++ = static_cast<char>('0' + byte % 10);
  return out;
}

// Eight digits at once: a nibble a byte, the first at the lowest address; what is above 9 becomes a letter.
void put_hex(uint32_t value, char* out) {
  constexpr uint64_t kOnes = 0x0101010101010101u;
  uint64_t nibbles = __builtin_bswap32(value);
  nibbles = (nibbles | nibbles << 16) & 0x0000ffff0000ffffu;
  nibbles = (nibbles | nibbles << 8) & 0x00ff00ff00ff00ffu;
  nibbles = (nibbles >> 4 & 0x000f000f000f000fu) | (nibbles & 0x000f000f000f000fu) << 8;
  const uint64_t letters = (nibbles + 6 * kOnes) >> 4 & kOnes;
  const uint64_t text = nibbles + '0' * kOnes + letters * ('a' - '0' - 10);
  memcpy(out, &text, sizeof(text));
}

}  // namespace

std::string_view AddressText::format(const Address& address) {
  if (!is_mapped(address)) {
    if (inet_ntop(AF_INET6, address.bytes.data(), text_, sizeof(text_)) == nullptr) return {};
    return text_;
  }
  char* out = text_;
  for (int i = 12; i < 16; i++) {
    if (i != 12) *out++ = '.';
    out = put_byte(out, address.bytes[static_cast<size_t>(i)]);
  }
  return {text_, static_cast<size_t>(out - text_)};
}

std::string_view RequestIdLine::format(uint64_t high, uint64_t low) {
  high = (high & ~uint64_t{0xf000}) | 0x4000;
  low = (low & ~(uint64_t{3} << 62)) | uint64_t{1} << 63;
  memcpy(text_, kName.data(), kName.size());
  char digits[32];
  put_hex(static_cast<uint32_t>(high >> 32), digits);
  put_hex(static_cast<uint32_t>(high), digits + 8);
  put_hex(static_cast<uint32_t>(low >> 32), digits + 16);
  put_hex(static_cast<uint32_t>(low), digits + 24);
  char* out = text_ + kName.size();
  memcpy(out, digits, 8);
  memcpy(out + 9, digits + 8, 4);
  memcpy(out + 14, digits + 12, 4);
  memcpy(out + 19, digits + 16, 4);
  memcpy(out + 24, digits + 20, 12);
  out[8] = out[13] = out[18] = out[23] = '-';
  memcpy(out + kIdBytes, "\r\n", 2);
  return {text_, kName.size() + kIdBytes + 2};
}

ForwardedLines::ForwardedLines(Reactor* reactor, const Downstream& connection, bool has_request_id) {
  if (!connection.origin().listener.forwarded_headers) return;
  client_ = address_.format(connection.origin().client.address);
  proto_ = connection.tls() != nullptr ? "https" : "http";
  if (!has_request_id) request_id_line_ = id_.format(reactor->random(), reactor->random());
}

}  // namespace weft
