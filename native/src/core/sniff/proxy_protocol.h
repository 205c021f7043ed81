// The PROXY protocol, versions 1 and 2 (haproxy.org/download/2.9/doc/proxy-protocol.txt): reads a header off a connection's first bytes,
// writes one. Only for peers that are trusted to say who the client is.
#pragma once
#include <cstddef>
#include <cstdint>

#include "core/socket.h"

namespace weft {

struct ProxyHeader {
  // Bytes that it took.
  size_t size = 0;
  // LOCAL or UNKNOWN (a health check of the proxy itself): the socket's own addresses hold.
  bool is_local = false;
  Peer source;
  Peer destination;
};

// kAbsent: what came begins otherwise. kTooLong: of version 2, and longer than is taken.
enum class ProxyStatus : uint8_t { kIncomplete, kComplete, kAbsent, kInvalid, kTooLong };

// Longest header of version 1 (with CRLF), and the longest of version 2 that is taken, TLVs included.
inline constexpr size_t kMaxProxyHeaderV1 = 107;
inline constexpr size_t kMaxProxyHeaderV2 = 1024;
// What write_proxy_header may write.
inline constexpr size_t kProxyHeaderCapacity = 128;

// `bytes`: all that came so far. Nothing but the header is looked at.
ProxyStatus parse_proxy_header(const uint8_t* bytes, size_t size, ProxyHeader* out);

enum class ProxyVersion : uint8_t { kV1, kV2 };
// Returns the size. Of two families the header is IPv6 with a mapped address (v2) or UNKNOWN (v1 has no mixed form).
size_t write_proxy_header(ProxyVersion version, const Peer& source, const Peer& destination, uint8_t* out);

}  // namespace weft
