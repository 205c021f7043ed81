// Sockets in network namespaces that this process may not enter itself: those of pods (fallback) and of the host. weft-netns
// (native/src/netns) opens them; this asks for them, over a channel of one thread's own, and never waits while traffic is served.
#pragma once
#include <deque>
#include <memory>
#include <vector>

#include "core/slab.h"
#include "core/socket.h"

namespace weft {

// Another network namespace than the thread's own, in which sockets are opened. Whoever has sockets there shares it, so that what is pooled
// in one namespace is never taken for another.
class SocketScope {
 public:
  // Duplicates `there`; null with errno.
  static std::shared_ptr<SocketScope> open(int there, uint32_t mark);
  ~SocketScope();
  SocketScope(const SocketScope&) = delete;
  SocketScope& operator=(const SocketScope&) = delete;
  int there() const { return there_; }
  // SO_MARK of connections: the redirection lets them by.
  uint32_t mark() const { return mark_; }

 private:
  friend class NamespaceSockets;
  // Of one family: sockets at hand, and how many more will be.
  struct Spares {
    std::vector<int> at_hand;
    size_t ordered = 0;
  };
  SocketScope(int there, uint32_t mark) : there_(there), mark_(mark) {}
  const int there_;
  const uint32_t mark_;
  Spares spares_[2];
};

class NamespaceSockets {
 public:
  // Somebody's socket has come; or it won't.
  struct Arrival {
    Handle connection;
    ConnectOptions options;
    // Not connected yet; or -errno.
    int fd = -1;
  };

  // `service`: the process' own channel to weft-netns, which must outlive this. Null with errno.
  static std::unique_ptr<NamespaceSockets> open(int service);
  ~NamespaceSockets();
  NamespaceSockets(const NamespaceSockets&) = delete;
  NamespaceSockets& operator=(const NamespaceSockets&) = delete;
  // Readable when something has arrived, and when nothing will any more.
  int fd() const { return channel_; }
  bool is_over() const { return is_over_; }

  // A spare one for a connection with these options; -1: there is none, order() it.
  int take(const ConnectOptions& options);
  // False: as many as may wait already do, or weft-netns has gone.
  bool has_room() const;
  // It arrives for that connection. Only while there is room.
  void order(const ConnectOptions& options, Handle connection);
  // False: no more for now.
  bool next(Arrival* out);
  // Who ordered it has gone.
  void put_back(const Arrival& arrival);
  // Waits for it, a second at most: for listeners, before they serve. The descriptor, or -errno.
  int open_now(const SocketScope& scope, int family) const;

 private:
  struct Order {
    // Not to be kept by what is only ordered for it.
    std::weak_ptr<SocketScope> scope;
    int family = 0;
    bool is_spare = false;
    Handle connection;
    ConnectOptions options;
  };
  NamespaceSockets(int service, int channel) : service_(service), channel_(channel) {}
  void keep_spares(const SharedScope& scope, int family);
  void send_some();
  void fill(const Order& order, int fd);

  const int service_;
  int channel_;
  // weft-netns has gone; what is ordered won't come.
  bool is_over_ = false;
  // In the order of their answers; the first `sent_` have been asked for.
  std::deque<Order> orders_;
  size_t sent_ = 0;
};

}  // namespace weft
