// A reactor over loopback with HTTP/2 on the client's side (or HTTP/1), and ends of HTTP/2 connections made of the codec. Decisions in C++.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "core/http2/frame.h"
#include "core/http2/hpack_decoder.h"
#include "core/http2/hpack_encoder.h"
#include "core/reactor.h"
#include "loopback.h"

namespace weft::test {

using http2::ErrorCode;
using http2::Frame;
using http2::FrameType;

struct Http2Bench {
  double counters[static_cast<size_t>(Counter::Count)] = {};
  int32_t outstanding[2] = {};
  uint16_t upstream_port = 0;
  int upstream_listener = bound_socket(&upstream_port);
  uint16_t port = 0;
  alignas(8) uint8_t access_log[kAccessLogHeaderBytes + 65'536] = {};
  int32_t flags = 0;
  int32_t timeout_ms = 0;
  int32_t decided = 0;
  // Of each descriptor, before its decision counts.
  std::function<void(const int32_t* words, Decision* decision)> change = [](const int32_t*, Decision*) {};
  std::vector<Completion> completions;
  std::unique_ptr<Reactor> reactor;

  explicit Http2Bench(EngineLimits limits = {}, Protocol upstream = Protocol::kHttp2, Protocol client = Protocol::kHttp2,
                      uint64_t (*clock_ns)() = monotonic_ns) {
    ::listen(upstream_listener, 64);
    EngineOptions options;
    options.limits = limits;
    options.clock_ns = clock_ns;
    options.counters = counters;
    options.outstanding = outstanding;
    options.outstanding_count = 2;
    options.access_log = access_log;
    options.access_log_bytes = sizeof(access_log);
    reactor = std::make_unique<Reactor>(options, decide, this);
    TableSpec spec;
    spec.hosts = {"a.test"};
    spec.paths = {"/"};
    EndpointSpec endpoint;
    endpoint.address = "127.0.0.1";
    endpoint.port = upstream_port;
    endpoint.protocol = upstream;
    spec.endpoints = {endpoint};
    std::string error;
    reactor->use_tables(Tables::build(spec, &error));
    ListenerSpec listener;
    listener.id = 1;
    parse_address("127.0.0.1", &listener.address);
    listener.protocol = client;
    port = static_cast<uint16_t>(reactor->listen(listener, &error));
  }
  ~Http2Bench() { ::close(upstream_listener); }

  static bool decide(void* context) {
    auto* self = static_cast<Http2Bench*>(context);
    uint8_t* memory = self->reactor->batch().memory();
    const Batch::Layout at = Batch::layout();
    const auto* header = reinterpret_cast<int32_t*>(memory + at.header);
    const auto* completions = reinterpret_cast<const Completion*>(memory + at.completions);
    self->completions.insert(self->completions.end(), completions, completions + header[1]);
    self->decided += header[0];
    for (int32_t i = 0; i < header[0]; i++) {
      Decision decision;
      decision.target = 0;
      decision.flags = self->flags;
      decision.timeout_ms = self->timeout_ms;
      self->change(reinterpret_cast<const int32_t*>(memory + at.descriptors) + i * kDescriptorWords, &decision);
      if (decision.target == 0) self->outstanding[0]++;
      memcpy(memory + at.decisions + static_cast<size_t>(i) * sizeof(Decision), &decision, sizeof(decision));
    }
    return true;
  }
  bool run(const std::function<bool()>& done) {
    for (int turn = 0; turn < 400 && !done(); turn++) reactor->run_once(2);
    return done();
  }
  int accept() {
    int fd = -1;
    run([&] { return fd >= 0 || (fd = accept4(upstream_listener, nullptr, nullptr, SOCK_NONBLOCK)) >= 0; });
    send_at_once(fd);
    return fd;
  }
  double counter(Counter which) const { return counters[static_cast<size_t>(which)]; }
};

struct Seen {
  std::map<std::string, std::string> fields;
  std::string body;
  bool ended = false;
  int resets = 0;
  uint32_t reset_code = 0;
};

// One end of an HTTP/2 connection of the test's.
struct Peer2 {
  int fd;
  http2::Role role;
  http2::InternTable table;
  http2::HpackEncoder encoder{&table};
  http2::HpackDecoder decoder{&table};
  http2::FrameParser parser;
  std::string kept;
  std::map<uint32_t, Seen> streams;
  uint32_t goaway_code = UINT32_MAX;
  uint32_t window_updates = 0;
  // What it was given beside the first windows: of the connection at 0.
  std::map<uint32_t, int64_t> windows;
  // Of each stream, by WINDOW_UPDATE.
  std::map<uint32_t, uint64_t> returned;
  bool closed = false;
  bool acknowledges = true;

  Peer2(int socket, http2::Role role, const std::string& first = settings({})) : fd(socket), role(role), parser(role, {}) {
    raw(role == http2::Role::kClient ? std::string(http2::kClientPreface) + first : first);
  }
  ~Peer2() { ::close(fd); }

