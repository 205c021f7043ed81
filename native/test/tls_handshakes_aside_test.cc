// Handshakes beside the loop, while tenants share it.
#include <vector>

#include "core/tls/tls_context.h"
#include "loopback.h"
#include "tls_loopback.h"
#include "tls_pki.h"

namespace weft {
namespace {

using test::Bench;
using test::kGet;
using test::Peer1;
using test::TlsClient;

uint64_t test_clock_ns = 1'000'000'000;
uint64_t test_clock() { return test_clock_ns; }

// Plain listeners 1 and 2 of tenants 1 and 2, TLS listeners 3 and 4 of the same. Whoever was at work in the last 100 ms still is while the
// clock stands.
struct Site {
  test::Authority authority;
  Bench bench;
  EndpointTls endpoint;
  std::shared_ptr<const ListenerTls> tls;
  uint16_t plain_of_other = 0;
  uint16_t tls_port = 0;
  uint16_t tls_port_of_other = 0;

  explicit Site(EngineLimits limits = {}) : bench(limits, test_clock) {
    bench.decide = [](int32_t) { return Bench::to(-204); };
    const test::Leaf leaf = authority.leaf("DNS:a.test");
    TlsContextSpec server;
    server.certificates = {{{"a.test"}, leaf.chain, leaf.key}};
    std::string error;
    tls = std::make_shared<ListenerTls>(ListenerTls{TlsMode::kTerminate, TlsContext::build(server, &error)});
    TlsContextSpec client;
    client.role = TlsRole::kClient;
    client.trust = authority.pem();
    endpoint = EndpointTls{TlsContext::build(client, &error), "a.test", {}, 0};
    endpoint.set_key();
    TableSpec tables;
    tables.listener_tenants = {0, 1, 2, 1, 2};
    bench.reactor->use_tables(Tables::build(tables, &error));
    plain_of_other = bench.listen(2, Protocol::kHttp1);
    tls_port = listen_tls(3);
    tls_port_of_other = listen_tls(4);
  }
  uint16_t listen_tls(int32_t id) const {
    ListenerSpec spec;
    spec.id = id;
    parse_address("127.0.0.1", &spec.address);
    spec.tls = tls;
    std::string error;
    return static_cast<uint16_t>(bench.reactor->listen(spec, &error));
  }
  void share() {
    for (const uint16_t port : {bench.port, plain_of_other}) {
      Peer1 client(Peer1::dial(port));
      client.send(kGet);
      CHECK(bench.run([&] { return client.has("204"); }));
    }
  }
  bool shake(TlsClient& client) {
    return bench.run([&] { return client.shake() == TlsSession::Step::Done; });
  }
  bool ask(TlsClient& client) {
    const std::string request = kGet;
    client.exchange([&] { return client.tls->write(&client.wire, request.data(), request.size(), nullptr, 0); });
    std::string got;
    return bench.run([&] {
      uint8_t bytes[4096];
      const int64_t count = client.exchange([&] { return client.tls->read(&client.wire, bytes, sizeof(bytes)); });
      if (count > 0) got.append(reinterpret_cast<char*>(bytes), static_cast<size_t>(count));
      return got.find("204") != std::string::npos;
    });
  }
  double steps_aside() const { return bench.counter(Counter::TlsHandshakeStepsAside); }
};

TEST("handshakes aside: alone a tenant's are turns of the loop, beside another's work they are not; both are served") {
  Site site;
  TlsClient before(site.tls_port, site.endpoint);
  CHECK(site.shake(before));
  // Since anybody else had a turn.
  test_clock_ns += 11'000'000'000;
  const double steps_before = site.steps_aside();
  TlsClient alone(site.tls_port, site.endpoint);
  CHECK(site.shake(alone));
  CHECK(site.ask(alone));
  CHECK_EQ(site.steps_aside(), steps_before);
  site.share();
  TlsClient aside(site.tls_port, site.endpoint);
  CHECK(site.shake(aside));
  CHECK(site.ask(aside));
  // ClientHello, and Finished.
  CHECK_EQ(site.steps_aside(), steps_before + 2);
  CHECK(site.bench.counter(Counter::TlsHandshakeCpuUs) > 0);
}

TEST("handshakes aside: a tenant's first waits for one of another's hundred, not for all") {
  Site site;
  site.share();
  std::vector<std::unique_ptr<TlsClient>> flood;
  for (int i = 0; i < 100; i++) flood.push_back(std::make_unique<TlsClient>(site.tls_port, site.endpoint));
  for (const auto& client : flood) client->shake();
  for (int turn = 0; turn < 20; turn++) site.bench.reactor->run_once(0);
  TlsClient victim(site.tls_port_of_other, site.endpoint);
  CHECK(site.shake(victim));
  size_t done = 0;
  for (const auto& client : flood) done += client->shake() == TlsSession::Step::Done ? 1 : 0;
  CHECK(done < 50);
  for (const auto& client : flood) CHECK(site.shake(*client));
  CHECK(site.bench.reactor->tenants().get(1, TenantWord::CpuUs) > site.bench.reactor->tenants().get(2, TenantWord::CpuUs));
}

TEST("handshakes aside: what fails is counted, and the client hears the alert") {
  Site site;
  site.share();
  Peer1 plain(Peer1::dial(site.tls_port));
  plain.send(kGet);
  CHECK(site.bench.run([&] { return plain.read(), plain.ended || plain.reset; }));
  CHECK_EQ(site.bench.counter(Counter::TlsNotTls), 1.0);
  EndpointTls other = site.endpoint;
  other.server_name = "b.test";
  TlsClient client(site.tls_port, other);
  CHECK(site.bench.run([&] { return client.shake() == TlsSession::Step::Failed; }));
  CHECK_EQ(static_cast<int>(client.tls->failure()), static_cast<int>(TlsFailure::PeerAlert));
  CHECK_EQ(site.bench.counter(Counter::TlsUnknownServerName), 1.0);
}

TEST("handshakes aside: clients that leave while theirs waits or is under way, and an engine that closes, leave nothing behind") {
  for (int closes = 0; closes < 2; closes++) {
    Site site;
    site.share();
    for (int round = 0; round < 10; round++) {
      std::vector<std::unique_ptr<TlsClient>> clients;
      for (int i = 0; i < 5; i++) clients.push_back(std::make_unique<TlsClient>(site.tls_port, site.endpoint));
      for (const auto& client : clients) client->shake();
      for (int turn = 0; turn < round; turn++) site.bench.reactor->run_once(0);
    }
    if (closes == 1) {
      site.bench.reactor->close();
      continue;
    }
    CHECK(site.bench.run([&] { return site.bench.reactor->open_downstream() == 0; }));
    TlsClient after(site.tls_port, site.endpoint);
    CHECK(site.shake(after));
  }
}

TEST("handshakes aside: a request that comes while the one to its endpoint is under way is not sent there in plain text") {
  Site site;
  Bench& bench = site.bench;
  TableSpec tables;
  tables.listener_tenants = {0, 1, 2, 1, 2, 1};
  tables.endpoints = {test::endpoint_at(0, "127.0.0.1", bench.upstream_port), test::endpoint_at(1, "127.0.0.1", bench.dead)};
  tables.endpoints[0].tls = std::make_shared<const EndpointTls>(site.endpoint);
  std::string error;
  bench.reactor->use_tables(Tables::build(tables, &error));
  const uint16_t port = bench.listen(5, Protocol::kDetect);
  site.share();
  // In vain first, so that the client's own connection has no event left: its bytes come behind the turn that gives the handshake away.
  int decisions = 0;
  bench.decide = [&](int32_t) { return Bench::to(decisions++ == 0 ? 1 : 0, kRetry); };
  Peer1 client(Peer1::dial(port));
  CHECK(bench.run([&] { return bench.counter(Counter::UpstreamConnects) == 2; }));
  client.send(kGet);
  Peer1 dialled(test::accept_upstream(bench));
  Peer1 upstream(test::accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.read(), !upstream.received.empty(); }));
  CHECK_EQ(upstream.received.substr(0, 1), "\x16");
  dialled.read();
  CHECK(!dialled.received.starts_with("GET"));
}

}  // namespace
}  // namespace weft
