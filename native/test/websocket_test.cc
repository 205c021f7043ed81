// WebSockets through the whole reactor over loopback: of HTTP/1 and of HTTP/2, each to either; ends, resets, bounds, hostile peers.
#include "core/http2/websocket.h"

#include "http2_loopback.h"
#include "tunnel_requests.h"

namespace weft {
namespace {

using http2::ErrorCode;
using test::dial;
using test::Http2Bench;
using test::kWebSocketFields;
using test::kWebSocketHead;
using test::Peer1;
using test::Peer2;
using test::without_date;

constexpr std::string_view kKey = "dGhlIHNhbXBsZSBub25jZQ==";

std::string line_of(const std::string& head, const std::string& name) {
  const size_t at = head.find(name);
  if (at == std::string::npos) return {};
  return head.substr(at + name.size(), head.find("\r\n", at) - at - name.size());
}

std::string switching(const std::string& request) {
  const auto accept = http2::websocket_accept(line_of(request, "sec-websocket-key: "));
  return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
         std::string(accept.data(), accept.size()) + "\r\n\r\n";
}

std::string announcing() { return Peer2::settings({{http2::SettingId::kEnableConnectProtocol, 1}}); }

// A WebSocket from an HTTP/2 client to an HTTP/1 upstream, open.
struct Crossed {
  Http2Bench bench;
  Peer2 client;
  std::unique_ptr<Peer1> upstream;

