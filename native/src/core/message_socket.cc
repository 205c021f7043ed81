// See message_socket.h.
#include "core/message_socket.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

namespace weft {

namespace {

constexpr int kBacklog = 4;

int fail(int fd) {
  const int error = errno;
  close(fd);
  return -error;
}

bool to_name(const std::string& path, sockaddr_un* name) {
  *name = {};
  name->sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(name->sun_path)) return false;
  memcpy(name->sun_path, path.data(), path.size());
  return true;
}

int open_socket() { return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

}  // namespace

int listen_messages(const std::string& path) {
  sockaddr_un name;
  if (!to_name(path, &name)) return -ENAMETOOLONG;
  const int fd = open_socket();
  if (fd < 0) return -errno;
  // Linux: bind() gives the file the socket's own mode. A chmod afterwards would leave a moment for others.
  if (fchmod(fd, 0600) != 0 || bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof(name)) != 0) return fail(fd);
  if (listen(fd, kBacklog) != 0) return fail(fd);
  return fd;
}

int connect_messages(const std::string& path) {
  sockaddr_un name;
  if (!to_name(path, &name)) return -ENAMETOOLONG;
  const int fd = open_socket();
  if (fd < 0) return -errno;
  return connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof(name)) == 0 ? fd : fail(fd);
}

int accept_messages(int fd) {
  const int accepted = accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return accepted >= 0 ? accepted : -errno;
}

int peer_process(int fd, PeerProcess* out) {
  ucred credentials = {};
  socklen_t length = sizeof(credentials);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return -errno;
  out->pid = credentials.pid;
  out->uid = credentials.uid;
  return 0;
}

int send_message(int fd, std::string_view text, const std::vector<int>& descriptors) {
  if (text.empty() || text.size() > kMaxMessageBytes || descriptors.size() > kMaxMessageDescriptors) return -EMSGSIZE;
  const ssize_t sent = send_with_descriptors(fd, text.data(), text.size(), descriptors.data(), descriptors.size(), 0);
  return sent < 0 ? static_cast<int>(sent) : 0;
}

int receive_message(int fd, Message* out) {
  out->text.resize(kMaxMessageBytes);
  out->descriptors.clear();
  ReceivedMessage received;
  receive_with_descriptors(fd, out->text.data(), out->text.size(), 0, &received);
  if (received.size < 0) return received.size == -EINTR ? -EAGAIN : static_cast<int>(received.size);
  out->text.resize(static_cast<size_t>(received.size));
  if (received.is_cut || received.count > kMaxMessageDescriptors) {
    close_descriptors(received.descriptors, received.count);
    return -EMSGSIZE;
  }
  out->descriptors.assign(received.descriptors, received.descriptors + received.count);
  return received.size == 0 && received.count == 0 ? 0 : 1;
}

}  // namespace weft
