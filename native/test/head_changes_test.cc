// What is changed of a request while its decision is put off: the head anew, what rules then match, answers of others' making.
#include "core/head_changes.h"

#include <string>

#include "loopback.h"

namespace weft {
namespace {

using test::accept_upstream;
using test::Bench;
using test::kOk;
using test::Peer1;

// Defers every request once, as token 0; what was answered goes to endpoint 0, or is answered locally where `status` is set.
struct ChangingBench : Bench {
  int32_t status = 0;
  int32_t host = -2;
  ChangingBench() {
    decide = [this](int32_t) {
      const auto* words = reinterpret_cast<const int32_t*>(reactor->batch().memory() + Batch::layout().descriptors);
      host = words[static_cast<int32_t>(Descriptor::HostId)];
      if ((words[static_cast<int32_t>(Descriptor::Flags)] & kDescriptorAnswered) != 0) return to(status != 0 ? -status : 0);
      return to(kTargetDeferred);
    };
  }
  HttpExchange* waiting(const Peer1&) {
    CHECK(run([&] { return counter(Counter::DeferredOpen) == 1; }));
    return reactor->deferred(0);
  }
  void answer() {
    uint8_t* memory = reactor->batch().memory();
    reinterpret_cast<int32_t*>(memory + Batch::layout().header)[static_cast<int32_t>(HeaderWord::AnsweredCount)] = 1;
    reinterpret_cast<int32_t*>(memory + Batch::layout().answered)[0] = 0;
  }
};

constexpr const char* kRequest = "POST /a?b HTTP/1.1\r\nHost: a.test\r\nX-Old: 1\r\nX-Kept: k\r\nContent-Length: 4\r\n\r\nbody";

TEST("changes: head and target are sent as they were changed, with the body behind them") {
  ChangingBench bench;
  Peer1 client(Peer1::dial(bench.port));
  client.send(kRequest);
  HttpExchange* exchange = bench.waiting(client);
  CHECK(exchange->head_text().find(":method: POST\n:path: /a?b\n:authority: a.test\nHost: a.test\nX-Old: 1\n") != std::string::npos);
  std::string error;
  CHECK(exchange->change_head("-x-old\n=X-New: n\n:path: /c?d\n:authority: z.test\n", false, &error));
  CHECK(exchange->change_head("+x-new: m\n", false, &error));
  bench.answer();
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\nbody"); }));
  CHECK(upstream.has("POST /c?d HTTP/1.1\r\nhost: z.test\r\n"));
  CHECK(upstream.has("x-new: n\r\n"));
  CHECK(upstream.has("x-new: m\r\n"));
  CHECK(upstream.has("X-Kept: k\r\n"));
  CHECK(!upstream.has("X-Old"));
  // Rules still match what the client asked for.
  CHECK_EQ(bench.host, 0);
}

TEST("changes: a request that is to be routed anew is matched as it is now") {
  ChangingBench bench;
  Peer1 client(Peer1::dial(bench.port));
  client.send(kRequest);
  HttpExchange* exchange = bench.waiting(client);
  std::string error;
  CHECK_EQ(bench.host, 0);
  CHECK(exchange->change_head(":authority: nobody.test\n", true, &error));
  bench.answer();
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("\r\n\r\nbody"); }));
  CHECK(upstream.has("host: nobody.test\r\n"));
  CHECK_EQ(bench.host, -1);
}

TEST("changes: what is no header, not theirs to change, or no request, changes nothing") {
  ChangingBench bench;
  Peer1 client(Peer1::dial(bench.port));
  client.send(kRequest);
  HttpExchange* exchange = bench.waiting(client);
  const std::string before = exchange->head_text();
  for (const char* bad :
       {"=x-a: b\r\n", "=x a: b\n", "=content-length: 5\n", "=transfer-encoding: chunked\n", "-host\n", "=connection: x\n", "+x\n", "?\n",
        ":path: no-slash\n", ":path: /a HTTP/1.1\n", ":path: /a\rb\n", ":authority: a b\n", ":authority: \x01\n"}) {
    std::string error;
    CHECK(!exchange->change_head(bad, false, &error));
    CHECK(!error.empty());
  }
  std::string error;
  CHECK(!exchange->change_head("=x-long: " + std::string(40'000, 'v') + "\n", false, &error));
  CHECK(exchange->head_text() == before);
  bench.answer();
  Peer1 upstream(accept_upstream(bench));
  CHECK(bench.run([&] { return upstream.has("POST /a?b HTTP/1.1\r\nhost: a.test\r\nX-Old: 1\r\n"); }));
}

TEST("changes: a reply of another's making is given in place of an upstream's") {
  ChangingBench bench;
  bench.status = 403;
  Peer1 client(Peer1::dial(bench.port));
  client.send(kRequest);
  HttpExchange* exchange = bench.waiting(client);
  std::string error;
  CHECK(!exchange->set_reply("=x: a\r\nb: c\n", "no", -1, &error));
  CHECK(exchange->set_reply("=x-why: because\n", "no", -1, &error));
  bench.answer();
  CHECK(bench.run([&] { return client.has("\r\n\r\nno"); }));
  CHECK(client.has("HTTP/1.1 403 "));
  CHECK(client.has("x-why: because\r\n"));
  CHECK(client.has("content-length: 2\r\n"));
}

TEST("changes: lines added to the answer stand in it, whoever gives it") {
  for (const int32_t status : {0, 403}) {
    ChangingBench bench;
    bench.status = status;
    Peer1 client(Peer1::dial(bench.port));
    client.send(kRequest);
    HttpExchange* exchange = bench.waiting(client);
    std::string error;
    CHECK(!exchange->add_answer_lines("+content-length: 1\n", &error));
    CHECK(exchange->add_answer_lines("+x-left: 1\n+x-left: 2\n", &error));
    CHECK(exchange->add_answer_lines("+x-more: 3\n", &error));
    bench.answer();
    if (status == 0) Peer1(accept_upstream(bench)).send(kOk);
    CHECK(bench.run([&] { return client.has("\r\n\r\n"); }));
    CHECK(client.has(status == 0 ? "HTTP/1.1 200 " : "HTTP/1.1 403 "));
    CHECK(client.has("x-left: 1\r\nx-left: 2\r\nx-more: 3\r\n"));
  }
}

TEST("changes: who waits no more is nobody's to change") {
  ChangingBench bench;
  CHECK(bench.reactor->deferred(0) == nullptr);
  CHECK(bench.reactor->deferred(-1) == nullptr);
  CHECK(bench.reactor->deferred(INT32_MAX) == nullptr);
}

}  // namespace
}  // namespace weft
