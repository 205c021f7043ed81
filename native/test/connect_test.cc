// CONNECT through the whole reactor over loopback: ended here or passed on, of HTTP/1 and of HTTP/2, each to either; refusals.
#include "http2_loopback.h"
#include "tunnel_requests.h"

namespace weft {
namespace {

using test::dial;
using test::Http2Bench;
using test::kConnectFields;
using test::kConnectHead;
using test::kWebSocketFields;
using test::kWebSocketHead;
using test::Peer1;
using test::Peer2;
using test::without_date;

TEST("tunnel: CONNECT ends here where the endpoint is not known to speak HTTP, and its bytes go there as they are") {
  Http2Bench bench({}, Protocol::kOpaque, Protocol::kHttp1);
  Peer1 client(dial(bench.port));
  client.send(std::string(kConnectHead) + "early ");
  Peer1 upstream(bench.accept());
  upstream.send("server first ");
  CHECK(bench.run([&] { return upstream.has("early ") && client.has("server first "); }));
  CHECK_EQ(without_date(client.received), "HTTP/1.1 200 OK\r\n\r\nserver first ");
  CHECK_EQ(upstream.received, "early ");
  client.send("query");
  client.finish();
  CHECK(bench.run([&] { return upstream.has("query") && upstream.ended; }));
  upstream.send("rows");
  upstream.finish();
  CHECK(bench.run([&] { return client.has("rows") && client.ended; }));
  CHECK(bench.run([&] { return bench.counter(Counter::DownstreamOpen) == 0; }));
  CHECK_EQ(bench.counter(Counter::OpaqueOpen), 0.0);
  CHECK_EQ(bench.counter(Counter::UpstreamOpen), 0.0);
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("tunnel: CONNECT over HTTP/2 ends here too; an endpoint that refuses the connection is a 503") {
  {
    Http2Bench bench({}, Protocol::kOpaque);
    Peer2 client(dial(bench.port), http2::Role::kClient);
    client.raw(client.headers(1, kConnectFields, false) + Peer2::data(1, "early", false));
    Peer1 upstream(bench.accept());
    CHECK(bench.run([&] { return upstream.has("early") && client.at(1).fields[":status"] == "200"; }));
    upstream.send("rows");
    upstream.finish();
    CHECK(bench.run([&] { return client.at(1).ended && client.at(1).body == "rows"; }));
    client.raw(Peer2::data(1, "", true));
    CHECK(bench.run([&] { return upstream.read(), upstream.ended; }));
    CHECK_EQ(bench.outstanding[0], 0);
  }
  Http2Bench bench({}, Protocol::kOpaque);
  ::close(std::exchange(bench.upstream_listener, -1));
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(client.headers(1, kConnectFields, false));
  CHECK(bench.run([&] { return client.at(1).fields[":status"] == "503"; }));
  CHECK_EQ(bench.outstanding[0], 0);
  CHECK_EQ(bench.counter(Counter::OpaqueOpen), 0.0);
}

TEST("tunnel: CONNECT goes on to an HTTP/1 endpoint as it is; framing in its answer is dropped, whatever the 2xx") {
  for (const std::string status : {"200", "204", "299"}) {
    for (const bool over_http2 : {false, true}) {
      Http2Bench bench({}, Protocol::kHttp1, over_http2 ? Protocol::kHttp2 : Protocol::kHttp1);
      const int socket = dial(bench.port);
      std::unique_ptr<Peer2> stream;
      std::unique_ptr<Peer1> wire;
      if (over_http2) {
        stream = std::make_unique<Peer2>(socket, http2::Role::kClient);
        stream->raw(stream->headers(1, kConnectFields, false));
      } else {
        wire = std::make_unique<Peer1>(socket);
        wire->send(kConnectHead);
      }
      Peer1 upstream(bench.accept());
      CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
      CHECK_EQ(upstream.received, "CONNECT db.test:5432 HTTP/1.1\r\nhost: db.test:5432\r\n\r\n");
      upstream.send("HTTP/1.1 " + status + " Fine\r\nContent-Length: 3\r\nX-Proxy: squid\r\n\r\nmore than three");
      if (over_http2) {
        CHECK(bench.run([&] { return stream->at(1).body == "more than three"; }));
        CHECK_EQ(stream->at(1).fields[":status"], status);
        CHECK_EQ(stream->at(1).fields["x-proxy"], "squid");
        CHECK_EQ(stream->at(1).fields.count("content-length"), size_t{0});
      } else {
        CHECK(bench.run([&] { return wire->has("more than three"); }));
        CHECK_EQ(without_date(wire->received), "HTTP/1.1 " + status + " Fine\r\nX-Proxy: squid\r\n\r\nmore than three");
      }
      CHECK_EQ(bench.counter(Counter::OpaqueOpen), 1.0);
    }
  }
}

TEST("tunnel: CONNECT goes on to an HTTP/2 endpoint, from either protocol") {
  {
    Http2Bench bench({}, Protocol::kHttp2, Protocol::kHttp1);
    Peer1 client(dial(bench.port));
    client.send(kConnectHead);
    Peer2 upstream(bench.accept(), http2::Role::kServer);
    CHECK(bench.run([&] { return upstream.at(1).fields[":method"] == "CONNECT"; }));
    CHECK_EQ(upstream.at(1).fields[":authority"], "db.test:5432");
    CHECK_EQ(upstream.at(1).fields.count(":path") + upstream.at(1).fields.count(":scheme"), size_t{0});
    upstream.raw(upstream.headers(1, {{":status", "200"}, {"content-length", "3"}}, false) + Peer2::data(1, "four", false));
    CHECK(bench.run([&] { return client.has("four"); }));
    CHECK_EQ(without_date(client.received), "HTTP/1.1 200 OK\r\n\r\nfour");
    client.send("up");
    CHECK(bench.run([&] { return upstream.at(1).body == "up"; }));
  }
  Http2Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(client.headers(1, kConnectFields, false));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return upstream.at(1).fields[":authority"] == "db.test:5432"; }));
  upstream.raw(upstream.ok(1, false) + Peer2::data(1, "down", true));
  CHECK(bench.run([&] { return client.at(1).body == "down" && client.at(1).ended; }));
  client.raw(Peer2::data(1, "up", true));
  CHECK(bench.run([&] { return upstream.at(1).body == "up" && upstream.at(1).ended; }));
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("tunnel: what came behind a CONNECT that was refused is no request: the connection ends") {
  Http2Bench bench({}, Protocol::kHttp1, Protocol::kHttp1);
  Peer1 client(dial(bench.port));
  client.send(std::string(kConnectHead) + "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n");
  Peer1 upstream(bench.accept());
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  upstream.send("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
  CHECK(bench.run([&] { return client.has("407") && client.ended; }));
  CHECK(client.has("connection: close\r\n"));
  CHECK(!upstream.has("smuggled"));
  CHECK_EQ(bench.counter(Counter::Requests), 1.0);
}

// RFC 9110 9.3.6, RFC 8441 5: a 2xx says that the tunnel is open.
TEST("tunnel: a filter or rule that answers 200 opens no tunnel: who asked for one is told 405") {
  const auto answer_200 = [](const int32_t*, Decision* decision) { decision->target = -200; };
  {
    Http2Bench bench({}, Protocol::kHttp1, Protocol::kHttp1);
    bench.change = answer_200;
    Peer1 client(dial(bench.port));
    client.send(std::string(kConnectHead) + "early ");
    CHECK(bench.run([&] { return client.has("\r\n\r\n") && client.ended; }));
    CHECK_EQ(without_date(client.received).substr(0, 34), "HTTP/1.1 405 Method Not Allowed\r\na");
    CHECK(client.has("allow: GET, "));
    // Who asks for a WebSocket reads a page as a page.
    Peer1 upgrade(dial(bench.port));
    upgrade.send(kWebSocketHead);
    CHECK(bench.run([&] { return upgrade.has("HTTP/1.1 200 OK\r\n"); }));
  }
  Http2Bench bench;
  bench.change = answer_200;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  auto typed = kConnectFields;
  typed.emplace_back("content-type", "application/grpc");
  client.raw(client.headers(1, kConnectFields, false));
  client.raw(client.headers(3, kWebSocketFields, false));
  client.raw(client.headers(5, typed, false));
  for (const uint32_t id : {1, 3, 5}) {
    CHECK(bench.run([&] { return client.at(id).ended; }));
    CHECK_EQ(client.at(id).fields[":status"], "405");
  }
  client.raw(client.get(7));
  CHECK(bench.run([&] { return client.at(7).ended; }));
  CHECK_EQ(client.at(7).fields[":status"], "200");
}

TEST("tunnel: a CONNECT that names no port, or has content, is refused") {
  const char* heads[] = {"CONNECT db.test HTTP/1.1\r\nHost: db.test\r\n\r\n",
                         "CONNECT db.test: HTTP/1.1\r\nHost: db.test\r\n\r\n",
                         "CONNECT db.test:0 HTTP/1.1\r\nHost: db.test\r\n\r\n",
                         "CONNECT db.test:65536 HTTP/1.1\r\nHost: db.test\r\n\r\n",
                         "CONNECT [::1] HTTP/1.1\r\nHost: db.test\r\n\r\n",
                         "CONNECT u@db.test:1 HTTP/1.1\r\nHost: db.test\r\n\r\n",
                         "CONNECT /path HTTP/1.1\r\nHost: db.test\r\n\r\n",
                         "CONNECT http://db.test:1/ HTTP/1.1\r\nHost: db.test\r\n\r\n",
                         "CONNECT * HTTP/1.1\r\nHost: db.test\r\n\r\n",
                         "CONNECT db.test:1 HTTP/1.1\r\nHost: db.test:1\r\nContent-Length: 1\r\n\r\nx",
                         "CONNECT db.test:1 HTTP/1.1\r\nHost: db.test:1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                         "CONNECT db.test:1 HTTP/1.1\r\n\r\n",
                         "GET db.test:1 HTTP/1.1\r\nHost: db.test:1\r\n\r\n"};
  Http2Bench bench({}, Protocol::kOpaque, Protocol::kHttp1);
  for (const char* head : heads) {
    Peer1 client(dial(bench.port));
    client.send(head);
    CHECK(bench.run([&] { return client.has("HTTP/1.1 400 "); }));
  }
  CHECK_EQ(bench.counter(Counter::UpstreamConnects), 0.0);
  Http2Bench second({}, Protocol::kOpaque);
  Peer2 client(dial(second.port), http2::Role::kClient);
  client.raw(client.headers(1, {{":method", "CONNECT"}, {":authority", "db.test"}}, false));
  CHECK(second.run([&] { return client.at(1).resets == 1; }));
  client.raw(client.headers(3, {{":method", "CONNECT"}, {":authority", "db.test:1"}, {"content-length", "1"}}, false));
  CHECK(second.run([&] { return client.at(3).fields[":status"] == "400"; }));
  CHECK_EQ(second.counter(Counter::UpstreamConnects), 0.0);
}

}  // namespace
}  // namespace weft