  explicit Crossed(EngineLimits limits = {}) : bench(limits, Protocol::kHttp1), client(dial(bench.port), http2::Role::kClient) {
    client.raw(client.headers(1, kWebSocketFields, false));
    upstream = std::make_unique<Peer1>(bench.accept());
    CHECK(bench.run([&] { return upstream->has("\r\n\r\n"); }));
    upstream->send(switching(upstream->received));
    upstream->received.clear();
    CHECK(bench.run([&] { return client.at(1).fields[":status"] == "200"; }));
  }
  void check_nothing_left() {
    CHECK(bench.run([&] { return bench.outstanding[0] == 0 && bench.counter(Counter::UpstreamOpen) == 0; }));
    CHECK_EQ(bench.counter(Counter::OpaqueOpen), 0.0);
    CHECK_EQ(bench.counter(Counter::Http2StreamsOpen), 0.0);
  }
};

TEST("tunnel: WebSocket over HTTP/2 becomes a handshake of ours with an HTTP/1 upstream; bytes wait for it, then go both ways") {
  Http2Bench bench({}, Protocol::kHttp1);
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(client.headers(1, kWebSocketFields, false) + Peer2::data(1, "early ", false));
  Peer1 upstream(bench.accept());
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  for (int i = 0; i < 5; i++) bench.reactor->run_once(1);
  upstream.read();
  const std::string head = upstream.received;
  CHECK_EQ(head.substr(head.find("\r\n\r\n") + 4), "");
  CHECK_EQ(head.substr(0, 20), "GET /chat HTTP/1.1\r\n");
  CHECK_EQ(line_of(head, "upgrade: "), "websocket");
  CHECK_EQ(line_of(head, "connection: "), "upgrade");
  CHECK_EQ(line_of(head, "sec-websocket-version: "), "13");
  CHECK_EQ(line_of(head, "sec-websocket-key: ").size(), size_t{24});
  upstream.received.clear();
  upstream.send(switching(head) + "greeting ");
  CHECK(bench.run([&] { return upstream.has("early ") && client.at(1).body == "greeting "; }));
  CHECK_EQ(client.at(1).fields[":status"], "200");
  CHECK_EQ(client.at(1).fields.count("sec-websocket-accept"), size_t{0});
  CHECK_EQ(client.at(1).fields.count("upgrade"), size_t{0});
  CHECK_EQ(bench.counter(Counter::OpaqueOpen), 1.0);
  client.raw(Peer2::data(1, "ping", false));
  upstream.send("pong");
  CHECK(bench.run([&] { return upstream.has("early ping") && client.at(1).body == "greeting pong"; }));
  // Each direction ends by itself.
  client.raw(Peer2::data(1, "!", true));
  CHECK(bench.run([&] { return upstream.has("ping!") && upstream.ended; }));
  upstream.send(" still");
  CHECK(bench.run([&] { return client.at(1).body == "greeting pong still"; }));
  CHECK(!client.at(1).ended);
  upstream.finish();
  CHECK(bench.run([&] { return client.at(1).ended; }));
  CHECK_EQ(client.at(1).resets, 0);
  CHECK_EQ(bench.outstanding[0], 0);
  CHECK_EQ(bench.counter(Counter::OpaqueOpen), 0.0);
  CHECK_EQ(bench.counter(Counter::Upgrades), 1.0);
}

TEST("tunnel: an upstream that ends first still gets what the client sends") {
  Crossed tunnel;
  tunnel.upstream->send("bye");
  tunnel.upstream->finish();
  CHECK(tunnel.bench.run([&] { return tunnel.client.at(1).ended; }));
  tunnel.client.raw(Peer2::data(1, "last words", false));
  CHECK(tunnel.bench.run([&] { return tunnel.upstream->has("last words"); }));
  tunnel.client.raw(Peer2::data(1, "", true));
  CHECK(tunnel.bench.run([&] { return tunnel.upstream->read(), tunnel.upstream->ended; }));
  CHECK_EQ(tunnel.client.at(1).resets, 0);
  tunnel.check_nothing_left();
}

TEST("tunnel: an answer that does not prove the handshake is a 502, whatever follows it") {
  const char* answers[] = {
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: c3Bvb2ZlZA==\r\n\r\nx",
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nx",
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\nx",
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\nx",
      ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
       "Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Accept: {}\r\n\r\nx"),
  };
  for (std::string answer : answers) {
    Http2Bench bench({}, Protocol::kHttp1);
    Peer2 client(dial(bench.port), http2::Role::kClient);
    client.raw(client.headers(1, kWebSocketFields, false));
    Peer1 upstream(bench.accept());
    CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
    const auto accept = http2::websocket_accept(line_of(upstream.received, "sec-websocket-key: "));
    for (size_t at; (at = answer.find("{}")) != std::string::npos;) answer.replace(at, 2, accept.data(), accept.size());
    upstream.send(answer);
    CHECK(bench.run([&] { return client.at(1).fields[":status"] == "502"; }));
    CHECK(client.at(1).ended);
    CHECK_EQ(bench.counter(Counter::OpaqueOpen), 0.0);
    CHECK_EQ(bench.counter(Counter::UpstreamProtocolErrors), 1.0);
    CHECK_EQ(bench.outstanding[0], 0);
  }
}

TEST("tunnel: an upstream that declines is heard, and what the client sent ahead of it goes nowhere") {
  Http2Bench bench({}, Protocol::kHttp1);
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(client.headers(1, kWebSocketFields, false) + Peer2::data(1, "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n", false));
  Peer1 upstream(bench.accept());
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  upstream.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
  CHECK(bench.run([&] { return client.at(1).ended; }));
  CHECK_EQ(client.at(1).fields[":status"], "403");
  CHECK_EQ(client.at(1).body, "no");
  CHECK(!upstream.has("smuggled"));
  CHECK_EQ(bench.counter(Counter::OpaqueOpen), 0.0);
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("tunnel: an HTTP/1.1 upstream that answers the handshake with a page opens nothing, and its client is not told that it did") {
  for (const std::string answer : {"200 OK\r\nContent-Length: 6\r\n\r\na page", "204 No Content\r\n\r\n", "206 Part\r\n\r\na page"}) {
    Http2Bench bench({}, Protocol::kHttp1);
    Peer2 client(dial(bench.port), http2::Role::kClient);
    client.raw(client.headers(1, kWebSocketFields, false));
    Peer1 upstream(bench.accept());
    CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
    upstream.send("HTTP/1.1 " + answer);
    CHECK(bench.run([&] { return client.at(1).ended; }));
    CHECK_EQ(client.at(1).fields[":status"], "502");
    CHECK_EQ(client.at(1).body, "");
    CHECK_EQ(bench.counter(Counter::UpstreamProtocolErrors), 1.0);
    CHECK_EQ(bench.outstanding[0], 0);
  }
}

TEST("tunnel: a reset on either side is a reset on the other") {
  {
    Crossed tunnel;
    tunnel.client.raw(Peer2::reset(1, ErrorCode::kCancel));
    CHECK(tunnel.bench.run([&] { return tunnel.upstream->read(), tunnel.upstream->reset; }));
    tunnel.check_nothing_left();
  }
  Crossed tunnel;
  reset(tunnel.upstream.get());
  CHECK(tunnel.bench.run([&] { return tunnel.client.at(1).resets == 1; }));
  CHECK_EQ(tunnel.client.at(1).reset_code, static_cast<uint32_t>(ErrorCode::kConnectError));
  tunnel.check_nothing_left();
}

TEST("tunnel: a reset behind an end is noticed when the other side writes, and ends the tunnel") {
  Crossed tunnel;
  tunnel.upstream->finish();
  CHECK(tunnel.bench.run([&] { return tunnel.client.at(1).ended; }));
  reset(tunnel.upstream.get());
  for (int i = 0; i < 5; i++) tunnel.bench.reactor->run_once(1);
  tunnel.client.raw(Peer2::data(1, "x", false));
  CHECK(tunnel.bench.run([&] { return tunnel.client.at(1).resets == 1; }));
  tunnel.check_nothing_left();
}

TEST("tunnel: a client that does not read holds up the upstream at the buffers' bound, and gets every byte later") {
  EngineLimits limits;
  limits.max_buffered_bytes = 65535;
  Crossed tunnel(limits);
  const std::string piece(65536, 'd');
  size_t sent = 0;
  for (int turn = 0; turn < 400; turn++) {
    const ssize_t count = ::send(tunnel.upstream->fd, piece.data(), piece.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0) sent += static_cast<size_t>(count);
    tunnel.bench.reactor->run_once(0);
  }
  // The window's 64 KiB, what waits in the proxy, one read beyond it; the rest stands in the kernel's buffers and was not taken.
  CHECK(sent < (16u << 20));
  tunnel.client.at(1);
  CHECK_EQ(tunnel.client.at(1).body.size(), size_t{65535});
  tunnel.upstream->finish();
  while (!tunnel.client.at(1).ended) {
    const size_t before = tunnel.client.at(1).body.size();
    tunnel.client.raw(Peer2::window(0, 1 << 20) + Peer2::window(1, 1 << 20));
    CHECK(tunnel.bench.run([&] { return tunnel.client.at(1).ended || tunnel.client.at(1).body.size() >= before + (1 << 20); }));
  }
  CHECK_EQ(tunnel.client.at(1).body.size(), sent);
}

TEST("tunnel: an upstream that does not read holds up the client's stream") {
  EngineLimits limits;
  limits.max_buffered_bytes = 65535;
  Crossed tunnel(limits);
  const std::string piece(16384, 'u');
  size_t sent = 0;
  uint64_t window = 65535;
  for (int turn = 0; turn < 4000 && window >= piece.size(); turn++) {
    tunnel.client.raw(Peer2::data(1, piece, false));
    sent += piece.size();
    window -= piece.size();
    for (int i = 0; i < 3; i++) tunnel.bench.reactor->run_once(0);
    tunnel.client.read();
    window += std::exchange(tunnel.client.returned[1], 0);
  }
  CHECK(window < piece.size());
  CHECK(sent < (32u << 20));
  tunnel.client.raw(Peer2::data(1, "", true));
  CHECK(tunnel.bench.run([&] { return tunnel.upstream->read(), tunnel.upstream->ended; }));
  CHECK_EQ(tunnel.upstream->received.size(), sent);
}

TEST("tunnel: one that carries nothing for the TCP idle timeout is cut off on both sides; the stream's timeouts do not touch it") {
  EngineLimits limits;
  limits.stream_idle_timeout_ms = 20;
  limits.idle_timeout_ms = 20;
  {
    Crossed tunnel(limits);
    tunnel.bench.run([start = tunnel.bench.reactor->now_ms(), &tunnel] { return tunnel.bench.reactor->now_ms() > start + 100; });
    tunnel.upstream->send("here");
    CHECK(tunnel.bench.run([&] { return tunnel.client.at(1).body == "here"; }));
  }
  limits.tcp_idle_timeout_ms = 50;
  Crossed tunnel(limits);
  CHECK(tunnel.bench.run([&] { return tunnel.client.at(1).resets == 1; }));
  CHECK(tunnel.bench.run([&] { return tunnel.upstream->read(), tunnel.upstream->reset; }));
  CHECK_EQ(tunnel.bench.counter(Counter::TimeoutsTcpIdle), 1.0);
  tunnel.check_nothing_left();
}

TEST("tunnel: bytes that are still being read are no rest; such that nobody reads are") {
  static uint64_t clock_ns;
  clock_ns = 1'000'000'000'000;
  EngineLimits limits;
  limits.tcp_idle_timeout_ms = 500;
  for (const bool reads : {true, false}) {
    Http2Bench bench(limits, Protocol::kHttp1, Protocol::kHttp1, [] { return clock_ns; });
    // What has arrived there is out of the engine's sight.
    const int kept_by_reader = 128 * 1024;
    setsockopt(bench.upstream_listener, SOL_SOCKET, SO_RCVBUF, &kept_by_reader, sizeof(kept_by_reader));
    Peer1 client(dial(bench.port));
    client.send(kWebSocketHead);
    Peer1 upstream(bench.accept());
    CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
    upstream.send(switching(upstream.received));
    CHECK(bench.run([&] { return client.has("\r\n\r\n"); }));
    const size_t sent = test::send_what_is_taken(*bench.reactor, client);
    client.finish();
    const size_t received = test::read_slowly(*bench.reactor, client, upstream.fd, reads, &clock_ns);
    CHECK_EQ(client.reset, !reads);
    CHECK_EQ(received, reads ? sent : 0);
    CHECK_EQ(bench.counter(Counter::TimeoutsTcpIdle), reads ? 0.0 : 1.0);
  }
}

TEST("tunnel: other protocols than websocket, trailers, and content are refused") {
  Http2Bench bench({}, Protocol::kHttp1);
  Peer2 client(dial(bench.port), http2::Role::kClient);
  auto other = kWebSocketFields;
  other[1].second = "connect-udp";
  client.raw(client.headers(1, other, false));
  CHECK(bench.run([&] { return client.at(1).fields[":status"] == "501"; }));
  auto sized = kWebSocketFields;
  sized.emplace_back("content-length", "5");
  client.raw(client.headers(3, sized, false));
  CHECK(bench.run([&] { return client.at(3).fields[":status"] == "400"; }));
  client.raw(client.headers(5, kWebSocketFields, false));
  Peer1 upstream(bench.accept());
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  client.raw(client.headers(5, {{"x-trailer", "1"}}, true));
  CHECK(bench.run([&] { return client.at(5).resets == 1; }));
  CHECK(bench.run([&] { return bench.outstanding[0] == 0; }));
}

TEST("tunnel: HTTP/1's WebSocket becomes an extended CONNECT where the upstream takes it, and its key is answered") {
  Http2Bench bench({}, Protocol::kHttp2, Protocol::kHttp1);
  Peer1 client(dial(bench.port));
  client.send(std::string(kWebSocketHead) + "early ");
  Peer2 upstream(bench.accept(), http2::Role::kServer, announcing());
  CHECK(bench.run([&] { return upstream.at(1).fields[":method"] == "CONNECT"; }));
  CHECK_EQ(upstream.at(1).fields[":protocol"], "websocket");
  CHECK_EQ(upstream.at(1).fields[":path"], "/chat");
  CHECK_EQ(upstream.at(1).fields["sec-websocket-version"], "13");
  CHECK_EQ(upstream.at(1).fields.count("sec-websocket-key"), size_t{0});
  CHECK(!upstream.at(1).ended);
  CHECK_EQ(upstream.at(1).body, "");
  upstream.raw(upstream.ok(1, false) + Peer2::data(1, "greeting", false));
  CHECK(bench.run([&] { return client.has("greeting") && upstream.at(1).body == "early "; }));
  CHECK_EQ(client.received.substr(0, 34), "HTTP/1.1 101 Switching Protocols\r\n");
  const auto accept = http2::websocket_accept(kKey);
  CHECK_EQ(line_of(client.received, "sec-websocket-accept: "), std::string(accept.data(), accept.size()));
  CHECK_EQ(line_of(client.received, "upgrade: "), "websocket");
  client.send("ping");
  client.finish();
  CHECK(bench.run([&] { return upstream.at(1).body == "early ping" && upstream.at(1).ended; }));
  upstream.raw(Peer2::data(1, " and bye", true));
  CHECK(bench.run([&] { return client.has("greeting and bye") && client.ended; }));
  CHECK_EQ(bench.outstanding[0], 0);
  CHECK_EQ(bench.counter(Counter::OpaqueOpen), 0.0);
}

TEST("tunnel: an HTTP/2 upstream that does not take extended CONNECT makes it a 501, and the connection serves on") {
  Http2Bench bench({}, Protocol::kHttp2, Protocol::kHttp1);
  Peer1 client(dial(bench.port));
  client.send(kWebSocketHead);
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return client.has("HTTP/1.1 501 "); }));
  client.received.clear();
  client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
  CHECK(bench.run([&] { return upstream.at(1).ended; }));
  upstream.raw(upstream.ok(1, true));
  CHECK(bench.run([&] { return client.has("HTTP/1.1 200 "); }));
  // Known now: nothing waits.
  client.received.clear();
  client.send(kWebSocketHead);
  CHECK(bench.run([&] { return client.has("HTTP/1.1 501 "); }));
  CHECK_EQ(bench.counter(Counter::UpstreamConnects), 1.0);
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("tunnel: an upstream that ends before its SETTINGS is not dialled again and again") {
  Http2Bench bench({}, Protocol::kHttp2, Protocol::kHttp1);
  Peer1 client(dial(bench.port));
  client.send(kWebSocketHead);
  ::close(bench.accept());
  CHECK(bench.run([&] { return client.has("HTTP/1.1 503 "); }));
  CHECK_EQ(bench.counter(Counter::UpstreamConnects), 1.0);
  CHECK_EQ(bench.outstanding[0], 0);
  EngineLimits limits;
  limits.connect_timeout_ms = 30;
  Http2Bench silent(limits, Protocol::kHttp2, Protocol::kHttp1);
  Peer1 other(dial(silent.port));
  other.send(kWebSocketHead);
  Peer1 mute(silent.accept());
  CHECK(silent.run([&] { return other.has("HTTP/1.1 503 "); }));
  CHECK_EQ(silent.counter(Counter::UpstreamConnects), 1.0);
}

