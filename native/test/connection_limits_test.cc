// Limits of connections and of requests that wait for one: the whole reactor over loopback.
#include "attempts_bench.h"
#include "tunnel_requests.h"

namespace weft::test {
namespace {

ConnectionPolicy policy_of(const std::function<void(ConnectionPolicy*)>& set) {
  ConnectionPolicy policy;
  set(&policy);
  return policy;
}

struct LimitedBench : Bench {
  explicit LimitedBench(const std::function<void(ConnectionPolicy*)>& set, EngineLimits limits = {}) : Bench(limits) {
    connection_policy = policy_of(set);
    reload(true);
  }
  // But for what was refused.
  bool is_empty() const {
    return std::all_of(std::begin(connection_counts), std::end(connection_counts) - 2, [](int32_t count) { return count == 0; });
  }
};

void only_one(ConnectionPolicy* policy) { policy->max_connections = 1; }

TEST("connection limits: a request beyond waits until the connection is free, and then has that one") {
  LimitedBench bench(only_one);
  Peer1 one(Peer1::dial(bench.port)), two(Peer1::dial(bench.port));
  one.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  two.send(kGet);
  CHECK(bench.run([&] { return bench.pending() == 1; }));
  CHECK_EQ(bench.connections(), 1);
  upstream.received.clear();
  upstream.send(kOk);
  CHECK(bench.run([&] { return one.has("ok") && upstream.has("\r\n\r\n"); }));
  CHECK_EQ(bench.pending(), 0);
  upstream.send(kOk);
  CHECK(bench.run([&] { return two.has("ok"); }));
  CHECK_EQ(bench.counter(Counter::UpstreamConnects), 1.0);
  bench.reactor->close();
  CHECK(bench.is_empty());
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("connection limits: where as many wait as may the next one is answered 503 UO at once") {
  LimitedBench bench([](ConnectionPolicy* policy) {
    policy->max_connections = 1;
    policy->max_pending = 1;
  });
  Peer1 one(Peer1::dial(bench.port)), two(Peer1::dial(bench.port)), three(Peer1::dial(bench.port));
  one.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  two.send(kGet);
  CHECK(bench.run([&] { return bench.pending() == 1; }));
  three.send(kGet);
  CHECK(bench.run([&] { return three.has("503"); }));
  CHECK(three.has("x-envoy-overloaded: true"));
  CHECK_EQ(bench.counter(Counter::UpstreamWaitOverflows), 1.0);
  CHECK_EQ(bench.service()[LimitCounts::kRefusedRequests], 1);
  // Who waited and leaves makes room for another.
  two.close();
  CHECK(bench.run([&] { return bench.pending() == 0; }));
  three.received.clear();
  three.send(kGet);
  CHECK(bench.run([&] { return bench.pending() == 1; }));
  upstream.received.clear();
  upstream.send(kOk);
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  upstream.send(kOk);
  CHECK(bench.run([&] { return three.has("\r\n\r\nok"); }));
  bench.reactor->close();
  CHECK(bench.is_empty());
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("connection limits: a connection that ends makes room for a new one, and so does one of another worker") {
  LimitedBench bench(only_one);
  Peer1 one(Peer1::dial(bench.port)), two(Peer1::dial(bench.port));
  one.send(kGet);
  {
    Peer1 upstream(accept_upstream(bench));
    CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
    two.send(kGet);
    CHECK(bench.run([&] { return bench.pending() == 1; }));
    upstream.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    CHECK(bench.run([&] { return one.has("ok"); }));
  }
  {
    Peer1 upstream(accept_upstream(bench));
    CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
    upstream.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    CHECK(bench.run([&] { return two.has("ok") && bench.connections() == 0; }));
  }
  // As if another worker had one open.
  bench.service()[LimitCounts::kOpen]++;
  one.received.clear();
  one.send(kGet);
  CHECK(bench.run([&] { return bench.pending() == 1; }));
  bench.service()[LimitCounts::kOpen]--;
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  upstream.send(kOk);
  CHECK(bench.run([&] { return one.has("ok"); }));
  // It rests, and another worker's request waits for its place.
  bench.service()[LimitCounts::kWaiting]++;
  bench.connection_counts[0]++;
  CHECK(bench.run([&] { return bench.connections() == 0; }));
  bench.service()[LimitCounts::kWaiting]--;
  bench.connection_counts[0]--;
  bench.reactor->close();
  CHECK(bench.is_empty());
}

TEST("connection limits: what rests at one endpoint gives its place to a request for another of the same service") {
  AttemptsBench attempts(RetrySpec{}, Protocol::kHttp1, {}, policy_of(only_one));
  Bench& bench = attempts.bench;
  Peer1 client(Peer1::dial(bench.port));
  for (const int which : {0, 1, 0}) {
    attempts.first = which;
    client.received.clear();
    client.send(kGet);
    Peer1 upstream(attempts.accept(which));
    CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
    upstream.send(kOk);
    CHECK(bench.run([&] { return client.has("ok"); }));
    CHECK_EQ(bench.connections(), 1);
    // Left open, so that the engine must close it.
    upstream.fd = -1;
  }
}

TEST("connection limits: a CONNECT that needs a new connection has the place of one that rests") {
  AttemptsBench attempts(RetrySpec{}, Protocol::kOpaque, {}, policy_of(only_one));
  Bench& bench = attempts.bench;
  {
    Peer1 client(Peer1::dial(bench.port));
    client.send(kGet);
    Peer1 upstream(attempts.accept(0));
    CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
    upstream.send(kOk);
    CHECK(bench.run([&] { return client.has("ok"); }));
    Peer1 other(Peer1::dial(bench.port));
    other.send(kConnectHead);
    Peer1 tunnel(attempts.accept(0));
    CHECK(tunnel.fd >= 0);
    CHECK(bench.run([&] { return other.has("200 OK") && (upstream.read(), upstream.ended); }));
    CHECK_EQ(bench.connections(), 1);
    CHECK_EQ(bench.counter(Counter::UpstreamWaits), 0.0);
  }
  CHECK(bench.run([&] { return bench.connections() == 0 && bench.pending() == 0; }));
  CHECK_EQ(bench.counter(Counter::UpstreamOpen), 0.0);
  CHECK(attempts.is_accounted());
}

TEST("connection limits: an endpoint's own limit is for it alone") {
  AttemptsBench attempts(RetrySpec{}, Protocol::kHttp1, {}, policy_of([](ConnectionPolicy* policy) {
                           policy->max_endpoint_connections = 1;
                           policy->max_endpoint_pending = 0;
                         }));
  Bench& bench = attempts.bench;
  Peer1 one(Peer1::dial(bench.port)), two(Peer1::dial(bench.port)), three(Peer1::dial(bench.port));
  one.send(kGet);
  Peer1 first(attempts.accept(0));
  CHECK(bench.run([&] { return first.has("\r\n\r\n"); }));
  two.send(kGet);
  CHECK(bench.run([&] { return two.has("503"); }));
  attempts.first = 1;
  three.send(kGet);
  Peer1 second(attempts.accept(1));
  CHECK(bench.run([&] { return second.has("\r\n\r\n"); }));
  CHECK_EQ(bench.connections(), 2);
}

// Clients of two tenants share no connection, and here there may be one.
TEST("connection limits: a connection that is busy all the time gives its place to another client's after a turn") {
  LimitedBench bench(only_one);
  Peer1 other(Peer1::dial(bench.listen(7, Protocol::kHttp1)));
  std::vector<std::unique_ptr<Peer1>> busy;
  for (int i = 0; i < 3; i++) {
    busy.push_back(std::make_unique<Peer1>(Peer1::dial(bench.port)));
    busy.back()->send(kGet);
  }
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return bench.pending() == 2; }));
  other.send(kGet);
  CHECK(bench.run([&] { return bench.pending() == 3; }));
  int answered = 0;
  const auto answer_one = [&](Peer1* at) {
    CHECK(bench.run([&] { return at->has("\r\n\r\n"); }));
    at->received.clear();
    at->send(kOk);
    answered++;
  };
  const auto ask_again = [&] {
    Peer1* answered_one = nullptr;
    const bool is_answered = bench.run([&] {
      for (const auto& client : busy)
        if (answered_one == nullptr && client->has("ok")) answered_one = client.get();
      return answered_one != nullptr;
    });
    if (!is_answered) return false;
    answered_one->received.clear();
    answered_one->send(kGet);
    return true;
  };
  while (answered < 32) {
    answer_one(&upstream);
    CHECK(ask_again());
  }
  Peer1 next(accept_upstream(bench));
  answer_one(&next);
  CHECK(bench.run([&] { return other.has("ok"); }));
  CHECK_EQ(bench.connections(), 1);
  bench.reactor->close();
  CHECK(bench.is_empty());
}

TEST("connection limits: so many requests a connection, and no more") {
  LimitedBench bench([](ConnectionPolicy* policy) { policy->max_requests = 2; });
  Peer1 client(Peer1::dial(bench.port));
  for (int round = 0; round < 2; round++) {
    Peer1 upstream(-1);
    for (int request = 0; request < 2; request++) {
      client.received.clear();
      client.send(kGet);
      if (request == 0) upstream.fd = accept_upstream(bench);
      upstream.received.clear();
      CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
      upstream.send(kOk);
      CHECK(bench.run([&] { return client.has("ok"); }));
    }
    CHECK(bench.run([&] {
      upstream.read();
      return upstream.ended || upstream.reset;
    }));
  }
  CHECK_EQ(bench.counter(Counter::UpstreamConnects), 2.0);
}

TEST("connection limits: a connection that is not HTTP is reset where it would be one too many") {
  LimitedBench bench(only_one);
  Peer1 one(Peer1::dial(bench.opaque_port));
  one.send("first");
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("first"); }));
  Peer1 two(Peer1::dial(bench.opaque_port));
  CHECK(bench.run([&] {
    two.read();
    return two.reset || two.ended;
  }));
  CHECK_EQ(bench.service()[LimitCounts::kRefusedConnections], 1);
  one.close();
  upstream.close();
  CHECK(bench.run([&] { return bench.is_empty(); }));
}

