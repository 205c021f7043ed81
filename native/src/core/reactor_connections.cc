// A reactor's connections: how they come, change hands and go.
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "core/reactor.h"

namespace weft {

void Reactor::adopt(Connection* connection) {
  connection->handle_ = connections_.add(connection);
  watch(connection, EPOLL_CTL_ADD);
}

bool Reactor::watch(int fd, uint64_t as) const {
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = as;
  return epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0;
}

void Reactor::watch(const Connection* connection, int operation) const {
  epoll_event event = {};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.u64 = uint64_t{connection->handle_.generation} << 32 | connection->handle_.slot;
  // It fails only out of memory or watches; the connection's timer ends it then.
  epoll_ctl(epoll_, operation, connection->fd_, &event);
}

bool Reactor::dial(Connection* connection, const ConnectOptions& options) {
  int fd = -1;
  if (options.scope == nullptr) {
    fd = open_connection(options);
    if (fd < 0) return false;
  } else if (fd = namespace_sockets_->take(options); fd >= 0) {
    fd = connect_from(fd, options);
    if (fd < 0) return false;
  } else if (!namespace_sockets_->has_room()) {
    return false;
  }
  connection->fd_ = fd;
  connection->handle_ = connections_.add(connection);
  if (fd >= 0) {
    watch(connection, EPOLL_CTL_ADD);
  } else {
    namespace_sockets_->order(options, connection->handle_);
  }
  return true;
}

// What can't connect is told as if its socket had said so.
void Reactor::take_namespace_sockets() {
  NamespaceSockets::Arrival arrival;
  while (namespace_sockets_->next(&arrival)) {
    Connection* connection = connections_.get(arrival.connection);
    if (connection == nullptr) {
      namespace_sockets_->put_back(arrival);
      continue;
    }
    connection->fd_ = arrival.fd < 0 ? -1 : std::max(-1, connect_from(arrival.fd, arrival.options));
    if (connection->fd_ >= 0) {
      watch(connection, EPOLL_CTL_ADD);
      continue;
    }
    connection->ready_events_ |= EPOLLERR | EPOLLHUP;
    if (!std::exchange(connection->ready_, true)) scheduler_.make_ready(connection->tenant_, arrival.connection);
  }
  if (namespace_sockets_->is_over()) epoll_ctl(epoll_, EPOLL_CTL_DEL, namespace_sockets_->fd(), nullptr);
}

void Reactor::succeed(Connection* from, Connection* to) {
  to->fd_ = std::exchange(from->fd_, -1);
  to->tls_ = std::move(from->tls_);
  to->output_ = std::move(from->output_);
  // What the first bytes' reader left unread is not announced again.
  to->readable_ = from->readable_ || (to->tls_ != nullptr && !to->tls_->input_left.empty());
  to->peer_finished_ = from->peer_finished_;
  to->is_connecting_ = from->is_connecting_;
  close(from);
  to->handle_ = connections_.add(to);
  watch(to, EPOLL_CTL_MOD);
}

void Reactor::unwatch(const Connection* connection) { epoll_ctl(epoll_, EPOLL_CTL_DEL, connection->fd_, nullptr); }

void Reactor::close(Connection* connection) {
  timers_.cancel(connection);
  if (connection->fd_ >= 0) {
    if (connection->tls_ != nullptr) connection->say_goodbye();
    ::close(connection->fd_);
  }
  connection->fd_ = -1;
  connections_.release(connection->handle_);
}

void Reactor::close_downstream(Connection* connection) {
  count_downstream(connection->listener_id(), connection->tenant_, -1);
  close(connection);
}

void Reactor::count_downstream(int32_t listener_id, TenantId tenant, int change) {
  accounts_.add(tenant, TenantWord::Connections, change);
  open_downstream_ += static_cast<uint32_t>(change);
  counters_.add(Counter::DownstreamOpen, change);
  if (static_cast<size_t>(listener_id) < options_.listener_count) options_.listener_connections[listener_id] += change;
}

}  // namespace weft
