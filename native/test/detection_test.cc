// Protocol detection through the whole reactor over loopback: who speaks first, how the bytes come, and what fails meanwhile.
#include "core/upstream_http1.h"
#include "http2_loopback.h"
#include "loopback.h"

namespace weft {
namespace {

using test::accept_upstream;
using test::Bench;
using test::dial;
using test::Http2Bench;
using test::kGet;
using test::kOk;
using test::Peer1;
using test::Peer2;

// Counts what the reports of tentative decisions say.
struct DetectBench : Bench {
  int settled = 0;
  int abandoned = 0;
  int ended = 0;
  uint16_t at = 0;

  explicit DetectBench(EngineLimits limits = {}, uint64_t (*clock)() = monotonic_ns) : Bench(limits, clock) {
    at = listen(3, Protocol::kDetect);
    on_completions = [this](int32_t count) {
      const auto* all = reinterpret_cast<const Completion*>(reactor->batch().memory() + Batch::layout().completions);
      for (int32_t i = 0; i < count; i++)
        (all[i].kind == CompletionKind::Settled ? settled : all[i].kind == CompletionKind::Abandoned ? abandoned : ended)++;
    };
  }
  bool reported(int wanted_settled, int wanted_abandoned, int wanted_ended) {
    run([&] { return settled == wanted_settled && abandoned == wanted_abandoned && ended == wanted_ended; });
    CHECK_EQ(settled, wanted_settled);
    CHECK_EQ(abandoned, wanted_abandoned);
    CHECK_EQ(ended, wanted_ended);
    return true;
  }
};

EngineLimits with_timeout(uint32_t ms) {
  EngineLimits limits;
  limits.detect_timeout_ms = ms;
  return limits;
}
// Longer than a test may take: whoever waited for it would be seen.
const EngineLimits kPatient = with_timeout(60'000);

TEST("detection: a server that speaks first is heard at once, and then bytes go both ways") {
  DetectBench bench(kPatient);
  Peer1 client(Peer1::dial(bench.at));
  Peer1 upstream(accept_upstream(bench));
  upstream.send("220 ready\r\n");
  CHECK(bench.run([&] { return client.has("220 ready"); }));
  CHECK_EQ(bench.counter(Counter::DetectedServerFirst), 1.0);
  CHECK_EQ(bench.counter(Counter::OpaqueOpen), 1.0);
  client.send(kGet);
  CHECK(bench.run([&] { return upstream.has(kGet); }));
  client.close();
  CHECK(bench.run([&] { return upstream.read(), upstream.ended; }));
  upstream.close();
  CHECK(bench.reported(1, 0, 1));
  CHECK_EQ(bench.outstanding[0], 0);
  CHECK_EQ(bench.counter(Counter::OpaqueOpen), 0.0);
}

TEST("detection: an HTTP/1 request that is there before anything is dialled is decided once") {
  DetectBench bench(kPatient);
  Peer1 client(Peer1::dial(bench.at));
  client.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("GET / HTTP/1.1"); }));
  upstream.send(kOk);
  CHECK(bench.run([&] { return client.has("ok"); }));
  CHECK_EQ(bench.counter(Counter::DetectedHttp1), 1.0);
  CHECK_EQ(bench.counter(Counter::UpstreamConnects), 1.0);
  CHECK_EQ(bench.counter(Counter::OpaqueConnections), 0.0);
  CHECK(bench.reported(0, 0, 1));
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("detection: an HTTP/1 request goes to the connection that was dialled ahead, one byte at a time or whole") {
  for (const bool split : {false, true}) {
    DetectBench bench(kPatient);
    Peer1 client(Peer1::dial(bench.at));
    Peer1 upstream(accept_upstream(bench));
    CHECK(bench.run([&] { return bench.outstanding[0] == 1; }));
    const std::string request = kGet;
    if (split) {
      for (const char byte : request.substr(0, 6)) {
        client.send(std::string(1, byte));
        bench.reactor->run_once(1);
      }
      client.send(request.substr(6));
    } else {
      client.send(request);
    }
    CHECK(bench.run([&] { return upstream.has("GET / HTTP/1.1"); }));
    upstream.send(kOk);
    CHECK(bench.run([&] { return client.has("ok"); }));
    CHECK_EQ(bench.counter(Counter::UpstreamConnects), 1.0);
    CHECK_EQ(bench.counter(Counter::UpstreamReuses), 1.0);
    client.send(kGet);
    upstream.received.clear();
    CHECK(bench.run([&] { return upstream.has("GET / HTTP/1.1"); }));
    upstream.send(kOk);
    CHECK(bench.reported(0, 1, 2));
    CHECK_EQ(bench.outstanding[0], 0);
  }
}

TEST("detection: a connection that was dialled ahead for another endpoint ends soon, without a byte") {
  DetectBench bench(kPatient);
  int decisions = 0;
  bench.decide = [&](int32_t) { return Bench::to(decisions++ == 0 ? 0 : -503); };
  Peer1 client(Peer1::dial(bench.at));
  Peer1 upstream(accept_upstream(bench));
  client.send(kGet);
  CHECK(bench.run([&] { return client.has("503"); }));
  CHECK(bench.run([&] { return upstream.read(), upstream.ended; }));
  CHECK_EQ(upstream.received, std::string());
  CHECK_EQ(bench.counter(Counter::UpstreamOpen), 0.0);
  CHECK_EQ(bench.counter(Counter::UpstreamIdleOpen), 0.0);
}

// Its TCP connection, or its socket, is waited for.
struct Dialled final : Connection {
  explicit Dialled(Reactor* reactor) : Connection(reactor, -1) { is_connecting_ = true; }
  void on_events(uint32_t) override {}
};

TEST("detection: a PROXY header that what was dialled ahead has not sent yet goes with it") {
  DetectBench bench(kPatient);
  UpstreamTarget target;
  target.connect.to.port = bench.upstream_port;
  parse_address("127.0.0.1", &target.connect.to.address);
  auto* dialled = new Dialled(bench.reactor.get());
  CHECK(bench.reactor->dial(dialled, target.connect));
  target.proxied = {ProxyAnnouncement::kV1, target.connect.to, target.connect.to};
  dialled->open_as(target);
  UpstreamHttp1::park(bench.reactor.get(), dialled, target);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("PROXY TCP4 127.0.0.1 127.0.0.1 "); }));
}