TEST("tunnel: a key that is missing is refused before an HTTP/2 upstream hears of it") {
  Http2Bench bench({}, Protocol::kHttp2, Protocol::kHttp1);
  Peer1 client(dial(bench.port));
  client.send("GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  CHECK(bench.run([&] { return client.has("HTTP/1.1 400 "); }));
  CHECK_EQ(bench.counter(Counter::UpstreamConnects), 0.0);
}

TEST("tunnel: HTTP/2 on both sides; a GOAWAY of either end leaves it alone, and the upstream's reset is a CONNECT_ERROR") {
  Http2Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(client.headers(1, kWebSocketFields, false));
  Peer2 upstream(bench.accept(), http2::Role::kServer, announcing());
  CHECK(bench.run([&] { return upstream.at(1).fields[":protocol"] == "websocket"; }));
  upstream.raw(upstream.ok(1, false));
  CHECK(bench.run([&] { return client.at(1).fields[":status"] == "200"; }));
  upstream.raw(Peer2::goaway(1));
  client.raw(Peer2::goaway(0));
  bench.reactor->drain(0);
  client.raw(Peer2::data(1, "ping", false));
  CHECK(bench.run([&] { return upstream.at(1).body == "ping"; }));
  upstream.raw(Peer2::data(1, "pong", false));
  CHECK(bench.run([&] { return client.at(1).body == "pong"; }));
  upstream.raw(Peer2::reset(1, ErrorCode::kCancel));
  CHECK(bench.run([&] { return client.at(1).resets == 1; }));
  CHECK_EQ(client.at(1).reset_code, static_cast<uint32_t>(ErrorCode::kConnectError));
  CHECK(bench.run([&] { return client.read(), client.closed; }));
  CHECK_EQ(bench.outstanding[0], 0);
  CHECK_EQ(bench.counter(Counter::OpaqueOpen), 0.0);
}

TEST("tunnel: HTTP/1 on both sides; ends go over one by one, and the last bytes behind an end arrive") {
  Http2Bench bench({}, Protocol::kHttp1, Protocol::kHttp1);
  Peer1 client(dial(bench.port));
  client.send(kWebSocketHead);
  Peer1 upstream(bench.accept());
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  upstream.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello");
  upstream.finish();
  CHECK(bench.run([&] { return client.has("hello") && client.ended; }));
  const std::string much(3 << 20, 'c');
  size_t sent = 0;
  upstream.received.clear();
  CHECK(bench.run([&] {
    const ssize_t count = ::send(client.fd, much.data() + sent, much.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0) sent += static_cast<size_t>(count);
    if (sent == much.size()) client.finish();
    upstream.read();
    return upstream.ended;
  }));
  CHECK_EQ(upstream.received.size(), much.size());
  CHECK(bench.run([&] { return bench.counter(Counter::DownstreamOpen) == 0; }));
  CHECK_EQ(bench.outstanding[0], 0);
  CHECK_EQ(bench.counter(Counter::OpaqueOpen), 0.0);
}

}  // namespace
}  // namespace weft
