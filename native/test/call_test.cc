// Calls of TypeScript's: sent like any request, their answers given back whole, and never more than that.
#include "core/call.h"

#include <string>
#include <vector>

#include "http2_loopback.h"

namespace weft {
namespace {

using test::Peer2;
using Bench = test::Http2Bench;

const std::string kMessage("\0\0\0\0\2hi", 7);

bool send(Bench* bench, int32_t number) {
  const std::string request =
      "POST /s/M HTTP/1.1\r\nhost: a.test\r\ncontent-type: application/grpc\r\nte: trailers\r\ncontent-length: 7\r\n\r\n" + kMessage;
  return Call::send(bench->reactor.get(), number, reinterpret_cast<const uint8_t*>(request.data()), request.size());
}

int32_t word(Bench* bench, Descriptor which) {
  const auto* words = reinterpret_cast<const int32_t*>(bench->reactor->batch().memory() + Batch::layout().descriptors);
  return words[static_cast<int32_t>(which)];
}

EndedCall only_one(Bench* bench) {
  std::vector<EndedCall> ended;
  // It is asked once more when it has held: what was taken stays.
  CHECK(bench->run([&] { return !ended.empty() || !(ended = bench->reactor->take_ended_calls()).empty(); }));
  CHECK_EQ(ended.size(), size_t{1});
  CHECK_EQ(bench->outstanding[0], 0);
  return ended.empty() ? EndedCall{} : ended[0];
}

TEST("call: goes where the decision says, as gRPC, and its answer comes with the next batch") {
  Bench bench;
  CHECK(send(&bench, 7));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return upstream.at(1).ended; }));
  CHECK_EQ(word(&bench, Descriptor::Flags) & kDescriptorCall, kDescriptorCall);
  CHECK_EQ(word(&bench, Descriptor::PreviousToken), 7);
  test::Seen& seen = upstream.at(1);
  CHECK_EQ(seen.fields[":method"] + " " + seen.fields[":path"] + " " + seen.fields["te"], "POST /s/M trailers");
  CHECK_EQ(seen.fields["content-type"], "application/grpc");
  CHECK(seen.fields.count("x-forwarded-for") == 0);
  CHECK_EQ(seen.body, kMessage);
  upstream.raw(upstream.ok(1, false) + Peer2::data(1, kMessage.substr(0, 3), false));
  upstream.raw(Peer2::data(1, kMessage.substr(3), false) + upstream.headers(1, {{"grpc-status", "0"}}, true));
  const auto* header = reinterpret_cast<const int32_t*>(bench.reactor->batch().memory() + Batch::layout().header);
  CHECK(bench.run([&] { return header[static_cast<int32_t>(HeaderWord::EndedCalls)] == 1; }));
  const EndedCall ended = only_one(&bench);
  CHECK_EQ(ended.number, 7);
  CHECK_EQ(ended.grpc_status, 0);
  CHECK_EQ(ended.body, kMessage);
}

TEST("call: an answer of trailers alone has its status") {
  Bench bench;
  CHECK(send(&bench, 1));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return upstream.at(1).ended; }));
  upstream.raw(upstream.headers(1, {{":status", "200"}, {"grpc-status", "12"}}, true));
  CHECK_EQ(only_one(&bench).grpc_status, 12);
}

TEST("call: what is no whole answer of gRPC is none: another status, a reset, a connection that ends, one that says nothing, too much") {
  const std::string much(16'384, 'x');
  const std::vector<std::function<std::string(Peer2&)>> answers = {
      [](Peer2& upstream) {
        return upstream.headers(1, {{":status", "503"}, {"grpc-status", "0"}}, true);
      },
      [](Peer2& upstream) { return upstream.ok(1, true); },
      [](Peer2& upstream) {
        return upstream.headers(1, {{":status", "200"}, {"grpc-status", "x"}}, true);
      },
      [](Peer2& upstream) { return upstream.ok(1, false) + Peer2::data(1, kMessage, false) + Peer2::reset(1, http2::ErrorCode::kCancel); },
      [](Peer2& upstream) {
        return upstream.headers(1, {{":status", "200"}, {"grpc-status", "0"}}, false);
      },
      [&much](Peer2& upstream) {
        std::string bytes = upstream.ok(1, false);
        for (int i = 0; i < 5; i++) bytes += Peer2::data(1, much, false);
        return bytes + upstream.headers(1, {{"grpc-status", "0"}}, true);
      },
  };
  for (const auto& answer : answers) {
    Bench bench;
    bench.timeout_ms = 50;
    CHECK(send(&bench, 1));
    Peer2 upstream(bench.accept(), http2::Role::kServer);
    CHECK(bench.run([&] { return upstream.at(1).ended; }));
    upstream.raw(answer(upstream));
    CHECK_EQ(only_one(&bench).grpc_status, -1);
  }
}

TEST("call: ends at its time, and where nobody listens") {
  Bench bench;
  bench.timeout_ms = 20;
  CHECK(send(&bench, 1));
  CHECK_EQ(only_one(&bench).grpc_status, -1);
  ::close(bench.upstream_listener);
  CHECK(send(&bench, 2));
  CHECK_EQ(only_one(&bench).number, 2);
}

TEST("call: so many are under way at once, and none outlives the engine") {
  Bench bench;
  for (uint32_t i = 0; i < Call::kMost; i++) CHECK(send(&bench, static_cast<int32_t>(i)));
  CHECK(!send(&bench, 0));
  bench.reactor->run_once(0);
}

}  // namespace
}  // namespace weft
