// Reads a TLS ClientHello without terminating TLS: the server name and the application protocols it offers (RFC 8446 4.1.2, RFC 6066 3,
// RFC 7301). Handshake messages may be cut over records at any byte. Allocates nothing; believes no length.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace weft {

enum class SniffStatus : uint8_t { kIncomplete, kComplete, kInvalid };

struct ClientHello {
  // A ClientHello with post-quantum key shares and many extensions has 2 KiB; more than this is not looked at.
  static constexpr size_t kMaxBytes = 16 * 1024;
  static constexpr size_t kMaxServerName = 255;
  static constexpr size_t kMaxAlpn = 256;

  // Lower case; empty: none was sent.
  std::string_view name() const { return {server_name, server_name_size}; }
  // Wire format: each with its length before it.
  std::string_view protocols() const { return {reinterpret_cast<const char*>(alpn), alpn_size}; }
  bool offers(std::string_view protocol) const;

  char server_name[kMaxServerName];
  uint8_t alpn[kMaxAlpn];
  uint16_t server_name_size = 0;
  uint16_t alpn_size = 0;
};

// `bytes`: all that came so far, from the connection's first byte. kIncomplete also means that nothing is wrong yet.
SniffStatus sniff_client_hello(const uint8_t* bytes, size_t size, ClientHello* out);

}  // namespace weft
