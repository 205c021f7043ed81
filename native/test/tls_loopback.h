// A TLS client over loopback, in the same thread as the reactor that it talks to.
#pragma once
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "check.h"
#include "core/tls/tls_session.h"

namespace weft::test {

inline int dial(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in name = {};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  name.sin_port = htons(port);
  CHECK_EQ(connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof(name)), 0);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}

struct TlsClient {
  int fd;
  std::unique_ptr<TlsSession> tls;
  TlsWire wire;
  std::string input;
  bool ended = false;

  TlsClient(uint16_t port, const EndpointTls& endpoint) : fd(dial(port)), tls(TlsSession::connect(endpoint, "")) {}
  TlsClient(const TlsClient&) = delete;
  ~TlsClient() { ::close(fd); }

  template <typename Do>
  auto exchange(Do act) {
    char bytes[65536];
    const ssize_t count = recv(fd, bytes, sizeof(bytes), 0);
    if (count > 0) input.append(bytes, static_cast<size_t>(count));
    ended = ended || count == 0;
    const std::string taken = std::move(input);
    wire.input = reinterpret_cast<const uint8_t*>(taken.data());
    wire.input_size = taken.size();
    wire.output_size = 0;
    auto result = act();
    input = taken.substr(taken.size() - wire.input_size);
    if (wire.output_size != 0) CHECK(send(fd, wire.output.get(), wire.output_size, MSG_NOSIGNAL) > 0);
    return result;
  }
  TlsSession::Step shake() {
    return exchange([this] { return tls->handshake(&wire); });
  }
};

}  // namespace weft::test
