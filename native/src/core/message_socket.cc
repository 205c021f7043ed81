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

// Room for one more than is allowed, so that the excess is seen.
union Control {
  cmsghdr align;
  char bytes[CMSG_SPACE((kMaxMessageDescriptors + 1) * sizeof(int))];
};

void take_descriptors(msghdr* header, std::vector<int>* out) {
  for (cmsghdr* item = CMSG_FIRSTHDR(header); item != nullptr; item = CMSG_NXTHDR(header, item)) {
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    const size_t have = out->size();
    out->resize(have + count);
    memcpy(out->data() + have, CMSG_DATA(item), count * sizeof(int));
  }
}

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
  iovec range = {const_cast<char*>(text.data()), text.size()};
  msghdr header = {};
  header.msg_iov = &range;
  header.msg_iovlen = 1;
  Control control;
  if (!descriptors.empty()) {
    const size_t bytes = descriptors.size() * sizeof(int);
    header.msg_control = control.bytes;
    header.msg_controllen = CMSG_SPACE(bytes);
    cmsghdr* item = CMSG_FIRSTHDR(&header);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(item), descriptors.data(), bytes);
  }
  return sendmsg(fd, &header, MSG_NOSIGNAL) >= 0 ? 0 : -errno;
}

int receive_message(int fd, Message* out) {
  out->text.resize(kMaxMessageBytes);
  out->descriptors.clear();
  iovec range = {out->text.data(), out->text.size()};
  Control control;
  msghdr header = {};
  header.msg_iov = &range;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes;
  header.msg_controllen = sizeof(control.bytes);
  const ssize_t count = recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
  if (count < 0) return errno == EINTR ? -EAGAIN : -errno;
  take_descriptors(&header, &out->descriptors);
  out->text.resize(static_cast<size_t>(count));
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || out->descriptors.size() > kMaxMessageDescriptors) {
    for (const int descriptor : out->descriptors) close(descriptor);
    out->descriptors.clear();
    return -EMSGSIZE;
  }
  return count == 0 && out->descriptors.empty() ? 0 : 1;
}

}  // namespace weft
