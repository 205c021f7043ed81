// What servers get wrong on HTTP/2, and attempts that fail, through the whole reactor over loopback. For the sanitizers.
#include <memory>

#include "http2_loopback.h"

namespace weft {
namespace {

using http2::ErrorCode;
using http2::FrameType;
using test::dial;
using test::Peer1;
using test::Peer2;
using Bench = test::Http2Bench;

// What a server can get wrong towards its client (h2spec's client cases), while stream 1 waits for its answer.
struct UpstreamFault {
  const char* name;
  std::string bytes;
  ErrorCode code;
};

std::string raw_frame(FrameType type, uint8_t flags, uint32_t stream, const std::string& payload) {
  uint8_t head[http2::kFrameHeaderBytes];
  http2::write_frame_header(static_cast<uint32_t>(payload.size()), type, flags, stream, head);
  return std::string(reinterpret_cast<char*>(head), sizeof(head)) + payload;
}

std::vector<UpstreamFault> connection_faults() {
  const std::string four(4, '\0'), ok("\x88", 1), promise("\0\0\0\2\x82", 5);
  const std::string window("\x00\x04\x80\x00\x00\x00", 6), frame_size("\x00\x05\x00\x00\x3f\xff", 6);
  const std::string push("\x00\x02\x00\x00\x00\x01", 6);
  return {
      {"DATA on an idle stream", Peer2::data(3, "x", true), ErrorCode::kProtocolError},
      {"DATA on stream 0", Peer2::data(0, "x", true), ErrorCode::kProtocolError},
      {"DATA on a stream that only a server opens", Peer2::data(2, "x", true), ErrorCode::kProtocolError},
      {"RST_STREAM on an idle stream", Peer2::reset(3, ErrorCode::kCancel), ErrorCode::kProtocolError},
      {"RST_STREAM of 3 bytes", raw_frame(FrameType::kRstStream, 0, 1, four.substr(1)), ErrorCode::kFrameSizeError},
      {"WINDOW_UPDATE on an idle stream", Peer2::window(3, 1), ErrorCode::kProtocolError},
      {"WINDOW_UPDATE of 0 on the connection", Peer2::window(0, 0), ErrorCode::kProtocolError},
      {"a window above 2^31 - 1", Peer2::window(0, 0x7fffffff), ErrorCode::kFlowControlError},
      {"CONTINUATION of nothing", raw_frame(FrameType::kContinuation, http2::kFlagEndHeaders, 1, ok), ErrorCode::kProtocolError},
      {"a block with another frame within", raw_frame(FrameType::kHeaders, 0, 1, ok) + Peer2::data(1, "x", true),
       ErrorCode::kProtocolError},
      {"HEADERS on an idle stream", raw_frame(FrameType::kHeaders, http2::kFlagEndHeaders, 3, ok), ErrorCode::kProtocolError},
      {"HEADERS on stream 0", raw_frame(FrameType::kHeaders, http2::kFlagEndHeaders, 0, ok), ErrorCode::kProtocolError},
      {"a block that is no HPACK", raw_frame(FrameType::kHeaders, http2::kFlagEndHeaders, 1, "\x80"), ErrorCode::kCompressionError},
      {"a frame that is too large", raw_frame(FrameType::kData, 0, 1, std::string(16385, 'x')), ErrorCode::kFrameSizeError},
      {"padding as long as its frame", raw_frame(FrameType::kData, http2::kFlagPadded, 1, "\x02\x01"), ErrorCode::kProtocolError},
      {"PUSH_PROMISE though push is off", raw_frame(FrameType::kPushPromise, http2::kFlagEndHeaders, 1, promise),
       ErrorCode::kProtocolError},
      {"SETTINGS on a stream", raw_frame(FrameType::kSettings, 0, 1, ""), ErrorCode::kProtocolError},
      {"SETTINGS of 4 bytes", raw_frame(FrameType::kSettings, 0, 0, four), ErrorCode::kFrameSizeError},
      {"SETTINGS ACK with a payload", raw_frame(FrameType::kSettings, http2::kFlagAck, 0, push), ErrorCode::kFrameSizeError},
      {"ENABLE_PUSH of a server", raw_frame(FrameType::kSettings, 0, 0, push), ErrorCode::kProtocolError},
      {"INITIAL_WINDOW_SIZE above 2^31 - 1", raw_frame(FrameType::kSettings, 0, 0, window), ErrorCode::kFlowControlError},
      {"MAX_FRAME_SIZE below 16,384", raw_frame(FrameType::kSettings, 0, 0, frame_size), ErrorCode::kProtocolError},
      {"PING of 4 bytes", raw_frame(FrameType::kPing, 0, 0, four), ErrorCode::kFrameSizeError},
      {"PING on a stream", raw_frame(FrameType::kPing, 0, 1, four + four), ErrorCode::kProtocolError},
      {"GOAWAY on a stream", raw_frame(FrameType::kGoaway, 0, 1, four + four), ErrorCode::kProtocolError},
      {"PRIORITY on stream 0", raw_frame(FrameType::kPriority, 0, 0, four + "x"), ErrorCode::kProtocolError},
  };
}

TEST("http2 reactor: what a server gets wrong on its connection is told by GOAWAY, and its calls are answered") {
  for (const UpstreamFault& fault : connection_faults()) {
    Bench bench;
    Peer2 client(dial(bench.port), http2::Role::kClient);
    client.raw(client.get(1));
    Peer2 upstream(bench.accept(), http2::Role::kServer);
    CHECK(bench.run([&] { return upstream.at(1).ended; }));
    upstream.raw(fault.bytes);
    const bool told = bench.run([&] { return upstream.read(), upstream.closed; });
    if (!told || upstream.goaway_code != static_cast<uint32_t>(fault.code)) {
      test::fail(__FILE__, __LINE__, std::string(fault.name) + ": GOAWAY " + std::to_string(upstream.goaway_code));
    }
    CHECK(bench.run([&] { return client.at(1).ended || client.at(1).resets == 1; }));
    CHECK(bench.counter(Counter::UpstreamProtocolErrors) + bench.counter(Counter::Http2ProtocolErrors) >= 1);
    CHECK(!client.closed);
    CHECK(bench.run([&] { return bench.outstanding[0] == 0; }));
  }
}

TEST("http2 reactor: what a server sends on a stream that it ended is told as STREAM_CLOSED; on one that we gave up it is let pass") {
  const std::vector<std::function<std::string(Peer2&)>> late = {
      [](Peer2& upstream) { return upstream.ok(1, true); },
      [](Peer2&) { return Peer2::data(1, "late", false); },
      [](Peer2&) { return Peer2::data(1, "", true); },
  };
  for (const auto& frame : late) {
    for (const bool by_reset : {false, true}) {
      Bench bench;
      Peer2 client(dial(bench.port), http2::Role::kClient);
      client.raw(client.get(1));
      Peer2 upstream(bench.accept(), http2::Role::kServer);
      CHECK(bench.run([&] { return upstream.at(1).ended; }));
      upstream.raw(by_reset ? Peer2::reset(1, ErrorCode::kInternalError) : upstream.ok(1, true));
      CHECK(bench.run([&] { return client.at(1).ended; }));
      upstream.raw(frame(upstream));
      CHECK(bench.run([&] { return upstream.read(), upstream.closed; }));
      CHECK_EQ(upstream.goaway_code, static_cast<uint32_t>(ErrorCode::kStreamClosed));
    }
    Bench bench;
    Peer2 client(dial(bench.port), http2::Role::kClient);
    client.raw(client.get(1));
    Peer2 upstream(bench.accept(), http2::Role::kServer);
    CHECK(bench.run([&] { return upstream.at(1).ended; }));
    client.raw(Peer2::reset(1, ErrorCode::kCancel));
    CHECK(bench.run([&] { return upstream.at(1).resets == 1; }));
    upstream.raw(frame(upstream));
    client.raw(client.get(3));
    CHECK(bench.run([&] { return upstream.at(3).ended; }));
    upstream.raw(upstream.ok(3, true));
    CHECK(bench.run([&] { return client.at(3).ended; }));
    CHECK_EQ(client.at(3).fields[":status"], "200");
  }
}

TEST("http2 reactor: a request that still sends, whose server ended its answer, is reset at the server's next frame") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(client.get(1, false));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return upstream.at(1).fields.count(":path") == 1; }));
  upstream.raw(upstream.ok(1, false) + Peer2::data(1, "", true) + Peer2::data(1, "late", false));
  CHECK(bench.run([&] { return upstream.at(1).resets == 1 || (upstream.read(), upstream.closed); }));
  CHECK(upstream.at(1).reset_code == static_cast<uint32_t>(ErrorCode::kStreamClosed) ||
        upstream.goaway_code == static_cast<uint32_t>(ErrorCode::kStreamClosed));
}

