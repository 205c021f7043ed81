// See protocol.h.
#include "core/sniff/protocol.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "core/http1/ascii.h"

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

// RFC 9112 3.2. "NICK joe" (IRC), "SET key value" (Redis), "HELO a.test" are no requests.
FirstBytes detect_target(std::string_view method, std::string_view target) {
  if (target.empty()) return FirstBytes::kUndecided;
  if (target[0] == '/' || target[0] == '*') return FirstBytes::kHttp1;
  if (method == "CONNECT") {
    const char lower = http1::lower(target[0]);
    const bool is_host = lower == '[' || (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9');
    return is_host ? FirstBytes::kHttp1 : FirstBytes::kOpaque;
  }
  static constexpr std::string_view kScheme = "http";
  const std::string_view scheme = target.substr(0, kScheme.size());
  if (!http1::equals_lower(scheme, kScheme.substr(0, scheme.size()))) return FirstBytes::kOpaque;
  if (target.size() <= kScheme.size()) return FirstBytes::kUndecided;
  const char next = http1::lower(target[kScheme.size()]);
  return next == ':' || next == 's' ? FirstBytes::kHttp1 : FirstBytes::kOpaque;
}

FirstBytes detect_http1(const uint8_t* bytes, size_t size) {
  size_t at = 0;
  while (at < size && at < kMaxMethod && ((bytes[at] >= 'A' && bytes[at] <= 'Z') || bytes[at] == '-')) at++;
  if (at == size) return FirstBytes::kUndecided;
  // Shorter words are greetings of other protocols: "A1 LOGIN".
  if (bytes[at] != ' ' || at < 3) return FirstBytes::kOpaque;
  const std::string_view method(reinterpret_cast<const char*>(bytes), at);
  return detect_target(method, {reinterpret_cast<const char*>(bytes) + at + 1, size - at - 1});
}

}  // namespace

bool begins_as_http2(const uint8_t* bytes, size_t size) { return memcmp(bytes, kPreface, std::min(size, kPrefaceBytes)) == 0; }

FirstBytes detect_protocol(const uint8_t* bytes, size_t size) {
  if (size == 0) return FirstBytes::kUndecided;
  if (bytes[0] == 22) return detect_tls(bytes, size);
  if (begins_as_http2(bytes, size)) return size >= kPrefaceBytes ? FirstBytes::kHttp2 : FirstBytes::kUndecided;
  return detect_http1(bytes, size);
}

}  // namespace weft
