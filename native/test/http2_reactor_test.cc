// HTTP/2 through the whole reactor over loopback: a client and an upstream made of the codec, decisions in C++. For the sanitizers.
#include "http2_loopback.h"

namespace weft {
namespace {

using http2::ErrorCode;
using http2::Frame;
using http2::FrameType;
using test::dial;
using test::Peer2;
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
    const std::string answer = upstream->ok(id, false) + Peer2::data(id, "pong", false) + upstream->headers(id, {{"x-end", "1"}}, true);
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
  client.raw(Peer2::settings({{http2::SettingId::kInitialWindowSize, 3}}) + client.get(1) + client.get(3));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return upstream.at(1).ended && upstream.at(3).ended; }));
  upstream.raw(upstream.ok(1, false) + Peer2::data(1, "abcdefghij", false) + upstream.headers(1, {{"x-end", "1"}}, true));
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

// Sends what the windows allow; true: all of it.
bool upload(Peer2& client, uint32_t stream, size_t* left, bool ends) {
  client.read();
  for (;;) {
    const int64_t window = std::min(65535 + client.windows[0], 65535 + client.windows[stream]);
    const size_t part = std::min<size_t>({*left, 16384, static_cast<size_t>(std::max<int64_t>(window, 0))});
    if (part == 0) return *left == 0;
    *left -= part;
    client.raw(Peer2::data(stream, std::string(part, 'u'), ends && *left == 0));
    client.windows[0] -= static_cast<int64_t>(part);
    client.windows[stream] -= static_cast<int64_t>(part);
    if (*left != 0 && part == 16384) return false;
  }
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
  client.raw(client.get(1, false) + Peer2::data(1, "body", true) + client.get(3, false) + Peer2::data(3, "body", true));
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
  // RFC 9113 8.1: the rest is not wanted.
  CHECK(bench.run([&] { return client.at(1).resets == 1; }));
  CHECK_EQ(client.at(1).reset_code, static_cast<uint32_t>(ErrorCode::kNoError));
  client.raw(Peer2::data(1, piece, true));
  Peer2 second(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return second.at(1).ended; }));
  CHECK(second.at(1).body == piece);
  second.raw(second.ok(1, true));
  CHECK(bench.run([&] { return client.at(3).ended; }));
  CHECK_EQ(client.at(3).fields[":status"], "200");
  CHECK_EQ(client.goaway_code, UINT32_MAX);
  CHECK_EQ(bench.outstanding[0], 0);
}

uint64_t stopped_clock_ns = 1'000'000'000'000;

// RFC 9113 6.8: a client's GOAWAY forbids streams that the server opens. nghttp2 sends it before requests that were made before it.
TEST("http2 reactor: a client that says GOAWAY is served whatever it asks yet, and its connection ends soon after") {
  for (const bool has_stream : {false, true}) {
    Bench bench({}, Protocol::kHttp2, Protocol::kHttp2, [] { return stopped_clock_ns; });
    Peer2 client(dial(bench.port), http2::Role::kClient);
    if (has_stream) client.raw(client.get(1));
    client.raw(Peer2::goaway(0));
    for (int turn = 0; turn < 3; turn++) bench.reactor->run_once(2);
    client.raw(client.get(3) + client.get(5));
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

TEST("http2 reactor: an upstream that dies in the middle resets what it had begun, and answers 503 for what it had not") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(client.get(1, false) + Peer2::data(1, "x", true) + client.get(3));
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
  client.raw(client.get(1) + client.get(3, false) + Peer2::data(3, "half", false));
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
    client.raw(client.get(1) + client.get(3, false));
    Peer2 upstream(bench.accept(), http2::Role::kServer);
    CHECK(bench.run([&] { return upstream.at(1).ended; }));
  }
  CHECK(bench.run([&] { return bench.outstanding[0] == 0 && bench.counter(Counter::DownstreamOpen) == 0; }));
}

