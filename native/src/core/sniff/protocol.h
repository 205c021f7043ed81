// Which protocol a connection speaks, by its first bytes. A guess only where nothing was declared.
#pragma once
#include <cstddef>
#include <cstdint>

namespace weft {

enum class FirstBytes : uint8_t {
  // Every one of these is still possible.
  kUndecided,
  kHttp1,
  // RFC 9113 3.4.
  kHttp2,
  kTls,
  kOpaque,
};

// Bytes that suffice in every case: the longest request method, its space and "https", or the HTTP/2 preface.
inline constexpr size_t kFirstBytesNeeded = 26;

// HTTP/1: a method of capital letters and "-" up to 20 bytes, a space, and the beginning of a target, which is a path, "*" or a URI of
// http(s), but for CONNECT: other words are commands of other protocols. `bytes`: all that came so far.
FirstBytes detect_protocol(const uint8_t* bytes, size_t size);
// What came so far is the preface of HTTP/2, or its beginning.
bool begins_as_http2(const uint8_t* bytes, size_t size);

}  // namespace weft
