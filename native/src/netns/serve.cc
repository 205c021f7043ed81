// See serve.h.
#include "netns/serve.h"

#include <errno.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "netns/protocol.h"

namespace weft::netns {

namespace {

union Control {
  cmsghdr align;
  char bytes[CMSG_SPACE(kMaxSockets * sizeof(int))];
};
// What fits in there when it is padded: more than the one that is asked for, so that an excess is seen.
constexpr size_t kMaxReceived = (sizeof(Control) - CMSG_LEN(0)) / sizeof(int);

struct Asked {
  Request request;
  int descriptor = -1;
};

enum class Received : uint8_t { kRequest, kNothing, kClosed };

int family_of(const Request& request) { return request.family == kFamilyV4 ? AF_INET : request.family == kFamilyV6 ? AF_INET6 : AF_UNSPEC; }

bool is_request(const Request& request) {
  if (request.reserved != 0) return false;
  if (request.operation == Operation::kJoin) return true;
  return request.operation == Operation::kOpen && family_of(request) != AF_UNSPEC && request.count >= 1 && request.count <= kMaxSockets;
}

void close_all(const int* descriptors, size_t count) {
  for (size_t i = 0; i < count; i++) close(descriptors[i]);
}

// Exactly one descriptor comes with every request; anything else ends the channel.
Received receive(int channel, Asked* asked) {
  // One byte more than a request: a longer message is seen as such.
  char bytes[sizeof(Request) + 1];
  iovec range = {bytes, sizeof(bytes)};
  Control control;
  msghdr header = {};
  header.msg_iov = &range;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes;
  header.msg_controllen = sizeof(control.bytes);
  const ssize_t size = recvmsg(channel, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (size < 0) return errno == EAGAIN || errno == EINTR ? Received::kNothing : Received::kClosed;
  int descriptors[kMaxReceived];
  size_t count = 0;
  // The kernel makes one item of all the descriptors of a message.
  cmsghdr* item = CMSG_FIRSTHDR(&header);
  if (item != nullptr && item->cmsg_level == SOL_SOCKET && item->cmsg_type == SCM_RIGHTS) {
    count = std::min(kMaxReceived, (item->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(descriptors, CMSG_DATA(item), count * sizeof(int));
  }
  memcpy(&asked->request, bytes, sizeof(Request));
  if (size != sizeof(Request) || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || count != 1 || !is_request(asked->request)) {
    close_all(descriptors, count);
    return Received::kClosed;
  }
  asked->descriptor = descriptors[0];
  return Received::kRequest;
}

// 0 or errno; the sockets are in `out`, all or none.
int open_sockets(const Asked& asked, int home, std::vector<int>* out) {
  // setns() would take a process for its namespaces as well (a pidfd), which its holder could perhaps not enter itself.
  if (ioctl(asked.descriptor, NS_GET_NSTYPE) != CLONE_NEWNET) return EINVAL;
  if (setns(asked.descriptor, CLONE_NEWNET) != 0) return errno;
  int error = 0;
  for (int i = 0; i < asked.request.count && error == 0; i++) {
    const int fd = socket(family_of(asked.request), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
      out->push_back(fd);
    } else {
      error = errno;
    }
  }
  // To stay would keep a namespace alive that everybody else has left.
  if (setns(home, CLONE_NEWNET) != 0) abort();
  if (error != 0) {
    close_all(out->data(), out->size());
    out->clear();
  }
  return error;
}

// False: the channel takes no answer.
bool answer(int channel, int error, const std::vector<int>& sockets) {
  Answer said = {error};
  iovec range = {&said, sizeof(said)};
  msghdr header = {};
  header.msg_iov = &range;
  header.msg_iovlen = 1;
  Control control;
  if (!sockets.empty()) {
    const size_t bytes = sockets.size() * sizeof(int);
    header.msg_control = control.bytes;
    header.msg_controllen = CMSG_SPACE(bytes);
    cmsghdr* item = CMSG_FIRSTHDR(&header);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(item), sockets.data(), bytes);
  }
  return sendmsg(channel, &header, MSG_NOSIGNAL | MSG_DONTWAIT) == static_cast<ssize_t>(sizeof(said));
}

// False: the channel is to be closed. A channel that joins comes into `joined`.
bool serve_one(int channel, int home, std::vector<int>* joined) {
  Asked asked;
  switch (receive(channel, &asked)) {
    case Received::kNothing:
      return true;
    case Received::kClosed:
      return false;
    case Received::kRequest:
      break;
  }
  if (asked.request.operation == Operation::kJoin) {
    joined->push_back(asked.descriptor);
    return true;
  }
  std::vector<int> sockets;
  const int error = open_sockets(asked, home, &sockets);
  const bool is_taken = answer(channel, error, sockets);
  close_all(sockets.data(), sockets.size());
  close(asked.descriptor);
  return is_taken;
}

}  // namespace

void serve(int channel, int home) {
  std::vector<pollfd> channels = {{channel, POLLIN, 0}};
  std::vector<int> joined;
  while (!channels.empty()) {
    if (poll(channels.data(), channels.size(), -1) < 0) continue;
    for (pollfd& each : channels) {
      if (each.revents != 0 && !serve_one(each.fd, home, &joined)) {
        close(each.fd);
        each.fd = -1;
      }
    }
    std::erase_if(channels, [](const pollfd& each) { return each.fd < 0; });
    for (const int fd : joined) {
      if (channels.size() < kMaxChannels) {
        channels.push_back({fd, POLLIN, 0});
      } else {
        close(fd);
      }
    }
    joined.clear();
  }
}

}  // namespace weft::netns