TEST("http2 reactor: malformed requests are reset or refused, and the connection lives on") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(client.headers(1, {{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a.test"}, {"Upper", "x"}}, true));
  client.raw(client.headers(3, {{":method", "GET"}, {":scheme", "http"}, {":authority", "a.test"}}, true));
  client.raw(client.headers(
                 5, {{":method", "POST"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a.test"}, {"content-length", "3"}}, false) +
             Peer2::data(5, "toolong", true));
  CHECK(bench.run([&] { return client.at(1).resets == 1 && client.at(3).resets == 1 && client.at(5).resets == 1; }));
  CHECK_EQ(client.goaway_code, UINT32_MAX);
  client.raw(client.get(7));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] {
    upstream.read();
    for (auto& [id, seen] : upstream.streams) {
      if (seen.ended && seen.resets == 0 && seen.fields.count(":path") != 0 && id != 0) return true;
    }
    return false;
  }));
}

TEST("http2 reactor: connection errors are told by GOAWAY") {
  const auto code_of = [](const std::string& bytes) {
    Bench bench;
    Peer2 client(dial(bench.port), http2::Role::kClient);
    client.raw(bytes);
    CHECK(bench.run([&] { return client.read(), client.closed; }));
    return client.goaway_code;
  };
  CHECK_EQ(code_of(Peer2::data(1, "x", true)), static_cast<uint32_t>(ErrorCode::kProtocolError));
  CHECK_EQ(code_of(Peer2::window(0, 0x7fffffff)), static_cast<uint32_t>(ErrorCode::kFlowControlError));
  CHECK_EQ(code_of(Peer2::window(5, 1)), static_cast<uint32_t>(ErrorCode::kProtocolError));
  CHECK_EQ(code_of(Peer2::reset(1, ErrorCode::kCancel)), static_cast<uint32_t>(ErrorCode::kProtocolError));
  std::string pings;
  uint8_t ping[http2::kPingFrameBytes];
  http2::write_ping(7, false, ping);
  for (int i = 0; i < 2000; i++) pings.append(reinterpret_cast<char*>(ping), sizeof(ping));
  CHECK_EQ(code_of(pings), static_cast<uint32_t>(ErrorCode::kEnhanceYourCalm));
  std::string empty;
  for (int i = 0; i < 2000; i++) empty += Peer2::settings({});
  CHECK_EQ(code_of(empty), static_cast<uint32_t>(ErrorCode::kEnhanceYourCalm));
}

TEST("http2 reactor: streams beyond the limit are refused, not queued") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  std::string requests;
  for (uint32_t id = 1; id < 2 * 200; id += 2) requests += client.get(id);
  client.raw(requests);
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return client.at(399).resets == 1; }));
  CHECK_EQ(client.at(399).reset_code, static_cast<uint32_t>(ErrorCode::kRefusedStream));
  CHECK_EQ(bench.counter(Counter::Http2RefusedStreams), 72.0);
}

