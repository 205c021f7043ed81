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
  static constexpr std::string_view kName = "x-request-id: ";
  static constexpr char kHex[] = "0123456789abcdef";
  high = (high & ~uint64_t{0xf000}) | 0x4000;
  low = (low & ~(uint64_t{3} << 62)) | uint64_t{1} << 63;
  memcpy(text_, kName.data(), kName.size());
  char* out = text_ + kName.size();
  for (int digit = 0; digit < 32; digit++) {
    if (digit == 8 || digit == 12 || digit == 16 || digit == 20) *out++ = '-';
    const uint64_t word = digit < 16 ? high : low;
    *out++ = kHex[word >> (60 - 4 * (digit & 15)) & 15];
  }
  *out++ = '\r';
  *out++ = '\n';
  return {text_, static_cast<size_t>(out - text_)};
}

ForwardedLines::ForwardedLines(Reactor* reactor, const Downstream& connection, bool has_request_id) {
  if (!connection.origin().listener.forwarded_headers) return;
  client_ = address_.format(connection.origin().client.address);
  proto_ = connection.tls() != nullptr ? "https" : "http";
  if (!has_request_id) request_id_ = id_.format(reactor->random(), reactor->random());
}

}  // namespace weft
