// PROXY protocol headers to endpoints: what they say, before what, and who shares a connection.
#include "core/sniff/proxy_protocol.h"
#include "core/tls/tls_context.h"
#include "loopback.h"

namespace weft {
namespace {

using test::accept_upstream;
using test::Bench;
using test::kGet;
using test::kOk;
using test::Peer1;

void announce(Bench* bench, ProxyAnnouncement as, std::shared_ptr<const EndpointTls> tls = nullptr) {
  TableSpec spec;
  spec.hosts = {"a.test"};
  spec.endpoints = {test::endpoint_at(0, "127.0.0.1", bench->upstream_port)};
  spec.endpoints[0].proxy = as;
  spec.endpoints[0].tls = std::move(tls);
  std::string error;
  bench->reactor->use_tables(Tables::build(spec, &error));
}

uint16_t port_of(int fd) {
  Peer peer;
  local_peer(fd, &peer);
  return peer.port;
}

std::string v1_header(const Peer1& client, uint16_t listener) {
  return "PROXY TCP4 127.0.0.1 127.0.0.1 " + std::to_string(port_of(client.fd)) + " " + std::to_string(listener) + "\r\n";
}

TEST("proxy announcement: it comes before the first request of a connection, and only there") {
  Bench bench;
  announce(&bench, ProxyAnnouncement::kV1);
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  for (int turn = 0; turn < 2; turn++) {
    CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
    const std::string header = v1_header(client, bench.port);
    CHECK_EQ(upstream.received.substr(0, turn == 0 ? header.size() + 3 : 3), turn == 0 ? header + "GET" : "GET");
    upstream.received.clear();
    upstream.send(kOk);
    CHECK(bench.run([&] { return client.has("ok"); }));
    client.received.clear();
    if (turn == 0) client.send(kGet);
  }
  CHECK_EQ(bench.counter(Counter::UpstreamConnects), 1.0);
}

TEST("proxy announcement: another connection of the same address is another client") {
  Bench bench;
  announce(&bench, ProxyAnnouncement::kV1);
  for (int turn = 1; turn <= 2; turn++) {
    Peer1 client(Peer1::dial(bench.port));
    client.send(kGet);
    Peer1 upstream(accept_upstream(bench));
    CHECK(bench.run([&] { return upstream.has(v1_header(client, bench.port) + "GET"); }));
    upstream.send(kOk);
    CHECK(bench.run([&] { return client.has("ok"); }));
    CHECK_EQ(bench.counter(Counter::UpstreamConnects), static_cast<double>(turn));
  }
}

TEST("proxy announcement: tables that no longer want it give up what was pooled with it") {
  Bench bench;
  announce(&bench, ProxyAnnouncement::kV2);
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("a.test\r\n\r\n"); }));
  upstream.send(kOk);
  CHECK(bench.run([&] { return client.has("ok"); }));
  announce(&bench, ProxyAnnouncement::kNone);
  CHECK(bench.run([&] { return upstream.read(), upstream.ended; }));
}

TEST("proxy announcement: opaque connections begin with it, version 2 in binary") {
  Bench bench;
  announce(&bench, ProxyAnnouncement::kV2);
  Peer1 client(Peer1::dial(bench.opaque_port));
  client.send("ping");
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("ping"); }));
  ProxyHeader header;
  const auto* bytes = reinterpret_cast<const uint8_t*>(upstream.received.data());
  CHECK_EQ(parse_proxy_header(bytes, upstream.received.size(), &header), ProxyStatus::kComplete);
  CHECK_EQ(header.size + 4, upstream.received.size());
  CHECK_EQ(header.source.port, port_of(client.fd));
  CHECK_EQ(header.destination.port, bench.opaque_port);
}

TEST("proxy announcement: it waits for no word of a client whose server speaks first") {
  Bench bench;
  announce(&bench, ProxyAnnouncement::kV1);
  Peer1 client(Peer1::dial(bench.opaque_port));
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has(v1_header(client, bench.opaque_port)); }));
}

TEST("proxy announcement: before TLS, in plain text") {
  Bench bench;
  TlsContextSpec spec;
  spec.role = TlsRole::kClient;
  spec.verifies_server = false;
  std::string error;
  auto tls = std::make_shared<EndpointTls>(EndpointTls{TlsContext::build(spec, &error), "a.test", {}, 0});
  tls->set_key();
  announce(&bench, ProxyAnnouncement::kV1, tls);
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  // A handshake's record.
  CHECK(bench.run([&] { return upstream.has(v1_header(client, bench.port) + "\x16\x03"); }));
}

}  // namespace
}  // namespace weft