// Of those that give an endpoint's load back.
int64_t completed(const Bench& bench, CompletionKind kind) {
  return std::count_if(bench.completions.begin(), bench.completions.end(),
                       [kind](const Completion& each) { return each.kind == kind && each.target == 0; });
}

TEST("http2 reactor: a decision whose request has gone since its batch was made is completed as abandoned") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(Peer2::in_order({client.get(1), Peer2::reset(1, ErrorCode::kCancel), client.get(3)}));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return upstream.at(1).ended; }));
  upstream.raw(upstream.ok(1, true));
  CHECK(bench.run([&] { return client.at(3).ended && bench.completions.size() == 2; }));
  CHECK_EQ(bench.decided, 2);
  CHECK_EQ(completed(bench, CompletionKind::Abandoned), 1);
  CHECK_EQ(completed(bench, CompletionKind::Ended), 1);
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("http2 reactor: every failed attempt is completed once, also of a client that goes away meanwhile") {
  Bench bench;
  bench.flags = kRetry;
  ::close(std::exchange(bench.upstream_listener, -1));
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(client.get(1));
  CHECK(bench.run([&] { return client.at(1).ended && completed(bench, CompletionKind::Ended) == 1; }));
  CHECK_EQ(completed(bench, CompletionKind::Failed), bench.decided - 1);
  for (int turns = 0; turns < 20; turns++) {
    const uint32_t id = 3 + 2 * static_cast<uint32_t>(turns);
    client.raw(client.get(id));
    for (int turn = 0; turn < turns; turn++) bench.reactor->run_once(0);
    client.raw(Peer2::reset(id, ErrorCode::kCancel));
    CHECK(bench.run([&] { return bench.counter(Counter::Http2StreamsOpen) == 0 && bench.outstanding[0] == 0; }));
  }
  bench.run([&] {
    return static_cast<int32_t>(completed(bench, CompletionKind::Ended) + completed(bench, CompletionKind::Failed) +
                                completed(bench, CompletionKind::Abandoned)) == bench.decided;
  });
  const int64_t all =
      completed(bench, CompletionKind::Ended) + completed(bench, CompletionKind::Failed) + completed(bench, CompletionKind::Abandoned);
  CHECK_EQ(all, bench.decided);
}