TEST("connection limits: HTTP/2 waits for a stream of the one connection that may be") {
  AttemptsBench attempts(RetrySpec{}, Protocol::kHttp2, {}, policy_of([](ConnectionPolicy* policy) {
                           policy->max_connections = 1;
                           policy->max_streams = 1;
                           policy->max_pending = 1;
                         }));
  Bench& bench = attempts.bench;
  Peer2 client(dial(bench.listen(7, Protocol::kHttp2)), http2::Role::kClient);
  client.raw(client.get(1));
  Peer2 upstream(attempts.accept(0), http2::Role::kServer);
  CHECK(bench.run([&] { return upstream.at(1).ended; }));
  client.raw(client.get(3));
  CHECK(bench.run([&] { return bench.pending() == 1; }));
  client.raw(client.get(5));
  CHECK(bench.run([&] { return client.at(5).ended; }));
  CHECK_EQ(client.at(5).fields[":status"], "503");
  upstream.raw(upstream.ok(1, true));
  CHECK(bench.run([&] { return upstream.at(3).ended && client.at(1).ended; }));
  CHECK_EQ(bench.pending(), 0);
  upstream.raw(upstream.ok(3, true));
  CHECK(bench.run([&] { return client.at(3).ended; }));
  CHECK_EQ(bench.connections(), 1);
  bench.reactor->close();
  CHECK(attempts.is_accounted());
  CHECK_EQ(bench.connections() + bench.pending(), 0);
}

