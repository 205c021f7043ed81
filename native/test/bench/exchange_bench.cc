// Instructions of one gRPC-shaped unary call through the whole reactor, HTTP/2 on both sides, counted repeatably on a busy machine:
//   valgrind --tool=callgrind --collect-atstart=no --toggle-collect='weft::Reactor::run_once*' exchange_bench [ROUNDS]
// Prints the calls made in and after the warm-up; the tool's total by calls is the figure. Says nothing about time or system calls.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "core/http2/frame.h"
#include "core/http2/hpack_encoder.h"
#include "core/reactor.h"

namespace {

using namespace weft;

constexpr int kConnections = 8;
constexpr uint32_t kStreams = 16;

// 1 µs a look: by the machine's clock nearly each turn under valgrind is out of its time, and leaves the connection for the next one.
uint64_t clock_ns() {
  static uint64_t now = 1'000'000'000;
  return now += 1'000;
}

sockaddr_in loopback(uint16_t port) {
  sockaddr_in name = {};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  name.sin_port = htons(port);
  return name;
}

// Without, the reactor turns idly until a delayed ACK comes.
void send_at_once(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

std::string frame(http2::FrameType type, uint8_t flags, uint32_t stream, const std::string& payload) {
  uint8_t head[http2::kFrameHeaderBytes];
  http2::write_frame_header(static_cast<uint32_t>(payload.size()), type, flags, stream, head);
  return std::string(reinterpret_cast<char*>(head), sizeof(head)) + payload;
}

void send_all(int fd, const std::string& bytes) {
  if (::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size())) abort();
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

struct World {
  double counters[static_cast<size_t>(Counter::Count)] = {};
  int32_t outstanding[1] = {};
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  std::unique_ptr<Reactor> reactor;
  uint16_t port = 0;

  World() {
    sockaddr_in name = loopback(0);
    socklen_t length = sizeof(name);
    bind(listener, reinterpret_cast<sockaddr*>(&name), sizeof(name));
    getsockname(listener, reinterpret_cast<sockaddr*>(&name), &length);
    ::listen(listener, 8);
    EngineOptions options;
    options.clock_ns = clock_ns;
    options.counters = counters;
    options.outstanding = outstanding;
    options.outstanding_count = 1;
    reactor = std::make_unique<Reactor>(options, decide, this);
    TableSpec spec;
    spec.hosts = {"grpc.bench.test"};
    spec.paths = {"/"};
    EndpointSpec endpoint;
    endpoint.address = "127.0.0.1";
    endpoint.port = ntohs(name.sin_port);
    endpoint.protocol = Protocol::kHttp2;
    spec.endpoints = {endpoint};
    std::string error;
    reactor->use_tables(Tables::build(spec, &error));
    ListenerSpec at;
    at.id = 1;
    parse_address("127.0.0.1", &at.address);
    at.protocol = Protocol::kHttp2;
    at.forwarding.trusted_hops = 0;
    port = static_cast<uint16_t>(reactor->listen(at, &error));
  }

  static bool decide(void* context) {
    auto* self = static_cast<World*>(context);
    uint8_t* memory = self->reactor->batch().memory();
    const Batch::Layout at = Batch::layout();
    const int32_t count = reinterpret_cast<int32_t*>(memory + at.header)[0];
    Decision decision;
    decision.target = 0;
    for (int32_t i = 0; i < count; i++) {
      memcpy(memory + at.decisions + static_cast<size_t>(i) * sizeof(Decision), &decision, sizeof(decision));
    }
    self->outstanding[0] += count;
    return true;
  }
};

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
                                                                      {":authority", "grpc.bench.test"},
                                                                      {"user-agent", "h2load nghttp2/1.52.0"},
                                                                      {"content-type", "application/grpc"},
                                                                      {"te", "trailers"},
                                                                      {"content-length", "21"}};
    uint8_t block[1024];
    uint8_t* end = encoder.begin(block);
    for (const auto& [name, value] : kFields) end = encoder.write_text(name, value, http2::Indexing::kAllowed, end);
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
  World world;
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < kConnections; i++) clients.push_back(std::make_unique<Client>(world.port));
  world.reactor->run_once(1);
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
      world.reactor->run_once(0);
      if (upstream < 0) {
        upstream = accept4(world.listener, nullptr, nullptr, 0);
        if (upstream < 0) continue;
        send_at_once(upstream);
        send_all(upstream, frame(http2::FrameType::kSettings, 0, 0, {}));
        char preface[http2::kClientPreface.size()];
        do {
          world.reactor->run_once(0);
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
