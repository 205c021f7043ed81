// What an overloaded reactor sheds. See overload.h.
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "core/reactor.h"

namespace weft {

namespace {
// What rests shorter may be in use: its client's next request is perhaps under way.
constexpr int64_t kLeastIdleMs = 1'000;
// Of a call: an eighth of what rests, but no less than this.
constexpr size_t kLeastClosed = 64;
constexpr uint32_t kShrunkBy = 4;

int open_reserve() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }
}  // namespace

void Reactor::set_overload(OverloadLevel level, OverloadReason reason) {
  if (closed_) return;
  const bool accepted = accepts();
  overload_ = level;
  overload_reason_ = reason;
  const uint32_t most = limits().max_buffered_bytes;
  const uint32_t shrunk = level == OverloadLevel::ShrinkIdle ? most / kShrunkBy : 0;
  buffer_bytes_ = level == OverloadLevel::None ? most : std::min(most, std::max(shrunk, kLeastBufferBytes));
  if (level >= OverloadLevel::ShrinkIdle) close_idle_connections();
  if (accepted || !accepts()) return;
  for (Listener* listener : listeners_) resume_later(listener);
}

void Reactor::close_idle_connections() {
  struct Idle {
    int64_t since_ms;
    Handle handle;
  };
  std::vector<Idle> idle;
  const auto latest = static_cast<int64_t>(now_ms()) - kLeastIdleMs;
  connections_.for_each([&idle, latest](const Connection* connection) {
    const int64_t since_ms = connection->is_held_up() ? kNotIdle : connection->idle_since_ms();
    if (since_ms != kNotIdle && since_ms <= latest) idle.push_back({since_ms, connection->handle()});
  });
  const size_t count = std::min(idle.size(), std::max(kLeastClosed, idle.size() / 8));
  std::nth_element(idle.begin(), idle.begin() + static_cast<std::ptrdiff_t>(count), idle.end(),
                   [](const Idle& one, const Idle& other) { return one.since_ms < other.since_ms; });
  for (size_t i = 0; i < count; i++) {
    Connection* connection = connections_.get(idle[i].handle);
    if (connection == nullptr) continue;
    const Shed what = connection->is_downstream() ? Shed::IdleClients : Shed::IdleUpstreams;
    if (connection->close_if_idle()) note_shed(what, overload_reason_);
  }
  if (!deciding_) reap();
}

// EMFILE: the descriptor kept for it lets one client at a time be told at once, by a close, that there is no room.
bool Reactor::refuse_connection(int listener) {
  if (reserve_ >= 0) ::close(reserve_);
  const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  const int error = errno;
  if (fd >= 0) {
    note_shed(Shed::Connections, OverloadReason::Descriptors);
    ::close(fd);
  }
  // Another thread may have taken it meanwhile; then the next call tries without.
  reserve_ = open_reserve();
  errno = error;
  return fd >= 0;
}

bool Reactor::refuses_part_of_head(TenantId tenant, bool beside_others) {
  if (buffers_are_full(tenant)) {
    accounts_.add(tenant, TenantWord::RefusedForBuffers);
    return true;
  }
  if (accepts_requests() || beside_others) return false;
  note_shed(Shed::Requests, overload_reason_);
  return true;
}

void Reactor::keep_reserve() { reserve_ = open_reserve(); }

}  // namespace weft