TEST("http2 reactor: a request that waits, since there are as many connections as may be, dials when one of them is gone") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  const std::string one_stream = Peer2::settings({{http2::SettingId::kMaxConcurrentStreams, 1}});
  std::vector<std::unique_ptr<Peer2>> upstreams;
  const auto serve = [&](uint32_t stream) {
    client.raw(client.get(stream));
    upstreams.push_back(std::make_unique<Peer2>(bench.accept(), http2::Role::kServer, one_stream));
    CHECK(bench.run([&] { return upstreams.back()->at(1).ended; }));
  };
  for (uint32_t i = 0; i < 16; i++) serve(1 + 2 * i);
  client.raw(client.get(33));
  CHECK(bench.run([&] { return bench.counter(Counter::UpstreamWaits) == 1; }));
  upstreams.erase(upstreams.begin());
  upstreams.push_back(std::make_unique<Peer2>(bench.accept(), http2::Role::kServer, one_stream));
  CHECK(bench.run([&] { return upstreams.back()->at(1).ended; }));
  upstreams.back()->raw(upstreams.back()->ok(1, true));
  CHECK(bench.run([&] { return client.at(33).ended; }));
  CHECK_EQ(client.at(33).fields[":status"], std::string("200"));
}

TEST("http2 reactor: a server that rests is not given up for what it was let owe, however much that is") {
  EngineLimits limits;
  limits.max_buffered_bytes = 8u << 20;
  Bench bench(limits);
  const int kept_by_reader = 64 * 1024;
  setsockopt(bench.upstream_listener, SOL_SOCKET, SO_RCVBUF, &kept_by_reader, sizeof(kept_by_reader));
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(client.get(1, false));
  const int fd = bench.accept();
  Peer2 upstream(fd, http2::Role::kServer,
                 Peer2::settings({{http2::SettingId::kInitialWindowSize, 1u << 30}}) + Peer2::window(0, 1u << 30));
  CHECK(bench.run([&] { return !upstream.at(1).fields.empty(); }));
  constexpr size_t kSize = 40u << 20;
  size_t left = kSize;
  for (int quiet = 0; quiet < 50; bench.reactor->run_once(1)) {
    const size_t before = left;
    test::upload(client, 1, &left, true);
    quiet = left == before ? quiet + 1 : 0;
  }
  CHECK(left != 0);
  CHECK_EQ(client.at(1).resets, 0);
  CHECK_EQ(bench.counter(Counter::UpstreamProtocolErrors), 0.0);
  for (int turn = 0; turn < 20'000 && !upstream.at(1).ended; turn++) {
    test::upload(client, 1, &left, true);
    bench.reactor->run_once(1);
  }
  CHECK_EQ(upstream.at(1).body.size(), kSize);
}

