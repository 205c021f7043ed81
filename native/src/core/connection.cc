// Socket input and output with the bookkeeping of edge-triggered readiness.
#include "core/connection.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>

#include "core/reactor.h"
#include "core/socket.h"

namespace weft {

Connection::Connection(Reactor* reactor, int fd, TenantId tenant)
    : reactor_(reactor), fd_(fd), output_(reactor->buffer_account(tenant)), tenant_(tenant) {}

Connection::~Connection() { reactor_->drop_tls(std::move(tls_)); }

bool Connection::write(const void* first, size_t first_count, const void* second, size_t second_count) {
  if (tls_ != nullptr && !is_connecting_) return write_tls(first, first_count, second, second_count);
  if (is_connecting_ || !output_.empty()) {
    output_.append(first, first_count);
    output_.append(second, second_count);
    return true;
  }
  size_t first_part = first_count, second_part = second_count;
  if (const size_t most = reactor_->send_bytes(); first_count + second_count > most) {
    first_part = std::min(first_count, most);
    second_part = most - first_part;
  }
  ssize_t sent;
  if (second_part == 0) {
    sent = send_bytes(fd_, first, first_part);
  } else {
    iovec ranges[2] = {{const_cast<void*>(first), first_part}, {const_cast<void*>(second), second_part}};
    msghdr message = {};
    message.msg_iov = ranges;
    message.msg_iovlen = 2;
    sent = send_ranges(fd_, message);
  }
  if (sent < 0) {
    if (errno != EAGAIN && errno != EINTR) return false;
    sent = 0;
  }
  const auto taken = static_cast<size_t>(sent);
  if (taken == first_count + second_count) return true;
  if (taken < first_count) {
    output_.append(static_cast<const uint8_t*>(first) + taken, first_count - taken);
    output_.append(second, second_count);
  } else {
    output_.append(static_cast<const uint8_t*>(second) + (taken - first_count), second_count - (taken - first_count));
  }
  // The socket may have room for more: it will not say so again.
  if (taken == first_part + second_part) reactor_->flush_in_next_turn(this);
  return true;
}

size_t Connection::unacknowledged() const { return output_.size() + static_cast<size_t>(unacknowledged_bytes(fd_)); }

bool Connection::flush() {
  size_t left = reactor_->send_bytes();
  while (!output_.empty()) {
    if (left == 0) return reactor_->flush_in_next_turn(this), true;
    const ssize_t sent = send_bytes(fd_, output_.data(), std::min(output_.size(), left));
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    output_.consume(static_cast<size_t>(sent));
    left -= static_cast<size_t>(sent);
  }
  if (finishes_output_) finish_output();
  return true;
}

void Connection::note_readable(uint32_t events) {
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) readable_ = true;
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) peer_finished_ = true;
}

bool Connection::has_unread() const {
  if (tls_ != nullptr && (!tls_->input_left.empty() || tls_->has_pending())) return true;
  int unread = 0;
  return ioctl(fd_, FIONREAD, &unread) == 0 && unread > 0;
}

int64_t Connection::receive(uint8_t* out, size_t capacity) {
  if (tls_ != nullptr) return receive_tls(out, capacity);
  for (;;) {
    const ssize_t count = receive_bytes(fd_, out, capacity);
    if (count > 0) {
      // A short read has emptied the socket; the end that follows gives its own event, unless it has come already.
      if (static_cast<size_t>(count) < capacity && !peer_finished_) readable_ = false;
      return count;
    }
    if (count == 0) return 0;
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return -2;
    readable_ = false;
    return -1;
  }
}

}  // namespace weft
