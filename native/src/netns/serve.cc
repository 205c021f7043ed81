// See serve.h.
#include "netns/serve.h"

#include <errno.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "core/descriptor_message.h"
#include "netns/protocol.h"

namespace weft::netns {

namespace {

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

// Exactly one descriptor comes with every request; anything else ends the channel.
Received receive(int channel, Asked* asked) {
  // One byte more than a request: a longer message is seen as such.
  char bytes[sizeof(Request) + 1];
  ReceivedMessage received;
  receive_with_descriptors(channel, bytes, sizeof(bytes), MSG_DONTWAIT, &received);
  if (received.size < 0) return received.size == -EAGAIN || received.size == -EINTR ? Received::kNothing : Received::kClosed;
  memcpy(&asked->request, bytes, sizeof(Request));
  if (received.size != sizeof(Request) || received.is_cut || received.count != 1 || !is_request(asked->request)) {
    close_descriptors(received.descriptors, received.count);
    return Received::kClosed;
  }
  asked->descriptor = received.descriptors[0];
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
    close_descriptors(out->data(), out->size());
    out->clear();
  }
  return error;
}

// False: the channel takes no answer.
bool answer(int channel, int error, const std::vector<int>& sockets) {
  const Answer said = {error};
  return send_with_descriptors(channel, &said, sizeof(said), sockets.data(), sockets.size(), MSG_DONTWAIT) == sizeof(said);
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
  close_descriptors(sockets.data(), sockets.size());
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
