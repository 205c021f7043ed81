// Instructions of one HTTP/1 request through the whole reactor, HTTP/1 on both sides: see exchange_world.h.
#include <cstdio>
#include <vector>

#include "exchange_world.h"

namespace {

using namespace weft;
using namespace weft::bench;

constexpr int kConnections = 32;

/// What has come; empty: nothing.
std::string receive_all(int fd) {
  char bytes[65536];
  const ssize_t count = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
  return count > 0 ? std::string(bytes, static_cast<size_t>(count)) : std::string();
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? atoi(argv[1]) : 200;
  const std::string request = "GET /svc7/item HTTP/1.1\r\nHost: bench.test\r\n\r\n";
  const std::string answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n" + std::string(100, 'a');
  World world(Protocol::kHttp1);
  std::vector<int> clients, upstreams;
  for (int i = 0; i < kConnections; i++) {
    clients.push_back(socket(AF_INET, SOCK_STREAM, 0));
    const sockaddr_in name = loopback(world.port);
    if (connect(clients.back(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0) abort();
    send_at_once(clients.back());
  }
  for (int round = 0; round < rounds; round++) {
    for (const int client : clients) send_all(client, request);
    for (int answered = 0; answered < kConnections;) {
      world.turn();
      for (int fd; (fd = accept4(world.listener, nullptr, nullptr, 0)) >= 0;) {
        send_at_once(fd);
        upstreams.push_back(fd);
      }
      for (const int upstream : upstreams) {
        if (!receive_all(upstream).empty()) send_all(upstream, answer);
      }
      for (const int client : clients) answered += receive_all(client).empty() ? 0 : 1;
    }
  }
  printf("%d calls, %.0f upstream connections\n", kConnections * rounds, world.counters[static_cast<size_t>(Counter::UpstreamConnects)]);
  return 0;
}
