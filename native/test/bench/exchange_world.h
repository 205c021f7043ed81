// A reactor between clients and one upstream on the loopback interface, for counting instructions repeatably on a busy machine:
//   valgrind --tool=callgrind --collect-atstart=no --toggle-collect='weft::bench::World::turn*' BENCH [ROUNDS]
// The tool's total by the calls that a bench prints is the figure. Says nothing about time or system calls.
#pragma once
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "core/reactor.h"

namespace weft::bench {

// 1 µs a look: by the machine's clock nearly each turn under valgrind is out of its time, and leaves the connection for the next one.
inline uint64_t clock_ns() {
  static uint64_t now = 1'000'000'000;
  return now += 1'000;
}

inline sockaddr_in loopback(uint16_t port) {
  sockaddr_in name = {};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  name.sin_port = htons(port);
  return name;
}

// Without, the reactor turns idly until a delayed ACK comes.
inline void send_at_once(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

inline void send_all(int fd, const std::string& bytes) {
  if (::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size())) abort();
}

struct World {
  double counters[static_cast<size_t>(Counter::Count)] = {};
  int32_t outstanding[1] = {};
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  std::unique_ptr<Reactor> reactor;
  uint16_t port = 0;

  // Of both sides.
  explicit World(Protocol protocol) {
    sockaddr_in name = loopback(0);
    socklen_t length = sizeof(name);
    bind(listener, reinterpret_cast<sockaddr*>(&name), sizeof(name));
    getsockname(listener, reinterpret_cast<sockaddr*>(&name), &length);
    ::listen(listener, 256);
    EngineOptions options;
    options.clock_ns = clock_ns;
    options.counters = counters;
    options.outstanding = outstanding;
    options.outstanding_count = 1;
    reactor = std::make_unique<Reactor>(options, decide, this);
    TableSpec spec;
    spec.hosts = {"bench.test"};
    spec.paths = {"/"};
    EndpointSpec endpoint;
    endpoint.address = "127.0.0.1";
    endpoint.port = ntohs(name.sin_port);
    endpoint.protocol = protocol;
    spec.endpoints = {endpoint};
    std::string error;
    reactor->use_tables(Tables::build(spec, &error));
    ListenerSpec at;
    at.id = 1;
    parse_address("127.0.0.1", &at.address);
    at.protocol = protocol;
    at.forwarding.trusted_hops = 0;
    port = static_cast<uint16_t>(reactor->listen(at, &error));
  }

  // What is counted.
  [[gnu::noinline]] void turn() { reactor->run_once(0); }

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

}  // namespace weft::bench