TEST("detection: what waits for a socket of another namespace is kept for no request") {
  DetectBench bench(kPatient);
  auto* dialled = new Dialled(bench.reactor.get());
  bench.reactor->adopt_bare(dialled);
  UpstreamHttp1::park(bench.reactor.get(), dialled, {});
  CHECK_EQ(bench.counter(Counter::UpstreamIdleOpen), 0.0);
}

TEST("detection: what is no HTTP, TLS, and an end without a byte are relayed as they come") {
  struct Case {
    std::string bytes;
    Counter counter;
  };
  const Case cases[] = {{std::string("\x03\x00 garbage", 10), Counter::DetectedOpaque},
                        {std::string("\x16\x03\x01\x00\x05hello", 10), Counter::DetectedTls},
                        {"", Counter::DetectedOpaque}};
  for (const Case& what : cases) {
    const std::string& bytes = what.bytes;
    for (const bool early : {true, false}) {
      DetectBench bench(kPatient);
      Peer1 client(Peer1::dial(bench.at));
      const auto speak = [&] {
        if (!bytes.empty()) client.send(bytes);
        shutdown(client.fd, SHUT_WR);
      };
      if (early) speak();
      Peer1 upstream(accept_upstream(bench));
      if (!early) speak();
      CHECK(bench.run([&] { return upstream.read(), upstream.ended; }));
      CHECK_EQ(upstream.received, bytes);
      CHECK_EQ(bench.counter(what.counter), 1.0);
      upstream.send("bye");
      upstream.close();
      CHECK(bench.run([&] { return client.read(), client.ended; }));
      CHECK_EQ(client.received, std::string("bye"));
      CHECK_EQ(bench.counter(Counter::OpaqueOpen), 0.0);
      CHECK_EQ(bench.outstanding[0], 0);
    }
  }
}

