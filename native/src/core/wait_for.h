// Waiting for one descriptor, in threads that may block. Never the reactor's.
#pragma once
#include <errno.h>
#include <poll.h>

#include <chrono>

namespace weft {

// Whether one of `events`, or an error, came in time. No signal ends it, as one does poll() whatever SA_RESTART says (signal(7)): a process
// of ours has a SIGCHLD or SIGTERM at any moment.
inline bool wait_for(int fd, short events, int patience_ms) {
  using std::chrono::milliseconds;
  const auto deadline = std::chrono::steady_clock::now() + milliseconds(patience_ms);
  pollfd waiting = {fd, events, 0};
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    const int found = poll(&waiting, 1, left > 0 ? static_cast<int>(left) : 0);
    if (found >= 0 || errno != EINTR) return found == 1;
  }
}

}  // namespace weft
