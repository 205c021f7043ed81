// Bodies that filters read: requests held until theirs is whole, answers with theirs, what is written in their place, and how much is too
// much.
#include <optional>
#include <vector>

#include "http2_loopback.h"

namespace weft::test {
namespace {

constexpr int32_t kBound = 1000;

// The request's body is collected, then the request put off; the answer with its body is put off, too. Whatever was answered goes on.
struct BodyBench : Http2Bench {
  int32_t next_token = 0;
  int32_t answer_bytes = 0;
  int32_t seen_flags = 0;
  int32_t undecided = 0;
  int32_t bound = kBound;

  explicit BodyBench(Protocol client = Protocol::kHttp1, Protocol upstream = Protocol::kHttp1, const EngineLimits& limits = {})
      : Http2Bench(limits, upstream, client) {
    change = [this](const int32_t* words, Decision* decision) {
      const int32_t flags = words[static_cast<int32_t>(Descriptor::Flags)];
      const bool is_answered = (flags & kDescriptorAnswered) != 0, is_held = (flags & kDescriptorHeldAnswer) != 0;
      decision->flags |= kExtended;
      if (is_held && is_answered) decision->target = kTargetOriginal;
      if (!is_held && is_answered && answer_bytes > 0) decision->answer_filters = 0;
      if (!is_held && is_answered) decision->body_bytes = answer_bytes;
      undecided += is_held || !is_answered ? 1 : 0;
      if (is_answered) return;
      const bool is_looked_at = is_held || (flags & (kDescriptorBodyHeld | kDescriptorBodyTooLong)) != 0;
      seen_flags = flags & (kDescriptorBodyHeld | kDescriptorBodyTooLong);
      decision->target = is_looked_at ? kTargetDeferred : kTargetCollect;
      decision->body_bytes = bound;
      if (is_looked_at) decision->token = next_token++;
    };
  }
  HttpExchange* waiting() {
    CHECK(run([&] { return counter(Counter::DeferredOpen) == 1; }));
    return reactor->deferred(next_token - 1);
  }
  std::string body() {
    std::string bytes;
    CHECK(waiting()->body_bytes(&bytes));
    return bytes;
  }
  void answer() {
    uint8_t* memory = reactor->batch().memory();
    reinterpret_cast<int32_t*>(memory + Batch::layout().header)[static_cast<int32_t>(HeaderWord::AnsweredCount)] = 1;
    reinterpret_cast<int32_t*>(memory + Batch::layout().answered)[0] = next_token - 1;
  }
  void turn(int count = 5) {
    for (int i = 0; i < count; i++) reactor->run_once(1);
  }
  bool is_accounted() {
    return run([&] { return outstanding[0] == 0 && counter(Counter::DeferredOpen) == 0; });
  }
};

const std::string kPost = "POST / HTTP/1.1\r\nHost: a.test\r\n";

TEST("filter bodies: a request waits for its body, and is sent with it as it came") {
  BodyBench bench;
  Peer1 client(Peer1::dial(bench.port));
  client.send(kPost + "Content-Length: 8\r\n\r\nbody");
  bench.turn();
  CHECK_EQ(bench.counter(Counter::DeferredOpen), 0.0);
  client.send("more");
  CHECK_EQ(bench.body(), "bodymore");
  CHECK_EQ(bench.seen_flags, kDescriptorBodyHeld);
  bench.answer();
  Peer1 upstream(bench.accept());
  CHECK(bench.run([&] { return upstream.has("\r\n\r\nbodymore"); }));
  CHECK(upstream.has("content-length: 8\r\n"));
  upstream.send(kOk);
  CHECK(bench.run([&] { return client.has("\r\n\r\nok"); }));
  CHECK(bench.is_accounted());
}

TEST("filter bodies: chunks are read without their framing, and a body in their place has a length of its own") {
  for (const bool changes : {false, true}) {
    BodyBench bench;
    Peer1 client(Peer1::dial(bench.port));
    client.send(kPost + "Transfer-Encoding: chunked\r\nTrailer: x-t\r\n\r\n3\r\nabc\r\n");
    bench.turn();
    client.send("2;ext=1\r\nde\r\n0\r\nX-T: 1\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    CHECK_EQ(bench.body(), "abcde");
    std::string error;
    if (changes) CHECK(bench.waiting()->set_body("other", &error));
    if (changes) CHECK(bench.waiting()->change_head("=x-new: n\n", false, &error));
    if (changes) CHECK_EQ(bench.body(), "other");
    bench.answer();
    Peer1 upstream(bench.accept());
    CHECK(bench.run([&] { return upstream.has(changes ? "\r\n\r\nother" : "\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n"); }));
    CHECK_EQ(upstream.has("content-length: 5\r\n"), changes);
    CHECK_EQ(upstream.has("transfer-encoding: chunked\r\n"), !changes);
    CHECK_EQ(upstream.has("x-new: n\r\n"), changes);
    upstream.send(kOk);
    CHECK(bench.run([&] { return client.has("\r\n\r\nok"); }));
    // What was sent behind it is a request of its own.
    CHECK(bench.run([&] { return bench.undecided >= 3; }));
  }
}

TEST("filter bodies: one that is longer than what else is kept of a request is sent whole, in chunks") {
  constexpr size_t kPieces = 48, kPiece = 16'000;
  for (const Protocol spoken : {Protocol::kHttp1, Protocol::kHttp2}) {
    BodyBench bench(spoken);
    bench.bound = 1 << 20;
    const std::string piece(kPiece, 'x');
    Peer1 plain(spoken == Protocol::kHttp1 ? Peer1::dial(bench.port) : -1);
    std::optional<Peer2> client;
    if (spoken == Protocol::kHttp1) {
      plain.send(kPost + "Transfer-Encoding: chunked\r\n\r\n");
    } else {
      client.emplace(dial(bench.port), http2::Role::kClient);
      client->raw(client->get(1, false));
    }
    for (size_t i = 0; i < kPieces; i++) {
      if (spoken == Protocol::kHttp1) {
        plain.send("3e80\r\n" + piece + (i + 1 == kPieces ? "\r\n0\r\n\r\n" : "\r\n"));
      } else {
        const auto sent = static_cast<int64_t>(i * kPiece);
        CHECK(bench.run([&] { return client->read(), 65'535 + client->windows[1] >= sent + static_cast<int64_t>(kPiece); }));
        client->raw(Peer2::data(1, piece, i + 1 == kPieces));
      }
      bench.turn(1);
    }
    CHECK_EQ(bench.body().size(), kPieces * kPiece);
    bench.answer();
    Peer1 upstream(bench.accept());
    CHECK(bench.run([&] { return upstream.read(), upstream.received.ends_with("\r\n0\r\n\r\n"); }));
    CHECK(upstream.has("transfer-encoding: chunked\r\n"));
    CHECK(upstream.received.size() > kPieces * kPiece);
  }
}

TEST("filter bodies: HTTP/2, to either protocol, and a new one of nothing") {
  for (const Protocol spoken : {Protocol::kHttp1, Protocol::kHttp2}) {
    for (const std::string wanted : {"as it is", "other", ""}) {
      BodyBench bench(Protocol::kHttp2, spoken);
      Peer2 client(dial(bench.port), http2::Role::kClient);
      client.raw(client.headers(
          1, {{":method", "POST"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a.test"}, {"content-length", "8"}}, false));
      client.raw(Peer2::data(1, "as ", false));
      bench.turn();
      client.raw(Peer2::data(1, "it is", true));
      CHECK_EQ(bench.body(), "as it is");
      std::string error;
      if (wanted != "as it is") CHECK(bench.waiting()->set_body(wanted, &error));
      bench.answer();
      if (spoken == Protocol::kHttp1) {
        Peer1 upstream(bench.accept());
        CHECK(bench.run([&] { return upstream.has("\r\n\r\n" + wanted); }));
        CHECK(upstream.has("content-length: " + std::to_string(wanted.size()) + "\r\n"));
        upstream.send(kOk);
      } else {
        Peer2 upstream(bench.accept(), http2::Role::kServer);
        CHECK(bench.run([&] { return upstream.at(1).ended; }));
        CHECK_EQ(upstream.at(1).body, wanted);
        CHECK_EQ(upstream.at(1).fields["content-length"], std::to_string(wanted.size()));
        upstream.raw(upstream.ok(1, true));
        CHECK(bench.run([&] { return client.at(1).ended; }));
      }
      CHECK(bench.run([&] { return client.at(1).fields[":status"] == "200"; }));
      CHECK(bench.is_accounted());
    }
  }
}

TEST("filter bodies: one that is too long is not read, and goes on behind what there was") {
  for (const bool chunked : {false, true}) {
    BodyBench bench;
    Peer1 client(Peer1::dial(bench.port));
    const std::string part(600, 'b');
    client.send(chunked ? kPost + "Transfer-Encoding: chunked\r\n\r\n258\r\n" + part + "\r\n"
                        : kPost + "Content-Length: 1800\r\n\r\n" + part);
    bench.turn();
    CHECK_EQ(bench.counter(Counter::DeferredOpen), 0.0);
    client.send(chunked ? "258\r\n" + part + "\r\n" : part);
    std::string bytes;
    CHECK(!bench.waiting()->body_bytes(&bytes));
    CHECK_EQ(bench.seen_flags, kDescriptorBodyTooLong);
    std::string error;
    CHECK(!bench.waiting()->set_body("other", &error));
    bench.answer();
    Peer1 upstream(bench.accept());
    client.send(chunked ? "258\r\n" + part + "\r\n0\r\n\r\n" : part);
    CHECK(bench.run([&] { return upstream.has(chunked ? "0\r\n\r\n" : "\r\n\r\n" + part + part + part); }));
    upstream.send(kOk);
    CHECK(bench.run([&] { return client.has("\r\n\r\nok"); }));
    CHECK(bench.is_accounted());
  }
}

// Put off for something else, it finds filters that read bodies in the tables of then.
TEST("filter bodies: a request that was put off before is collected then, whatever of its body has come") {
  for (const Protocol spoken : {Protocol::kHttp1, Protocol::kHttp2}) {
    for (const bool is_whole : {false, true}) {
      BodyBench bench(spoken, Protocol::kHttp1);
      const auto collect = bench.change;
      bool was_put_off = false;
      bench.change = [&](const int32_t* words, Decision* decision) {
        const int32_t flags = words[static_cast<int32_t>(Descriptor::Flags)];
        if ((flags & (kDescriptorAnswered | kDescriptorBodyHeld)) == 0) {
          decision->target = kTargetDeferred;
          decision->token = bench.next_token++;
          return;
        }
        if (was_put_off) return collect(words, decision);
        was_put_off = true;
        decision->flags |= kExtended;
        decision->target = kTargetCollect;
        decision->body_bytes = kBound;
      };
      std::unique_ptr<Peer1> client1;
      std::unique_ptr<Peer2> client2;
      const auto send_rest = [&] { client1 != nullptr ? client1->send("more") : client2->raw(client2->data(1, "more", true)); };
      if (spoken == Protocol::kHttp1) {
        client1 = std::make_unique<Peer1>(Peer1::dial(bench.port));
        client1->send(kPost + "Content-Length: 8\r\n\r\nbody");
      } else {
        client2 = std::make_unique<Peer2>(dial(bench.port), http2::Role::kClient);
        client2->raw(client2->headers(1, {{":method", "POST"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a.test"}}, false));
        client2->raw(client2->data(1, "body", false));
      }
      bench.waiting();
      if (is_whole) send_rest();
      bench.turn();
      bench.answer();
      bench.turn();
      if (!is_whole) send_rest();
      CHECK_EQ(bench.body(), "bodymore");
      bench.answer();
      Peer1 upstream(bench.accept());
      CHECK(bench.run([&] { return upstream.has("more"); }));
      upstream.send(kOk);
      CHECK(bench.is_accounted());
    }
  }
}

TEST("filter bodies: chunks of a byte cost no more memory than that, either") {
  BodyBench bench;
  Peer1 client(Peer1::dial(bench.port));
  std::string text = kPost + "Transfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 90; i++) text += "1;" + std::string(1000, 'e') + "\r\nb\r\n";
  client.send(text);
  bench.waiting();
  CHECK_EQ(bench.seen_flags, kDescriptorBodyTooLong);
}

TEST("filter bodies: who waits to be asked for the body is asked; who breaks off, or lets us wait, has sent none") {
  EngineLimits limits;
  limits.stream_idle_timeout_ms = 30;
  BodyBench bench(Protocol::kHttp1, Protocol::kHttp1, limits);
  Peer1 client(Peer1::dial(bench.port));
  client.send(kPost + "Expect: 100-continue\r\nContent-Length: 4\r\n\r\n");
  CHECK(bench.run([&] { return client.has("HTTP/1.1 100 Continue\r\n"); }));
  client.send("body");
  CHECK_EQ(bench.body(), "body");
  bench.answer();
  Peer1 upstream(bench.accept());
  CHECK(bench.run([&] { return upstream.has("\r\n\r\nbody"); }));
  // Or it would ask once more.
  CHECK(upstream.received.find("xpect") == std::string::npos);
  upstream.send(kOk);
  CHECK(bench.run([&] { return client.has("\r\n\r\nok"); }));
  Peer1 slow(Peer1::dial(bench.port));
  slow.send(kPost + "Content-Length: 4\r\n\r\nbo");
  CHECK(bench.run([&] { return slow.has("HTTP/1.1 408 "); }));
  Peer1 bad(Peer1::dial(bench.port));
  bad.send(kPost + "Transfer-Encoding: chunked\r\n\r\nx");
  CHECK(bench.run([&] { return bad.has("HTTP/1.1 400 "); }));
  Peer1 gone(Peer1::dial(bench.port));
  gone.send(kPost + "Content-Length: 4\r\n\r\nbo");
  bench.turn();
  for (Peer1* peer : {&client, &slow, &bad, &gone}) peer->close();
  CHECK(bench.run([&] { return bench.counter(Counter::DownstreamOpen) == 0; }));
  CHECK(bench.is_accounted());
}

// A GET whose answer's body is held; with what is answered to it.
std::string answered(BodyBench* bench, const std::string& upstream_says, const std::string* other, bool closes = false) {
  bench->answer_bytes = kBound;
  Peer1 client(Peer1::dial(bench->port));
  client.send(kGet);
  bench->waiting();
  bench->answer();
  Peer1 upstream(bench->accept());
  CHECK(bench->run([&] { return upstream.has("\r\n\r\n"); }));
  upstream.send(upstream_says.substr(0, upstream_says.size() / 2));
  bench->turn();
  CHECK(client.received.empty());
  upstream.send(upstream_says.substr(upstream_says.size() / 2));
  if (closes) upstream.close();
  HttpExchange* exchange = bench->waiting();
  std::string error;
  if (other != nullptr) CHECK(exchange->set_body(*other, &error));
  bench->answer();
  CHECK(bench->run([&] { return client.has("\r\n\r\n") && bench->outstanding[0] == 0; }));
  bench->turn();
  client.read();
  return client.received;
}

TEST("filter bodies: an answer's is held with its head, whole, however it was framed, and another has a length of its own") {
  const std::string other = "other body";
  for (const std::string framed :
       {"Content-Length: 4\r\n\r\nbody", "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", "\r\nbody"}) {
    BodyBench bench;
    const bool closes = framed.starts_with("\r\n");
    const std::string heard = answered(&bench, "HTTP/1.1 200 OK\r\n" + framed, &other, closes);
    CHECK(heard.ends_with("\r\n\r\nother body"));
    CHECK(heard.find("content-length: 10\r\n") != std::string::npos);
    CHECK(heard.find("chunked") == std::string::npos);
    CHECK_EQ(bench.seen_flags, kDescriptorBodyHeld);
    BodyBench same;
    CHECK(answered(&same, "HTTP/1.1 200 OK\r\n" + framed, nullptr, closes).find("body\r\n") != std::string::npos || !closes);
  }
  BodyBench trailed;
  const std::string heard =
      answered(&trailed, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-T: 1\r\n\r\n", &other);
  CHECK(heard.ends_with("a\r\nother body\r\n0\r\nX-T: 1\r\n\r\n"));
}

TEST("filter bodies: of an answer that is too long nothing is read, and it streams on") {
  BodyBench bench;
  bench.answer_bytes = kBound;
  Peer1 client(Peer1::dial(bench.port));
  client.send(kGet);
  bench.waiting();
  bench.answer();
  Peer1 upstream(bench.accept());
  CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
  upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n" + std::string(1500, 'b'));
  std::string bytes, error;
  CHECK(!bench.waiting()->body_bytes(&bytes));
  CHECK(!bench.waiting()->set_body("x", &error));
  CHECK_EQ(bench.seen_flags, kDescriptorBodyTooLong);
  bench.answer();
  upstream.send(std::string(1500, 'e'));
  CHECK(bench.run([&] { return client.has("be") && client.received.ends_with(std::string(1500, 'e')); }));
  CHECK(bench.is_accounted());
}

TEST("filter bodies: a gRPC answer keeps its trailers behind another body") {
  BodyBench bench(Protocol::kHttp2, Protocol::kHttp2);
  bench.answer_bytes = kBound;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(client.get(1));
  bench.waiting();
  bench.answer();
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return upstream.at(1).ended; }));
  upstream.raw(upstream.headers(1, {{":status", "200"}, {"content-type", "application/grpc"}}, false) + Peer2::data(1, "message", false));
  bench.turn();
  upstream.raw(upstream.headers(1, {{"grpc-status", "0"}}, true));
  CHECK_EQ(bench.body(), "message");
  std::string error;
  CHECK(bench.waiting()->set_body("other", &error));
  bench.answer();
  CHECK(bench.run([&] { return client.at(1).ended; }));
  CHECK_EQ(client.at(1).body, "other");
  CHECK_EQ(client.at(1).fields["grpc-status"], "0");
  CHECK(bench.is_accounted());
}

TEST("filter bodies: an answer that breaks off, or never ends, is none") {
  EngineLimits limits;
  limits.stream_idle_timeout_ms = 30;
  for (const bool breaks : {true, false}) {
    BodyBench bench(Protocol::kHttp1, Protocol::kHttp1, limits);
    bench.answer_bytes = kBound;
    Peer1 client(Peer1::dial(bench.port));
    client.send(kGet);
    bench.waiting();
    bench.answer();
    Peer1 upstream(bench.accept());
    CHECK(bench.run([&] { return upstream.has("\r\n\r\n"); }));
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo");
    if (breaks) bench.turn(), upstream.close();
    CHECK(bench.run([&] { return client.has(breaks ? "HTTP/1.1 503 " : "HTTP/1.1 504 "); }));
    CHECK(bench.is_accounted());
  }
}

}  // namespace
}  // namespace weft::test