TEST("detection: after silence, or half a method, what comes is relayed as it is") {
  for (const std::string first : {"", "GE"}) {
    DetectBench bench(with_timeout(30));
    Peer1 client(Peer1::dial(bench.at));
    if (!first.empty()) client.send(first);
    Peer1 upstream(accept_upstream(bench));
    CHECK(bench.run([&] { return bench.counter(Counter::TimeoutsDetect) == 1; }));
    client.send(std::string(kGet).substr(first.size()));
    CHECK(bench.run([&] { return upstream.has(kGet); }));
    CHECK_EQ(bench.counter(Counter::Requests), 0.0);
    upstream.send(kOk);
    CHECK(bench.run([&] { return client.has(kOk); }));
    CHECK(bench.reported(1, 0, 0));
  }
}

TEST("detection: where nothing listens HTTP is answered 503, and who stays silent hears a reset") {
  DetectBench bench(with_timeout(50));
  bench.decide = [](int32_t) { return Bench::to(1); };
  Peer1 silent(Peer1::dial(bench.at));
  Peer1 client(Peer1::dial(bench.at));
  CHECK(bench.run([&] { return bench.counter(Counter::UpstreamConnectFailures) == 2; }));
  client.send(kGet);
  CHECK(bench.run([&] { return client.has("503"); }));
  CHECK(bench.run([&] { return silent.read(), silent.reset; }));
  CHECK_EQ(bench.counter(Counter::TimeoutsDetect), 1.0);
  CHECK(bench.reported(1, 1, 2));
  CHECK_EQ(bench.outstanding[1], 0);
}

TEST("detection: HTTP that comes while another endpoint is about to be tried ends no decision twice") {
  // Each look at the clock ends a tick: what failed goes on in the next one, which has the client's bytes, too.
  static uint64_t clock_ns;
  clock_ns = monotonic_ns();
  DetectBench bench(kPatient, [] { return clock_ns += 1'000'000; });
  bench.decide = [](int32_t attempt) { return Bench::to(attempt == 0 ? 1 : 0, kRetry); };
  Peer1 client(Peer1::dial(bench.at));
  CHECK(bench.run([&] { return bench.counter(Counter::UpstreamConnectFailures) == 1; }));
  bench.decide = [](int32_t) { return Bench::to(0); };
  client.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("GET / "); }));
  upstream.send(kOk);
  CHECK(bench.run([&] { return client.has("ok"); }));
  CHECK(bench.reported(0, 0, 2));
  for (const int32_t left : bench.outstanding) CHECK_EQ(left, 0);
}

TEST("detection: a decision that refuses is told to HTTP as an answer, and dials nothing") {
  DetectBench bench(kPatient);
  bench.decide = [](int32_t) { return Bench::to(-503); };
  Peer1 client(Peer1::dial(bench.at));
  CHECK(bench.run([&] { return bench.reactor->open_downstream() == 1; }));
  for (int i = 0; i < 3; i++) bench.reactor->run_once(1);
  client.send(kGet);
  CHECK(bench.run([&] { return client.has("HTTP/1.1 503"); }));
  CHECK_EQ(bench.counter(Counter::UpstreamConnects), 0.0);
  Peer1 other(Peer1::dial(bench.at));
  for (int i = 0; i < 3; i++) bench.reactor->run_once(1);
  other.send("\x01\x02");
  CHECK(bench.run([&] { return other.read(), other.reset; }));
  CHECK(bench.reported(0, 2, 2));
}

