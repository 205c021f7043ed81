// TLS records of one byte each, through the whole reactor: a flood that costs its sender 22 bytes a byte, and us a decryption.
#include "core/tls/tls_context.h"
#include "http2_loopback.h"
#include "http2_notation.h"
#include "tls_loopback.h"
#include "tls_pki.h"

namespace weft::test {
namespace {

constexpr size_t kBody = 20'000;
constexpr size_t kFrame = 100;
/// In one run of the loop: its tick of 1 ms below is 10 looks at the clock, one each 16 records.
constexpr size_t kMostAtOnce = 1'000;

uint64_t now_ns = 0;
uint64_t look_ns = 0;

std::string request_of(bool is_http2, const std::string& body) {
  if (!is_http2) return "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  const std::string head =
      FrameScript::bytes_of("PREFACE\nSETTINGS 0\nHEADERS 1 END_HEADERS\n  \\x83\\x86\\x84\n  :authority: a.test\n  content-length: " +
                            std::to_string(body.size()));
  std::string frames;
  for (size_t at = 0; at < body.size(); at += kFrame) frames += Peer2::data(1, body.substr(at, kFrame), at + kFrame >= body.size());
  return head + frames;
}

TEST("TLS reactor: a request in records of one byte arrives whole, over HTTP/1 and HTTP/2, and no turn takes more than its time") {
  const Authority authority;
  const Leaf leaf = authority.leaf("DNS:a.test");
  std::string error;
  TlsContextSpec spec;
  spec.certificates = {{{}, leaf.chain, leaf.key}};
  spec.alpn = {"h2", "http/1.1"};
  ListenerSpec listener;
  listener.id = 2;
  parse_address("127.0.0.1", &listener.address);
  listener.protocol = Protocol::kHttp;
  listener.tls = std::make_shared<ListenerTls>(ListenerTls{TlsMode::kTerminate, TlsContext::build(spec, &error)});
  std::string body;
  for (size_t i = 0; i < kBody; i++) body += static_cast<char>('a' + i % 23);
  for (const bool is_http2 : {false, true}) {
    now_ns = 1'000'000'000'000;
    look_ns = 0;
    Http2Bench bench({}, Protocol::kHttp1, Protocol::kHttp, [] { return now_ns += look_ns; });
    TlsContextSpec client_spec;
    client_spec.role = TlsRole::kClient;
    client_spec.trust = authority.pem();
    client_spec.alpn = {is_http2 ? "h2" : "http/1.1"};
    EndpointTls endpoint{TlsContext::build(client_spec, &error), "a.test", {}, 0};
    endpoint.set_key();
    TlsClient client(static_cast<uint16_t>(bench.reactor->listen(listener, &error)), endpoint);
    CHECK(bench.run([&] { return client.shake() == TlsSession::Step::Done; }));
    CHECK_EQ(std::string(client.tls->alpn()), is_http2 ? "h2" : "http/1.1");
    std::string unsent = client.seal(request_of(is_http2, body), 1);
    // Time passes with each look at the clock.
    look_ns = 100'000;
    Peer1 upstream(-1);
    size_t most = 0;
    const auto has_all = [&] {
      const size_t head = upstream.received.find("\r\n\r\n");
      return head != std::string::npos && upstream.received.substr(head + 4) == body;
    };
    for (int turn = 0; turn < 10'000 && !has_all(); turn++) {
      const ssize_t sent = ::send(client.fd, unsent.data(), unsent.size(), MSG_NOSIGNAL);
      if (sent > 0) unsent.erase(0, static_cast<size_t>(sent));
      bench.reactor->run_once(turn < 1'000 ? 0 : 1);
      if (upstream.fd < 0) upstream.fd = accept4(bench.upstream_listener, nullptr, nullptr, SOCK_NONBLOCK);
      const size_t before = upstream.received.size();
      if (upstream.fd >= 0) upstream.read();
      most = std::max(most, upstream.received.size() - before);
    }
    CHECK(has_all());
    CHECK(most < kMostAtOnce);
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    CHECK(bench.run([&] { return bench.outstanding[0] == 0; }));
  }
}

}  // namespace
}  // namespace weft::test
