// HTTP/2 clients and servers that mean harm, or are broken, before the whole reactor over loopback. For the sanitizers.
#include "http2_loopback.h"

namespace weft {
namespace {

using http2::ErrorCode;
using http2::FrameType;
using test::dial;
using test::Peer2;
using test::upload;
using Bench = test::Http2Bench;

std::string priority(uint32_t stream, const std::string& payload) {
  uint8_t head[http2::kFrameHeaderBytes];
  http2::write_frame_header(static_cast<uint32_t>(payload.size()), FrameType::kPriority, 0, stream, head);
  return std::string(reinterpret_cast<char*>(head), sizeof(head)) + payload;
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

TEST("http2 reactor: a request that is refused has a line in the access log, with what its head says") {
  Bench bench;
  Peer2 client(dial(bench.port), http2::Role::kClient);
  const std::string target = "/" + std::string(3000, '"');
  client.raw(Peer2::in_order(
      {client.headers(1, {{":method", "PUT"}, {":scheme", "http"}, {":path", target}, {":authority", "b.test"}, {"Upper", "x"}}, true),
       client.headers(3, {{":method", "GET"}, {":path", "/a"}, {":authority", "a.test"}, {"host", "c.test"}, {":scheme", "http"}}, true),
       client.headers(5, {{":method", "GET"}, {":scheme", "http"}, {":path", "/e"}, {"host", "a.test"}, {"expect", "x"}}, true),
       client.headers(7, {{":method", "POST"}, {":scheme", "http"}, {":path", "/l"}, {":authority", "a.test"}, {"content-length", "3"}},
                      false),
       Peer2::data(7, "toolong", true)}));
  CHECK(bench.run([&] { return client.at(1).resets == 1 && client.at(3).resets == 1 && client.at(5).ended && client.at(7).resets == 1; }));
  const std::string lines = test::taken_lines(bench.access_log, sizeof(bench.access_log));
  std::string cut;
  for (size_t i = 1; i < kAccessLogTextLimit; i++) cut += "\\\"";
  const auto has = [&](std::string_view part) { CHECK(lines.find(part) != std::string::npos); };
  has(R"("method":"PUT","authority":"b.test","path":"/)" + cut + R"(","status":0,"response_flag":"DPE")");
  has(R"("method":"GET","authority":"a.test","path":"/a","status":0,"response_flag":"DPE","route":null,"source":null,)");
  has(R"("method":"GET","authority":"a.test","path":"/e","status":417,"response_flag":"DPE")");
  has(R"("method":"POST","authority":"a.test","path":"/l","status":0,"response_flag":"DPE")");
  CHECK_EQ(bench.counter(Counter::AccessLogRecords), 4.0);
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
  // Errors of a stream that is idle, which may not be reset (RFC 9113 6.4).
  CHECK_EQ(code_of(priority(1, std::string("\0\0\0\1\x10", 5))), static_cast<uint32_t>(ErrorCode::kProtocolError));
  CHECK_EQ(code_of(priority(1, std::string(4, '\0'))), static_cast<uint32_t>(ErrorCode::kFrameSizeError));
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
  EngineLimits limits;
  // More than are decided at once: none is refused.
  limits.max_streams = 1u << 20;
  Bench bench(limits);
  bench.change = [](const int32_t*, Decision* decision) { decision->target = -404; };
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
  CHECK(bench.run([&] { return client.read(), stuck(), sent > before; }));
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

// What makes us reset a stream, by what the client did.
std::string provoked(Peer2& client, int kind, uint32_t id) {
  const std::vector<std::pair<std::string, std::string>> head = {{":scheme", "http"}, {":path", "/"}, {":authority", "a.test"}};
  const auto with = [&](std::pair<std::string, std::string> first, std::pair<std::string, std::string> last, bool ends) {
    std::vector<std::pair<std::string, std::string>> fields = {std::move(first)};
    fields.insert(fields.end(), head.begin(), head.end());
    fields.push_back(std::move(last));
    return client.headers(id, fields, ends);
  };
  std::string block = std::string(
      "\0\0\0\0\x10\x82\x86\x84\x41\x06"
      "a.test",
      16);
  for (int i = 0; i < 4; i++) block[static_cast<size_t>(i)] = static_cast<char>(id >> (24 - 8 * i));
  uint8_t frame[http2::kFrameHeaderBytes];
  switch (kind) {
    case 0:
      return client.get(id, false) + Peer2::window(id, 0);
    case 1:
      return client.get(id, false) + Peer2::window(id, 0x7fffffff);
    case 2:
      return client.get(id) + Peer2::data(id, "x", true);
    case 3:
      return with({":method", "POST"}, {"content-length", "3"}, false) + Peer2::data(id, "toolong", true);
    case 4:
      return with({":method", "GET"}, {"Upper", "x"}, true);
    case 5:
      http2::write_frame_header(static_cast<uint32_t>(block.size()), FrameType::kHeaders,
                                http2::kFlagEndHeaders | http2::kFlagEndStream | http2::kFlagPriority, id, frame);
      return std::string(reinterpret_cast<char*>(frame), sizeof(frame)) + block;
    case 6:
      return client.get(id) + priority(id, block.substr(0, 5));
    case 7:
      return Peer2::in_order({client.get(id, false), client.get(id, true)});
    default:
      // Beyond the limit, once it knows it.
      return client.get(id);
  }
}

TEST("http2 reactor: requests that the client makes us reset, in whatever way, count as its own resets") {
  for (int kind = 0; kind <= 8; kind++) {
    Bench bench;
    Peer2 client(dial(bench.port), http2::Role::kClient);
    client.raw(client.get(1));
    Peer2 upstream(bench.accept(), http2::Role::kServer);
    CHECK(bench.run([&] { return client.read(), upstream.at(1).ended; }));
    std::string requests;
    for (uint32_t id = 3; id < 2 * 800; id += 2) requests += provoked(client, kind, id);
    client.raw(requests);
    if (!bench.run([&] { return client.read(), client.closed; }) ||
        client.goaway_code != static_cast<uint32_t>(ErrorCode::kEnhanceYourCalm)) {
      test::fail(__FILE__, __LINE__, "kind " + std::to_string(kind));
    }
    CHECK_EQ(bench.counter(Counter::Http2RapidResets), 1.0);
    CHECK(bench.run([&] { return bench.outstanding[0] == 0; }));
  }
}

TEST("http2 reactor: a client that goes on opening streams beyond a limit that it doesn't acknowledge, or behind GOAWAY, is ended") {
  for (const bool is_drained : {false, true}) {
    Bench bench;
    Peer2 client(dial(bench.port), http2::Role::kClient);
    client.acknowledges = is_drained;
    client.raw(client.get(1));
    Peer2 upstream(bench.accept(), http2::Role::kServer);
    CHECK(bench.run([&] { return client.read(), upstream.at(1).ended; }));
    if (is_drained) {
      bench.reactor->drain(60'000);
      CHECK(bench.run([&] { return client.read(), client.goaway_code != UINT32_MAX; }));
      uint8_t pong[http2::kPingFrameBytes];
      http2::write_ping(0, true, pong);
      client.raw({reinterpret_cast<char*>(pong), sizeof(pong)});
    }
    std::string requests;
    for (uint32_t id = 3; id < 2 * 2000; id += 2) requests += client.get(id);
    client.raw(requests);
    CHECK(bench.run([&] { return client.read(), client.closed; }));
    CHECK_EQ(client.goaway_code, static_cast<uint32_t>(ErrorCode::kEnhanceYourCalm));
    CHECK_EQ(bench.counter(Counter::Http2ControlFloods), 1.0);
    CHECK_EQ(bench.counter(Counter::Http2RapidResets), 0.0);
    CHECK(bench.counter(Counter::Http2RefusedStreams) >= 1000);
    CHECK(bench.counter(Counter::Http2RefusedStreams) < 1200);
    CHECK(bench.run([&] { return bench.outstanding[0] == 0; }));
  }
}

TEST("http2 reactor: resets that are no fault of the client's cost it nothing") {
  constexpr uint32_t kRequests = 800;
  const auto lives = [](Bench& bench, Peer2& client) {
    client.read();
    CHECK(!client.closed);
    CHECK_EQ(bench.counter(Counter::Http2RapidResets), 0.0);
  };
  {
    // It does not know the limit yet.
    Bench bench;
    Peer2 client(dial(bench.port), http2::Role::kClient);
    client.acknowledges = false;
    std::string requests;
    for (uint32_t i = 0; i < kRequests; i++) requests += client.get(2 * i + 1);
    client.raw(requests);
    CHECK(bench.run([&] { return client.at(2 * kRequests - 1).resets == 1; }));
    CHECK_EQ(bench.counter(Counter::Http2RefusedStreams), kRequests - 128.0);
    client.raw(Peer2::reset(1, ErrorCode::kCancel) + client.get(2 * kRequests + 1));
    CHECK(bench.run([&] { return bench.decided == 129; }));
    lives(bench, client);
  }
  {
    // The server resets what it began to answer.
    Bench bench;
    Peer2 client(dial(bench.port), http2::Role::kClient);
    client.raw(client.get(1));
    Peer2 upstream(bench.accept(), http2::Role::kServer);
    for (uint32_t id = 1; id < 2 * kRequests; id += 2) {
      if (id != 1) client.raw(client.get(id));
      CHECK(bench.run([&] { return upstream.at(id).ended; }));
      upstream.raw(upstream.ok(id, false) + Peer2::reset(id, ErrorCode::kInternalError));
      CHECK(bench.run([&] { return client.at(id).resets == 1; }));
    }
    lives(bench, client);
  }
  {
    // Answered before their bodies have come.
    Bench bench;
    bench.change = [](const int32_t*, Decision* decision) { decision->target = -413; };
    Peer2 client(dial(bench.port), http2::Role::kClient);
    for (uint32_t id = 1; id < 2 * kRequests; id += 2) {
      client.raw(client.get(id, false));
      CHECK(bench.run([&] { return client.at(id).ended; }));
    }
    lives(bench, client);
  }
}

TEST("http2 reactor: what was under way to streams that we gave up is let pass, however many they were") {
  constexpr uint32_t kStreams = 300;
  EngineLimits limits;
  limits.max_streams = 2 * kStreams;
  Bench bench(limits);
  bench.change = [](const int32_t*, Decision* decision) { decision->target = -413; };
  Peer2 client(dial(bench.port), http2::Role::kClient);
  std::string heads, bodies;
  for (uint32_t id = 1; id < 2 * kStreams; id += 2) {
    // More than its window allows.
    heads += client.headers(
        id, {{":method", "POST"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a.test"}, {"content-length", "90000"}}, false);
    bodies += Peer2::data(id, "under way", false);
  }
  client.raw(heads);
  CHECK(bench.run([&] { return client.at(2 * kStreams - 1).resets == 1; }));
  client.raw(bodies + client.get(2 * kStreams + 1));
  CHECK(bench.run([&] { return client.at(2 * kStreams + 1).ended; }));
  CHECK_EQ(client.goaway_code, UINT32_MAX);
}

TEST("http2 reactor: a connection that ends is cut off when its client takes nothing of what waits for it") {
  static uint64_t clock_ns;
  clock_ns = 1'000'000'000'000;
  EngineLimits limits;
  limits.max_buffered_bytes = 8 << 20;
  Bench bench(limits, Protocol::kHttp2, Protocol::kHttp2, [] { return clock_ns; });
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(Peer2::settings({{http2::SettingId::kInitialWindowSize, 1u << 30}}) + Peer2::window(0, 1u << 30) + client.get(1));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return upstream.at(1).ended; }));
  upstream.raw(upstream.ok(1, false));
  // Until nothing more of it is taken.
  size_t left = 64u << 20;
  for (int quiet = 0; quiet < 50; quiet++) {
    const size_t before = left;
    upload(upstream, 1, &left, false);
    bench.reactor->run_once(0);
    if (left != before) quiet = 0;
  }
  client.raw(Peer2::data(0, "x", false));
  const auto pass = [&](uint64_t ms) {
    clock_ns += ms * 1'000'000;
    for (int turn = 0; turn < 20; turn++) bench.reactor->run_once(1);
  };
  pass(0);
  CHECK_EQ(bench.counter(Counter::Http2StreamsOpen), 0.0);
  CHECK_EQ(bench.counter(Counter::DownstreamOpen), 1.0);
  // Who still takes some has the time anew.
  pass(limits.stream_idle_timeout_ms / 2);
  // More than what the kernel keeps free before it says that there is room.
  size_t taken = 0;
  std::string bytes(65536, '\0');
  CHECK(bench.run([&] {
    for (ssize_t count; (count = recv(client.fd, bytes.data(), bytes.size(), MSG_DONTWAIT)) > 0;) taken += static_cast<size_t>(count);
    return taken > (3 << 20);
  }));
  for (int turn = 0; turn < 5; turn++) pass(0);
  pass(limits.stream_idle_timeout_ms - 1000);
  CHECK_EQ(bench.counter(Counter::DownstreamOpen), 1.0);
  pass(2000);
  CHECK_EQ(bench.counter(Counter::DownstreamOpen), 0.0);
  CHECK_EQ(bench.counter(Counter::TimeoutsIdle), 1.0);
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
      {"PRIORITY", priority(stream, std::string("\0\0\0\0\x10", 5))},
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
  static uint64_t clock_ns = 1'000'000'000'000;
  Bench bench(limits, Protocol::kHttp2, Protocol::kHttp2, [] { return clock_ns; });
  Peer2 client(dial(bench.port), http2::Role::kClient);
  client.raw(Peer2::settings({{http2::SettingId::kInitialWindowSize, 0}}));
  for (uint32_t i = 0; i < kStreams; i++) client.raw(client.get(2 * i + 1));
  Peer2 upstream(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return upstream.at(2 * kStreams - 1).ended; }));
  for (uint32_t i = 0; i < kStreams; i++)
    upstream.raw(upstream.ok(2 * i + 1, false) + Peer2::data(2 * i + 1, std::string(8000, 'x'), true));
  CHECK(bench.run([&] { return client.at(2 * kStreams - 1).fields[":status"] == "200"; }));
  CHECK(bench.run([&] {
    clock_ns += 1'000'000;
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

// A hundred requests that an upstream has and does not answer. The clock goes on by `step_ns` whenever it is looked at.
struct HundredUnderWay {
  static constexpr uint32_t kStreams = 100;
  static inline uint64_t clock_ns = 1'000'000'000, step_ns = 0;
  Bench bench{{}, Protocol::kHttp2, Protocol::kHttp2, [] { return clock_ns += step_ns; }};
  Peer2 client{dial(bench.port), http2::Role::kClient};
  Peer2 upstream{asked(), http2::Role::kServer};

  HundredUnderWay() {
    CHECK(bench.run([&] { return upstream.at(2 * kStreams - 1).ended; }));
  }
  ~HundredUnderWay() { step_ns = 0; }

  int asked() {
    for (uint32_t i = 0; i < kStreams; i++) client.raw(client.get(2 * i + 1));
    return bench.accept();
  }
  // From now on a turn has time for few of them.
  void slow_down() { step_ns = 2'000'000; }
  void check_ends_in_turns() {
    CHECK(bench.run([&] { return bench.counter(Counter::Http2StreamsOpen) < kStreams; }));
    CHECK(bench.counter(Counter::Http2StreamsOpen) >= kStreams / 2);
    CHECK(bench.run([&] { return bench.counter(Counter::Http2StreamsOpen) == 0; }));
  }
};

TEST("http2 reactor: a client that goes with a hundred requests under way, or breaks the protocol, does not end them all in one turn") {
  for (const bool goes : {true, false}) {
    HundredUnderWay all;
    Bench& bench = all.bench;
    Peer2 &client = all.client, &upstream = all.upstream;
    all.slow_down();
    if (goes) {
      ::shutdown(client.fd, SHUT_RDWR);
    } else {
      client.raw(Peer2::data(0, "x", false));
    }
    all.check_ends_in_turns();
    all.step_ns = 0;
    if (!goes) ::shutdown(client.fd, SHUT_RDWR);
    CHECK(bench.run([&] { return bench.counter(Counter::DownstreamOpen) == 0; }));
    CHECK_EQ(bench.outstanding[0], 0);
    CHECK(bench.run([&] { return upstream.at(2 * all.kStreams - 1).resets == 1; }));
    CHECK_EQ(upstream.at(1).resets, 1);
  }
}

TEST("http2 reactor: an upstream that goes with a hundred requests under way does not end them all in one turn") {
  HundredUnderWay all;
  Bench& bench = all.bench;
  Peer2 &client = all.client, &upstream = all.upstream;
  // Begun answers are not asked for again.
  for (uint32_t i = 0; i < all.kStreams; i++) upstream.raw(upstream.ok(2 * i + 1, false));
  CHECK(bench.run([&] { return !client.at(2 * all.kStreams - 1).fields.empty(); }));
  all.slow_down();
  ::shutdown(upstream.fd, SHUT_RDWR);
  all.check_ends_in_turns();
  CHECK(bench.run([&] { return bench.counter(Counter::UpstreamOpen) == 0; }));
  CHECK_EQ(bench.counter(Counter::UpstreamResets), 1.0);
  for (uint32_t i = 0; i < all.kStreams; i++) CHECK(bench.run([&] { return client.at(2 * i + 1).resets == 1; }));
  CHECK_EQ(bench.outstanding[0], 0);
}

TEST("http2 reactor: an upstream that leaves a hundred requests does not have them all asked again in one turn") {
  HundredUnderWay all;
  Bench& bench = all.bench;
  Peer2 &client = all.client, &upstream = all.upstream;
  all.slow_down();
  upstream.raw(Peer2::goaway(0));
  CHECK(bench.run([&] { return bench.counter(Counter::RetriesStale) != 0; }));
  CHECK(bench.counter(Counter::RetriesStale) <= all.kStreams / 2);
  Peer2 second(bench.accept(), http2::Role::kServer);
  CHECK(bench.run([&] { return second.at(2 * all.kStreams - 1).ended; }));
  for (uint32_t i = 0; i < all.kStreams; i++) second.raw(second.ok(2 * i + 1, true));
  CHECK(bench.run([&] {
    client.read();
    uint32_t ended = 0;
    for (uint32_t i = 0; i < all.kStreams; i++) ended += client.streams[2 * i + 1].ended ? 1 : 0;
    return ended == all.kStreams;
  }));
  CHECK(bench.run([&] { return upstream.read(), upstream.closed; }));
  CHECK_EQ(bench.outstanding[0], 0);
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

TEST("hostile: header blocks in parts are on their tenant's account, and beyond its limit end their connections") {
  EngineLimits limits;
  limits.max_tenant_buffered_bytes = 64 * 1024;
  Bench bench(limits);
  TenantAccounts& tenants = bench.reactor->tenants();
  const TenantId tenant = 0;
  // HEADERS without END_HEADERS, and CONTINUATION without end.
  const std::string field(16'000, '\0');
  uint8_t begin[http2::kFrameHeaderBytes];
  http2::write_frame_header(16'000, FrameType::kHeaders, http2::kFlagEndStream, 1, begin);
  uint8_t more[http2::kFrameHeaderBytes];
  http2::write_frame_header(16'000, FrameType::kContinuation, 0, 1, more);
  const auto bytes = [](const uint8_t* head) { return std::string(reinterpret_cast<const char*>(head), http2::kFrameHeaderBytes); };
  std::vector<std::unique_ptr<Peer2>> clients;
  for (int i = 0; i < 8; i++) {
    clients.push_back(std::make_unique<Peer2>(dial(bench.port), http2::Role::kClient));
    // Nothing may come between.
    clients.back()->acknowledges = false;
    clients.back()->raw(bytes(begin) + field + bytes(more) + field);
  }
  const auto ended = [&] {
    return std::count_if(clients.begin(), clients.end(), [](const auto& client) {
      client->read();
      return client->goaway_code == static_cast<uint32_t>(ErrorCode::kEnhanceYourCalm);
    });
  };
  CHECK(bench.run([&] { return ended() >= 6; }));
  CHECK(tenants.get(tenant, TenantWord::BufferedBytes) <= 64 * 1024 + 2 * 48'000);
  CHECK_EQ(tenants.get(tenant, TenantWord::RefusedForBuffers), static_cast<double>(ended()));
}

}  // namespace
}  // namespace weft
