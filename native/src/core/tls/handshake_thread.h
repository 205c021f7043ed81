// A thread beside an event loop that takes one step of one session's handshake at a time: an RSA signature takes as long as dozens of
// requests, and can't be interrupted. Knows no connection's socket and no order: the reactor says whose step is next.
#pragma once
#include <pthread.h>

#include <atomic>
#include <memory>

#include "core/slab.h"
#include "core/tls/tls_session.h"

namespace weft {

struct HandshakeStep {
  Handle connection;
  // Its input is input_left, its output goes to output_left. Nobody else may touch it meanwhile.
  std::unique_ptr<TlsSession> session;
  // On the CPU.
  uint64_t took_ns = 0;
};

class HandshakeThread {
 public:
  // Null: there is no thread or descriptor to be had.
  static std::unique_ptr<HandshakeThread> start();
  // Waits for the step under way.
  ~HandshakeThread();
  HandshakeThread(const HandshakeThread&) = delete;
  HandshakeThread& operator=(const HandshakeThread&) = delete;

  // Readable when a step has been taken.
  int fd() const { return done_fd_; }
  bool is_busy() const { return busy_; }
  // Only while it is not busy.
  void take(HandshakeStep step);
  // False: not yet.
  bool finish(HandshakeStep* step);

 private:
  explicit HandshakeThread(int done_fd) : done_fd_(done_fd) {}
  enum class State : int { Idle, Due, Ends };
  static void* run(void* self);
  void work();

  const int done_fd_;
  pthread_t thread_ = {};
  bool started_ = false;
  // Of the caller's side: between take() and finish().
  bool busy_ = false;
  // No lock: the loop must never wait for a thread that gives way to others. While Due, `step_` is the thread's.
  std::atomic<State> state_ = State::Idle;
  HandshakeStep step_;
};

}  // namespace weft
