// See serve.h.
#include "netns/serve.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

#include "core/descriptor_message.h"

namespace weft::netns {

namespace {

enum class Received : uint8_t { kRequest, kNothing, kClosed };

void close_all(const std::vector<int>& descriptors) { close_descriptors(descriptors.data(), descriptors.size()); }

// Anything but a request ends the channel.
Received receive(int channel, const Terms& terms, Asked* asked) {
  // One byte more than a request may have: a longer message is seen as such.
  char bytes[sizeof(Request) + kMaxPath + 1];
  ReceivedMessage received;
  receive_with_descriptors(channel, bytes, sizeof(bytes), MSG_DONTWAIT, &received);
  if (received.size < 0) return received.size == -EAGAIN || received.size == -EINTR ? Received::kNothing : Received::kClosed;
  const auto length = static_cast<size_t>(received.size);
  asked->descriptors.assign(received.descriptors, received.descriptors + received.count);
  if (length >= sizeof(Request) && length < sizeof(bytes) && !received.is_cut) {
    memcpy(&asked->request, bytes, sizeof(Request));
    asked->path.assign(bytes + sizeof(Request), length - sizeof(Request));
    // A path ends where C says.
    if (asked->path.find('\0') == std::string::npos && is_request(*asked, terms)) return Received::kRequest;
  }
  close_all(asked->descriptors);
  return Received::kClosed;
}

// False: the channel takes no answer.
bool answer(int channel, const Done& done) {
  const auto& [said, descriptors] = done;
  return send_with_descriptors(channel, &said, sizeof(said), descriptors.data(), descriptors.size(), MSG_DONTWAIT) == sizeof(said);
}

// False: the channel is to be closed. A channel that joins comes into `joined`.
bool serve_one(int channel, const Terms& terms, std::vector<int>* joined) {
  Asked asked;
  switch (receive(channel, terms, &asked)) {
    case Received::kNothing:
      return true;
    case Received::kClosed:
      return false;
    case Received::kRequest:
      break;
  }
  if (asked.request.operation == Operation::kJoin) {
    joined->push_back(asked.descriptors[0]);
    return true;
  }
  const Done done = perform(asked, terms);
  const bool is_taken = answer(channel, done);
  close_all(done.descriptors);
  close_all(asked.descriptors);
  return is_taken;
}

}  // namespace

void serve(int channel, const Terms& terms) {
  std::vector<pollfd> channels = {{channel, POLLIN, 0}};
  std::vector<int> joined;
  while (!channels.empty()) {
    if (poll(channels.data(), channels.size(), -1) < 0) continue;
    for (pollfd& each : channels) {
      if (each.revents != 0 && !serve_one(each.fd, terms, &joined)) {
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