// A server that ends connections by age (gRPC's MAX_CONNECTION_AGE) leaves long calls on each.
TEST("http2 reactor: connections that take no more, and still carry calls, are none of those that there may be") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  std::vector<std::unique_ptr<Peer2>> upstreams;
  for (uint32_t i = 0; i < 20; i++) {
    client.raw(client.get(1 + 2 * i));
    upstreams.push_back(std::make_unique<Peer2>(bench.accept(), http2::Role::kServer));
    Peer2& upstream = *upstreams.back();
    CHECK(bench.run([&] { return upstream.at(1).ended; }));
    upstream.raw(Peer2::goaway(1));
    CHECK(bench.run([&] { return bench.counter(Counter::Http2UpstreamGoaways) == i + 1.0; }));
  }
  CHECK_EQ(bench.counter(Counter::UpstreamOpen), 20.0);
  for (uint32_t i = 0; i < 20; i++) {
    upstreams[i]->raw(upstreams[i]->ok(1, true));
    CHECK(bench.run([&] { return client.at(1 + 2 * i).ended; }));
  }
  CHECK(bench.run([&] { return bench.counter(Counter::UpstreamOpen) == 0; }));
}

TEST("http2 reactor: a request that waits dials when one of the connections takes no more") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  const std::string one_stream = Peer2::settings({{http2::SettingId::kMaxConcurrentStreams, 1}});
  std::vector<std::unique_ptr<Peer2>> upstreams;
  const auto accept = [&] {
    upstreams.push_back(std::make_unique<Peer2>(bench.accept(), http2::Role::kServer, one_stream));
    CHECK(bench.run([&] { return upstreams.back()->at(1).ended; }));
  };
  for (uint32_t i = 0; i < 16; i++) {
    client.raw(client.get(1 + 2 * i));
    accept();
  }
  client.raw(client.get(33));
  CHECK(bench.run([&] { return bench.counter(Counter::UpstreamWaits) == 1; }));
  upstreams.front()->raw(Peer2::goaway(1));
  accept();
  upstreams.back()->raw(upstreams.back()->ok(1, true));
  CHECK(bench.run([&] { return client.at(33).ended; }));
  upstreams.front()->raw(upstreams.front()->ok(1, true));
  CHECK(bench.run([&] { return client.at(1).ended; }));
}

TEST("http2 reactor: an upload whose upstream took nothing, and refuses it, goes on where all that was kept is taken at once") {
  EngineLimits limits;
  limits.max_buffered_bytes = 2 * 16384;
  Bench bench(limits);
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(client.get(1, false));
  Peer2 upstream(bench.accept(), http2::Role::kServer, Peer2::settings({{http2::SettingId::kInitialWindowSize, 0}}));
  CHECK(bench.run([&] { return !upstream.at(1).fields.empty(); }));
  // As much as is kept, and more that waits behind it.
  for (int i = 0; i < 3; i++) {
    client.raw(Peer2::data(1, std::string(16384, 'u'), i == 2));
    CHECK(bench.run([&, before = bench.reactor->now_ms()] { return bench.reactor->now_ms() > before + 5; }));
  }
  upstream.raw(Peer2::settings({{http2::SettingId::kInitialWindowSize, 1u << 20}}) + Peer2::reset(1, ErrorCode::kRefusedStream));
  CHECK(bench.run([&] { return upstream.at(3).ended; }));
  CHECK_EQ(upstream.at(3).body.size(), size_t{3} * 16384);
  CHECK_EQ(bench.counter(Counter::RetriesStale), 1.0);
}

