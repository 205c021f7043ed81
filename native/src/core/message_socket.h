// Unix sockets (SOCK_SEQPACKET) whose messages carry descriptors: how a proxy hands its listeners to its successor. Thin over the system
// calls, like socket.h; knows nothing of what is said.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "core/descriptor_message.h"

namespace weft {

inline constexpr size_t kMaxMessageBytes = 64 * 1024;

struct Message {
  std::string text;
  // The receiver's to close.
  std::vector<int> descriptors;
};

struct PeerProcess {
  int pid = 0;
  unsigned uid = 0;
};

// The descriptor, or -errno. The socket file is born with mode 0600; there must be none.
int listen_messages(const std::string& path);
int connect_messages(const std::string& path);
// -EAGAIN: nobody waits.
int accept_messages(int fd);
// Who connected or listened, when it did; 0 or -errno.
int peer_process(int fd, PeerProcess* out);
// 0 or -errno (EMSGSIZE: above the bounds; EAGAIN: the peer does not read).
int send_message(int fd, std::string_view text, const std::vector<int>& descriptors);
// 1: a message; 0: the peer has closed; -EAGAIN: nothing yet; -EMSGSIZE: above the bounds, and closed what came with it; other -errno.
int receive_message(int fd, Message* out);

}  // namespace weft
