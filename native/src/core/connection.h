// What every socket in the reactor has: a handle, a timer, output that waits, and edge-triggered readiness.
// Knows no protocol. A connection is closed only through Reactor::close(), and stays readable in memory until the tick ends.
#pragma once
#include <cstdint>

#include "core/byte_queue.h"
#include "core/slab.h"
#include "core/timer_wheel.h"

namespace weft {

class Reactor;

class Connection : public TimerNode {
 public:
  Connection(Reactor* reactor, int fd) : reactor_(reactor), fd_(fd) {}
  virtual ~Connection() = default;

  // `events` as epoll gave them.
  virtual void on_events(uint32_t events) = 0;
  virtual void on_timer() {}
  // Asked for with Reactor::resume_later(): go on with what the last tick left.
  virtual void on_resume() {}
  // The engine drains: no new work; close if idle.
  virtual void on_drain() {}
  // The last word before the socket closes without the connection's own doing (engine close).
  virtual void on_engine_close() {}
  virtual bool is_downstream() const { return false; }

  int fd() const { return fd_; }
  Handle handle() const { return handle_; }
  const ByteQueue& output() const { return output_; }
  bool is_readable() const { return readable_; }

  // Sends, or keeps what the socket does not take. False: the socket is broken.
  bool write(const void* bytes, size_t count) { return write(bytes, count, nullptr, 0); }
  // Two ranges in one system call.
  bool write(const void* first, size_t first_count, const void* second, size_t second_count);
  // Sends what waits; false: the socket is broken.
  bool flush();
  // Up to `capacity` bytes; 0: end of input; -1: nothing now; -2: broken. Clears readable_ on a short read.
  int64_t receive(uint8_t* out, size_t capacity);

 protected:
  // What epoll's `events` say about reading.
  void note_readable(uint32_t events);
  friend class Reactor;
  Reactor* reactor_;
  int fd_;
  Handle handle_;
  ByteQueue output_;
  // The kernel may hold bytes (or the end) that were not read.
  bool readable_ = false;
  // The peer has finished sending (EPOLLRDHUP) or is gone.
  bool peer_finished_ = false;
  // Not connected yet: output only queues.
  bool is_connecting_ = false;
  bool resume_pending_ = false;
};

}  // namespace weft
