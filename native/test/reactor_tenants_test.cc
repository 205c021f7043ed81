// What tenants that share a reactor do to each other.
#include <vector>

#include "loopback.h"

namespace weft {
namespace {

using test::Bench;
using test::kGet;
using test::Peer1;

size_t answers(const Peer1& client) {
  size_t count = 0;
  for (size_t at = client.received.find("HTTP/1.1 "); at != std::string::npos; at = client.received.find("HTTP/1.1 ", at + 1)) count++;
  return count;
}

// Listener 1 is tenant 1's, listener 2 tenant 2's. Every request is answered by the proxy itself.
TEST("reactor: a tenant with one request does not wait for the thousands of another one") {
  Bench bench;
  bench.decide = [](int32_t) { return Bench::to(-204); };
  Peer1 victim(Peer1::dial(bench.listen(2, Protocol::kHttp1)));
  victim.send(kGet);
  CHECK(bench.run([&] { return victim.has("204"); }));
  victim.received.clear();

  std::string requests;
  for (int i = 0; i < 100; i++) requests += kGet;
  std::vector<std::unique_ptr<Peer1>> flood;
  for (int i = 0; i < 60; i++) flood.push_back(std::make_unique<Peer1>(Peer1::dial(bench.port)));
  for (const auto& client : flood) client->send(requests);
  // All that waits is in the queues.
  bench.reactor->run_once(0);
  bench.reactor->run_once(0);
  victim.send(kGet);
  for (int turn = 0; turn < 200 && !victim.has("204"); turn++) bench.reactor->run_once(5);
  CHECK(victim.has("204"));
  size_t served = 0;
  for (const auto& client : flood) {
    client->read();
    served += answers(*client);
  }
  CHECK(served < 3000);
  // Nobody starves either.
  for (int turn = 0; turn < 20'000 && served < 6000; turn++) {
    bench.reactor->run_once(1);
    served = 0;
    for (const auto& client : flood) client->read(), served += answers(*client);
  }
  CHECK_EQ(served, size_t{6000});
}

TEST("reactor: a tenant at its limit of requests gets 503 with Retry-After, the others notice nothing") {
  EngineLimits limits;
  limits.max_tenant_requests = 1;
  Bench bench(limits);
  Peer1 first(Peer1::dial(bench.port));
  Peer1 second(Peer1::dial(bench.port));
  Peer1 other(Peer1::dial(bench.listen(2, Protocol::kHttp1)));
  first.send(kGet);
  Peer1 upstream(test::accept_upstream(bench));
  second.send(kGet);
  CHECK(bench.run([&] { return second.has("503") && second.has("retry-after: 1\r\n"); }));
  other.send(kGet);
  Peer1 upstream_of_other(test::accept_upstream(bench));
  upstream_of_other.send(test::kOk);
  CHECK(bench.run([&] { return other.has("ok"); }));
  CHECK(upstream.has("\r\n\r\n"));
  upstream.send(test::kOk);
  CHECK(bench.run([&] { return first.has("ok"); }));
  // There is room again.
  second.received.clear();
  upstream.received.clear();
  second.send(kGet);
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  upstream.send(test::kOk);
  CHECK(bench.run([&] { return second.has("ok"); }));
  TenantAccounts& tenants = bench.reactor->tenants();
  CHECK_EQ(tenants.get(1, TenantWord::RefusedRequests), 1.0);
  CHECK_EQ(tenants.get(2, TenantWord::RefusedRequests), 0.0);
  CHECK_EQ(tenants.get(1, TenantWord::Requests), 0.0);
  CHECK_EQ(tenants.get(2, TenantWord::Requests), 0.0);
  CHECK(tenants.get(1, TenantWord::CpuUs) > 0);
}

TEST("reactor: a tenant at its limit of connections is refused more of them, the others are not") {
  EngineLimits limits;
  limits.max_tenant_connections = 2;
  Bench bench(limits);
  bench.decide = [](int32_t) { return Bench::to(-204); };
  TenantAccounts& tenants = bench.reactor->tenants();
  Peer1 first(Peer1::dial(bench.port));
  {
    Peer1 second(Peer1::dial(bench.port));
    CHECK(bench.run([&] { return tenants.get(1, TenantWord::Connections) == 2; }));
    Peer1 third(Peer1::dial(bench.port));
    CHECK(bench.run([&] { return third.read(), third.ended || third.reset; }));
  }
  CHECK_EQ(tenants.get(1, TenantWord::RefusedConnections), 1.0);
  Peer1 other(Peer1::dial(bench.listen(2, Protocol::kHttp1)));
  other.send(kGet);
  CHECK(bench.run([&] { return other.has("204"); }));
  CHECK(bench.run([&] { return tenants.get(1, TenantWord::Connections) == 1; }));
  Peer1 fourth(Peer1::dial(bench.port));
  fourth.send(kGet);
  CHECK(bench.run([&] { return fourth.has("204"); }));
  first.send(kGet);
  CHECK(bench.run([&] { return first.has("204"); }));
}

TEST("reactor: tenants share no upstream connection") {
  Bench bench;
  Peer1 one(Peer1::dial(bench.port));
  Peer1 two(Peer1::dial(bench.listen(2, Protocol::kHttp1)));
  one.send(kGet);
  Peer1 first(test::accept_upstream(bench));
  CHECK(bench.run([&] { return first.has("\r\n\r\n"); }));
  first.send(test::kOk);
  CHECK(bench.run([&] { return one.has("ok"); }));
  two.send(kGet);
  Peer1 second(test::accept_upstream(bench));
  CHECK(bench.run([&] { return second.has("\r\n\r\n"); }));
  second.send(test::kOk);
  CHECK(bench.run([&] { return two.has("ok"); }));
  CHECK_EQ(bench.counter(Counter::UpstreamConnects), 2.0);
}

}  // namespace
}  // namespace weft
