// Second attempts of requests whose first one is late, and every end that two attempts can have: the whole reactor over loopback.
#include "attempts_bench.h"

namespace weft::test {
namespace {

constexpr int32_t kHedgeMs = 20;

RetrySpec no_retry() { return RetrySpec{}; }

// A client whose request is at both upstreams.
struct Hedged {
  AttemptsBench attempts;
  Bench& bench = attempts.bench;
  std::unique_ptr<Peer1> client;
  std::unique_ptr<Peer1> first;
  std::unique_ptr<Peer1> second;

  explicit Hedged(
      const RetrySpec& retry = no_retry(), const std::function<void(AttemptsBench*)>& set = [](AttemptsBench*) {},
      const std::string& request = kGet)
      : attempts(retry) {
    attempts.retries = 0;
    attempts.hedge_ms = kHedgeMs;
    set(&attempts);
    client = std::make_unique<Peer1>(Peer1::dial(bench.port));
    client->send(request);
    first = std::make_unique<Peer1>(attempts.accept(0));
    CHECK(bench.run([&] { return first->has("\r\n\r\n"); }));
    second = std::make_unique<Peer1>(attempts.accept(1));
    CHECK(bench.run([&] { return second->has("\r\n\r\n"); }));
    CHECK_EQ(second->received, first->received);
  }
  // Each decision has one completion, and nothing is outstanding.
  void check_accounts(CompletionKind of_first, CompletionKind of_second) {
    CHECK(attempts.ended());
    bench.run([&] { return attempts.completions.size() == 2; });
    CHECK_EQ(attempts.completions.size(), size_t{2});
    CHECK_EQ(attempts.completed(of_first, 0), 1);
    CHECK_EQ(attempts.completed(of_second, 1), 1);
    CHECK(attempts.is_accounted());
    CHECK_EQ(bench.counter(Counter::Hedges), 1.0);
  }
  bool is_gone(Peer1* upstream) {
    return bench.run([&] {
      upstream->read();
      return upstream->ended || upstream->reset;
    });
  }
};

TEST("hedge: the second attempt answers first: it is the client's, and the first one is cut off") {
  Hedged hedged;
  CHECK(hedged.attempts.tried == std::vector<std::vector<int32_t>>{{0}});
  hedged.second->send(kOk);
  CHECK(hedged.bench.run([&] { return hedged.client->has("\r\n\r\nok"); }));
  CHECK(hedged.is_gone(hedged.first.get()));
  hedged.check_accounts(CompletionKind::Abandoned, CompletionKind::Ended);
  CHECK_EQ(hedged.bench.counter(Counter::HedgesWon), 1.0);
  for (const Completion& each : hedged.attempts.completions) {
    if (each.kind == CompletionKind::Ended) CHECK_EQ(each.attempts, 2);
    if (each.kind == CompletionKind::Abandoned) CHECK(each.first_byte_us >= kHedgeMs * 1000);
  }
  // The client's connection goes on, and so does the second upstream's.
  hedged.client->received.clear();
  hedged.second->received.clear();
  hedged.attempts.first = 1;
  hedged.client->send(kGet);
  CHECK(hedged.bench.run([&] { return hedged.second->has("\r\n\r\n"); }));
  hedged.second->send(kOk);
  CHECK(hedged.bench.run([&] { return hedged.client->has("\r\n\r\nok"); }));
}

TEST("hedge: the first attempt answers first after all: the second one is cut off") {
  Hedged hedged;
  hedged.first->send(kOk);
  CHECK(hedged.bench.run([&] { return hedged.client->has("\r\n\r\nok"); }));
  CHECK(hedged.is_gone(hedged.second.get()));
  hedged.check_accounts(CompletionKind::Ended, CompletionKind::Abandoned);
  CHECK_EQ(hedged.bench.counter(Counter::HedgesWon), 0.0);
}

TEST("hedge: of two answers that lie there at once one is the client's, whole") {
  Hedged hedged;
  hedged.first->send(kOk);
  hedged.second->send(kOk);
  CHECK(hedged.bench.run([&] { return hedged.client->has("\r\n\r\nok"); }));
  CHECK(hedged.attempts.ended());
  hedged.bench.run([&] { return hedged.attempts.completions.size() == 2; });
  CHECK_EQ(hedged.attempts.completions.size(), size_t{2});
  CHECK(hedged.attempts.is_accounted());
  CHECK_EQ(hedged.client->received.find("HTTP/1.1", 1), std::string::npos);
}

TEST("hedge: one attempt breaks: the other one goes on alone, and only the broken one has failed") {
  Hedged hedged;
  reset(hedged.first.get());
  CHECK(hedged.bench.run([&] { return hedged.attempts.completed(CompletionKind::Failed, 0) == 1; }));
  hedged.second->send(kOk);
  CHECK(hedged.bench.run([&] { return hedged.client->has("\r\n\r\nok"); }));
  hedged.check_accounts(CompletionKind::Failed, CompletionKind::Ended);
  Hedged other;
  reset(other.second.get());
  CHECK(other.bench.run([&] { return other.attempts.completed(CompletionKind::Failed, 1) == 1; }));
  other.first->send(kOk);
  CHECK(other.bench.run([&] { return other.client->has("\r\n\r\nok"); }));
  other.check_accounts(CompletionKind::Ended, CompletionKind::Failed);
}

TEST("hedge: both break: the last one's end is the request's, or brings another attempt if the route wants one") {
  Hedged hedged;
  reset(hedged.first.get());
  hedged.bench.run([&] { return hedged.attempts.completed(CompletionKind::Failed, 0) == 1; });
  reset(hedged.second.get());
  CHECK(hedged.bench.run([&] { return hedged.client->has("503"); }));
  hedged.check_accounts(CompletionKind::Failed, CompletionKind::Ended);

  Hedged again(retry_on([](RetrySpec* spec) { spec->reset = true; }), [](AttemptsBench* attempts) { attempts->retries = 3; });
  reset(again.second.get());
  again.bench.run([&] { return again.attempts.completed(CompletionKind::Failed, 1) == 1; });
  reset(again.first.get());
  // The third goes to nobody, whom the condition does not forgive: connect failures are resets here.
  Peer1 third(again.attempts.accept(0));
  CHECK(again.bench.run([&] { return third.has("\r\n\r\n"); }));
  third.send(kOk);
  CHECK(again.bench.run([&] { return again.client->has("\r\n\r\nok"); }));
  CHECK(again.attempts.ended() && again.attempts.is_accounted());
}

TEST("hedge: an answer that the route does not take leaves the request to the other attempt") {
  const RetrySpec declines = retry_on([](RetrySpec* spec) { spec->statuses = {503}; });
  for (const bool is_first : {true, false}) {
    Hedged hedged(declines);
    (is_first ? hedged.first : hedged.second)->send(answer(503));
    CHECK(hedged.bench.run([&] { return hedged.attempts.completed(CompletionKind::Failed, is_first ? 0 : 1) == 1; }));
    (is_first ? hedged.second : hedged.first)->send(answer(503, "X-Last: 1\r\n"));
    CHECK(hedged.bench.run([&] { return hedged.client->has("\r\n\r\nno"); }));
    CHECK(hedged.attempts.ended() && hedged.attempts.is_accounted());
    CHECK_EQ(hedged.attempts.completions.size(), size_t{2});
  }
}

TEST("hedge: the client leaves, or the engine closes, with two attempts under way: each has one completion") {
  Hedged hedged;
  reset(hedged.client.get());
  hedged.check_accounts(CompletionKind::Abandoned, CompletionKind::Ended);
  CHECK(hedged.is_gone(hedged.first.get()) && hedged.is_gone(hedged.second.get()));
  Hedged closed;
  closed.bench.reactor->close();
  CHECK_EQ(closed.attempts.completions.size(), size_t{2});
  CHECK(closed.attempts.is_accounted());
}

TEST("hedge: the request's time is over with two attempts under way, or that of each attempt") {
  Hedged whole(no_retry(), [](AttemptsBench* attempts) { attempts->timeout_ms = 200; });
  CHECK(whole.bench.run([&] { return whole.client->has("504"); }));
  CHECK(whole.attempts.ended() && whole.attempts.is_accounted());
  CHECK_EQ(whole.attempts.completions.size(), size_t{2});
  Hedged each(no_retry(), [](AttemptsBench* attempts) { attempts->attempt_timeout_ms = 150; });
  CHECK(each.bench.run([&] { return each.attempts.completed(CompletionKind::Failed, 0) == 1; }));
  CHECK(each.client->received.empty());
  CHECK(each.bench.run([&] { return each.client->has("504"); }));
  each.check_accounts(CompletionKind::Failed, CompletionKind::Ended);
}

TEST("hedge: none where the answer is in time, where it is refused, or where nobody listens but the first") {
  AttemptsBench in_time(no_retry());
  in_time.retries = 0;
  in_time.hedge_ms = 400;
  Peer1 client(Peer1::dial(in_time.bench.port));
  client.send(kGet);
  Peer1 first(in_time.accept(0));
  CHECK(in_time.bench.run([&] { return first.has("\r\n\r\n"); }));
  first.send(kOk);
  CHECK(in_time.bench.run([&] { return client.has("\r\n\r\nok"); }));
  CHECK(in_time.ended() && in_time.is_accounted());
  for (const int32_t target : {-503, -2, 2}) {
    AttemptsBench refused(no_retry());
    refused.retries = 0;
    refused.hedge_ms = kHedgeMs;
    refused.hedge_target = target;
    Peer1 waiting(Peer1::dial(refused.bench.port));
    waiting.send(kGet);
    Peer1 only(refused.accept(0));
    CHECK(refused.bench.run([&] { return !refused.tried.empty(); }));
    for (int turn = 0; turn < 10; turn++) refused.bench.reactor->run_once(5);
    only.send(kOk);
    CHECK(refused.bench.run([&] { return waiting.has("\r\n\r\nok"); }));
    CHECK(refused.ended() && refused.is_accounted());
    CHECK_EQ(refused.tried.size(), size_t{1});
  }
}

TEST("hedge: a body that is not here yet is waited for, one that is too large to be kept has one attempt") {
  EngineLimits limits;
  limits.max_buffered_bytes = 4096;
  for (const size_t size : {size_t{1000}, size_t{100'000}}) {
    AttemptsBench attempts(no_retry(), Protocol::kHttp1, limits);
    attempts.retries = 0;
    attempts.hedge_ms = kHedgeMs;
    Bench& bench = attempts.bench;
    Peer1 client(Peer1::dial(bench.port));
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: " + std::to_string(size) + "\r\n\r\n");
    client.send(std::string(size - 1, 'b'));
    Peer1 first(attempts.accept(0));
    CHECK(bench.run([&] { return first.has("bbb"); }));
    for (int turn = 0; turn < 15; turn++) {
      bench.reactor->run_once(5);
      first.read();
    }
    CHECK_EQ(bench.counter(Counter::Hedges), 0.0);
    client.send("e");
    if (size == 1000) {
      Peer1 second(attempts.accept(1));
      CHECK(bench.run([&] { return second.has("be"); }));
      second.send(kOk);
      CHECK(bench.run([&] { return client.has("\r\n\r\nok"); }));
    } else {
      CHECK(bench.run([&] { return first.has("be"); }));
      for (int turn = 0; turn < 15; turn++) bench.reactor->run_once(5);
      CHECK_EQ(bench.counter(Counter::Hedges), 0.0);
      first.send(kOk);
      CHECK(bench.run([&] { return client.has("\r\n\r\nok"); }));
    }
    CHECK(attempts.ended() && attempts.is_accounted());
  }
}

TEST("hedge: an interim answer is no answer: of two attempts none is passed on") {
  Hedged hedged;
  hedged.first->send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
  for (int turn = 0; turn < 5; turn++) hedged.bench.reactor->run_once(2);
  hedged.second->send(kOk);
  CHECK(hedged.bench.run([&] { return hedged.client->has("\r\n\r\nok"); }));
  CHECK(!hedged.client->has("103"));
  hedged.check_accounts(CompletionKind::Abandoned, CompletionKind::Ended);
}

TEST("hedge: gRPC over HTTP/2, message, trailers and all; the slower call's stream is reset") {
  for (const bool second_wins : {true, false}) {
    AttemptsBench attempts(no_retry(), Protocol::kHttp2);
    attempts.retries = 0;
    attempts.hedge_ms = kHedgeMs;
    Bench& bench = attempts.bench;
    Peer2 client(dial(bench.listen(7, Protocol::kHttp2)), http2::Role::kClient);
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
    Peer2 second(attempts.accept(1), http2::Role::kServer);
    CHECK(bench.run([&] { return second.at(1).ended; }));
    CHECK_EQ(second.at(1).body, first.at(1).body);
    CHECK(second.at(1).fields == first.at(1).fields);
    Peer2& winner = second_wins ? second : first;
    Peer2& loser = second_wins ? first : second;
    winner.raw(Peer2::in_order({winner.headers(1, {{":status", "200"}, {"content-type", "application/grpc"}}, false),
                                Peer2::data(1, "answer", false), winner.headers(1, {{"grpc-status", "0"}}, true)}));
    CHECK(bench.run([&] { return client.at(1).ended && loser.at(1).resets == 1; }));
    CHECK_EQ(client.at(1).body, "answer");
    CHECK_EQ(client.at(1).fields["grpc-status"], "0");
    CHECK_EQ(loser.at(1).reset_code, static_cast<uint32_t>(ErrorCode::kCancel));
    CHECK(attempts.ended() && attempts.is_accounted());
    bench.run([&] { return attempts.completions.size() == 2; });
    CHECK_EQ(attempts.completed(CompletionKind::Ended, second_wins ? 1 : 0), 1);
    CHECK_EQ(attempts.completed(CompletionKind::Abandoned, second_wins ? 0 : 1), 1);
    // Late frames of the slower one do no harm.
    loser.raw(loser.ok(1, true));
    client.raw(client.get(3));
    CHECK(bench.run([&] { return first.at(3).ended; }));
  }
}

TEST("hedge: an HTTP/2 connection breaks under one of two attempts, or refuses its stream") {
  for (const bool refuses : {true, false}) {
    AttemptsBench attempts(no_retry(), Protocol::kHttp2);
    attempts.retries = 0;
    attempts.hedge_ms = kHedgeMs;
    Bench& bench = attempts.bench;
    Peer2 client(dial(bench.listen(7, Protocol::kHttp2)), http2::Role::kClient);
    client.raw(client.get(1));
    auto first = std::make_unique<Peer2>(attempts.accept(0), http2::Role::kServer);
    CHECK(bench.run([&] { return first->at(1).ended; }));
    Peer2 second(attempts.accept(1), http2::Role::kServer);
    CHECK(bench.run([&] { return second.at(1).ended; }));
    if (refuses) {
      first->raw(Peer2::reset(1, ErrorCode::kRefusedStream));
    } else {
      first.reset();
    }
    CHECK(bench.run([&] { return attempts.completed(CompletionKind::Failed, 0) == 1; }));
    second.raw(second.ok(1, true));
    CHECK(bench.run([&] { return client.at(1).ended; }));
    CHECK_EQ(client.at(1).fields[":status"], "200");
    CHECK(attempts.ended() && attempts.is_accounted());
  }
}

}  // namespace
}  // namespace weft::test