TEST("http2 reactor: bodies that waited for the output alone go on when the socket took it at once") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  // Windows so large that the client will not speak again.
  std::string requests = Peer2::settings({{http2::SettingId::kInitialWindowSize, 1u << 30}}) + Peer2::window(0, 1u << 30);
  for (uint32_t id = 1; id < 32; id += 2) requests += client.get(id);
  client.raw(requests);
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return upstream.at(31).ended; }));
  const int room = 8 << 20;
  setsockopt(upstream.fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
  std::string answers;
  for (uint32_t id = 1; id < 32; id += 2) {
    answers += upstream.ok(id, false);
    for (int i = 0; i < 4; i++) answers += Peer2::data(id, std::string(15000, 'd'), i == 3);
  }
  upstream.raw(answers);
  for (uint32_t id = 1; id < 32; id += 2) {
    CHECK(bench.run([&] { return client.at(id).ended; }));
    CHECK_EQ(client.at(id).body.size(), size_t{60000});
  }
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("http2 reactor: a client that does not read what it asks for is not read either") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  // An ACK in the middle of what was sent in part would be garbage.
  client.acknowledges = false;
  constexpr size_t kMost = 24 << 20;
  size_t sent = 0;
  uint32_t id = 1;
  std::string unsent;
  const auto stuck = [&] {
    int idle_turns = 0;
    while (idle_turns < 50 && sent < kMost) {
      while (unsent.size() < 65536) {
        unsent += client.get(id);
        id += 2;
      }
      const ssize_t count = ::send(client.fd, unsent.data(), unsent.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      idle_turns = count > 0 ? 0 : idle_turns + 1;
      if (count > 0) sent += static_cast<size_t>(count), unsent.erase(0, static_cast<size_t>(count));
      bench.reactor->run_once(0);
    }
    return idle_turns == 50;
  };
  CHECK(stuck());
  const size_t before = sent;
  // Once it reads, it is read.
  for (int i = 0; i < 50; i++) {
    client.read();
    bench.reactor->run_once(0);
  }
  stuck();
  CHECK(sent > before);
  CHECK_EQ(client.goaway_code, UINT32_MAX);
}

TEST("http2 reactor: an upstream that does not read what it asks for is given up") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(Peer2::settings({{http2::SettingId::kInitialWindowSize, 1u << 30}}) + Peer2::window(0, 1u << 30) + client.get(1));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return upstream.at(1).ended; }));
  // Each byte of DATA earns a PING.
  uint8_t ping[http2::kPingFrameBytes];
  http2::write_ping(7, false, ping);
  std::string both = Peer2::data(1, "x", false) + std::string(reinterpret_cast<char*>(ping), sizeof(ping));
  std::string unsent = upstream.ok(1, false), flood;
  for (int i = 0; i < 2500; i++) flood += both;
  for (size_t sent = 0; sent < (48u << 20) && client.at(1).resets == 0;) {
    if (unsent.size() < flood.size()) unsent += flood;
    const ssize_t count = ::send(upstream.fd, unsent.data(), unsent.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count > 0) sent += static_cast<size_t>(count), unsent.erase(0, static_cast<size_t>(count));
    bench.reactor->run_once(0);
  }
  CHECK_EQ(client.at(1).resets, 1);
  CHECK_EQ(bench.counter(Counter::Http2ProtocolErrors), 0.0);
  CHECK_EQ(bench.counter(Counter::UpstreamProtocolErrors), 1.0);
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("http2 reactor: requests that the client makes us reset count as its own resets") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  std::string requests;
  for (uint32_t id = 1; id < 2 * 800; id += 2) requests += client.get(id, false) + Peer2::window(id, 0);
  client.raw(requests);
  CHECK(bench.run([&] { return client.read(), client.closed; }));
  CHECK_EQ(client.goaway_code, static_cast<uint32_t>(ErrorCode::kEnhanceYourCalm));
  CHECK_EQ(bench.counter(Counter::Http2RapidResets), 1.0);
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("http2 reactor: blocks that grow, by compression or by CONTINUATION, end the connection and are counted") {
  const auto code_of = [](const std::string& bytes, Bench& bench) {
    Peer2 client(dial(bench.port), http2::Role::kClient);
    client.raw(bytes);
    CHECK(bench.run([&] { return client.read(), client.closed; }));
    return client.goaway_code;
  };
  const auto frame = [](FrameType type, uint8_t flags, const std::string& payload) {
    uint8_t head[http2::kFrameHeaderBytes];
    http2::write_frame_header(static_cast<uint32_t>(payload.size()), type, flags, 1, head);
    return std::string(reinterpret_cast<char*>(head), sizeof(head)) + payload;
  };
  Bench bench;
  // A line of 3,900 bytes into the table (length in HPACK's integer: 127 + 61 + 29 * 128), and named a thousand times.
  const std::string bomb = std::string("\x40\x01x\x7f\xbd\x1d", 6) + std::string(127 + 61 + 29 * 128, 'b') + std::string(1000, '\xbe');
  CHECK_EQ(code_of(frame(FrameType::kHeaders, http2::kFlagEndHeaders | http2::kFlagEndStream, bomb), bench),
           static_cast<uint32_t>(ErrorCode::kEnhanceYourCalm));
  CHECK_EQ(bench.counter(Counter::Http2BlockFloods), 1.0);
  std::string flood = frame(FrameType::kHeaders, http2::kFlagEndStream, "\x82");
  for (int i = 0; i < 100; i++) flood += frame(FrameType::kContinuation, 0, "");
  CHECK_EQ(code_of(flood, bench), static_cast<uint32_t>(ErrorCode::kEnhanceYourCalm));
  CHECK_EQ(bench.counter(Counter::Http2BlockFloods), 2.0);
}

// What carries nothing, as often as a peer likes: each kind by itself.
std::vector<std::pair<const char*, std::string>> empty_frames(uint32_t stream) {
  const auto frame = [](FrameType type, uint8_t flags, uint32_t id, const std::string& payload) {
    uint8_t head[http2::kFrameHeaderBytes];
    http2::write_frame_header(static_cast<uint32_t>(payload.size()), type, flags, id, head);
    return std::string(reinterpret_cast<char*>(head), sizeof(head)) + payload;
  };
  return {
      {"PING", frame(FrameType::kPing, 0, 0, "pingpong")},
      {"PING ACK", frame(FrameType::kPing, http2::kFlagAck, 0, "pingpong")},
      {"SETTINGS", Peer2::settings({})},
      {"SETTINGS ACK", frame(FrameType::kSettings, http2::kFlagAck, 0, "")},
      {"WINDOW_UPDATE of the connection", Peer2::window(0, 1)},
      {"WINDOW_UPDATE of a stream", Peer2::window(stream, 1)},
      {"PRIORITY", frame(FrameType::kPriority, 0, stream, std::string("\0\0\0\0\x10", 5))},
      {"DATA", Peer2::data(stream, "", false)},
      {"padded DATA", frame(FrameType::kData, http2::kFlagPadded, stream, std::string("\3\0\0\0", 4))},
      {"an unknown type", frame(static_cast<FrameType>(0xbb), 0, stream, "")},
  };
}

