// See handshake_thread.h.
#include "core/tls/handshake_thread.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <utility>

namespace weft {

namespace {

// A quarter of a core that the loop wants for itself.
constexpr int kNice = 5;

// The loop comes first where both want the same core, whatever its own thread was given; and signals are others' affair.
void give_way() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  const sched_param none = {};
  sched_setscheduler(0, SCHED_BATCH, &none);
  setpriority(PRIO_PROCESS, 0, kNice);
}

uint64_t thread_cpu_ns() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

std::unique_ptr<HandshakeThread> HandshakeThread::start() {
  const int done = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (done < 0) return nullptr;
  std::unique_ptr<HandshakeThread> made(new HandshakeThread(done));
  // Not std::thread, which throws where there can be no more.
  made->started_ = pthread_create(&made->thread_, nullptr, run, made.get()) == 0;
  return made->started_ ? std::move(made) : nullptr;
}

HandshakeThread::~HandshakeThread() {
  if (started_) {
    state_.wait(State::Due);
    state_.store(State::Ends);
    state_.notify_one();
    pthread_join(thread_, nullptr);
  }
  ::close(done_fd_);
}

void* HandshakeThread::run(void* self) {
  give_way();
  static_cast<HandshakeThread*>(self)->work();
  return nullptr;
}

void HandshakeThread::work() {
  TlsWire wire;
  for (;;) {
    state_.wait(State::Idle);
    if (state_.load() == State::Ends) return;
    const uint64_t before = thread_cpu_ns();
    step_.session->handshake_alone(&wire);
    step_.took_ns = thread_cpu_ns() - before;
    state_.store(State::Idle);
    // For the destructor.
    state_.notify_one();
    constexpr uint64_t kOne = 1;
    // The counter is far from full: nothing is left to fail.
    [[maybe_unused]] const ssize_t written = ::write(done_fd_, &kOne, sizeof(kOne));
  }
}

void HandshakeThread::take(HandshakeStep step) {
  busy_ = true;
  step_ = std::move(step);
  state_.store(State::Due);
  state_.notify_one();
}

bool HandshakeThread::finish(HandshakeStep* step) {
  uint64_t count;
  if (::read(done_fd_, &count, sizeof(count)) != sizeof(count) || state_.load() != State::Idle) return false;
  *step = std::move(step_);
  busy_ = false;
  return true;
}

}  // namespace weft