TEST("connection limits: one request a connection bounds nothing else, over HTTP/2 too") {
  AttemptsBench attempts(RetrySpec{}, Protocol::kHttp2, {}, policy_of([](ConnectionPolicy* policy) { policy->max_requests = 1; }));
  Bench& bench = attempts.bench;
  Peer2 client(dial(bench.listen(7, Protocol::kHttp2)), http2::Role::kClient);
  std::vector<std::unique_ptr<Peer2>> upstreams;
  for (uint32_t i = 0; i < 20; i++) {
    client.raw(client.get(1 + 2 * i));
    upstreams.push_back(std::make_unique<Peer2>(attempts.accept(0), http2::Role::kServer));
    CHECK(bench.run([&] { return upstreams.back()->at(1).ended; }));
  }
  CHECK_EQ(bench.connections(), 20);
  for (uint32_t i = 0; i < 20; i++) {
    upstreams[i]->raw(upstreams[i]->ok(1, true));
    CHECK(bench.run([&] { return client.at(1 + 2 * i).ended; }));
  }
  CHECK(bench.run([&] { return bench.connections() == 0; }));
}

TEST("connection limits: requests that wait are answered when their time is over, and leave nothing behind") {
  LimitedBench bench(only_one);
  bench.decide = [](int32_t) {
    Decision decision = Bench::to(0);
    decision.timeout_ms = 60;
    return decision;
  };
  Peer1 one(Peer1::dial(bench.port)), two(Peer1::dial(bench.port));
  one.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  two.send(kGet);
  CHECK(bench.run([&] { return two.has("504") && one.has("504"); }));
  CHECK(bench.run([&] { return bench.is_empty(); }));
  CHECK_EQ(bench.outstanding[0], 0);
}

constexpr uint32_t kDurationMs = 60;
void so_long(ConnectionPolicy* policy) { policy->max_duration_ms = kDurationMs; }

