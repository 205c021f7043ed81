// HTTP/2 through the whole reactor over loopback: a client and an upstream made of the codec, decisions in C++. For the sanitizers.
#include "http2_loopback.h"

namespace weft {
namespace {

using http2::ErrorCode;
using test::dial;
using test::Peer2;
using test::upload;
using Bench = test::Http2Bench;

TEST("http2 reactor: a request and its answer, at every byte split") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  std::unique_ptr<Peer2> upstream;
  for (uint32_t id = 1; id < 400; id += 2) {
    const std::string request = client.get(id, false) + Peer2::data(id, "ping", true);
    const size_t split = id / 2 % request.size();
    client.raw(request.substr(0, split));
    bench.reactor->run_once(1);
    client.raw(request.substr(split));
    if (upstream == nullptr) upstream = std::make_unique<Peer2>(bench.accept(), http2::Role::kServer);
    CHECK(bench.run([&] { return upstream->at(id).ended; }));
    CHECK_EQ(upstream->at(id).body, "ping");
    const std::string answer =
        Peer2::in_order({upstream->ok(id, false), Peer2::data(id, "pong", false), upstream->headers(id, {{"x-end", "1"}}, true)});
    upstream->raw(answer.substr(0, split % answer.size()));
    bench.reactor->run_once(1);
    upstream->raw(answer.substr(split % answer.size()));
    CHECK(bench.run([&] { return client.at(id).ended; }));
    CHECK_EQ(client.at(id).body, "pong");
    CHECK_EQ(client.at(id).fields["x-end"], "1");
  }
  CHECK_EQ(bench.counter(Counter::UpstreamConnects), 1.0);
  CHECK_EQ(bench.outstanding[0], 0);
  CHECK_EQ(bench.counter(Counter::Http2StreamsOpen), 0.0);
}

TEST("http2 reactor: an answer waits for its windows, byte by byte if need be, and holds up no other") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(Peer2::in_order({Peer2::settings({{http2::SettingId::kInitialWindowSize, 3}}), client.get(1), client.get(3)}));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return upstream.at(1).ended && upstream.at(3).ended; }));
  upstream.raw(Peer2::in_order({upstream.ok(1, false), Peer2::data(1, "abcdefghij", false), upstream.headers(1, {{"x-end", "1"}}, true)}));
  upstream.raw(upstream.ok(3, false) + Peer2::data(3, "abc", true));
  CHECK(bench.run([&] { return client.at(3).ended && client.at(1).body == "abc"; }));
  CHECK_EQ(bench.outstanding[0], 1);
  for (size_t have = 3; have < 10; have++) {
    CHECK(!client.at(1).ended);
    client.raw(Peer2::window(1, 1));
    CHECK(bench.run([&] { return client.at(1).body.size() == have + 1; }));
  }
  CHECK(bench.run([&] { return client.at(1).ended; }));
  CHECK_EQ(client.at(1).fields["x-end"], "1");
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("http2 reactor: an upload waits for the upstream's window, and the client's comes back only then") {
  EngineLimits limits;
  limits.max_buffered_bytes = 65535;
  Bench bench(limits);
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(client.get(1, false));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return !upstream.at(1).fields.empty(); }));
  const std::string piece(16384, 'u');
  for (int i = 0; i < 3; i++) client.raw(Peer2::data(1, piece, false));
  client.raw(Peer2::data(1, std::string(65535 - 3 * 16384, 'u'), false));
  CHECK(bench.run([&] { return upstream.at(1).body.size() == 65535; }));
  const uint32_t before = client.window_updates;
  // The stream's window of ours, 64 KiB, is used up now; what comes waits in the proxy.
  client.read();
  CHECK(bench.run([&] { return client.at(0).fields.empty() && client.window_updates >= before; }));
  client.raw(Peer2::data(1, std::string(1000, 'v'), true));
  upstream.raw(Peer2::window(0, 100000) + Peer2::window(1, 100000));
  CHECK(bench.run([&] { return upstream.at(1).ended; }));
  CHECK_EQ(upstream.at(1).body.size(), size_t{66535});
  upstream.raw(upstream.ok(1, true));
  CHECK(bench.run([&] { return client.at(1).ended; }));
}

