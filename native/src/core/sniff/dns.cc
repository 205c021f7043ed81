// See dns.h.
#include "core/sniff/dns.h"

#include <algorithm>
#include <cstring>

#include "core/socket.h"

namespace weft {

namespace {

constexpr size_t kHeader = 12;
constexpr size_t kMaxLabel = 63;
// What a query without EDNS takes.
constexpr size_t kPlainSize = 512;
constexpr uint16_t kTypeA = 1;
constexpr uint16_t kTypeAaaa = 28;
constexpr uint16_t kTypeOpt = 41;
constexpr uint16_t kClassIn = 1;
// Root name, type, class (payload size), TTL (extended code, version, flags), length.
constexpr size_t kOptSize = 11;
// A change of a service's address is seen after that, seconds.
constexpr uint32_t kTtl = 5;
constexpr uint8_t kRecursionDesired = 0x01;
constexpr uint8_t kResponse = 0x80;
constexpr uint8_t kRecursionAvailable = 0x80;

uint16_t number(const uint8_t* bytes) { return static_cast<uint16_t>(bytes[0] << 8 | bytes[1]); }

uint8_t* put(uint8_t* at, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) at[i] = static_cast<uint8_t>(value >> (8 * (bytes - 1 - i)));
  return at + bytes;
}

// Uncompressed, as a question's name is; the offset behind it, or 0.
size_t parse_name(const uint8_t* bytes, size_t size, DnsQuestion* out) {
  size_t at = kHeader;
  while (at < size && bytes[at] != 0) {
    const size_t label = bytes[at++];
    if (label > kMaxLabel || at + label > size || out->name_size + label + 1 > kMaxDnsName) return 0;
    if (out->name_size != 0) out->name_bytes[out->name_size++] = '.';
    for (size_t i = 0; i < label; i++) {
      const auto byte = static_cast<char>(bytes[at + i]);
      // A dot within a label would read as another name.
      if (byte == '.') return 0;
      out->name_bytes[out->name_size++] = static_cast<char>(byte >= 'A' && byte <= 'Z' ? byte + ('a' - 'A') : byte);
    }
    at += label;
  }
  return at < size && out->name_size != 0 ? at + 1 : 0;
}

// The one record that may follow: OPT of version 0, to the end of the message.
bool parse_opt(const uint8_t* bytes, size_t size, DnsQuestion* out) {
  if (size < kOptSize || bytes[0] != 0 || number(bytes + 1) != kTypeOpt || bytes[6] != 0) return false;
  out->edns_size = std::max<uint16_t>(kPlainSize, number(bytes + 3));
  return size == kOptSize + number(bytes + 9);
}

}  // namespace

bool parse_dns_question(const uint8_t* bytes, size_t size, DnsQuestion* out) {
  *out = {};
  // A standard query that is no answer, and not truncated.
  if (size < kHeader || (bytes[2] & ~kRecursionDesired) != 0) return false;
  const uint16_t extra = number(bytes + 10);
  if (number(bytes + 4) != 1 || number(bytes + 6) != 0 || number(bytes + 8) != 0 || extra > 1) return false;
  const size_t end = parse_name(bytes, size, out);
  if (end == 0 || end + 4 > size || number(bytes + end + 2) != kClassIn) return false;
  const uint16_t type = number(bytes + end);
  if (type != kTypeA && type != kTypeAaaa) return false;
  out->v6 = type == kTypeAaaa;
  out->end = end + 4;
  return extra == 0 ? out->end == size : parse_opt(bytes + out->end, size - out->end, out);
}

size_t write_dns_answer(const uint8_t* query, const DnsQuestion& question, const std::vector<Address>& addresses, uint8_t* out) {
  const bool has_opt = question.edns_size != 0;
  const size_t room = std::min(kMaxDnsAnswer, has_opt ? size_t{question.edns_size} : kPlainSize) - (has_opt ? kOptSize : 0);
  memcpy(out, query, question.end);
  out[2] = static_cast<uint8_t>(kResponse | (query[2] & kRecursionDesired));
  out[3] = kRecursionAvailable;
  const size_t length = question.v6 ? 16 : 4;
  uint8_t* at = out + question.end;
  uint16_t count = 0;
  for (const Address& address : addresses) {
    if (is_mapped(address) == question.v6) continue;
    if (static_cast<size_t>(at - out) + 12 + length > room) break;
    // A pointer to the question's name.
    at = put(at, 0xc000 | kHeader, 2);
    at = put(at, question.v6 ? kTypeAaaa : kTypeA, 2);
    at = put(at, kClassIn, 2);
    at = put(at, kTtl, 4);
    at = put(at, length, 2);
    memcpy(at, address.bytes.data() + (16 - length), length);
    at += length;
    count++;
  }
  put(out + 6, count, 2);
  put(out + 10, has_opt ? 1 : 0, 2);
  if (!has_opt) return static_cast<size_t>(at - out);
  at = put(at, 0, 1);
  at = put(at, kTypeOpt, 2);
  at = put(at, kMaxDnsAnswer, 2);
  at = put(at, 0, 6);
  return static_cast<size_t>(at - out);
}

}  // namespace weft
