// The whole reactor over loopback sockets, with decisions made in C++: what the sanitizers are to watch.
#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "loopback.h"

namespace weft {
namespace {

using test::accept_upstream;
using test::Bench;
using test::kGet;
using test::kOk;
using test::Peer1;
using test::send_what_is_taken;

TEST("reactor: one request through, and its upstream connection again for the next, at every byte split") {
  Bench bench;
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  const std::string answer = kOk;
  for (size_t split = 1; split < answer.size(); split++) {
    CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
    upstream.received.clear();
    client.received.clear();
    upstream.send(answer.substr(0, split));
    bench.reactor->run_once(1);
    upstream.send(answer.substr(split));
    CHECK(bench.run([&] { return client.has("\r\n\r\nok"); }));
    const std::string request = kGet;
    client.send(request.substr(0, split % request.size()));
    bench.reactor->run_once(1);
    client.send(request.substr(split % request.size()));
  }
  CHECK_EQ(bench.counter(Counter::UpstreamConnects), 1.0);
}

TEST("reactor: a completion that is wanted at once is told in the tick in which the answer leaves") {
  for (const bool prompt : {false, true}) {
    Bench bench;
    int32_t told = 0;
    bench.decide = [&](int32_t) { return Bench::to(0, prompt ? kPrompt : 0); };
    bench.on_completions = [&](int32_t count) { told += count; };
    Peer1 client(Peer1::dial(bench.port));
    client.send(kGet);
    Peer1 upstream(accept_upstream(bench));
    CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
    upstream.send(kOk);
    CHECK(bench.run([&] { return client.has("\r\n\r\nok"); }));
    CHECK_EQ(told, prompt ? 1 : 0);
  }
}

TEST("reactor: a dead endpoint brings the request back, with its body, for another decision") {
  Bench bench;
  bench.decide = [](int32_t attempt) { return Bench::to(attempt == 0 ? 1 : 0, kRetry); };
  Peer1 client(Peer1::dial(bench.port));
  client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody");
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\nbody"); }));
  upstream.send(kOk);
  CHECK(bench.run([&] { return client.has("ok"); }));
  CHECK_EQ(bench.outstanding[0] + bench.outstanding[1], 0);
}

TEST("reactor: endless retries end with 503 URX") {
  Bench bench;
  bench.decide = [](int32_t) { return Bench::to(1, kRetry); };
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  CHECK(bench.run([&] { return client.has("503"); }));
  CHECK_EQ(bench.outstanding[1], 0);
}

TEST("reactor: what a decision makes of the path is not what the next attempt gets, which is decided on anew") {
  Bench bench;
  bench.decide = [&](int32_t attempt) {
    Decision decision = Bench::to(1 - attempt, kRetry);
    if (attempt != 0) return decision;
    constexpr std::string_view kOther = "/other";
    memcpy(bench.reactor->batch().memory() + Batch::layout().texts, kOther.data(), kOther.size());
    decision.text = kOther.size();
    decision.flags |= kExtended;
    return decision;
  };
  // The first goes where nobody listens.
  Peer1 client(Peer1::dial(bench.port));
  client.send("GET /own HTTP/1.1\r\nHost: a.test\r\n\r\n");
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  CHECK(upstream.has("GET /own HTTP/1.1\r\n"));
  upstream.send(kOk);
  CHECK(bench.run([&] { return client.has("ok"); }));
}

// Of the first request a copy goes to mirror 0; `calls` counts it and its copies.
void mirror_first(Bench* bench, int* calls) {
  bench->decide = [calls](int32_t) {
    Decision decision = Bench::to(0, *calls == 0 ? kExtended : 0);
    if ((*calls)++ == 0) {
      decision.mirrors = 0;
      decision.mirror_mask = 1;
    }
    return decision;
  };
}

TEST("reactor: a mirror gets the whole body, though the server said 100 before it") {
  Bench bench;
  int calls = 0;
  mirror_first(&bench, &calls);
  Peer1 client(Peer1::dial(bench.port));
  client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  upstream.send("HTTP/1.1 100 Continue\r\n\r\n");
  CHECK(bench.run([&] { return client.has("100 Continue"); }));
  client.send("body");
  CHECK(bench.run([&] { return upstream.has("\r\n\r\nbody"); }));
  Peer1 mirror(accept_upstream(bench));
  CHECK(bench.run([&] { return mirror.has("\r\n\r\nbody"); }));
  upstream.send(kOk);
  mirror.send(kOk);
  CHECK(bench.run([&] { return client.has("ok") && bench.outstanding[0] == 0; }));
  CHECK_EQ(bench.counter(Counter::MirrorsSent), 1.0);
}

TEST("reactor: a mirror's answer that goes on and on ends by the stream's idle timeout") {
  EngineLimits limits;
  limits.stream_idle_timeout_ms = 100;
  Bench bench(limits);
  int calls = 0;
  mirror_first(&bench, &calls);
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  Peer1 mirror(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n") && mirror.has("\r\n\r\n"); }));
  upstream.send(kOk);
  CHECK(bench.run([&] { return client.has("ok"); }));
  mirror.send("HTTP/1.1 200 OK\r\n\r\n");
  for (int turn = 0; turn < 400 && !mirror.ended && !mirror.reset; turn++) {
    if (turn % 4 == 0) mirror.send("event");
    bench.reactor->run_once(5);
    mirror.read();
  }
  CHECK(mirror.ended || mirror.reset);
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("reactor: a mirrored copy has its own line in the access log, with all that its head says") {
  Bench bench;
  int calls = 0;
  bench.decide = [&calls](int32_t) {
    Decision decision = Bench::to(0, calls == 0 ? kLog | kExtended : kLog);
    if (calls++ == 0) {
      decision.mirrors = 0;
      decision.mirror_mask = 1;
    }
    return decision;
  };
  Peer1 client(Peer1::dial(bench.port));
  client.send("GET /own HTTP/1.1\r\nHost: a.test\r\nUser-Agent: curl/8\r\nX-Request-Id: id-1\r\n\r\n");
  Peer1 upstream(accept_upstream(bench));
  Peer1 mirror(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n") && mirror.has("\r\n\r\n"); }));
  upstream.send(kOk);
  mirror.send(kOk);
  CHECK(bench.run([&] { return client.has("ok") && bench.outstanding[0] == 0; }));
  const std::string lines = test::taken_lines(bench.access_log, sizeof(bench.access_log));
  const std::string_view parts[] = {R"("path":"/own")", R"("authority":"a.test")", R"("user_agent":"curl/8")", R"("request_id":"id-1")"};
  for (const std::string_view part : parts) {
    const size_t first = lines.find(part);
    CHECK(first != std::string::npos && lines.find(part, first + 1) != std::string::npos);
  }
}

TEST("reactor: a copy is dropped when other tables come first, whose mirrors are others") {
  Bench bench;
  int calls = 0;
  mirror_first(&bench, &calls);
  Peer1 client(Peer1::dial(bench.port));
  client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbo");
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\nbo"); }));
  bench.reload(true);
  client.send("dy");
  CHECK(bench.run([&] { return upstream.has("\r\n\r\nbody"); }));
  upstream.send(kOk);
  CHECK(bench.run([&] { return client.has("ok"); }));
  CHECK_EQ(calls, 1);
  CHECK_EQ(bench.counter(Counter::MirrorsDropped), 1.0);
  CHECK_EQ(bench.counter(Counter::MirrorsSent), 0.0);
}

// Nobody puts copies off; who did would find them as any other request.
TEST("reactor: a copy that is put off goes on when that is answered, and ends when it is not") {
  for (const bool is_answered : {true, false}) {
    EngineLimits limits;
    limits.deferred_timeout_ms = is_answered ? 10'000 : 40;
    Bench bench(limits);
    int calls = 0;
    bench.decide = [&](int32_t) {
      Decision decision = Bench::to(calls == 1 ? kTargetDeferred : 0, calls == 0 ? kExtended : 0);
      if (calls == 0) decision.mirrors = 0, decision.mirror_mask = 1;
      decision.token = calls++;
      return decision;
    };
    Peer1 client(Peer1::dial(bench.port));
    client.send(kGet);
    Peer1 upstream(accept_upstream(bench));
    upstream.send(kOk);
    CHECK(bench.run([&] { return client.has("ok") && bench.counter(Counter::Deferred) == 1; }));
    if (is_answered) {
      uint8_t* memory = bench.reactor->batch().memory();
      reinterpret_cast<int32_t*>(memory + Batch::layout().header)[static_cast<int32_t>(HeaderWord::AnsweredCount)] = 1;
      reinterpret_cast<int32_t*>(memory + Batch::layout().answered)[0] = 1;
      CHECK(bench.run([&] { return calls == 3; }));
      upstream.received.clear();
      CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
      upstream.send(kOk);
    }
    CHECK(bench.run([&] { return bench.counter(Counter::DeferredOpen) == 0 && bench.outstanding[0] == 0; }));
    CHECK_EQ(bench.counter(Counter::TimeoutsDeferred), is_answered ? 0.0 : 1.0);
    CHECK_EQ(bench.counter(Counter::MirrorsSent), 1.0);
  }
}

TEST("reactor: what an endpoint left of its pool goes when the tables lose it") {
  Bench bench;
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  upstream.send(kOk);
  CHECK(bench.run([&] { return client.has("ok"); }));
  std::string error;
  bench.reactor->use_tables(Tables::build(TableSpec{}, &error));
  CHECK(bench.run([&] { return upstream.read(), upstream.ended; }));
  client.send(kGet);
  CHECK(bench.run([&] { return client.has("503"); }));
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("reactor: opaque bytes and half-closes go both ways") {
  Bench bench;
  Peer1 client(Peer1::dial(bench.opaque_port));
  Peer1 upstream(accept_upstream(bench));
  client.send("ping");
  shutdown(client.fd, SHUT_WR);
  CHECK(bench.run([&] { return upstream.has("ping") && upstream.ended; }));
  upstream.send(std::string(100'000, 'x'));
  upstream.close();
  CHECK(bench.run([&] { return client.read(), client.ended; }));
  CHECK_EQ(client.received.size(), size_t{100'000});
  CHECK_EQ(bench.counter(Counter::OpaqueOpen), 0.0);
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("reactor: opaque bytes that are still being read, behind their sender's end, are no rest; such that nobody reads are") {
  static uint64_t clock_ns;
  clock_ns = 1'000'000'000'000;
  EngineLimits limits;
  limits.tcp_idle_timeout_ms = 500;
  for (const bool reads : {true, false}) {
    Bench bench(limits, [] { return clock_ns; });
    // What has arrived there is out of the engine's sight.
    const int kept_by_reader = 128 * 1024;
    setsockopt(bench.upstream_listener, SOL_SOCKET, SO_RCVBUF, &kept_by_reader, sizeof(kept_by_reader));
    Peer1 client(Peer1::dial(bench.opaque_port));
    Peer1 upstream(accept_upstream(bench));
    const size_t sent = send_what_is_taken(*bench.reactor, client);
    shutdown(client.fd, SHUT_WR);
    const size_t received = read_slowly(*bench.reactor, client, upstream.fd, reads, &clock_ns);
    CHECK_EQ(client.reset, !reads);
    CHECK_EQ(received, reads ? sent : 0);
    CHECK_EQ(bench.counter(Counter::TimeoutsTcpIdle), reads ? 0.0 : 1.0);
  }
}

TEST("reactor: a connection that lasted for hours has all of them in the access log") {
  static uint64_t clock_ns;
  clock_ns = 1'000'000'000'000;
  Bench bench({}, [] { return clock_ns; });
  bench.decide = [](int32_t) { return Bench::to(0, kLog); };
  Peer1 client(Peer1::dial(bench.opaque_port));
  Peer1 upstream(accept_upstream(bench));
  client.send("ping");
  CHECK(bench.run([&] { return upstream.has("ping"); }));
  clock_ns += 3 * 3'600'000'000'000;
  bench.reactor->run_once(0);
  upstream.close();
  client.close();
  CHECK(bench.run([&] { return bench.counter(Counter::OpaqueOpen) == 0; }));
  const std::string line = test::taken_lines(bench.access_log, sizeof(bench.access_log));
  CHECK(line.find("\"duration_ms\":10800000") != std::string::npos);
}

TEST("reactor: an opaque client hears a reset when nothing listens behind") {
  Bench bench;
  bench.decide = [](int32_t) { return Bench::to(1); };
  Peer1 client(Peer1::dial(bench.opaque_port));
  CHECK(bench.run([&] { return client.read(), client.reset; }));
}

TEST("reactor: a slow reader stops its source within the bound, an unread request body too") {
  EngineLimits limits;
  limits.max_buffered_bytes = 16 * 1024;
  Bench bench(limits);
  Peer1 client(Peer1::dial(bench.port));
  client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100000000\r\n\r\n");
  Peer1 upstream(accept_upstream(bench));
  const size_t sent = send_what_is_taken(*bench.reactor, client);
  CHECK(sent < 40'000'000);
  size_t received = 0;
  CHECK(bench.run([&] {
    upstream.read();
    received += upstream.received.size();
    upstream.received.clear();
    return received >= sent;
  }));
}

TEST("reactor: the end of an answer that its client does not take has the stream's idle timeout, not that of a connection that rests") {
  static uint64_t clock_ns;
  clock_ns = 1'000'000'000'000;
  EngineLimits limits;
  limits.stream_idle_timeout_ms = 1'000;
  limits.idle_timeout_ms = 60'000;
  // Beyond what the kernel's buffers may yet take.
  limits.max_buffered_bytes = 8 << 20;
  for (const bool takes : {false, true}) {
    Bench bench(limits, [] { return clock_ns; });
    Peer1 client(Peer1::dial(bench.port));
    client.send(kGet);
    Peer1 upstream(accept_upstream(bench));
    CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
    const auto is_over = [&] { return bench.outstanding[0] == 0; };
    const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 24000000\r\n\r\n" + std::string(24'000'000, 'x');
    const size_t size = answer.size();
    size_t sent = 0, taken = 0;
    char bytes[65'536];
    // No more is taken than that the upstream's end can be sent.
    CHECK(bench.run([&] {
      for (int i = 0; i < 20 && !is_over(); i++) {
        sent += static_cast<size_t>(std::max<ssize_t>(0, ::send(upstream.fd, answer.data() + sent, size - sent, MSG_NOSIGNAL)));
        bench.reactor->run_once(0);
        taken += static_cast<size_t>(std::max<ssize_t>(0, recv(client.fd, bytes, is_over() ? 0 : sizeof(bytes), MSG_DONTWAIT)));
      }
      return is_over();
    }));
    if (takes) {
      CHECK(bench.run([&] {
        for (ssize_t count; (count = recv(client.fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0;) taken += static_cast<size_t>(count);
        return taken >= size;
      }));
    }
    for (int i = 0; i < 10; i++) {
      clock_ns += 200'000'000;
      bench.reactor->run_once(0);
    }
    CHECK_EQ(bench.counter(Counter::TimeoutsIdle), takes ? 0.0 : 1.0);
    CHECK_EQ(bench.reactor->open_downstream(), uint32_t{takes ? 1u : 0u});
  }
}

TEST("reactor: closing in the middle of everything frees everything, and tells what was cut") {
  Bench bench;
  std::vector<Completion> ended;
  bench.on_completions = [&](int32_t count) {
    const auto* all = reinterpret_cast<const Completion*>(bench.reactor->batch().memory() + Batch::layout().completions);
    ended.insert(ended.end(), all, all + count);
  };
  Peer1 client(Peer1::dial(bench.port));
  Peer1 tunnel(Peer1::dial(bench.opaque_port));
  client.send(kGet);
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return bench.outstanding[0] == 2; }));
  CHECK(ended.empty());
  bench.reactor->close();
  bench.reactor->close();
  CHECK_EQ(bench.reactor->run_once(-1), 0);
  CHECK_EQ(bench.outstanding[0], 0);
  CHECK_EQ(bench.counter(Counter::DownstreamOpen), 0.0);
  CHECK_EQ(bench.counter(Counter::OpaqueOpen), 0.0);
  CHECK_EQ(ended.size(), size_t{2});
  for (const Completion& completion : ended) {
    CHECK_EQ(completion.target, 0);
    CHECK_EQ(completion.reason, static_cast<int32_t>(Reason::LocalReset));
  }
}

uint64_t resting_clock_ns;
uint64_t rest_to_come_ns;
int looks_before_rest;

// As if epoll_wait() had taken it: the tick has looked at the clock before.
uint64_t rests_in_wait() {
  if (rest_to_come_ns != 0 && looks_before_rest-- == 0) resting_clock_ns += std::exchange(rest_to_come_ns, 0);
  return resting_clock_ns;
}

TEST("reactor: however long it rested, clients that come all at once behind it are served, on connections that are pooled or new") {
  // Shorter and longer than the wheel of timers is round, than pooled connections rest, than clients may.
  for (const uint64_t rest_ms : {100u, 3'000u, 8'000u, 16'384u, 17'000u, 29'990u, 31'000u, 7'200'000u}) {
    resting_clock_ns = 1'000'000'000'000;
    rest_to_come_ns = 0;
    Bench bench({}, rests_in_wait);
    std::vector<std::unique_ptr<Peer1>> upstreams;
    const auto serve = [&] {
      for (int fd; (fd = accept4(bench.upstream_listener, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;)
        upstreams.push_back(std::make_unique<Peer1>(fd));
      for (const auto& upstream : upstreams) {
        if (!upstream->has("\r\n\r\n")) continue;
        upstream->received.clear();
        upstream->send(kOk);
      }
    };
    const auto ask = [&](int count) {
      std::vector<std::unique_ptr<Peer1>> clients;
      for (int i = 0; i < count; i++) {
        clients.push_back(std::make_unique<Peer1>(Peer1::dial(bench.port)));
        if (i % 2 == 0) clients.back()->send(kGet);
      }
      for (int turn = 0; turn < 3; turn++) bench.reactor->run_once(1);
      for (int i = 1; i < count; i += 2) clients[static_cast<size_t>(i)]->send(kGet);
      for (const auto& client : clients) {
        CHECK(bench.run([&] { return serve(), client->has("\r\n\r\nok"); }));
        CHECK_EQ(client->received.substr(0, 17), "HTTP/1.1 200 OK\r\n");
      }
      // Nor are they closed behind their answers.
      for (int turn = 0; turn < 5; turn++) bench.reactor->run_once(1);
      for (const auto& client : clients) CHECK((client->read(), !client->ended && !client->reset));
    };
    ask(8);
    // Before the tick has looked at the clock, and while it waits.
    for (int looks = 0; looks < 2; looks++) {
      // Those before have gone.
      CHECK(bench.run([&] { return bench.counter(Counter::DownstreamOpen) == 0; }));
      rest_to_come_ns = rest_ms * 1'000'000;
      looks_before_rest = looks;
      ask(64);
    }
    CHECK_EQ(bench.counter(Counter::Requests), 8.0 + 2 * 64);
    CHECK_EQ(bench.outstanding[0], 0);
  }
}

}  // namespace
}  // namespace weft