TEST("http2 reactor: uploads that are stuck hold up no other on their connection, and hold bounded memory") {
  constexpr uint32_t kStuck = 100;
  constexpr size_t kEndless = size_t{1} << 30;
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(client.get(1, false));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return !upstream.at(1).fields.empty(); }));
  // The upstream reads all that comes on the connection, but opens no stream's window again but the last one's.
  upstream.raw(Peer2::window(0, 0x3fffffff));
  for (uint32_t i = 1; i < kStuck; i++) client.raw(client.get(2 * i + 1, false));
  std::vector<size_t> left(kStuck, kEndless);
  size_t sent = 0;
  for (int quiet = 0; quiet < 20; quiet++) {
    for (uint32_t i = 0; i < kStuck; i++) {
      upload(client, 2 * i + 1, &left[i], false);
    }
    bench.reactor->run_once(0);
    upstream.read();
    size_t now = 0;
    for (const size_t each : left) now += kEndless - each;
    if (now != sent) quiet = 0;
    sent = now;
  }
  // Of each: what the upstream's first window took, what waits for it, and one window of ours.
  CHECK(sent >= kStuck * size_t{65535});
  CHECK(sent < kStuck * 3 * size_t{65536});

  constexpr uint32_t kLast = 2 * kStuck + 1;
  client.raw(client.get(kLast, false));
  size_t rest = 2'000'000;
  bool whole = false;
  CHECK(bench.run([&] {
    whole = whole || upload(client, kLast, &rest, true);
    const size_t before = upstream.streams[kLast].body.size();
    const size_t taken = upstream.at(kLast).body.size() - before;
    if (taken != 0) upstream.raw(Peer2::window(kLast, static_cast<uint32_t>(taken)));
    return upstream.at(kLast).ended;
  }));
  CHECK_EQ(upstream.at(kLast).body.size(), size_t{2'000'000});
  CHECK(!client.closed);
}

TEST("http2 reactor: answers that are not read hold up no other of their upstream's connection") {
  constexpr uint32_t kStuck = 100;
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  // Streams have no window at first: nothing of an answer's body can be sent.
  client.raw(Peer2::settings({{http2::SettingId::kInitialWindowSize, 0}}) + Peer2::window(0, 0x3fffffff) + client.get(1));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  for (uint32_t i = 1; i <= kStuck; i++) client.raw(client.get(2 * i + 1));
  CHECK(bench.run([&] { return upstream.at(2 * kStuck + 1).ended; }));
  std::vector<size_t> left(kStuck + 1, size_t{1} << 30);
  for (uint32_t i = 0; i <= kStuck; i++) upstream.raw(upstream.ok(2 * i + 1, false));
  size_t sent = 0;
  for (int quiet = 0; quiet < 20; quiet++) {
    for (uint32_t i = 0; i < kStuck; i++) upload(upstream, 2 * i + 1, &left[i], false);
    bench.reactor->run_once(0);
    client.read();
    size_t now = 0;
    for (const size_t each : left) now += (size_t{1} << 30) - each;
    if (now != sent) quiet = 0;
    sent = now;
  }
  CHECK(sent < kStuck * 3 * size_t{65536});
  constexpr uint32_t kLast = 2 * kStuck + 1;
  client.raw(Peer2::window(kLast, 0x3fffffff));
  size_t rest = 2'000'000;
  CHECK(bench.run([&] {
    upload(upstream, kLast, &rest, true);
    return client.at(kLast).ended;
  }));
  CHECK_EQ(client.at(kLast).body.size(), size_t{2'000'000});
}

TEST("http2 reactor: no more streams at once than the limit says") {
  EngineLimits limits;
  limits.max_streams = 2;
  Bench bench(limits);
  Peer2 client(dial(bench.port), http2::Role::kClient);
  for (const uint32_t id : {1, 3, 5}) client.raw(client.get(id));
  CHECK(bench.run([&] { return client.at(5).resets == 1; }));
  CHECK_EQ(client.at(5).reset_code, static_cast<uint32_t>(ErrorCode::kRefusedStream));
  CHECK_EQ(client.at(1).resets + client.at(3).resets, 0);
}

