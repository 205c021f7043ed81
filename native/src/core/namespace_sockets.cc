// See namespace_sockets.h.
#include "core/namespace_sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "core/descriptor_message.h"
#include "core/wait_for.h"
#include "netns/protocol.h"

namespace weft {

namespace {

// At hand for the next connections out of a scope that has had one: nobody waits for weft-netns unless they come faster than it answers.
constexpr size_t kSpares = 4;
constexpr size_t kMaxOrders = 4096;
constexpr int kPatienceMs = 1'000;

size_t index_of(int family) { return family == AF_INET6 ? 1 : 0; }

int family_of(const ConnectOptions& options) { return is_mapped(options.to.address) ? AF_INET : AF_INET6; }

// 0 or errno.
int send_request(int channel, const netns::Request& request, int descriptor) {
  const ssize_t sent = send_with_descriptors(channel, &request, sizeof(request), &descriptor, 1, MSG_DONTWAIT);
  return sent < 0 ? static_cast<int>(-sent) : 0;
}

// The socket, or -errno: -EAGAIN: no answer yet; -EPIPE: none will come.
int receive_answer(int channel) {
  netns::Answer answer;
  ReceivedMessage received;
  receive_with_descriptors(channel, &answer, sizeof(answer), MSG_DONTWAIT, &received);
  if (received.size == -EINTR || received.size == -EAGAIN) return -EAGAIN;
  if (received.size != sizeof(answer)) return -EPIPE;
  if (answer.error != 0) return -answer.error;
  // Out of descriptors the kernel drops what came along.
  return received.count != 0 ? received.descriptors[0] : -EMFILE;
}

netns::Request request_for(int family) {
  netns::Request request;
  request.family = family == AF_INET6 ? netns::kFamilyV6 : netns::kFamilyV4;
  return request;
}

// A channel of its own, or -errno.
int join(int service) {
  int channels[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channels) != 0) return -errno;
  netns::Request request;
  request.operation = netns::Operation::kJoin;
  const int error = send_request(service, request, channels[1]);
  close(channels[1]);
  if (error == 0) return channels[0];
  close(channels[0]);
  return -error;
}

}  // namespace

std::shared_ptr<SocketScope> SocketScope::open(int there, uint32_t mark) {
  const int fd = fcntl(there, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return nullptr;
  return std::shared_ptr<SocketScope>(new SocketScope(fd, mark));
}

SocketScope::~SocketScope() {
  close(there_);
  for (const Spares& spares : spares_) {
    for (const int fd : spares.at_hand) close(fd);
  }
}

std::unique_ptr<NamespaceSockets> NamespaceSockets::open(int service) {
  const int channel = join(service);
  if (channel >= 0) return std::unique_ptr<NamespaceSockets>(new NamespaceSockets(service, channel));
  errno = -channel;
  return nullptr;
}

NamespaceSockets::~NamespaceSockets() { close(channel_); }

int NamespaceSockets::take(const ConnectOptions& options) {
  const int family = family_of(options);
  std::vector<int>& spares = options.scope->spares_[index_of(family)].at_hand;
  if (spares.empty()) return -1;
  const int fd = spares.back();
  spares.pop_back();
  keep_spares(options.scope, family);
  send_some();
  return fd;
}

bool NamespaceSockets::has_room() const { return !is_over_ && orders_.size() < kMaxOrders; }

void NamespaceSockets::order(const ConnectOptions& options, Handle connection) {
  const int family = family_of(options);
  orders_.push_back({options.scope, family, false, connection, options});
  keep_spares(options.scope, family);
  send_some();
}

void NamespaceSockets::keep_spares(const SharedScope& scope, int family) {
  SocketScope::Spares& spares = scope->spares_[index_of(family)];
  for (; has_room() && spares.at_hand.size() + spares.ordered < kSpares; spares.ordered++) orders_.push_back({scope, family, true, {}, {}});
}

// What can't be sent now is sent when answers come.
void NamespaceSockets::send_some() {
  while (!is_over_ && sent_ < orders_.size() && sent_ < netns::kMaxInFlight) {
    const Order& order = orders_[sent_];
    const SharedScope scope = order.scope.lock();
    // Of a scope that has gone the channel stands for the namespace: refused, but answered in its turn.
    const int error = send_request(channel_, request_for(order.family), scope == nullptr ? channel_ : scope->there());
    if (error == EAGAIN && sent_ != 0) return;
    if (error != 0) {
      is_over_ = true;
      // Whoever waits is told so by next().
      shutdown(channel_, SHUT_RDWR);
      return;
    }
    sent_++;
  }
}

bool NamespaceSockets::next(Arrival* out) {
  while (!orders_.empty()) {
    const int fd = is_over_ ? -EPIPE : receive_answer(channel_);
    if (fd == -EAGAIN) break;
    if (fd == -EPIPE) is_over_ = true;
    const Order order = std::move(orders_.front());
    orders_.pop_front();
    if (sent_ != 0) sent_--;
    if (!order.is_spare) {
      *out = {order.connection, order.options, fd};
      return true;
    }
    fill(order, fd);
  }
  send_some();
  return false;
}

void NamespaceSockets::fill(const Order& order, int fd) {
  const SharedScope scope = order.scope.lock();
  if (scope != nullptr) {
    SocketScope::Spares& spares = scope->spares_[index_of(order.family)];
    spares.ordered--;
    if (fd >= 0) return spares.at_hand.push_back(fd);
  }
  if (fd >= 0) close(fd);
}

void NamespaceSockets::put_back(const Arrival& arrival) {
  if (arrival.fd < 0) return;
  std::vector<int>& spares = arrival.options.scope->spares_[index_of(family_of(arrival.options))].at_hand;
  if (spares.size() >= kSpares) {
    close(arrival.fd);
  } else {
    spares.push_back(arrival.fd);
  }
}

int NamespaceSockets::open_now(const SocketScope& scope, int family) const {
  const int channel = join(service_);
  if (channel < 0) return channel;
  const int error = send_request(channel, request_for(family), scope.there());
  const bool has_answer = error == 0 && wait_for(channel, POLLIN, kPatienceMs);
  const int fd = error != 0 ? -error : has_answer ? receive_answer(channel) : -ETIMEDOUT;
  close(channel);
  return fd;
}

}  // namespace weft