TEST("connection limits: a connection that rests is closed when it has lasted as long as it may") {
  for (const Protocol spoken : {Protocol::kHttp1, Protocol::kHttp2}) {
    AttemptsBench attempts(RetrySpec{}, spoken, {}, policy_of(so_long));
    Bench& bench = attempts.bench;
    Peer1 client(Peer1::dial(bench.port));
    client.send(kGet);
    const uint64_t began = bench.reactor->now_ms();
    Peer1 upstream(attempts.accept(0));
    if (spoken == Protocol::kHttp1) {
      upstream.send(kOk);
      CHECK(bench.run([&] { return client.has("ok"); }));
      CHECK(bench.run([&] { return upstream.read(), upstream.ended; }));
    } else {
      Peer2 peer(std::exchange(upstream.fd, -1), http2::Role::kServer);
      CHECK(bench.run([&] { return peer.at(1).ended; }));
      peer.raw(peer.headers(1, {{":status", "204"}}, true));
      CHECK(bench.run([&] { return client.has("204"); }));
      CHECK(bench.run([&] { return peer.read(), peer.closed; }));
    }
    CHECK(bench.reactor->now_ms() - began >= kDurationMs);
    CHECK_EQ(bench.counter(Counter::TimeoutsDuration), 1.0);
    CHECK_EQ(bench.counter(Counter::TimeoutsUpstreamIdle), 0.0);
  }
}

TEST("connection limits: a request outlasts its connection's time, and the next one has a new connection") {
  LimitedBench bench(so_long);
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  const uint64_t later = bench.reactor->now_ms() + 2 * kDurationMs;
  CHECK(bench.run([&] { return bench.reactor->now_ms() >= later; }));
  upstream.send(kOk);
  CHECK(bench.run([&] { return client.has("ok") && (upstream.read(), upstream.ended); }));
  CHECK(!upstream.reset);
  CHECK_EQ(bench.counter(Counter::TimeoutsDuration), 1.0);
}

TEST("connection limits: a connection of HTTP/2 whose time is over takes no more requests, and those that it has go on") {
  AttemptsBench attempts(RetrySpec{}, Protocol::kHttp2, {}, policy_of(so_long));
  Bench& bench = attempts.bench;
  Peer1 one(Peer1::dial(bench.port)), two(Peer1::dial(bench.port));
  one.send(kGet);
  Peer2 first(attempts.accept(0), http2::Role::kServer);
  CHECK(bench.run([&] { return first.at(1).ended; }));
  const uint64_t later = bench.reactor->now_ms() + 2 * kDurationMs;
  CHECK(bench.run([&] { return bench.reactor->now_ms() >= later; }));
  CHECK(!first.closed);
  two.send(kGet);
  Peer2 second(attempts.accept(0), http2::Role::kServer);
  CHECK(bench.run([&] { return second.at(1).ended; }));
  second.raw(second.headers(1, {{":status", "204"}}, true));
  CHECK(bench.run([&] { return two.has("204"); }));
  first.raw(first.headers(1, {{":status", "204"}}, true));
  CHECK(bench.run([&] { return one.has("204") && (first.read(), first.closed); }));
  CHECK_EQ(bench.counter(Counter::UpstreamConnects), 2.0);
}

TEST("connection limits: what is not HTTP is reset when it has lasted as long as it may, at work as it is") {
  for (const uint32_t idle_ms : {0u, 10'000u}) {
    EngineLimits limits;
    limits.tcp_idle_timeout_ms = idle_ms;
    LimitedBench bench(so_long, limits);
    Peer1 client(Peer1::dial(bench.opaque_port));
    const uint64_t began = bench.reactor->now_ms();
    Peer1 upstream(accept_upstream(bench));
    const auto is_reset = [&] { return client.read(), upstream.read(), client.reset && upstream.reset; };
    while (!is_reset() && bench.reactor->now_ms() < began + 5'000) {
      (void)!::send(client.fd, "x", 1, MSG_NOSIGNAL);
      bench.reactor->run_once(5);
    }
    CHECK(is_reset());
    CHECK(bench.reactor->now_ms() - began >= kDurationMs);
    CHECK_EQ(bench.counter(Counter::TimeoutsDuration), 1.0);
    CHECK_EQ(bench.counter(Counter::TimeoutsTcpIdle), 0.0);
    CHECK(bench.run([&] { return bench.connections() == 0; }));
  }
}

TEST("connection limits: connecting takes no longer than the policy says") {
  LimitedBench bench([](ConnectionPolicy* policy) { policy->connect_timeout_ms = 30; });
  // What nobody accepts when its queue is full is not connected.
  ::listen(bench.upstream_listener, 0);
  std::vector<std::unique_ptr<Peer1>> waiting;
  for (int i = 0; i < 4; i++) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    sockaddr_in name = {};
    name.sin_family = AF_INET;
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    name.sin_port = htons(bench.upstream_port);
    (void)!connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof(name));
    waiting.push_back(std::make_unique<Peer1>(fd));
  }
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  CHECK(bench.run([&] { return client.has("503"); }));
  CHECK_EQ(bench.counter(Counter::TimeoutsConnect), 1.0);
}

}  // namespace
}  // namespace weft::test