TEST("http2 reactor: a client that ignores its stream window is refused") {
  EngineLimits limits;
  limits.max_buffered_bytes = 65535;
  Bench bench(limits);
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(client.get(1, false));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return !upstream.at(1).fields.empty(); }));
  for (int i = 0; i < 20; i++) client.raw(Peer2::data(1, std::string(16384, 'x'), false));
  CHECK(bench.run([&] { return client.at(1).resets == 1; }));
  CHECK_EQ(client.at(1).reset_code, static_cast<uint32_t>(ErrorCode::kFlowControlError));
  CHECK(bench.run([&] { return upstream.at(1).resets == 1; }));
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("http2 reactor: what an upstream refuses, or never looked at before its GOAWAY, is sent again") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(Peer2::in_order({client.get(1, false), Peer2::data(1, "body", true), client.get(3, false), Peer2::data(3, "body", true)}));
  Peer2 first(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return first.at(1).ended && first.at(3).ended; }));
  first.raw(Peer2::reset(1, ErrorCode::kRefusedStream));
  CHECK(bench.run([&] { return first.at(5).ended; }));
  CHECK_EQ(first.at(5).body, "body");
  first.raw(Peer2::goaway(3) + first.ok(3, true));
  CHECK(bench.run([&] { return client.at(3).ended; }));
  Peer2 second(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return second.at(1).ended; }));
  CHECK_EQ(second.at(1).body, "body");
  second.raw(second.ok(1, true));
  CHECK(bench.run([&] { return client.at(1).ended; }));
  CHECK(bench.run([&] { return first.read(), first.closed; }));
  CHECK_EQ(bench.outstanding[0], 0);
}

// RFC 9113 6.8: nothing was done with it. Sent again it must be whole, and what is beyond the buffer is no more.
TEST("http2 reactor: a request beyond the buffer that its upstream refuses by GOAWAY is answered 503, others are sent again") {
  EngineLimits limits;
  limits.max_buffered_bytes = 8192;
  Bench bench(limits);
  Peer2 client(dial(bench.port), http2::Role::kClient);
  const std::string piece(6000, 'b');
  client.raw(client.get(1, false) + Peer2::data(1, piece, false));
  Peer2 first(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return first.at(1).body.size() == piece.size(); }));
  client.raw(Peer2::data(1, piece, false) + client.get(3, false) + Peer2::data(3, piece, true));
  CHECK(bench.run([&] { return first.at(1).body.size() == 2 * piece.size() && first.at(3).ended; }));
  first.raw(Peer2::goaway(0));
  CHECK(bench.run([&] { return client.at(1).ended; }));
  CHECK_EQ(client.at(1).fields[":status"], "503");
  client.raw(Peer2::data(1, piece, true));
  Peer2 second(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return second.at(1).ended; }));
  CHECK(second.at(1).body == piece);
  second.raw(second.ok(1, true));
  CHECK(bench.run([&] { return client.at(3).ended; }));
  CHECK_EQ(client.at(3).fields[":status"], "200");
  CHECK_EQ(client.at(1).resets, 0);
  CHECK_EQ(client.goaway_code, UINT32_MAX);
  CHECK_EQ(bench.outstanding[0], 0);
}

uint64_t stopped_clock_ns = 1'000'000'000'000;

