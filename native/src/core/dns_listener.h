// A socket for captured DNS queries: what the tables know is answered as if by the resolver that was asked; everything else goes on to it
// byte by byte, from the client's own address and port, so that its answer, whatever it is, goes to the client and not through here.
// Keeps nothing between two queries.
#pragma once
#include "core/connection.h"
#include "core/options.h"

namespace weft {

class DnsListener : public Connection {
 public:
  DnsListener(Reactor* reactor, int fd, int32_t id) : Connection(reactor, fd), id_(id) { is_common_ = true; }
  // A socket for captured queries to that address of any host, or -errno.
  static int open(const Address& address, uint16_t port);
  int32_t id() const { return id_; }
  void on_events(uint32_t events) override;
  void on_resume() override;
  // Serves what waits, then closes the socket.
  void stop();

 private:
  // False: there is no more.
  bool serve_one();

  const int32_t id_;
};

}  // namespace weft
