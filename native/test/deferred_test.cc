// Decisions that TypeScript puts off: the wait, its bounds, its ends.
#include <vector>

#include "loopback.h"

namespace weft {
namespace {

using test::accept_upstream;
using test::Bench;
using test::endpoint_at;
using test::kGet;
using test::kOk;
using test::Peer1;
using test::send_what_is_taken;

// Defers what was not answered yet; what was goes to endpoint 0.
struct DeferringBench : Bench {
  int32_t next_token = 0;
  int32_t wait_ms = 0;
  int32_t answered_flags = 0;
  // Of descriptors that were answered.
  std::vector<int32_t> tokens;
  // Of completions.
  std::vector<Completion> ended;

  explicit DeferringBench(EngineLimits limits = {}) : Bench(limits) {
    decide = [this](int32_t) {
      const int32_t flags = word(Descriptor::Flags);
      if ((flags & kDescriptorAnswered) != 0) {
        tokens.push_back(word(Descriptor::PreviousToken));
        CHECK_EQ(word(Descriptor::PreviousTarget), kTargetDeferred);
        return to(0);
      }
      Decision decision = to(kTargetDeferred);
      decision.token = next_token++;
      decision.attempt_timeout_ms = wait_ms;
      return decision;
    };
    on_completions = [this](int32_t count) {
      const auto* all = reinterpret_cast<const Completion*>(memory() + Batch::layout().completions);
      ended.insert(ended.end(), all, all + count);
    };
  }
  uint8_t* memory() { return reactor->batch().memory(); }
  int32_t* header(HeaderWord word) { return reinterpret_cast<int32_t*>(memory() + Batch::layout().header) + static_cast<int32_t>(word); }
  // Of the first descriptor: these tests have one request a tick.
  int32_t word(Descriptor word) {
    return reinterpret_cast<const int32_t*>(memory() + Batch::layout().descriptors)[static_cast<int32_t>(word)];
  }
  void answer(int32_t token) {
    int32_t* count = header(HeaderWord::AnsweredCount);
    reinterpret_cast<int32_t*>(memory() + Batch::layout().answered)[(*count)++] = token;
  }
  bool run_until_deferred(double count) {
    return run([&] { return counter(Counter::DeferredOpen) == count; });
  }
};

TEST("deferred: a request waits outside the batch, with its body, until its token is answered") {
  DeferringBench bench;
  Peer1 client(Peer1::dial(bench.port));
  client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 8\r\n\r\nbody");
  CHECK(bench.run_until_deferred(1));
  client.send("more");
  for (int turn = 0; turn < 5; turn++) bench.reactor->run_once(1);
  CHECK(accept4(bench.upstream_listener, nullptr, nullptr, SOCK_NONBLOCK) < 0);
  bench.answer(0);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\nbodymore"); }));
  upstream.send(kOk);
  CHECK(bench.run([&] { return client.has("\r\n\r\nok"); }));
  CHECK(bench.tokens == std::vector<int32_t>{0});
  CHECK_EQ(bench.counter(Counter::DeferredOpen), 0.0);
  CHECK_EQ(bench.outstanding[0], 0);
  CHECK(bench.run([&] { return !bench.ended.empty(); }));
  CHECK_EQ(bench.ended[0].target, 0);
  CHECK_EQ(bench.ended[0].attempts, 1);
}

TEST("deferred: an answer wakes an engine that would sleep") {
  DeferringBench bench;
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  CHECK(bench.run_until_deferred(1));
  bench.answer(0);
  const uint64_t before = bench.reactor->now_ms();
  bench.reactor->run_once(60'000);
  CHECK_EQ(bench.tokens.size(), size_t{1});
  CHECK(bench.reactor->now_ms() < before + 1'000);
}

TEST("deferred: the request belongs to the tables of the moment it is answered") {
  DeferringBench bench;
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  CHECK(bench.run_until_deferred(1));
  CHECK_EQ(bench.word(Descriptor::HostId), 0);
  TableSpec spec;
  spec.hosts = {"z.test", "a.test"};
  spec.endpoints = {endpoint_at(0, "127.0.0.1", bench.upstream_port)};
  std::string error;
  bench.reactor->use_tables(Tables::build(spec, &error));
  bench.answer(0);
  CHECK(bench.run([&] { return !bench.tokens.empty(); }));
  CHECK_EQ(bench.word(Descriptor::HostId), 1);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
}

TEST("deferred: stale, repeated and made-up tokens find nobody") {
  DeferringBench bench;
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  CHECK(bench.run_until_deferred(1));
  for (const int32_t token : {1, -1, INT32_MAX, INT32_MIN, 1 << Deferrals::kPlaceBits}) bench.answer(token);
  bench.reactor->run_once(1);
  CHECK_EQ(bench.counter(Counter::DeferredOpen), 1.0);
  CHECK_EQ(*bench.header(HeaderWord::AnsweredCount), 0);
  bench.answer(0);
  bench.answer(0);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  CHECK_EQ(bench.tokens.size(), size_t{1});
}

TEST("deferred: more than may wait are answered 503, and told") {
  EngineLimits limits;
  limits.max_deferred = 1;
  DeferringBench bench(limits);
  Peer1 first(Peer1::dial(bench.port));
  first.send(kGet);
  CHECK(bench.run_until_deferred(1));
  Peer1 second(Peer1::dial(bench.port));
  second.send(kGet);
  CHECK(bench.run([&] { return second.has("503"); }));
  CHECK(bench.run([&] { return bench.ended.size() == 1; }));
  CHECK_EQ(bench.ended[0].target, kTargetDeferred);
  CHECK_EQ(bench.ended[0].token, 1);
  CHECK_EQ(bench.ended[0].reason, static_cast<int32_t>(Reason::Overflow));
  CHECK_EQ(bench.counter(Counter::DeferredOverflows), 1.0);
}

TEST("deferred: one that takes too long is answered 504, and its token finds nobody then") {
  DeferringBench bench;
  bench.wait_ms = 20;
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  CHECK(bench.run([&] { return client.has("504"); }));
  CHECK(bench.run([&] { return bench.ended.size() == 1; }));
  CHECK_EQ(bench.ended[0].target, kTargetDeferred);
  CHECK_EQ(bench.ended[0].reason, static_cast<int32_t>(Reason::UpstreamTimeout));
  bench.answer(0);
  bench.reactor->run_once(1);
  CHECK(bench.tokens.empty());
  CHECK_EQ(bench.counter(Counter::TimeoutsDeferred), 1.0);
  CHECK_EQ(bench.counter(Counter::DeferredOpen), 0.0);
}

TEST("deferred: a client that goes away is reported with the token") {
  DeferringBench bench;
  for (const uint16_t port : {bench.port, bench.opaque_port}) {
    Peer1 client(Peer1::dial(port));
    if (port == bench.port) client.send(kGet);
    CHECK(bench.run_until_deferred(1));
    reset(&client);
    CHECK(bench.run_until_deferred(0));
  }
  CHECK(bench.run([&] { return bench.ended.size() == 2; }));
  for (int32_t token = 0; token < 2; token++) {
    CHECK_EQ(bench.ended[static_cast<size_t>(token)].token, token);
    CHECK_EQ(bench.ended[static_cast<size_t>(token)].target, kTargetDeferred);
    CHECK_EQ(bench.ended[static_cast<size_t>(token)].reason, static_cast<int32_t>(Reason::DownstreamClosed));
    bench.answer(token);
  }
  bench.reactor->run_once(1);
  CHECK(bench.tokens.empty());
}

TEST("deferred: a client that was reset before its request was decided on is not waited with, though its body is not read") {
  DeferringBench bench;
  Peer1 client(Peer1::dial(bench.port));
  CHECK(bench.run([&] { return bench.counter(Counter::DownstreamOpen) == 1; }));
  client.send("PUT / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
  reset(&client);
  CHECK(bench.run([&] { return !bench.ended.empty(); }));
  CHECK_EQ(bench.reactor->open_downstream(), 0u);
  CHECK_EQ(bench.ended[0].target, kTargetDeferred);
  CHECK_EQ(bench.counter(Counter::DeferredOpen), 0.0);
}

TEST("deferred: an answered request whose client goes before its next batch is reported, not decided") {
  DeferringBench bench;
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  CHECK(bench.run_until_deferred(1));
  reset(&client);
  bench.answer(0);
  CHECK(bench.run([&] { return bench.ended.size() == 1; }));
  CHECK(bench.tokens.empty());
  CHECK_EQ(bench.ended[0].target, kTargetDeferred);
}

TEST("deferred: an opaque connection waits, and nothing that its client sent meanwhile is lost") {
  DeferringBench bench;
  Peer1 client(Peer1::dial(bench.opaque_port));
  client.send("ping");
  CHECK(bench.run_until_deferred(1));
  bench.answer(0);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("ping"); }));
  bench.wait_ms = 20;
  Peer1 late(Peer1::dial(bench.opaque_port));
  CHECK(bench.run([&] { return late.read(), late.reset; }));
  CHECK_EQ(bench.counter(Counter::TimeoutsDeferred), 1.0);
}

TEST("deferred: a body larger than the bound waits in the client's socket") {
  EngineLimits limits;
  limits.max_buffered_bytes = 64 * 1024;
  DeferringBench bench(limits);
  Peer1 client(Peer1::dial(bench.port));
  client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000000\r\n\r\n");
  CHECK(bench.run_until_deferred(1));
  const size_t sent = send_what_is_taken(*bench.reactor, client);
  CHECK(sent < 40'000'000);
  bench.answer(0);
  Peer1 upstream(accept_upstream(bench));
  size_t received = 0;
  CHECK(bench.run([&] {
    upstream.read();
    received += upstream.received.size();
    upstream.received.clear();
    return received >= sent;
  }));
}

TEST("deferred: requests that wait outlive a drain and end with the engine") {
  DeferringBench bench;
  Peer1 first(Peer1::dial(bench.port));
  first.send(kGet);
  CHECK(bench.run_until_deferred(1));
  Peer1 second(Peer1::dial(bench.opaque_port));
  CHECK(bench.run_until_deferred(2));
  bench.reactor->drain(0);
  bench.answer(0);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  upstream.send(kOk);
  CHECK(bench.run([&] { return first.has("\r\n\r\nok"); }));
  CHECK(first.has("connection: close"));
  CHECK_EQ(bench.counter(Counter::DeferredOpen), 1.0);
  bench.reactor->close();
  CHECK_EQ(bench.counter(Counter::DownstreamOpen), 0.0);
}

}  // namespace
}  // namespace weft