// RFC 9113 8.1.
TEST("http2 reactor: who is answered before the request's end may send what its window allows, for a while, and its mistakes are told") {
  Bench bench({}, Protocol::kHttp2, Protocol::kHttp2, [] { return stopped_clock_ns; });
  bench.change = [](const int32_t*, Decision* decision) { decision->target = -403; };
  Peer2 client(dial(bench.port), http2::Role::kClient);
  const auto answered = [&](uint32_t id, const std::string& length = {}) {
    std::vector<std::pair<std::string, std::string>> fields = {
        {":method", "POST"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a.test"}};
    if (!length.empty()) fields.emplace_back("content-length", length);
    client.raw(client.headers(id, fields, false));
    CHECK(bench.run([&] { return client.at(id).ended; }));
    CHECK_EQ(client.at(id).fields[":status"], "403");
  };
  const auto open = [&] {
    for (int turn = 0; turn < 3; turn++) bench.reactor->run_once(2);
    return bench.counter(Counter::Http2StreamsOpen);
  };
  const auto reset_by = [&](uint32_t id) {
    CHECK(bench.run([&] { return client.at(id).resets == 1; }));
    return static_cast<ErrorCode>(client.at(id).reset_code);
  };
  answered(1);
  client.raw(Peer2::data(1, std::string(16384, 'x'), false) + Peer2::data(1, "x", true));
  answered(3, "3");
  client.raw(Peer2::in_order({Peer2::data(3, "abc", false), client.headers(3, {{"x-end", "1"}}, true)}));
  CHECK_EQ(open(), 0.0);
  CHECK_EQ(client.at(1).resets + client.at(3).resets, 0);

  answered(5, "3");
  client.raw(Peer2::data(5, "toolong", true));
  CHECK(reset_by(5) == ErrorCode::kProtocolError);
  answered(7);
  client.raw(Peer2::window(7, 0));
  CHECK(reset_by(7) == ErrorCode::kProtocolError);
  answered(9);
  client.raw(client.headers(9, {{"x", "y"}}, false));
  CHECK(reset_by(9) == ErrorCode::kProtocolError);

  // More than it may send.
  answered(11, "65536");
  CHECK(reset_by(11) == ErrorCode::kNoError);
  answered(13);
  for (int i = 0; i < 3; i++) client.raw(Peer2::data(13, std::string(16384, 'x'), false));
  CHECK_EQ(open(), 1.0);
  client.raw(Peer2::data(13, std::string(16383, 'x'), false));
  CHECK(reset_by(13) == ErrorCode::kNoError);

  // Later than it may.
  answered(15);
  stopped_clock_ns += 1'900'000'000;
  answered(17);
  CHECK_EQ(open(), 2.0);
  stopped_clock_ns += 200'000'000;
  CHECK(reset_by(15) == ErrorCode::kNoError);
  CHECK_EQ(open(), 1.0);
  stopped_clock_ns += 2'000'000'000;
  CHECK(reset_by(17) == ErrorCode::kNoError);

  // More of them than may be.
  for (uint32_t id = 101; id <= 101 + 2 * 32; id += 2) answered(id);
  CHECK(reset_by(101) == ErrorCode::kNoError);
  CHECK_EQ(open(), 32.0);
  CHECK_EQ(client.at(103).resets, 0);
  // A stream that both have ended is closed.
  client.raw(Peer2::data(103, "", true) + Peer2::data(103, "x", true));
  CHECK(bench.run([&] { return client.read(), client.closed; }));
  CHECK_EQ(client.goaway_code, static_cast<uint32_t>(ErrorCode::kStreamClosed));
  CHECK_EQ(open(), 0.0);
}

// RFC 9113 6.8: a client's GOAWAY forbids streams that the server opens. nghttp2 sends it before requests that were made before it.
TEST("http2 reactor: a client that says GOAWAY is served whatever it asks yet, and its connection ends soon after") {
  for (const bool has_stream : {false, true}) {
    Bench bench({}, Protocol::kHttp2, Protocol::kHttp2, [] { return stopped_clock_ns; });
    Peer2 client(dial(bench.port), http2::Role::kClient);
    if (has_stream) client.raw(client.get(1));
    client.raw(Peer2::goaway(0));
    for (int turn = 0; turn < 3; turn++) bench.reactor->run_once(2);
    client.raw(Peer2::in_order({client.get(3), client.get(5)}));
    Peer2 upstream(bench.accept(), http2::Role::kServer);
    const uint32_t streams = has_stream ? 3 : 2;
    CHECK(bench.run([&] { return upstream.at(2 * streams - 1).ended; }));
    // Beyond the time that it has when nothing is under way.
    stopped_clock_ns += 2'000'000'000;
    for (int turn = 0; turn < 3; turn++) bench.reactor->run_once(2);
    for (uint32_t i = 0; i < streams; i++) upstream.raw(upstream.ok(2 * i + 1, true));
    CHECK(bench.run([&] { return client.at(3).ended && client.at(5).ended; }));
    CHECK_EQ(client.at(3).fields[":status"], "200");
    CHECK_EQ(client.at(5).fields[":status"], "200");
    CHECK_EQ(bench.counter(Counter::Http2RefusedStreams), 0.0);
    CHECK(!client.closed);
    // Said again it gives no more time.
    stopped_clock_ns += 400'000'000;
    client.raw(Peer2::goaway(0));
    for (int turn = 0; turn < 3; turn++) bench.reactor->run_once(2);
    stopped_clock_ns += 400'000'000;
    CHECK(bench.run([&] { return client.read(), client.closed; }));
    CHECK_EQ(client.goaway_code, 0u);
    CHECK_EQ(bench.counter(Counter::TimeoutsIdle), 0.0);
  }
}

TEST("http2 reactor: a drained connection ends with its last stream, though its client does not answer the PING behind the notice") {
  for (const uint64_t served_after_ms : {100, 3000}) {
    Bench bench({}, Protocol::kHttp2, Protocol::kHttp2, [] { return stopped_clock_ns; });
    Peer2 client(dial(bench.port), http2::Role::kClient);
    client.raw(client.get(1));
    Peer2 upstream(bench.accept(), http2::Role::kServer);
    CHECK(bench.run([&] { return upstream.at(1).ended; }));
    bench.reactor->drain(5000);
    stopped_clock_ns += served_after_ms * 1'000'000;
    for (int turn = 0; turn < 3; turn++) bench.reactor->run_once(2);
    upstream.raw(upstream.ok(1, true));
    CHECK(bench.run([&] { return client.at(1).ended; }));
    CHECK_EQ(client.at(1).fields[":status"], "200");
    stopped_clock_ns += 3'000'000'000;
    CHECK(bench.run([&] { return client.read(), client.closed; }));
    CHECK_EQ(client.goaway_code, 0u);
    CHECK_EQ(bench.counter(Counter::TimeoutsIdle), 0.0);
  }
}

TEST("http2 reactor: a client that has asked nothing yet may rest as long as one that has; what it begins must come in time") {
  for (const bool asks_before : {false, true}) {
    Bench bench({}, Protocol::kHttp2, Protocol::kHttp2, [] { return stopped_clock_ns; });
    const EngineLimits limits;
    const auto pass = [&](uint64_t ms) {
      stopped_clock_ns += ms * 1'000'000;
      for (int turn = 0; turn < 3; turn++) bench.reactor->run_once(2);
    };
    Peer2 client(dial(bench.port), http2::Role::kClient);
    if (asks_before) {
      client.raw(client.get(1));
      Peer2 upstream(bench.accept(), http2::Role::kServer);
      CHECK(bench.run([&] { return upstream.at(1).ended; }));
      upstream.raw(upstream.ok(1, true));
      CHECK(bench.run([&] { return client.at(1).ended; }));
    }
    pass(0);
    pass(limits.idle_timeout_ms - 1000);
    client.read();
    CHECK(!client.closed);
    const std::string request = client.get(3);
    client.raw(request.substr(0, request.size() - 1));
    pass(0);
    pass(limits.header_timeout_ms - 1000);
    client.read();
    CHECK(!client.closed);
    pass(2000);
    CHECK(bench.run([&] { return client.read(), client.closed; }));
    CHECK_EQ(client.goaway_code, 0u);
    CHECK_EQ(bench.counter(Counter::TimeoutsHeader), 1.0);
    CHECK_EQ(bench.counter(Counter::TimeoutsIdle), 0.0);
  }
}

TEST("http2 reactor: an upstream that dies in the middle resets what it had begun, and answers 503 for what it had not") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(Peer2::in_order({client.get(1, false), Peer2::data(1, "x", true), client.get(3)}));
  {
    Peer2 upstream(bench.accept(), http2::Role::kServer);
    CHECK(bench.run([&] { return upstream.at(1).ended && upstream.at(3).ended; }));
    upstream.raw(upstream.ok(3, false) + Peer2::data(3, "half", false));
    CHECK(bench.run([&] { return client.at(3).body == "half"; }));
  }
  CHECK(bench.run([&] { return client.at(3).resets == 1 && client.at(1).ended; }));
  CHECK_EQ(client.at(1).fields[":status"], "503");
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("http2 reactor: a client's resets, at any moment, leave nothing behind") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  // Before its decision, with it, after it.
  client.raw(client.get(1) + Peer2::reset(1, ErrorCode::kCancel));
  bench.reactor->run_once(1);
  client.raw(client.get(3));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  bench.run([&] { return upstream.at(1).ended; });
  client.raw(Peer2::reset(3, ErrorCode::kCancel));
  CHECK(bench.run([&] { return bench.outstanding[0] == 0 && bench.counter(Counter::Http2StreamsOpen) == 0; }));
  client.raw(client.get(5));
  CHECK(bench.run([&] { return upstream.read(), upstream.streams.size() > 1; }));
  client.raw(Peer2::reset(5, ErrorCode::kCancel));
  CHECK(bench.run([&] { return bench.outstanding[0] == 0 && bench.counter(Counter::Http2StreamsOpen) == 0; }));
}

TEST("http2 reactor: over HTTP/1 upstreams, at every byte split of the answer") {
  Bench bench({}, Protocol::kHttp1);
  Peer2 client(dial(bench.port), http2::Role::kClient);
  const std::string answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3\r\nyes\r\n0\r\nx-end: 1\r\n\r\n";
  int upstream = -1;
  uint32_t id = 1;
  for (size_t split = 1; split < answer.size(); split++, id += 2) {
    client.raw(client.get(id, false) + Peer2::data(id, "body", true));
    if (upstream < 0) upstream = bench.accept();
    std::string got;
    CHECK(bench.run([&] {
      char bytes[4096];
      const ssize_t count = recv(upstream, bytes, sizeof(bytes), MSG_DONTWAIT);
      if (count > 0) got.append(bytes, static_cast<size_t>(count));
      return got.find("4\r\nbody\r\n0\r\n\r\n") != std::string::npos;
    }));
    (void)!::send(upstream, answer.data(), split, MSG_NOSIGNAL);
    bench.reactor->run_once(1);
    (void)!::send(upstream, answer.data() + split, answer.size() - split, MSG_NOSIGNAL);
    CHECK(bench.run([&] { return client.at(id).ended; }));
    CHECK_EQ(client.at(id).body, "okyes");
    CHECK_EQ(client.at(id).fields["x-end"], "1");
  }
  ::close(upstream);
  CHECK_EQ(bench.counter(Counter::UpstreamConnects), 1.0);
}

TEST("http2 reactor: closing in the middle of everything frees everything") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(Peer2::in_order({client.get(1), client.get(3, false), Peer2::data(3, "half", false)}));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return upstream.at(1).ended; }));
  upstream.raw(upstream.ok(1, false));
  bench.reactor->run_once(1);
  bench.reactor->close();
  CHECK_EQ(bench.outstanding[0], 0);
  CHECK_EQ(bench.counter(Counter::DownstreamOpen), 0.0);
  CHECK_EQ(bench.counter(Counter::Http2StreamsOpen), 0.0);
}

TEST("http2 reactor: a vanished client ends its exchanges") {
  Bench bench;
  {
    Peer2 client(dial(bench.port), http2::Role::kClient);
    client.raw(Peer2::in_order({client.get(1), client.get(3, false)}));
    Peer2 upstream(bench.accept(), http2::Role::kServer);
    CHECK(bench.run([&] { return upstream.at(1).ended; }));
  }
  CHECK(bench.run([&] { return bench.outstanding[0] == 0 && bench.counter(Counter::DownstreamOpen) == 0; }));
}

}  // namespace
}  // namespace weft