TEST("detection: what was refused while nothing was known is decided again when it is known to be opaque") {
  DetectBench bench(kPatient);
  int decisions = 0;
  bench.decide = [&](int32_t attempt) {
    CHECK_EQ(attempt, 0);
    return Bench::to(decisions++ == 0 ? -403 : 0);
  };
  Peer1 client(Peer1::dial(bench.at));
  CHECK(bench.run([&] { return decisions == 1; }));
  client.send("\x01\x02");
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\x01\x02"); }));
  CHECK_EQ(bench.counter(Counter::OpaqueOpen), 1.0);
  client.close();
  upstream.close();
  CHECK(bench.reported(0, 1, 1));
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("detection: a decision that is put off is waited for, whatever the client says meanwhile") {
  DetectBench bench(with_timeout(20));
  int decisions = 0;
  bench.decide = [&](int32_t) {
    Decision decision = Bench::to(decisions++ == 0 ? kTargetDeferred : 0);
    decision.token = 1 << 16;
    return decision;
  };
  Peer1 client(Peer1::dial(bench.at));
  CHECK(bench.run([&] { return bench.counter(Counter::DeferredOpen) == 1; }));
  client.send(kGet);
  for (int i = 0; i < 10; i++) bench.reactor->run_once(5);
  CHECK_EQ(bench.counter(Counter::DeferredOpen), 1.0);
  CHECK_EQ(decisions, 1);
  uint8_t* memory = bench.reactor->batch().memory();
  reinterpret_cast<int32_t*>(memory + Batch::layout().answered)[0] = 1 << 16;
  reinterpret_cast<int32_t*>(memory + Batch::layout().header)[static_cast<int32_t>(HeaderWord::AnsweredCount)] = 1;
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("GET / HTTP/1.1"); }));
  CHECK_EQ(bench.counter(Counter::DetectedHttp1), 1.0);
  upstream.send(kOk);
  CHECK(bench.reported(0, 1, 1));
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("detection: a client that leaves early takes what was dialled with it") {
  DetectBench bench(kPatient);
  Peer1 client(Peer1::dial(bench.at));
  Peer1 upstream(accept_upstream(bench));
  reset(&client);
  CHECK(bench.run([&] { return upstream.read(), upstream.reset || upstream.ended; }));
  CHECK_EQ(bench.outstanding[0], 0);
  CHECK_EQ(bench.counter(Counter::DownstreamOpen), 0.0);
  CHECK_EQ(bench.counter(Counter::OpaqueOpen), 0.0);
  CHECK(bench.reported(1, 0, 1));
}

TEST("detection: the engine closes in the middle of it") {
  DetectBench bench(kPatient);
  Peer1 client(Peer1::dial(bench.at));
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return bench.outstanding[0] == 1; }));
  bench.reactor->close();
  CHECK_EQ(bench.outstanding[0], 0);
  CHECK_EQ(bench.counter(Counter::DownstreamOpen), 0.0);
}

TEST("detection: without it an undeclared protocol is opaque") {
  DetectBench bench(with_timeout(0));
  Peer1 client(Peer1::dial(bench.at));
  client.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has(kGet); }));
  CHECK_EQ(bench.counter(Counter::Requests), 0.0);
}

TEST("detection: HTTP/2 reaches an endpoint of no declared protocol as HTTP/2") {
  for (const bool early : {true, false}) {
    Http2Bench bench(kPatient, Protocol::kOpaque, Protocol::kDetect);
    const int fd = dial(bench.port);
    int silent = -1;
    if (!early) silent = bench.accept();
    Peer2 client(fd, http2::Role::kClient);
    client.raw(client.get(1));
    Peer2 upstream(bench.accept(), http2::Role::kServer);
    CHECK(bench.run([&] { return upstream.at(1).ended; }));
    upstream.raw(upstream.ok(1, true));
    CHECK(bench.run([&] { return client.at(1).ended; }));
    CHECK_EQ(bench.counter(Counter::DetectedHttp2), 1.0);
    CHECK_EQ(bench.outstanding[0], 0);
    if (silent >= 0) {
      char byte;
      CHECK_EQ(recv(silent, &byte, 1, 0), ssize_t{0});
      ::close(silent);
    }
  }
}

}  // namespace
}  // namespace weft