TEST("http2 reactor: a flood of frames that carry nothing, of any kind, ends the connection it comes on and is counted") {
  for (const bool from_client : {true, false}) {
    for (const auto& [name, frame] : empty_frames(1)) {
      Bench bench;
      Peer2 client(dial(bench.port), http2::Role::kClient);
      client.raw(client.get(1, !from_client));
      Peer2 upstream(bench.accept(), http2::Role::kServer);
      CHECK(bench.run([&] { return upstream.at(1).fields.count(":path") != 0; }));
      Peer2& flooder = from_client ? client : upstream;
      if (!from_client) upstream.raw(upstream.ok(1, false));
      std::string flood;
      for (int i = 0; i < 1200; i++) flood += frame;
      flooder.raw(flood);
      const bool over = bench.run([&] { return client.read(), upstream.read(), flooder.closed; });
      if (!over || flooder.goaway_code != static_cast<uint32_t>(ErrorCode::kEnhanceYourCalm)) {
        test::fail(__FILE__, __LINE__, std::string(from_client ? "client: " : "upstream: ") + name);
      }
      CHECK_EQ(bench.counter(Counter::Http2ControlFloods), 1.0);
      // The other end's stream is told; its connection lives.
      CHECK(bench.run([&] { return client.read(), upstream.at(1).resets + client.at(1).resets == 1; }));
      CHECK(from_client ? !upstream.closed : !client.closed);
      CHECK(bench.run([&] { return bench.outstanding[0] == 0; }));
    }
  }
}

TEST("http2 reactor: a client may return its windows often while it is sent much") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(client.get(1));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return upstream.at(1).ended; }));
  upstream.raw(upstream.ok(1, false));
  for (int round = 0; round < 1000; round++) {
    upstream.raw(Peer2::data(1, std::string(64, 'x'), false));
    CHECK(bench.run([&] { return client.at(1).body.size() == static_cast<size_t>(round + 1) * 64; }));
    for (int i = 0; i < 8; i++) client.raw(Peer2::window(i % 2, 8));
  }
  CHECK(!client.closed);
  CHECK_EQ(bench.counter(Counter::Http2ControlFloods), 0.0);
}

TEST("http2 reactor: streams whose answers are never read end by their idle time, are counted, and held bounded memory") {
  constexpr uint32_t kStreams = 100;
  EngineLimits limits;
  limits.stream_idle_timeout_ms = 60;
  Bench bench(limits);
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(Peer2::settings({{http2::SettingId::kInitialWindowSize, 0}}));
  for (uint32_t i = 0; i < kStreams; i++) client.raw(client.get(2 * i + 1));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return upstream.at(2 * kStreams - 1).ended; }));
  for (uint32_t i = 0; i < kStreams; i++)
    upstream.raw(upstream.ok(2 * i + 1, false) + Peer2::data(2 * i + 1, std::string(8000, 'x'), true));
  CHECK(bench.run([&] {
    client.read();
    uint32_t reset = 0;
    for (uint32_t i = 0; i < kStreams; i++) reset += client.streams[2 * i + 1].resets == 1 ? 1 : 0;
    return reset == kStreams;
  }));
  CHECK_EQ(bench.counter(Counter::TimeoutsIdle), static_cast<double>(kStreams));
  CHECK_EQ(bench.counter(Counter::Http2StreamsOpen), 0.0);
  CHECK_EQ(bench.outstanding[0], 0);
  // The connection lives.
  client.raw(Peer2::settings({{http2::SettingId::kInitialWindowSize, 65535}}) + client.get(2 * kStreams + 1));
  CHECK(bench.run([&] { return upstream.at(2 * kStreams + 1).ended; }));
}

TEST("http2 reactor: a server that never answers is waited for no longer than the stream's idle timeout, but in a gRPC call") {
  EngineLimits limits;
  limits.stream_idle_timeout_ms = 60;
  Bench bench(limits);
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(client.get(1));
  client.raw(client.headers(
      3, {{":method", "POST"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a.test"}, {"content-type", "application/grpc"}}, true));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return client.at(1).ended; }));
  CHECK_EQ(client.at(1).fields[":status"], "504");
  CHECK(bench.run([&] { return upstream.at(1).resets == 1; }));
  CHECK_EQ(bench.counter(Counter::TimeoutsAnswer), 1.0);
  const uint64_t begun = bench.reactor->now_ms();
  bench.run([&] { return bench.reactor->now_ms() > begun + 150; });
  upstream.raw(upstream.ok(3, true));
  CHECK(bench.run([&] { return client.at(3).ended; }));
  CHECK_EQ(client.at(3).fields[":status"], "200");
}

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
  client.raw(client.get(1) + Peer2::reset(1, ErrorCode::kCancel) + client.get(3));
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
