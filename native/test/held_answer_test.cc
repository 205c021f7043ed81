// Answers that are held for their filters: what waits, what goes on meanwhile, what comes of them, and who leaves first.
#include <vector>

#include "http2_loopback.h"

namespace weft::test {
namespace {

constexpr int32_t kChain = 7;
constexpr int32_t kService = 3;

// Every answer is put off once; what was answered is let go, or replaced where `status` is set.
struct HoldingBench : Http2Bench {
  int32_t next_token = 0;
  int32_t status = 0;
  int32_t wait_ms = 0;
  int32_t held = 0;

  explicit HoldingBench(Protocol client = Protocol::kHttp1, Protocol upstream = Protocol::kHttp1, const EngineLimits& limits = {})
      : Http2Bench(limits, upstream, client) {
    change = [this](const int32_t* words, Decision* decision) {
      const auto word = [words](Descriptor at) { return words[static_cast<int32_t>(at)]; };
      const bool is_answered = (word(Descriptor::Flags) & kDescriptorAnswered) != 0;
      if ((word(Descriptor::Flags) & kDescriptorHeldAnswer) == 0) {
        decision->flags |= kExtended;
        decision->answer_filters = kChain;
        decision->answer_service = kService;
        return;
      }
      held++;
      CHECK_EQ(word(Descriptor::PathId), kChain);
      CHECK_EQ(word(Descriptor::HostId), kService);
      decision->target = !is_answered ? kTargetDeferred : status != 0 ? -status : kTargetOriginal;
      decision->attempt_timeout_ms = wait_ms;
      if (!is_answered) decision->token = next_token++;
      if (is_answered) CHECK_EQ(word(Descriptor::PreviousToken), next_token - 1);
    };
  }
  HttpExchange* waiting() {
    CHECK(run([&] { return counter(Counter::DeferredOpen) == 1; }));
    return reactor->deferred(next_token - 1);
  }
  std::string text() {
    std::string text;
    CHECK(waiting()->answer_text(&text));
    return text;
  }
  void answer() {
    uint8_t* memory = reactor->batch().memory();
    reinterpret_cast<int32_t*>(memory + Batch::layout().header)[static_cast<int32_t>(HeaderWord::AnsweredCount)] = 1;
    reinterpret_cast<int32_t*>(memory + Batch::layout().answered)[0] = next_token - 1;
  }
  void turn(int count = 5) {
    for (int i = 0; i < count; i++) reactor->run_once(1);
  }
  // Every decision for the endpoint ended once, and what was put off and has gone was told.
  bool is_accounted(int32_t forgotten = 0) {
    return run([&] {
      int32_t ended = 0, deferred = 0;
      for (const Completion& each : completions) {
        ended += each.target == 0 ? 1 : 0;
        deferred += each.target == kTargetDeferred ? 1 : 0;
      }
      return outstanding[0] == 0 && ended == decided - held && deferred == forgotten && counter(Counter::DeferredOpen) == 0;
    });
  }
};

// A client and its upstream, which has the request.
struct Asked {
  HoldingBench& bench;
  Peer1 client;
  Peer1 upstream;
  explicit Asked(HoldingBench& of, const std::string& request = kGet) : bench(of), client(Peer1::dial(of.port)), upstream(-1) {
    client.send(request);
    upstream.fd = of.accept();
    CHECK(of.run([&] { return upstream.has("\r\n\r\n"); }));
  }
  bool hears(const std::string& text) {
    return bench.run([&] { return client.has(text); });
  }
};

TEST("held answer: nothing of it is sent until its token is answered; then it goes as it came, and the connections go on") {
  HoldingBench bench;
  Asked asked(bench);
  asked.upstream.send("HTTP/1.1 200 Fine\r\nX-A: b\r\nContent-Length: 2\r\n\r\nok");
  CHECK_EQ(bench.text(), ":status: 200\nX-A: b\nContent-Length: 2\n");
  CHECK(bench.waiting()->head_text().find(":method: GET\n:path: /\n:authority: a.test\n") != std::string::npos);
  bench.turn();
  CHECK(!asked.client.has("H"));
  bench.answer();
  CHECK(asked.hears("\r\n\r\nok"));
  CHECK(asked.client.has("HTTP/1.1 200 Fine\r\nX-A: b\r\n"));
  CHECK(bench.is_accounted());
  CHECK_EQ(bench.counter(Counter::UpstreamIdleOpen), 1.0);
  asked.client.send(kGet);
  CHECK(bench.run([&] { return asked.upstream.has("\r\n\r\nGET"); }));
  asked.upstream.send(kOk);
  bench.waiting();
  bench.answer();
  CHECK(bench.run([&] { return asked.client.has("okHTTP/1.1 200 OK") && asked.client.received.ends_with("ok"); }));
  CHECK(bench.is_accounted());
}

TEST("held answer: status and fields are sent as they were changed, by one after the other") {
  for (const Protocol client_protocol : {Protocol::kHttp1, Protocol::kHttp2}) {
    for (const Protocol upstream_protocol : {Protocol::kHttp1, Protocol::kHttp2}) {
      HoldingBench bench(client_protocol, upstream_protocol);
      std::unique_ptr<Peer1> client1, upstream1;
      std::unique_ptr<Peer2> client2, upstream2;
      if (client_protocol == Protocol::kHttp1) {
        client1 = std::make_unique<Peer1>(Peer1::dial(bench.port));
        client1->send(kGet);
      } else {
        client2 = std::make_unique<Peer2>(dial(bench.port), http2::Role::kClient);
        client2->raw(client2->get(1));
      }
      if (upstream_protocol == Protocol::kHttp1) {
        upstream1 = std::make_unique<Peer1>(bench.accept());
        CHECK(bench.run([&] { return upstream1->has("\r\n\r\n"); }));
        upstream1->send("HTTP/1.1 200 OK\r\nX-Old: 1\r\nX-Kept: k\r\nContent-Length: 2\r\n\r\nok");
      } else {
        upstream2 = std::make_unique<Peer2>(bench.accept(), http2::Role::kServer);
        CHECK(bench.run([&] { return upstream2->at(1).ended; }));
        upstream2->raw(upstream2->headers(1, {{":status", "200"}, {"x-old", "1"}, {"x-kept", "k"}, {"content-length", "2"}}, false));
        upstream2->raw(Peer2::data(1, "ok", true));
      }
      std::string error;
      HttpExchange* exchange = bench.waiting();
      CHECK(exchange->change_head("-x-old\n=x-new: n\n:status: 404\n", false, &error));
      CHECK(bench.text().find(":status: 404\n") == 0);
      CHECK(bench.text().find("x-new: n\n") != std::string::npos);
      CHECK(exchange->change_head("+x-new: m\n", false, &error));
      bench.answer();
      if (client1 != nullptr) {
        CHECK(bench.run([&] { return client1->has("\r\n\r\nok"); }));
        CHECK(client1->has("HTTP/1.1 404 Not Found\r\n") || upstream2 != nullptr);
        CHECK(client1->has("HTTP/1.1 404 "));
        CHECK(client1->has("x-new: n\r\nx-new: m\r\n"));
        CHECK(!client1->has("ld: 1"));
      } else {
        CHECK(bench.run([&] { return client2->at(1).ended; }));
        Seen& seen = client2->at(1);
        CHECK_EQ(seen.fields[":status"], "404");
        CHECK_EQ(seen.fields["x-kept"], "k");
        CHECK_EQ(seen.fields["x-new"], "m");
        CHECK_EQ(seen.fields["content-length"], "2");
        CHECK_EQ(seen.fields.count("x-old"), size_t{0});
        CHECK_EQ(seen.body, "ok");
      }
      CHECK(bench.is_accounted());
      CHECK(bench.run([&] { return !bench.completions.empty() && bench.completions.back().status == 404; }));
    }
  }
}

TEST("held answer: what is no answer, or would change where it ends, changes nothing") {
  HoldingBench bench;
  Asked asked(bench);
  asked.upstream.send(kOk);
  HttpExchange* exchange = bench.waiting();
  const std::string before = bench.text();
  for (const char* bad : {":status: 204\n", ":status: 304\n", ":status: 101\n", ":status: 600\n", ":status: x\n", ":path: /a\n",
                          ":authority: a\n", "=content-length: 5\n", "=transfer-encoding: chunked\n", "=x-a: b\r\n", "=connection: x\n"}) {
    std::string error;
    CHECK(!exchange->change_head(bad, false, &error));
    CHECK(!error.empty());
  }
  std::string error;
  CHECK(!exchange->change_head("=x-long: " + std::string(40'000, 'v') + "\n", false, &error));
  CHECK_EQ(bench.text(), before);
  bench.answer();
  CHECK(asked.hears("\r\n\r\nok"));
}

TEST("held answer: a tunnel that was refused is not opened by a filter that makes it a 200") {
  for (const bool is_replaced : {false, true}) {
    HoldingBench bench;
    Asked asked(bench, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n");
    asked.upstream.send("HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno");
    HttpExchange* exchange = bench.waiting();
    std::string error;
    CHECK(!exchange->change_head(":status: 200\n", false, &error));
    CHECK(!error.empty());
    CHECK(exchange->change_head(":status: 403\n", false, &error));
    if (is_replaced) bench.status = 200;
    bench.answer();
    CHECK(asked.hears(is_replaced ? "HTTP/1.1 405 " : "HTTP/1.1 403 "));
  }
}

TEST("held answer: another one in its place: the endpoint is told of as one that answered, the request as answered here") {
  for (const char* body : {"\r\nContent-Length: 2\r\n\r\nok", "\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"}) {
    HoldingBench bench;
    bench.status = 403;
    Asked asked(bench);
    asked.upstream.send(std::string("HTTP/1.1 200 OK\r\nX-Secret: s") + body);
    std::string error;
    CHECK(bench.waiting()->set_reply("=x-why: because\n", "no", -1, &error));
    bench.answer();
    CHECK(asked.hears("\r\n\r\nno"));
    CHECK(asked.client.has("HTTP/1.1 403 "));
    CHECK(asked.client.has("x-why: because\r\n"));
    CHECK(!asked.client.has("X-Secret"));
    CHECK(bench.is_accounted());
    CHECK_EQ(bench.completions.size(), size_t{2});
    CHECK(bench.completions[0].kind == CompletionKind::Abandoned);
    CHECK(bench.completions[0].first_byte_us >= 0);
    CHECK_EQ(bench.completions[1].target, -403);
  }
}

TEST("held answer: a body waits with its endpoint, and comes whole behind its head") {
  HoldingBench bench;
  Asked asked(bench);
  const size_t size = 20'000'000;
  asked.upstream.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(size) + "\r\n\r\n");
  bench.waiting();
  const std::string piece(65536, 'b');
  size_t sent = 0;
  const auto push = [&] {
    const ssize_t count = ::send(asked.upstream.fd, piece.data(), std::min(piece.size(), size - sent), MSG_NOSIGNAL);
    if (count > 0) sent += static_cast<size_t>(count);
    return count > 0;
  };
  for (int quiet = 0; quiet < 20; bench.reactor->run_once(1)) quiet = push() ? 0 : quiet + 1;
  CHECK(sent < size);
  bench.answer();
  size_t received = 0;
  for (int turn = 0; turn < 20'000 && bench.outstanding[0] != 0; turn++) {
    if (sent < size) push();
    bench.reactor->run_once(0);
    asked.client.read();
    received += asked.client.received.size();
    asked.client.received.clear();
  }
  CHECK(bench.run([&] {
    asked.client.read();
    return received + asked.client.received.size() > size;
  }));
  CHECK(bench.is_accounted());
}

TEST("held answer: chunks, trailers and bodies that end with the connection come through; so do answers without bodies") {
  struct Case {
    const char* request;
    const char* answer;
    const char* told;
    bool closes;
  };
  for (const Case& each : std::vector<Case>{
           {kGet, "HTTP/1.1 200 OK\r\nTrailer: x-t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
            "\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n", false},
           {kGet, "HTTP/1.1 200 OK\r\n\r\nuntil close", "\r\n\r\nb\r\nuntil close\r\n0\r\n\r\n", true},
           {"HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "content-length: 5\r\n\r\n", false},
           {kGet, "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\n", false},
           {kGet, "HTTP/1.1 304 Not Modified\r\nEtag: e\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nEtag: e\r\n", false},
           {"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "\r\n\r\nabc", false},
       }) {
    HoldingBench bench;
    Asked asked(bench, each.request);
    asked.upstream.send(each.answer);
    if (each.closes) asked.upstream.close();
    bench.waiting();
    bench.turn();
    CHECK(asked.client.received.empty());
    bench.answer();
    CHECK(asked.hears(each.told));
    CHECK(bench.is_accounted());
  }
}

TEST("held answer: what comes before it is not held, nor what opens a tunnel") {
  HoldingBench bench;
  Asked asked(bench);
  asked.upstream.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
  CHECK(asked.hears("103 Early Hints"));
  asked.upstream.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
  bench.waiting();
  bench.answer();
  CHECK(asked.hears("\r\n\r\nok"));
  Asked tunnel(bench, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
  tunnel.upstream.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello");
  CHECK(tunnel.hears("\r\n\r\nhello"));
  tunnel.client.send("ping");
  CHECK(bench.run([&] { return tunnel.upstream.has("ping"); }));
  CHECK_EQ(bench.held, 2);
  Asked refused(bench, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
  refused.upstream.send("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
  bench.waiting();
  bench.answer();
  CHECK(refused.hears("HTTP/1.1 403 No"));
}

TEST("held answer: the client goes: the endpoint is let go of, and whoever was asked hears of it") {
  HoldingBench bench;
  Asked asked(bench);
  asked.upstream.send(kOk);
  bench.waiting();
  reset(&asked.client);
  CHECK(bench.is_accounted(1));
  bench.answer();
  bench.turn();
  CHECK_EQ(bench.held, 1);
  CHECK_EQ(bench.counter(Counter::DownstreamOpen), 0.0);
}

TEST("held answer: the client goes before it was put off") {
  HoldingBench bench;
  Asked asked(bench);
  asked.upstream.send(kOk);
  reset(&asked.client);
  CHECK(bench.is_accounted(bench.next_token));
  CHECK_EQ(bench.counter(Counter::DownstreamOpen), 0.0);
}

TEST("held answer: an endpoint that breaks off meanwhile has answered nothing; one that was through has") {
  HoldingBench bench;
  Asked asked(bench);
  asked.upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
  bench.waiting();
  asked.upstream.close();
  bench.turn();
  bench.answer();
  // Its end lies behind what is not read.
  CHECK(bench.run([&] { return asked.client.read(), asked.client.reset; }));
  CHECK(bench.is_accounted());

  HoldingBench other(Protocol::kHttp2, Protocol::kHttp2);
  Peer2 client(dial(other.port), http2::Role::kClient);
  client.raw(client.get(1));
  Peer2 upstream(other.accept(), http2::Role::kServer);
  CHECK(other.run([&] { return upstream.at(1).ended; }));
  upstream.raw(upstream.ok(1, false));
  other.waiting();
  upstream.raw(Peer2::reset(1, ErrorCode::kInternalError));
  CHECK(other.run([&] { return client.at(1).ended; }));
  CHECK_EQ(client.at(1).fields[":status"], "503");
  CHECK(other.is_accounted(1));
  client.raw(client.get(3));
  CHECK(other.run([&] { return upstream.at(3).ended; }));
  upstream.raw(upstream.ok(3, true));
  other.waiting();
  shutdown(upstream.fd, SHUT_RDWR);
  other.turn();
  other.answer();
  CHECK(other.run([&] { return client.at(3).ended; }));
  CHECK_EQ(client.at(3).fields[":status"], "200");
}

TEST("held answer: one that takes too long is answered 504; so is what the request's own time ends") {
  for (const bool by_request : {false, true}) {
    HoldingBench bench;
    (by_request ? bench.timeout_ms : bench.wait_ms) = 30;
    Asked asked(bench);
    asked.upstream.send(kOk);
    CHECK(asked.hears("HTTP/1.1 504 "));
    CHECK(bench.is_accounted(1));
    CHECK_EQ(bench.counter(by_request ? Counter::TimeoutsRequest : Counter::TimeoutsDeferred), 1.0);
  }
}

TEST("held answer: the stream's idle time does not run for whom a filter keeps waiting") {
  EngineLimits limits;
  limits.stream_idle_timeout_ms = 20;
  HoldingBench bench(Protocol::kHttp1, Protocol::kHttp1, limits);
  Asked asked(bench);
  asked.upstream.send(kOk);
  bench.waiting();
  for (int i = 0; i < 30; i++) bench.reactor->run_once(3);
  bench.answer();
  CHECK(asked.hears("\r\n\r\nok"));
}

TEST("held answer: the request goes on meanwhile") {
  HoldingBench bench;
  Asked asked(bench, "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 8\r\n\r\nbody");
  asked.upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
  bench.waiting();
  asked.client.send("more");
  CHECK(bench.run([&] { return asked.upstream.has("bodymore"); }));
  bench.answer();
  CHECK(asked.hears("HTTP/1.1 200 OK"));
  asked.upstream.send("hello");
  CHECK(asked.hears("\r\n\r\nhello"));
  CHECK(bench.is_accounted());
}

TEST("held answer: more than may wait are answered 503, and told") {
  EngineLimits limits;
  limits.max_deferred = 1;
  HoldingBench bench(Protocol::kHttp1, Protocol::kHttp1, limits);
  Asked first(bench);
  first.upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
  bench.waiting();
  Asked second(bench);
  second.upstream.send(kOk);
  CHECK(second.hears("HTTP/1.1 503 "));
  bench.next_token = 1;
  bench.answer();
  CHECK(first.hears("HTTP/1.1 200 OK"));
}

TEST("held answer: gRPC's trailers-only and trailers, with what is said of them changed") {
  HoldingBench bench(Protocol::kHttp2, Protocol::kHttp2);
  Peer2 client(dial(bench.port), http2::Role::kClient);
  const auto call = [&](uint32_t stream) {
    client.raw(client.headers(stream,
                              {{":method", "POST"},
                               {":scheme", "http"},
                               {":path", "/a.B/C"},
                               {":authority", "a.test"},
                               {"te", "trailers"},
                               {"content-type", "application/grpc"}},
                              true));
  };
  call(1);
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return upstream.at(1).ended; }));
  upstream.raw(upstream.headers(1, {{":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", "5"}}, true));
  std::string error;
  CHECK(bench.waiting()->change_head("=grpc-status: 7\n", false, &error));
  bench.answer();
  CHECK(bench.run([&] { return client.at(1).ended; }));
  CHECK_EQ(client.at(1).fields["grpc-status"], "7");
  CHECK(bench.run([&] { return !bench.completions.empty(); }));
  CHECK_EQ(bench.completions[0].grpc_status, 7);
  call(3);
  CHECK(bench.run([&] { return upstream.at(3).ended; }));
  upstream.raw(upstream.headers(3, {{":status", "200"}, {"content-type", "application/grpc"}}, false));
  upstream.raw(Peer2::data(3, "message", false) + upstream.headers(3, {{"grpc-status", "0"}, {"x-t", "1"}}, true));
  bench.waiting();
  bench.turn();
  CHECK(client.at(3).fields.empty());
  bench.answer();
  CHECK(bench.run([&] { return client.at(3).ended; }));
  CHECK_EQ(client.at(3).body, "message");
  CHECK_EQ(client.at(3).fields["x-t"], "1");
  CHECK(bench.is_accounted());
  bench.status = 403;
  call(5);
  CHECK(bench.run([&] { return upstream.at(5).ended; }));
  upstream.raw(upstream.headers(5, {{":status", "200"}, {"content-type", "application/grpc"}}, false));
  CHECK(bench.waiting()->set_reply("", "", 7, &error));
  bench.answer();
  CHECK(bench.run([&] { return client.at(5).ended; }));
  CHECK_EQ(client.at(5).fields["grpc-status"], "7");
  CHECK(bench.run([&] { return upstream.at(5).resets == 1; }));
  CHECK(bench.is_accounted());
}

TEST("held answer: HTTP/2 leaves its body's rest with the endpoint, too") {
  HoldingBench bench(Protocol::kHttp2, Protocol::kHttp2);
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(client.get(1));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return upstream.at(1).ended; }));
  upstream.raw(upstream.ok(1, false));
  for (int i = 0; i < 8; i++) upstream.raw(Peer2::data(1, std::string(8'000, 'x'), false));
  bench.waiting();
  bench.turn();
  CHECK_EQ(upstream.at(1).resets, 0);
  CHECK_EQ(upstream.returned[1], uint64_t{0});
  bench.answer();
  CHECK(bench.run([&] { return client.at(1).body.size() == 64'000; }));
  CHECK(bench.run([&] { return upstream.at(1), upstream.returned[1] > 0; }));
  upstream.raw(Peer2::data(1, "end", true));
  CHECK(bench.run([&] { return client.at(1).ended; }));
  CHECK(bench.is_accounted());
}

TEST("held answer: an attempt that was decided when its filters were gone is not held for those of the one before") {
  for (const Protocol upstream_protocol : {Protocol::kHttp1, Protocol::kHttp2}) {
    HoldingBench bench(Protocol::kHttp1, upstream_protocol);
    bench.change = [&bench](const int32_t* words, Decision* decision) {
      CHECK_EQ(words[static_cast<int32_t>(Descriptor::Flags)] & kDescriptorHeldAnswer, 0);
      decision->flags |= kExtended | kRetry;
      decision->answer_filters = bench.decided == 1 ? kChain : -1;
    };
    Peer1 client(Peer1::dial(bench.port));
    client.send(kGet);
    Peer1 first(bench.accept());
    CHECK(bench.run([&] { return first.has("\r\n\r\n"); }));
    reset(&first);
    const int fd = bench.accept();
    if (upstream_protocol == Protocol::kHttp1) {
      Peer1 second(fd);
      CHECK(bench.run([&] { return second.has("\r\n\r\n"); }));
      second.send(kOk);
      CHECK(bench.run([&] { return client.has("\r\n\r\nok"); }));
    } else {
      Peer2 second(fd, http2::Role::kServer);
      CHECK(bench.run([&] { return second.at(1).ended; }));
      second.raw(second.ok(1, false) + Peer2::data(1, "ok", true));
      CHECK(bench.run([&] { return client.has("ok\r\n"); }));
    }
    CHECK_EQ(bench.outstanding[0], 0);
  }
}

TEST("held answer: the engine closes over it") {
  HoldingBench bench;
  Asked asked(bench);
  asked.upstream.send(kOk);
  bench.waiting();
  bench.reactor->drain(0);
  bench.turn();
  CHECK_EQ(bench.counter(Counter::DeferredOpen), 1.0);
  bench.reactor->close();
  CHECK_EQ(bench.counter(Counter::DownstreamOpen), 0.0);
  CHECK_EQ(bench.outstanding[0], 0);
}

}  // namespace
}  // namespace weft::test
