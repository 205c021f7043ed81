// See request_lines.h.
#include "core/request_lines.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string>

#include "core/downstream.h"
#include "core/exchange.h"
#include "core/http1/ascii.h"
#include "core/reactor.h"
#include "core/socket.h"

namespace weft {

namespace {

// Up to three digits for each byte, then how many.
struct DecimalDigits {
  char of[256][4];
  constexpr DecimalDigits() : of() {
    for (int i = 0; i < 256; i++) {
      char* digits = of[i];
      if (i >= 100) *digits++ = static_cast<char>('0' + i / 100);
      if (i >= 10) *digits++ = static_cast<char>('0' + i / 10 % 10);
      *digits++ = static_cast<char>('0' + i % 10);
      of[i][3] = static_cast<char>(digits - of[i]);
    }
  }
};
constexpr DecimalDigits kDecimal;

// Writes four bytes, of which the last ones mean nothing.
char* put_byte(char* out, uint8_t byte) {
  memcpy(out, kDecimal.of[byte], 4);
  return out + kDecimal.of[byte][3];
}

// Two digits for each byte.
struct HexDigits {
  char of[256][2];
  constexpr HexDigits() : of() {
    for (int i = 0; i < 256; i++) of[i][0] = "0123456789abcdef"[i >> 4], of[i][1] = "0123456789abcdef"[i & 15];
  }
};
constexpr HexDigits kHex;

// The highest bytes of it.
template <int kBytes>
char* put_hex(uint64_t value, char* out) {
#pragma GCC unroll 6
  for (int i = 0; i < kBytes; i++, value <<= 8, out += 2) memcpy(out, kHex.of[value >> 56], 2);
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

int32_t parse_max_forwards(std::string_view value) {
  constexpr int32_t kMost = 999'999'999;
  if (value.empty()) return kBadMaxForwards;
  int32_t number = 0;
  for (const char c : value) {
    if (c < '0' || c > '9') return kBadMaxForwards;
    number = number > kMost / 10 ? kMost : number * 10 + (c - '0');
  }
  return number;
}

std::string_view RequestIdLine::format(uint64_t high, uint64_t low) {
  high = (high & ~uint64_t{0xf000}) | 0x4000;
  low = (low & ~(uint64_t{3} << 62)) | uint64_t{1} << 63;
  memcpy(text_, kName.data(), kName.size());
  char* out = put_hex<4>(high, text_ + kName.size());
  *out++ = '-';
  out = put_hex<2>(high << 32, out);
  *out++ = '-';
  out = put_hex<2>(high << 48, out);
  *out++ = '-';
  out = put_hex<2>(low, out);
  *out++ = '-';
  out = put_hex<6>(low << 16, out);
  memcpy(out, "\r\n", 2);
  return {text_, kName.size() + kIdBytes + 2};
}

ForwardedLines::ForwardedLines(Reactor* reactor, const Downstream& connection, uint64_t present, Exchange* exchange, bool to_http2) {
  using http1::known_bit;
  using http1::KnownHeader;
  if (exchange->max_forwards > 0) put_max_forwards(exchange->max_forwards - 1);
  // RFC 9110 10.1.1: here the client was asked for its body, and it goes with the head. Who sees the expectation would ask again.
  if (exchange->held_body != HeldBody::None) dropped_ |= known_bit(KnownHeader::kExpect);
  const Forwarding& forwarding = connection.origin().listener->forwarding;
  const int32_t hops = forwarding.trusted_hops;
  if (hops < 0) return;
  dropped_ |= known_bit(KnownHeader::kForwardedLookalike);
  const Address& client = connection.origin().client.address;
  const bool is_tls = connection.tls() != nullptr;
  const std::string_view proto = is_tls ? "https" : "http";
  if (hops == 0) {
    dropped_ |= known_bit(KnownHeader::kXForwardedFor) | known_bit(KnownHeader::kXForwardedProto) | known_bit(KnownHeader::kForwarded) |
                known_bit(KnownHeader::kXForwardedHost) | known_bit(KnownHeader::kXForwardedPort);
  }
  if (hops == 0 && to_http2) {
    client_field_ = reactor->hop_lines().client_field(client, &reactor->interned());
    proto_field_ = reactor->hop_lines().proto_field(is_tls, &reactor->interned());
  } else if (hops == 0) {
    put("x-forwarded-for: ");
    put(address_.format(client));
    put("\r\nx-forwarded-proto: ");
    put(proto);
    put("\r\n");
  } else {
    client_ = address_.format(client);
    if ((present & known_bit(KnownHeader::kXForwardedProto)) == 0) proto_ = proto;
  }
  edge_size_ = size_;
  makes_id_ = (present & known_bit(KnownHeader::kXRequestId)) == 0;
  if (makes_id_) {
    if (exchange->made_request_id[0] == 0) {
      exchange->made_request_id[0] = reactor->random() | 1;
      exchange->made_request_id[1] = reactor->random();
    }
    const std::string_view line = id_.format(exchange->made_request_id[0], exchange->made_request_id[1]);
    if (!to_http2) put(line);
  }
  tell_certificate(connection.origin().security.get(), forwarding);
}

// Another line is the same list as one that came (RFC 9110 5.3).
void ForwardedLines::tell_certificate(const ClientSecurity* security, const Forwarding& forwarding) {
  const bool verified = security != nullptr && security->has_certificate;
  if (!forwarding.keeps_certificate(verified)) dropped_ |= http1::known_bit(http1::KnownHeader::kXForwardedClientCert);
  if (security == nullptr || security->certificate_line.empty()) return;
  long_text_.append(text_, edge_size_).append(security->certificate_line).append(text_ + edge_size_, size_ - edge_size_);
  edge_size_ += security->certificate_line.size();
}

void ForwardedLines::put_max_forwards(int32_t left) {
  dropped_ |= http1::known_bit(http1::KnownHeader::kMaxForwards);
  char digits[16];
  const auto end = std::to_chars(digits, digits + sizeof(digits), left);
  put("max-forwards: ");
  put({digits, static_cast<size_t>(end.ptr - digits)});
  put("\r\n");
  edge_size_ = size_;
}

void ForwardedLines::put(std::string_view text) {
  memcpy(text_ + size_, text.data(), text.size());
  size_ += text.size();
}

void ForwardedClient::add(std::string_view list) {
  for (size_t begin = 0; begin <= list.size();) {
    const size_t comma = std::min(list.find(',', begin), list.size());
    const std::string_view element = http1::trim(list.substr(begin, comma - begin));
    // RFC 9110 5.6.1.2: empty elements are ignored.
    if (!element.empty()) last_[count_++ % hops_] = element;
    begin = comma + 1;
  }
}

bool ForwardedClient::find(Address* out) const { return count_ >= hops_ && parse_address(std::string(last_[count_ % hops_]), out); }

}  // namespace weft
