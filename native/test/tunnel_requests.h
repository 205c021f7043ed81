// Heads that ask for a tunnel: a WebSocket or a CONNECT, of HTTP/1 as text and of HTTP/2 as fields.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace weft::test {

using Fields = std::vector<std::pair<std::string, std::string>>;

inline const Fields kWebSocketFields = {{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "http"},
                                        {":path", "/chat"},     {":authority", "a.test"},   {"sec-websocket-version", "13"}};
inline constexpr std::string_view kWebSocketHead =
    "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

inline constexpr std::string_view kConnectHead = "CONNECT db.test:5432 HTTP/1.1\r\nHost: db.test:5432\r\n\r\n";
inline const Fields kConnectFields = {{":method", "CONNECT"}, {":authority", "db.test:5432"}};

}  // namespace weft::test
