// A TLS client over loopback, in the same thread as the reactor that it talks to.
#pragma once
#include <algorithm>
#include <memory>
#include <string>

#include "check.h"
#include "core/tls/tls_session.h"
#include "loopback.h"

namespace weft::test {

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
  // Records of at most `most` bytes each, not sent.
  std::string seal(const std::string& bytes, size_t most) {
    std::string records;
    for (size_t at = 0; at < bytes.size(); at += most) {
      wire.output_size = 0;
      CHECK(tls->write(&wire, bytes.data() + at, std::min(most, bytes.size() - at), nullptr, 0));
      records.append(reinterpret_cast<const char*>(wire.output.get()), wire.output_size);
    }
    return records;
  }
  TlsSession::Step shake() {
    return exchange([this] { return tls->handshake(&wire); });
  }
};

}  // namespace weft::test