  void raw(const std::string& bytes) const { (void)!::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  // Blocks must leave in the order they were encoded in, which a + of them does not promise.
  static std::string in_order(std::initializer_list<std::string> parts) {
    std::string all;
    for (const std::string& part : parts) all += part;
    return all;
  }
  std::string headers(uint32_t stream, const std::vector<std::pair<std::string, std::string>>& fields, bool ends) {
    uint8_t bytes[8192];
    uint8_t* end = encoder.begin(bytes + http2::kFrameHeaderBytes);
    for (const auto& [name, value] : fields) end = encoder.write_text(name, value, http2::Indexing::kAllowed, end);
    const auto size = static_cast<size_t>(end - bytes) - http2::kFrameHeaderBytes;
    end = http2::write_headers(stream, ends, size, 16384, bytes);
    return {reinterpret_cast<char*>(bytes), static_cast<size_t>(end - bytes)};
  }
  static std::string data(uint32_t stream, const std::string& payload, bool ends) {
    uint8_t bytes[http2::kFrameHeaderBytes];
    http2::write_frame_header(static_cast<uint32_t>(payload.size()), FrameType::kData, ends ? http2::kFlagEndStream : 0, stream, bytes);
    return std::string(reinterpret_cast<char*>(bytes), sizeof(bytes)) + payload;
  }
  static std::string reset(uint32_t stream, ErrorCode code) {
    uint8_t bytes[http2::kRstStreamFrameBytes];
    http2::write_rst_stream(stream, code, bytes);
    return {reinterpret_cast<char*>(bytes), sizeof(bytes)};
  }
  static std::string window(uint32_t stream, uint32_t increment) {
    uint8_t bytes[http2::kWindowUpdateFrameBytes];
    http2::write_window_update(stream, increment, bytes);
    return {reinterpret_cast<char*>(bytes), sizeof(bytes)};
  }
  static std::string goaway(uint32_t last) {
    uint8_t bytes[http2::kGoawayFrameBytes];
    http2::write_goaway(last, ErrorCode::kNoError, {}, bytes);
    return {reinterpret_cast<char*>(bytes), sizeof(bytes)};
  }
  static std::string settings(const std::vector<http2::Setting>& values) {
    uint8_t bytes[256];
    uint8_t* end = http2::write_settings(values.data(), values.size(), bytes);
    return {reinterpret_cast<char*>(bytes), static_cast<size_t>(end - bytes)};
  }
  std::string get(uint32_t stream, bool ends = true) {
    return headers(stream, {{":method", ends ? "GET" : "POST"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a.test"}}, ends);
  }
  std::string ok(uint32_t stream, bool ends) { return headers(stream, {{":status", "200"}}, ends); }

  void read() {
    char bytes[65536];
    for (;;) {
      const ssize_t count = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
      if (count == 0 || (count < 0 && errno != EAGAIN)) closed = true;
      if (count <= 0) break;
      kept.append(bytes, static_cast<size_t>(count));
    }
    for (size_t at = 0;;) {
      Frame frame;
      const http2::FrameStep step = parser.next(reinterpret_cast<const uint8_t*>(kept.data()) + at, kept.size() - at, &frame);
      at += step.consumed;
      CHECK(step.status != http2::FrameStatus::kFault);
      if (step.status != http2::FrameStatus::kFrame) {
        kept.erase(0, at);
        return;
      }
      on_frame(frame);
    }
  }
  void on_frame(const Frame& frame) {
    Seen& seen = streams[frame.stream];
    if (frame.type == FrameType::kHeaders) {
      http2::HeaderBlock block(&table);
      CHECK(decoder.decode(frame.payload, frame.size, {}, &block) == http2::HpackFault::kNone);
      for (const http2::HeaderField& field : block) seen.fields[std::string(block.name(field))] = block.value(field);
      seen.ended |= frame.has(http2::kFlagEndStream);
    } else if (frame.type == FrameType::kData) {
      seen.body.append(reinterpret_cast<const char*>(frame.payload), frame.size);
      seen.ended |= frame.has(http2::kFlagEndStream);
    } else if (frame.type == FrameType::kRstStream) {
      seen.resets++;
      seen.reset_code = http2::rst_stream_code(frame);
    } else if (frame.type == FrameType::kGoaway) {
      goaway_code = http2::goaway(frame).code;
    } else if (frame.type == FrameType::kWindowUpdate) {
      window_updates++;
      windows[frame.stream] += http2::window_increment(frame);
      returned[frame.stream] += http2::window_increment(frame);
    } else if (frame.type == FrameType::kSettings && !frame.has(http2::kFlagAck) && acknowledges) {
      uint8_t bytes[16];
      raw({reinterpret_cast<char*>(bytes), static_cast<size_t>(http2::write_settings_ack(bytes) - bytes)});
    }
  }
  Seen& at(uint32_t stream) {
    read();
    return streams[stream];
  }
};

// Sends what the windows allow; true: all of it.
inline bool upload(Peer2& client, uint32_t stream, size_t* left, bool ends) {
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

}  // namespace weft::test
