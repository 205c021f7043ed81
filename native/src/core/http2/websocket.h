// What the HTTP/1 handshake of a WebSocket has and RFC 8441's has not: the key and its answer (RFC 6455 4.2.2). They prove that the peer
// speaks WebSocket, and secure nothing; whoever crosses between the protocols makes them anew.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/http1/head.h"

namespace weft::http2 {

/// Base64 of 16 random bytes: a Sec-WebSocket-Key.
std::array<char, 24> websocket_key(uint64_t high, uint64_t low);
/// The Sec-WebSocket-Accept that answers a key.
std::array<char, 28> websocket_accept(std::string_view key);
/// The client's Sec-WebSocket-Key; empty: none.
std::string_view websocket_key_of(const http1::RequestHead& head, const uint8_t* base);
/// Whether a 101 agrees to a handshake whose key is answered by `accept` (RFC 6455 4.1).
bool accepts_websocket(const http1::ResponseHead& head, const uint8_t* base, std::string_view accept);

}  // namespace weft::http2