TEST("http2 reactor: a request of HTTP/1.0 without a host is refused before an HTTP/2 upstream hears of it") {
  Bench bench({}, Protocol::kHttp2, Protocol::kHttp1);
  const int client = dial(bench.port);
  constexpr std::string_view request = "GET / HTTP/1.0\r\n\r\n";
  CHECK_EQ(::send(client, request.data(), request.size(), MSG_NOSIGNAL), static_cast<ssize_t>(request.size()));
  char answer[13];
  CHECK(bench.run([&] { return recv(client, answer, sizeof(answer), MSG_DONTWAIT | MSG_PEEK) == sizeof(answer); }));
  CHECK_EQ(std::string_view(answer, sizeof(answer)), "HTTP/1.1 400 ");
  CHECK_EQ(bench.counter(Counter::UpstreamConnects), 0.0);
  ::close(client);
}

TEST("http2 reactor: the copy of a gRPC-Web call is gRPC to its mirror") {
  Bench bench({}, Protocol::kHttp2, Protocol::kHttp1);
  bench.change = [](const int32_t* words, Decision* decision) {
    if ((words[static_cast<int32_t>(Descriptor::Flags)] & kDescriptorMirror) != 0) return;
    decision->flags |= kExtended;
    decision->mirrors = 0;
    decision->mirror_mask = 1;
  };
  Peer1 client(dial(bench.port));
  client.send("POST /a.B/C HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/grpc-web-text+proto\r\nContent-Length: 8\r\n\r\nAAAAAAA=");
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return upstream.at(1).ended && upstream.at(3).ended; }));
  for (const uint32_t stream : {1, 3}) {
    CHECK_EQ(upstream.at(stream).fields["content-type"], std::string("application/grpc+proto"));
    CHECK_EQ(upstream.at(stream).fields["te"], std::string("trailers"));
    CHECK_EQ(upstream.at(stream).body, std::string(5, '\0'));
    upstream.raw(upstream.headers(stream, {{":status", "200"}, {"content-type", "application/grpc"}, {"grpc-status", "0"}}, true));
  }
  CHECK(bench.run([&] { return client.has("grpc-status: 0") && bench.outstanding[0] == 0; }));
}

TEST("http2 reactor: a malformed answer resets its stream and is a 502; its connection goes on") {
  using Fields = std::vector<std::pair<std::string, std::string>>;
  const std::vector<Fields> heads = {
      {{"x", "y"}},
      {{":status", "200"}, {":status", "200"}},
      {{":status", "20"}},
      {{":status", "2000"}},
      {{":status", "abc"}},
      {{":status", "101"}},
      {{":status", "200"}, {":path", "/"}},
      {{"x", "y"}, {":status", "200"}},
      {{":status", "200"}, {"X-Upper", "y"}},
      {{":status", "200"}, {"connection", "close"}},
      {{":status", "200"}, {"transfer-encoding", "chunked"}},
      {{":status", "200"}, {"transfer_encoding", "chunked"}},
      {{":status", "200"}, {"content-length", "-1"}},
      {{":status", "200"}, {"content-length", "1"}, {"content-length", "2"}},
      {{":status", "200"}, {"x", "a\r\nb: c"}},
      {{":status", "200"}, {"a\nb", "c"}},
  };
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  std::unique_ptr<Peer2> upstream;
  uint32_t id = 1;
  for (const Fields& head : heads) {
    client.raw(client.get(id));
    if (upstream == nullptr) upstream = std::make_unique<Peer2>(bench.accept(), http2::Role::kServer);
    CHECK(bench.run([&] { return upstream->at(id).ended; }));
    upstream->raw(upstream->headers(id, head, false));
    const bool refused = bench.run([&] { return client.at(id).ended && upstream->at(id).resets == 1; });
    if (!refused || client.at(id).fields[":status"] != "502") {
      test::fail(__FILE__, __LINE__, head.back().first + ": " + head.back().second + " is answered " + client.at(id).fields[":status"]);
    }
    id += 2;
  }
  CHECK(!upstream->closed);
  CHECK_EQ(bench.counter(Counter::UpstreamConnects), 1.0);
  CHECK_EQ(bench.outstanding[0], 0);
}

}  // namespace
}  // namespace weft
