// Instructions of one gRPC-shaped unary call through the whole reactor, HTTP/2 on both sides: see exchange_world.h.
#include <cstdio>
#include <vector>

#include "core/http2/frame.h"
#include "core/http2/hpack_encoder.h"
#include "exchange_world.h"

namespace {

using namespace weft;
using namespace weft::bench;

constexpr int kConnections = 8;
constexpr uint32_t kStreams = 16;

std::string frame(http2::FrameType type, uint8_t flags, uint32_t stream, const std::string& payload) {
  uint8_t head[http2::kFrameHeaderBytes];
  http2::write_frame_header(static_cast<uint32_t>(payload.size()), type, flags, stream, head);
  return std::string(reinterpret_cast<char*>(head), sizeof(head)) + payload;
}

/// The frames that came, as (type, flags, stream).
template <typename Visit>
void each_frame(int fd, std::string* kept, Visit visit) {
  char bytes[65536];
  for (;;) {
    const ssize_t count = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (count <= 0) break;
    kept->append(bytes, static_cast<size_t>(count));
  }
  size_t at = 0;
  const auto* data = reinterpret_cast<const uint8_t*>(kept->data());
  while (kept->size() - at >= http2::kFrameHeaderBytes) {
    const size_t size = size_t{data[at]} << 16 | size_t{data[at + 1]} << 8 | data[at + 2];
    if (kept->size() - at < http2::kFrameHeaderBytes + size) break;
    visit(static_cast<http2::FrameType>(data[at + 3]), data[at + 4], ntohl(*reinterpret_cast<const uint32_t*>(data + at + 5)), size);
    at += http2::kFrameHeaderBytes + size;
  }
  kept->erase(0, at);
}

struct Client {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  http2::InternTable table;
  http2::HpackEncoder encoder{&table};
  std::string kept;
  uint32_t next_id = 1;
  uint32_t ended = 0;

  explicit Client(uint16_t port) {
    const sockaddr_in name = loopback(port);
    if (connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0) abort();
    send_at_once(fd);
    send_all(fd, std::string(http2::kClientPreface) + frame(http2::FrameType::kSettings, 0, 0, {}));
  }
  std::string call(const std::string& body) {
    static constexpr std::pair<const char*, const char*> kFields[] = {{":method", "POST"},
                                                                      {":scheme", "http"},
                                                                      {":path", "/bench.Echo/Unary"},
                                                                      {":authority", "bench.test"},
                                                                      {"user-agent", "h2load nghttp2/1.52.0"},
                                                                      {"content-type", "application/grpc"},
                                                                      {"te", "trailers"},
                                                                      {"content-length", "21"}};
    uint8_t block[1024];
    uint8_t* end = encoder.begin(block);
    for (const auto& [name, value] : kFields) {
      // As nghttp2 does, by which h2load and Envoy call.
      const bool is_indexed = std::string_view(name) != ":path" && std::string_view(name) != "content-length";
      end = encoder.write_text(name, value, is_indexed ? http2::Indexing::kAllowed : http2::Indexing::kNone, end);
    }
    const uint32_t id = next_id;
    next_id += 2;
    return frame(http2::FrameType::kHeaders, http2::kFlagEndHeaders, id,
                 std::string(reinterpret_cast<char*>(block), static_cast<size_t>(end - block))) +
           frame(http2::FrameType::kData, http2::kFlagEndStream, id, body);
  }
};

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? atoi(argv[1]) : 200;
  World world(Protocol::kHttp2);
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < kConnections; i++) clients.push_back(std::make_unique<Client>(world.port));
  world.turn();
  int upstream = -1;
  std::string kept;
  const std::string head(
      "\x88\x0f\x10\x10"
      "application/grpc",
      20),
      trailers(
          "\x00\x0bgrpc-status\x01"
          "0",
          15);
  uint32_t wanted = 0;
  for (int round = 0; round < rounds; round++) {
    // One connection is dialled by few calls; it says then how many streams it takes.
    const uint32_t streams = round == 0 ? 1 : kStreams;
    wanted += streams;
    for (auto& client : clients) {
      std::string calls;
      for (uint32_t i = 0; i < streams; i++) calls += client->call(std::string(21, 'q'));
      send_all(client->fd, calls);
    }
    for (bool done = false; !done;) {
      world.turn();
      if (upstream < 0) {
        upstream = accept4(world.listener, nullptr, nullptr, 0);
        if (upstream < 0) continue;
        send_at_once(upstream);
        send_all(upstream, frame(http2::FrameType::kSettings, 0, 0, {}));
        char preface[http2::kClientPreface.size()];
        do {
          world.turn();
        } while (recv(upstream, preface, sizeof(preface), MSG_PEEK | MSG_DONTWAIT) < static_cast<ssize_t>(sizeof(preface)));
        if (recv(upstream, preface, sizeof(preface), 0) != sizeof(preface)) abort();
      }
      std::string answers;
      uint32_t received = 0;
      each_frame(upstream, &kept, [&](http2::FrameType type, uint8_t flags, uint32_t stream, size_t size) {
        if (type != http2::FrameType::kData) return;
        received += static_cast<uint32_t>(size);
        if ((flags & http2::kFlagEndStream) == 0) return;
        answers += frame(http2::FrameType::kHeaders, http2::kFlagEndHeaders, stream, head) +
                   frame(http2::FrameType::kData, 0, stream, std::string(105, 'a')) +
                   frame(http2::FrameType::kHeaders, http2::kFlagEndHeaders | http2::kFlagEndStream, stream, trailers);
      });
      uint8_t window[http2::kWindowUpdateFrameBytes];
      if (received != 0) {
        http2::write_window_update(0, received, window);
        answers.append(reinterpret_cast<char*>(window), sizeof(window));
      }
      if (!answers.empty()) send_all(upstream, answers);
      done = true;
      for (auto& client : clients) {
        received = 0;
        each_frame(client->fd, &client->kept, [&](http2::FrameType type, uint8_t flags, uint32_t, size_t size) {
          if (type == http2::FrameType::kData) received += static_cast<uint32_t>(size);
          if (type == http2::FrameType::kHeaders && (flags & http2::kFlagEndStream) != 0) client->ended++;
        });
        if (received != 0) {
          http2::write_window_update(0, received, window);
          send_all(client->fd, {reinterpret_cast<char*>(window), sizeof(window)});
        }
        done &= client->ended == wanted;
      }
    }
  }
  printf("%d calls, %.0f upstream connections\n", kConnections * static_cast<int>(wanted),
         world.counters[static_cast<size_t>(Counter::UpstreamConnects)]);
  return 0;
}
