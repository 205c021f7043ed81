// Attempts that fail, one condition after the other, and what becomes of the request: the whole reactor over loopback, two upstreams.
#include "attempts_bench.h"

namespace weft::test {
namespace {

// What the client is told where the first upstream does `act`, and the second would answer 200.
std::string told(AttemptsBench* attempts, const std::string& request, const std::function<void(Peer1*)>& act) {
  Bench& bench = attempts->bench;
  Peer1 client(Peer1::dial(bench.port));
  client.send(request);
  Peer1 first(attempts->accept(0));
  CHECK(bench.run([&] { return first.has("\r\n\r\n"); }));
  act(&first);
  int fd = -1;
  bench.run([&] {
    client.read();
    return fd >= 0 || !client.received.empty() || (fd = accept4(attempts->second_listener, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;
  });
  if (fd >= 0) {
    Peer1 second(fd);
    CHECK(bench.run([&] { return second.has("\r\n\r\n"); }));
    second.send(kOk);
    CHECK(bench.run([&] { return client.has("\r\n\r\nok"); }));
  } else {
    CHECK(bench.run([&] { return client.has("\r\n\r\n"); }));
  }
  CHECK(attempts->ended());
  CHECK(attempts->is_accounted());
  return client.received.substr(9, 3);
}

TEST("attempts: an answer that the conditions name is not taken as long as another may be had") {
  const RetrySpec named = retry_on([](RetrySpec* spec) { spec->statuses = {503}; });
  AttemptsBench attempts(named);
  fcntl(attempts.second_listener, F_SETFL, O_NONBLOCK);
  CHECK_EQ(told(&attempts, kGet, [](Peer1* first) { first->send(answer(503)); }), "200");
  CHECK_EQ(attempts.tried.size(), size_t{1});
  CHECK(attempts.tried[0] == std::vector<int32_t>{0});
  CHECK(attempts.has_failed_by(503, Reason::None));
  AttemptsBench other(named);
  fcntl(other.second_listener, F_SETFL, O_NONBLOCK);
  CHECK_EQ(told(&other, kGet, [](Peer1* first) { first->send(answer(500)); }), "500");
}

TEST("attempts: an answer with a header that the route names, or the request, is not taken") {
  const auto ask = [&](const RetrySpec& spec, const std::string& request, const std::string& lines) {
    AttemptsBench attempts(spec);
    fcntl(attempts.second_listener, F_SETFL, O_NONBLOCK);
    return told(&attempts, request, [&](Peer1* first) { first->send(answer(201, lines)); });
  };
  const RetrySpec named = retry_on([](RetrySpec* spec) { spec->headers = {"x-busy"}; });
  CHECK_EQ(ask(named, kGet, "X-Busy: 1\r\n"), "200");
  CHECK_EQ(ask(named, kGet, "X-Busy:\r\n"), "200");
  CHECK_EQ(ask(named, kGet, "X-Other: 1\r\n"), "201");
  CHECK_EQ(ask(named, kGet, "X-Busy: 1\r\nX-Envoy-Overloaded: true\r\n"), "201");
  const RetrySpec by_request = retry_on([](RetrySpec* spec) { spec->request_names_headers = true; });
  const std::string names = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Envoy-Retriable-Header-Names: x-a, X-Busy ,,\r\n\r\n";
  CHECK_EQ(ask(by_request, names, "X-Busy: 1\r\n"), "200");
  CHECK_EQ(ask(by_request, names, "X-Other: 1\r\n"), "201");
  CHECK_EQ(ask(by_request, kGet, "X-Busy: 1\r\n"), "201");
  CHECK_EQ(ask(named, names, "X-A: 1\r\n"), "201");
}

TEST("attempts: a request that must not run twice has no other attempt unless the route asks for it") {
  for (const bool any_method : {false, true}) {
    AttemptsBench attempts(retry_on([&](RetrySpec* spec) {
      spec->statuses = {503};
      spec->reset = true;
      spec->any_method = any_method;
    }));
    fcntl(attempts.second_listener, F_SETFL, O_NONBLOCK);
    CHECK_EQ(told(&attempts, kPost, [](Peer1* first) { first->send(answer(503)); }), any_method ? "200" : "503");
    AttemptsBench other(retry_on([&](RetrySpec* spec) {
      spec->reset = true;
      spec->any_method = any_method;
    }));
    fcntl(other.second_listener, F_SETFL, O_NONBLOCK);
    CHECK_EQ(told(&other, kPost, reset), any_method ? "200" : "503");
    CHECK_EQ(other.has_failed_by(503, Reason::UpstreamReset), any_method);
  }
}

TEST("attempts: a reset, and an attempt whose time is over, are for the condition reset alone") {
  for (const bool asked : {false, true}) {
    const RetrySpec spec = retry_on([&](RetrySpec* each) {
      each->reset = asked;
      each->connect_failure = each->refused = true;
    });
    AttemptsBench broken(spec);
    fcntl(broken.second_listener, F_SETFL, O_NONBLOCK);
    CHECK_EQ(told(&broken, kGet, reset), asked ? "200" : "503");
    AttemptsBench slow(spec);
    fcntl(slow.second_listener, F_SETFL, O_NONBLOCK);
    slow.attempt_timeout_ms = 30;
    CHECK_EQ(told(&slow, kGet, [](Peer1*) {}), asked ? "200" : "504");
  }
}

TEST("attempts: nobody listens: another is made for the condition connect-failure, also of a POST") {
  for (const bool asked : {false, true}) {
    AttemptsBench attempts(retry_on([&](RetrySpec* spec) { spec->connect_failure = asked; }));
    attempts.first = 2;
    Bench& bench = attempts.bench;
    Peer1 client(Peer1::dial(bench.port));
    client.send(kPost);
    if (asked) {
      Peer1 upstream(attempts.accept(0));
      CHECK(bench.run([&] { return upstream.has("body"); }));
      upstream.send(kOk);
    }
    CHECK(bench.run([&] { return client.has(asked ? "200 OK" : "503"); }));
    CHECK(attempts.ended() && attempts.is_accounted());
  }
}

TEST("attempts: of a long body no more is read than can be kept, as long as nobody is connected to: the next endpoint gets all of it") {
  EngineLimits limits;
  limits.connect_timeout_ms = 50;
  constexpr size_t kBody = 600'000;
  for (const Protocol from : {Protocol::kHttp1, Protocol::kHttp2}) {
    for (const Protocol to : {Protocol::kHttp1, Protocol::kHttp2}) {
      AttemptsBench attempts(retry_on([](RetrySpec* spec) { spec->connect_failure = true; }), to, limits);
      Bench& bench = attempts.bench;
      // Its queue is full: who connects waits.
      ::listen(bench.upstream_listener, 0);
      const Peer1 other(Peer1::dial(bench.upstream_port));
      const uint16_t port = bench.listen(7, from);
      std::optional<Peer1> client1;
      std::optional<Peer2> client2;
      size_t left = kBody;
      if (from == Protocol::kHttp1) {
        client1.emplace(Peer1::dial(port));
        client1->send("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: " + std::to_string(kBody) + "\r\n\r\n");
      } else {
        client2.emplace(dial(port), http2::Role::kClient);
        client2->raw(client2->get(1, false));
      }
      const auto upload_more = [&] {
        if (client2) return upload(*client2, 1, &left, true);
        const ssize_t count = ::send(client1->fd, std::string(left, 'u').data(), left, MSG_NOSIGNAL);
        if (count > 0) left -= static_cast<size_t>(count);
        return left == 0;
      };
      int fd = -1;
      fcntl(attempts.second_listener, F_SETFL, O_NONBLOCK);
      CHECK(bench.run([&] {
        upload_more();
        return fd >= 0 || (fd = accept4(attempts.second_listener, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;
      }));
      if (to == Protocol::kHttp1) {
        Peer1 second(fd);
        const auto body_size = [&] {
          second.read();
          const size_t head = second.received.find("\r\n\r\n");
          if (head == std::string::npos) return size_t{0};
          return static_cast<size_t>(std::count(second.received.begin() + static_cast<ptrdiff_t>(head), second.received.end(), 'u'));
        };
        CHECK(bench.run([&] { return upload_more(), body_size() == kBody; }));
        second.send(kOk);
        CHECK(bench.run([&] { return client1 ? client1->has("200 OK") : client2->at(1).ended; }));
      } else {
        Peer2 second(fd, http2::Role::kServer);
        second.raw(Peer2::window(0, 1'000'000));
        second.raw(Peer2::window(1, 1'000'000));
        CHECK(bench.run([&] { return upload_more(), second.at(1).ended; }));
        CHECK_EQ(second.at(1).body.size(), kBody);
        second.raw(second.ok(1, true));
        CHECK(bench.run([&] { return client1 ? client1->has("200 OK") : client2->at(1).ended; }));
      }
      CHECK(attempts.ended() && attempts.is_accounted());
    }
  }
}

TEST("attempts: one that asks to be left alone is; who limits rates is asked again only for envoy-ratelimited") {
  AttemptsBench overloaded(retry_on([](RetrySpec* spec) { spec->statuses = {503}; }));
  fcntl(overloaded.second_listener, F_SETFL, O_NONBLOCK);
  CHECK_EQ(told(&overloaded, kGet, [](Peer1* first) { first->send(answer(503, "X-Envoy-Overloaded: true\r\n")); }), "503");
  for (const bool asked : {false, true}) {
    AttemptsBench limited(retry_on([&](RetrySpec* spec) { asked ? void(spec->rate_limited = true) : void(spec->statuses = {429}); }));
    fcntl(limited.second_listener, F_SETFL, O_NONBLOCK);
    CHECK_EQ(told(&limited, kGet, [](Peer1* first) { first->send(answer(429, "x-envoy-ratelimited: true\r\n")); }), asked ? "200" : "429");
  }
}

TEST("attempts: a Retry-After beyond the request's time is not waited for: the answer is taken") {
  AttemptsBench attempts(retry_on([](RetrySpec* spec) {
    spec->statuses = {503};
    spec->heeds_retry_after = true;
  }));
  fcntl(attempts.second_listener, F_SETFL, O_NONBLOCK);
  attempts.timeout_ms = 900;
  CHECK_EQ(told(&attempts, kGet, [](Peer1* first) { first->send(answer(503, "Retry-After: 1\r\n")); }), "503");
  AttemptsBench at_once(retry_on([](RetrySpec* spec) {
    spec->statuses = {503};
    spec->heeds_retry_after = true;
    spec->backoff_ms = 10'000;
  }));
  fcntl(at_once.second_listener, F_SETFL, O_NONBLOCK);
  CHECK_EQ(told(&at_once, kGet, [](Peer1* first) { first->send(answer(503, "Retry-After: 0\r\n")); }), "200");
}

TEST("attempts: the last one's answer is the client's, and the report says that no more might be made") {
  AttemptsBench attempts(retry_on([](RetrySpec* spec) { spec->statuses = {503}; }));
  Bench& bench = attempts.bench;
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  for (const int which : {0, 1}) {
    Peer1 upstream(attempts.accept(which));
    CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
    upstream.send(answer(503, which == 1 ? "X-Last: 1\r\n" : ""));
    bench.run([&] { return client.has("x"); });
    upstream.read();
  }
  CHECK(bench.run([&] { return client.has("no") && client.has("503"); }));
  CHECK(attempts.ended() && attempts.is_accounted());
  CHECK_EQ(attempts.reason(), static_cast<int32_t>(Reason::RetriesExhausted));
  CHECK_EQ(attempts.completions.back().attempts, 2);
}

TEST("attempts: each decision is told all endpoints that failed before") {
  AttemptsBench attempts(retry_on([](RetrySpec* spec) {
    spec->statuses = {503};
    spec->connect_failure = true;
  }));
  attempts.retries = 4;
  Bench& bench = attempts.bench;
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  for (int round = 0; round < 2; round++) {
    for (const int which : {0, 1}) {
      Peer1 upstream(attempts.accept(which));
      CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
      upstream.send(answer(503));
      bench.run([&] { return attempts.tried.size() > static_cast<size_t>(round * 3 + which); });
    }
  }
  CHECK(bench.run([&] { return client.has("503"); }));
  const std::vector<std::vector<int32_t>> expected = {{0}, {0, 1}, {0, 1, 2}, {0, 1, 2}};
  CHECK(attempts.tried == expected);
}

TEST("attempts: a gRPC call is made again after the statuses that are named, where the answer is trailers alone; a pushback forbids it") {
  struct Case {
    const char* status;
    const char* pushback;
    bool again;
  };
  for (const Case& each : {Case{"14", nullptr, true},
                           {"1", nullptr, true},
                           {"13", nullptr, false},
                           {"0", nullptr, false},
                           {"14", "-1", false},
                           {"14", "0", true}}) {
    AttemptsBench attempts(retry_on([](RetrySpec* spec) {
                             spec->grpc_statuses = {1, 14};
                             spec->any_method = true;
                           }),
                           Protocol::kHttp2);
    Bench& bench = attempts.bench;
    const uint16_t port = bench.listen(7, Protocol::kHttp2);
    Peer2 client(dial(port), http2::Role::kClient);
    client.raw(client.headers(1,
                              {{":method", "POST"},
                               {":scheme", "http"},
                               {":path", "/s/M"},
                               {":authority", "a.test"},
                               {"content-type", "application/grpc"},
                               {"te", "trailers"}},
                              false) +
               Peer2::data(1, std::string("\0\0\0\0\1x", 6), true));
    Peer2 first(attempts.accept(0), http2::Role::kServer);
    CHECK(bench.run([&] { return first.at(1).ended; }));
    std::vector<std::pair<std::string, std::string>> fields = {
        {":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", each.status}};
    if (each.pushback != nullptr) fields.push_back({"grpc-retry-pushback-ms", each.pushback});
    first.raw(first.headers(1, fields, true));
    if (each.again) {
      Peer2 second(attempts.accept(1), http2::Role::kServer);
      CHECK(bench.run([&] { return second.at(1).ended; }));
      CHECK_EQ(second.at(1).body.size(), size_t{6});
      second.raw(second.headers(1, {{":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", "0"}}, true));
      CHECK(bench.run([&] { return client.at(1).ended; }));
      CHECK_EQ(client.at(1).fields["grpc-status"], "0");
    } else {
      CHECK(bench.run([&] { return client.at(1).ended; }));
      CHECK_EQ(client.at(1).fields["grpc-status"], each.status);
    }
    CHECK(attempts.ended() && attempts.is_accounted());
  }
}

TEST("attempts: what HTTP/2 refuses is asked again of the same, then of another for the condition refused-stream") {
  for (const bool asked : {false, true}) {
    AttemptsBench attempts(retry_on([&](RetrySpec* spec) { spec->refused = asked; }), Protocol::kHttp2);
    Bench& bench = attempts.bench;
    const uint16_t port = bench.listen(7, Protocol::kHttp2);
    Peer2 client(dial(port), http2::Role::kClient);
    client.raw(client.get(1));
    Peer2 first(attempts.accept(0), http2::Role::kServer);
    for (uint32_t stream = 1; stream <= 7; stream += 2) {
      CHECK(bench.run([&] { return first.at(stream).ended; }));
      first.raw(Peer2::reset(stream, ErrorCode::kRefusedStream));
    }
    if (asked) {
      Peer2 second(attempts.accept(1), http2::Role::kServer);
      CHECK(bench.run([&] { return second.at(1).ended; }));
      second.raw(second.ok(1, true));
    }
    CHECK(bench.run([&] { return client.at(1).ended; }));
    CHECK_EQ(client.at(1).fields[":status"], asked ? "200" : "503");
    CHECK(attempts.ended() && attempts.is_accounted());
  }
}

}  // namespace
}  // namespace weft::test
