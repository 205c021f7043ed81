// What tenants that share a reactor do to each other.
#include <sys/epoll.h>

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

uint64_t test_clock_ns = 0;
uint64_t test_clock() { return test_clock_ns; }
uint64_t ticking_clock() { return test_clock_ns += 1'000; }

// Before it the two had nothing to do with each other for long enough.
constexpr uint64_t kLongAgoNs = 11'000'000'000;

// A socket that has something to say, which takes as long as a send.
class Talker : public Connection {
 public:
  static constexpr uint64_t kFlushNs = 20'000;

  Talker(Reactor* reactor, TenantId tenant) : Connection(reactor, -1) {
    int ends[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    fd_ = ends[0];
    peer = ends[1];
    tenant_ = tenant;
    reactor->adopt(this);
  }
  ~Talker() override { ::close(peer); }
  void on_events(uint32_t events) override {
    if ((events & EPOLLIN) == 0) return;
    heard_ns = test_clock_ns;
    for (Talker* other : tells) reactor_->flush_later(other);
  }
  void on_flush() override {
    test_clock_ns += kFlushNs;
    flushes++;
  }
  void wake() const { CHECK_EQ(::send(peer, "x", 1, 0), ssize_t{1}); }

  int peer = -1;
  std::vector<Talker*> tells;
  int flushes = 0;
  uint64_t heard_ns = 0;
};

TEST("reactor: what one turn gives a hundred connections to send lets another tenant in after a tick's time") {
  test_clock_ns = kLongAgoNs;
  Bench bench({}, test_clock);
  auto* teller = new Talker(bench.reactor.get(), 1);
  auto* victim = new Talker(bench.reactor.get(), 2);
  for (int i = 0; i < 100; i++) teller->tells.push_back(new Talker(bench.reactor.get(), 1));
  for (int i = 0; i < 4; i++) bench.reactor->run_once(0);
  teller->wake();
  bench.reactor->run_once(0);
  CHECK(teller->heard_ns != 0);
  const uint64_t woken_ns = test_clock_ns;
  victim->wake();
  bench.reactor->run_once(0);
  CHECK(victim->heard_ns != 0);
  // The turn under way, and no more.
  CHECK(victim->heard_ns - woken_ns <= Talker::kFlushNs);
  CHECK(test_clock_ns - kLongAgoNs < 20 * Talker::kFlushNs);
  for (int i = 0; i < 200; i++) bench.reactor->run_once(0);
  for (const Talker* each : teller->tells) CHECK_EQ(each->flushes, 1);
}

TEST("reactor: alone a tenant's sends all go out in their tick") {
  test_clock_ns = kLongAgoNs;
  Bench bench({}, test_clock);
  auto* teller = new Talker(bench.reactor.get(), 1);
  for (int i = 0; i < 100; i++) teller->tells.push_back(new Talker(bench.reactor.get(), 1));
  bench.reactor->run_once(0);
  test_clock_ns += kLongAgoNs;
  teller->wake();
  bench.reactor->run_once(0);
  for (const Talker* each : teller->tells) CHECK_EQ(each->flushes, 1);
}

// A socket whose peer reads when it is asked to.
class Sender : public Connection {
 public:
  Sender(Reactor* reactor, TenantId tenant) : Connection(reactor, -1, tenant) {
    int ends[2];
    CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    for (const int end : ends) {
      const int bytes = 1 << 20;
      setsockopt(end, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes));
    }
    fd_ = ends[0];
    peer.fd = ends[1];
    reactor->adopt(this);
  }
  void on_events(uint32_t events) override {
    if ((events & EPOLLOUT) != 0) CHECK(flush());
  }
  size_t arrived() {
    peer.read();
    return peer.received.size();
  }

  Peer1 peer{-1};
};

TEST("reactor: while tenants share it a connection sends 64 KiB in a turn, of one write and of what waits; alone all at once") {
  const std::string much(200 * 1024, 'x');
  for (const bool with_other : {true, false}) {
    test_clock_ns = kLongAgoNs;
    // A look at the clock takes more than a tick.
    Bench bench({}, [] { return test_clock_ns += 2 * Talker::kFlushNs; });
    auto* sender = new Sender(bench.reactor.get(), 1);
    auto* other = new Sender(bench.reactor.get(), 2);
    bench.reactor->run_once(0);
    if (!with_other) test_clock_ns += kLongAgoNs;
    bench.reactor->run_once(0);
    CHECK(sender->write(much.data(), 1, much.data() + 1, much.size() - 1));
    for (size_t sent = with_other ? 64 * 1024 : much.size(); sent < much.size(); sent += 64 * 1024) {
      CHECK_EQ(sender->arrived(), sent);
      bench.reactor->run_once(0);
    }
    CHECK_EQ(sender->arrived(), much.size());
    CHECK(sender->output().empty());
    CHECK_EQ(other->arrived(), size_t{0});
  }
}

TEST("reactor: thousands of timers that come at one moment take no longer than a tick before others have their turn") {
  static uint64_t step_ns;
  step_ns = 0;
  test_clock_ns = kLongAgoNs;
  Bench bench({}, [] { return test_clock_ns += step_ns; });
  std::vector<std::unique_ptr<Peer1>> clients;
  for (int i = 0; i < 60; i++) clients.push_back(std::make_unique<Peer1>(Peer1::dial(bench.port)));
  for (const auto& client : clients) client->send("GET ");
  CHECK(bench.run([&] { return bench.counter(Counter::DownstreamAccepted) == 60; }));
  for (int i = 0; i < 4; i++) bench.reactor->run_once(0);
  test_clock_ns += uint64_t{bench.reactor->limits().header_timeout_ms + 100} * 1'000'000;
  step_ns = 2'000'000;
  bench.reactor->run_once(0);
  const double at_once = bench.counter(Counter::TimeoutsHeader);
  CHECK(at_once > 0 && at_once <= 16);
  CHECK(bench.run([&] { return bench.counter(Counter::TimeoutsHeader) == 60; }));
}

// Requests that come at one moment, on connections of tenant 1; how many decisions are made at once, each of which takes `cost_ns`.
double requests_per_call(bool with_other, uint64_t cost_ns = 0, uint64_t pause_ns = 0) {
  test_clock_ns = kLongAgoNs;
  Bench bench({}, test_clock);
  bench.decide = [cost_ns](int32_t) {
    test_clock_ns += cost_ns;
    return Bench::to(-204);
  };
  std::vector<std::unique_ptr<Peer1>> clients;
  for (int i = 0; i < 64; i++) clients.push_back(std::make_unique<Peer1>(Peer1::dial(bench.port)));
  for (int i = 0; i < 8; i++) bench.reactor->run_once(0);
  test_clock_ns += kLongAgoNs;
  Peer1 other(Peer1::dial(bench.listen(2, Protocol::kHttp1)));
  if (with_other) {
    other.send(kGet);
    CHECK(bench.run([&] { return other.has("204"); }));
    clients[0]->send(kGet);
    CHECK(bench.run([&] { return clients[0]->has("204"); }));
  }
  test_clock_ns += pause_ns;
  const double before = bench.counter(Counter::DecideCalls);
  for (const auto& client : clients) client->send(kGet);
  CHECK(bench.run([&] { return clients[63]->has("204"); }));
  return 64 / (bench.counter(Counter::DecideCalls) - before);
}

TEST("reactor: while tenants share it, no more than 8 requests are decided and sent on between two looks at who is ready") {
  CHECK(requests_per_call(true) <= 8);
  CHECK(requests_per_call(false) > 30);
}

TEST("reactor: tenants share it for seconds after the last word of all but one, not for ever") {
  CHECK(requests_per_call(true, 0, 5'000'000'000) <= 8);
  CHECK(requests_per_call(true, 0, kLongAgoNs) > 30);
}

TEST("reactor: what is decided and sent on at once takes no longer than a tick, if each request takes long") {
  CHECK(requests_per_call(true, 3'000) > 5);
  CHECK(requests_per_call(true, 25'000) < 2);
}

TEST("reactor: what a tenant asks that is new is decided before the turns of one that floods") {
  test_clock_ns = kLongAgoNs;
  Bench bench({}, ticking_clock);
  // Of each decision: the call that it was made by, and its listener.
  std::vector<std::pair<double, int32_t>> made;
  bench.decide = [&](int32_t) {
    made.emplace_back(bench.counter(Counter::DecideCalls), bench.word(Descriptor::ListenerId));
    return Bench::to(-204);
  };
  Peer1 victim(Peer1::dial(bench.listen(2, Protocol::kHttp1)));
  victim.send(kGet);
  CHECK(bench.run([&] { return victim.has("204"); }));
  std::string requests;
  for (int i = 0; i < 50; i++) requests += kGet;
  std::vector<std::unique_ptr<Peer1>> flood;
  for (int i = 0; i < 20; i++) flood.push_back(std::make_unique<Peer1>(Peer1::dial(bench.port)));
  for (const auto& client : flood) client->send(requests);
  for (int i = 0; i < 20; i++) bench.reactor->run_once(0);
  made.clear();
  victim.send(kGet);
  for (int i = 0; i < 20; i++) bench.reactor->run_once(0);
  int with_victim = 0;
  double call = -1;
  for (const auto& [by, listener] : made) call = listener == 2 ? by : call;
  for (const auto& [by, listener] : made) with_victim += by == call;
  CHECK(call >= 0);
  CHECK_EQ(with_victim, 1);
  CHECK(made.size() > 40);
}

TEST("reactor: an accepted connection is paid for by its tenant, and a common listener makes nobody share") {
  test_clock_ns = kLongAgoNs;
  Bench bench({}, ticking_clock);
  TableSpec tables;
  tables.sources = {"127.0.0.1"};
  tables.source_tenants = {3};
  std::string error;
  bench.reactor->use_tables(Tables::build(tables, &error));
  ListenerSpec spec;
  spec.id = 0;
  spec.kind = ListenerKind::Outbound;
  spec.protocol = Protocol::kHttp1;
  parse_address("127.0.0.1", &spec.address);
  const int fd = test::bound_socket(&spec.port);
  ::listen(fd, 16);
  CHECK(bench.reactor->adopt_listener(spec, fd, &error) > 0);
  bench.reactor->run_once(0);
  const int reads_alone = bench.reactor->reads_per_turn();
  Peer1 client(Peer1::dial(spec.port));
  bench.reactor->run_once(0);
  TenantAccounts& tenants = bench.reactor->tenants();
  CHECK_EQ(tenants.get(3, TenantWord::Connections), 1.0);
  CHECK(tenants.get(3, TenantWord::CpuUs) > 0);
  for (int i = 0; i < 4; i++) bench.reactor->run_once(0);
  // Tenant 3's turns and the listener's in turn.
  test_clock_ns += kLongAgoNs;
  Peer1 second(Peer1::dial(spec.port));
  for (int i = 0; i < 4; i++) bench.reactor->run_once(0);
  CHECK_EQ(tenants.get(3, TenantWord::Connections), 2.0);
  CHECK_EQ(bench.reactor->reads_per_turn(), reads_alone);
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
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
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

TEST("byte queue: its memory is on its account, wherever it moves, until it holds none") {
  double one = 0;
  double other = 0;
  ByteQueue queue(&one);
  queue.append("0123456789", 10);
  CHECK(one >= 10);
  const double held = one;
  ByteQueue moved = std::move(queue);
  CHECK_EQ(one, held);
  ByteQueue its(&other);
  its.append("x", 1);
  its = std::move(moved);
  CHECK_EQ(one, 0.0);
  CHECK_EQ(other, held);
  its.set_account(&one);
  CHECK_EQ(one, held);
  its.consume(10);
  CHECK_EQ(one, 0.0);
  CHECK_EQ(other, 0.0);
  {
    ByteQueue dies(&one);
    dies.reserve(1000);
    CHECK(one >= 1000);
  }
  CHECK_EQ(one, 0.0);
}

// Sends what the socket takes from there on.
void push(const Peer1& peer, const std::string& text, size_t* sent) {
  const ssize_t count = ::send(peer.fd, text.data() + *sent, text.size() - *sent, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (count > 0) *sent += static_cast<size_t>(count);
}

TEST("reactor: a tenant at its limit of buffered bytes gets 503 and small buffers, loses nothing, and the others notice nothing") {
  EngineLimits limits;
  limits.max_tenant_buffered_bytes = 64 * 1024;
  Bench bench(limits);
  TenantAccounts& tenants = bench.reactor->tenants();
  Peer1 slow(Peer1::dial(bench.port));
  slow.send(kGet);
  Peer1 upstream(test::accept_upstream(bench));
  // More than the kernel keeps.
  constexpr size_t kBody = 32 << 20;
  const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(kBody) + "\r\n\r\n" + std::string(kBody, 'x');
  size_t sent = 0;
  CHECK(bench.run([&] { return push(upstream, answer, &sent), tenants.get(1, TenantWord::BufferedBytes) >= 64 * 1024; }));
  CHECK_EQ(bench.reactor->buffer_bytes(1), 16u * 1024);
  CHECK_EQ(bench.reactor->buffer_bytes(2), limits.max_buffered_bytes);

  Peer1 refused(Peer1::dial(bench.port));
  refused.send(kGet);
  CHECK(bench.run([&] { return refused.has("503") && refused.has("retry-after: 1\r\n"); }));
  CHECK_EQ(tenants.get(1, TenantWord::RefusedForBuffers), 1.0);
  Peer1 other(Peer1::dial(bench.listen(2, Protocol::kHttp1)));
  other.send(kGet);
  Peer1 upstream_of_other(test::accept_upstream(bench));
  CHECK(bench.run([&] { return upstream_of_other.has("\r\n\r\n"); }));
  upstream_of_other.send(test::kOk);
  CHECK(bench.run([&] { return other.has("ok"); }));
  CHECK_EQ(tenants.get(2, TenantWord::RefusedForBuffers), 0.0);

  for (int turn = 0; turn < 20'000 && slow.received.size() < kBody; turn++) {
    push(upstream, answer, &sent);
    bench.reactor->run_once(1);
    slow.read();
  }
  CHECK_EQ(slow.received.size() - slow.received.find("\r\n\r\n") - 4, kBody);
  CHECK(bench.run([&] { return tenants.get(1, TenantWord::BufferedBytes) == 0; }));
  CHECK_EQ(tenants.get(2, TenantWord::BufferedBytes), 0.0);
}

TEST("reactor: a head that is not whole is refused where its request would be: at its tenant's limit of buffered bytes") {
  EngineLimits limits;
  limits.max_tenant_buffered_bytes = 64 * 1024;
  Bench bench(limits);
  TenantAccounts& tenants = bench.reactor->tenants();
  const std::string part = "GET / HTTP/1.1\r\nHost: a\r\nx: " + std::string(24 * 1024, 'x');
  std::vector<std::unique_ptr<Peer1>> clients;
  for (int i = 0; i < 20; i++) {
    clients.push_back(std::make_unique<Peer1>(Peer1::dial(bench.port)));
    clients.back()->send(part);
  }
  const auto refused = [&] {
    return std::count_if(clients.begin(), clients.end(), [](const auto& client) {
      client->read();
      return client->has("503") && client->has("retry-after: 1\r\n") && client->ended;
    });
  };
  CHECK(bench.run([&] { return refused() >= 18; }));
  // What one of them may have read before the limit was reached, beside it.
  CHECK(tenants.get(1, TenantWord::BufferedBytes) <= 64 * 1024 + 2 * part.size());
  CHECK_EQ(tenants.get(1, TenantWord::RefusedForBuffers), static_cast<double>(refused()));
  Peer1 other(Peer1::dial(bench.listen(2, Protocol::kHttp1)));
  other.send("GET / HTTP/1.1\r\n");
  for (int turn = 0; turn < 5; turn++) bench.reactor->run_once(1);
  other.send("Host: a\r\n\r\n");
  Peer1 upstream(test::accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
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
