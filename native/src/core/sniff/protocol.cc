// See protocol.h.
#include "core/sniff/protocol.h"

#include <algorithm>
#include <cstring>

namespace weft {

namespace {

constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr size_t kPrefaceBytes = sizeof(kPreface) - 1;
constexpr size_t kMaxMethod = 20;

FirstBytes detect_tls(const uint8_t* bytes, size_t size) {
  if (size < 3) return size >= 2 && bytes[1] != 3 ? FirstBytes::kOpaque : FirstBytes::kUndecided;
  // TLS 1.0 (as the record's version) to 1.3, and nothing of SSL.
  return bytes[1] == 3 && bytes[2] >= 1 && bytes[2] <= 4 ? FirstBytes::kTls : FirstBytes::kOpaque;
}

FirstBytes detect_http1(const uint8_t* bytes, size_t size) {
  size_t at = 0;
  while (at < size && at < kMaxMethod && ((bytes[at] >= 'A' && bytes[at] <= 'Z') || bytes[at] == '-')) at++;
  if (at == size) return FirstBytes::kUndecided;
  // Shorter words are greetings of other protocols: "A1 LOGIN".
  if (bytes[at] != ' ' || at < 3) return FirstBytes::kOpaque;
  if (at + 1 == size) return FirstBytes::kUndecided;
  const uint8_t target = bytes[at + 1];
  // origin-form, asterisk-form; absolute-form and authority-form begin with a letter or digit, an IPv6 literal with "[".
  const bool is_target = target == '/' || target == '*' || target == '[' || (target >= 'a' && target <= 'z') ||
                         (target >= 'A' && target <= 'Z') || (target >= '0' && target <= '9');
  return is_target ? FirstBytes::kHttp1 : FirstBytes::kOpaque;
}

}  // namespace

FirstBytes detect_protocol(const uint8_t* bytes, size_t size) {
  if (size == 0) return FirstBytes::kUndecided;
  if (bytes[0] == 22) return detect_tls(bytes, size);
  if (memcmp(bytes, kPreface, std::min(size, kPrefaceBytes)) == 0)
    return size >= kPrefaceBytes ? FirstBytes::kHttp2 : FirstBytes::kUndecided;
  return detect_http1(bytes, size);
}

}  // namespace weft
