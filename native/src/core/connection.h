// What every socket in the reactor has: a handle, a timer, output that waits, and edge-triggered readiness.
// Knows no protocol. A connection is closed only through Reactor::close(), and stays readable in memory until the tick ends.
#pragma once
#include <cstdint>
#include <memory>

#include "core/byte_queue.h"
#include "core/slab.h"
#include "core/tenant_scheduler.h"
#include "core/timer_wheel.h"
#include "core/tls/tls_session.h"

namespace weft {

class Reactor;

// Connection::idle_since_ms() of one that does not rest.
inline constexpr int64_t kNotIdle = INT64_MIN;

// Where a connection's TLS handshake is being worked at; Queue: it waits for the thread beside the loop.
enum class HandshakeAt : uint8_t { Loop, Queue, Thread };

// How far a connection is on its way to carry bytes.
enum class Opening : uint8_t { Waiting, Done, Failed };

class Connection : public Timer {
 public:
  Connection(Reactor* reactor, int fd, TenantId tenant = 0);
  virtual ~Connection();

  // `events` as epoll gave them.
  virtual void on_events(uint32_t events) = 0;
  void on_timer() override {}
  bool is_held_up() const override { return ready_ || handshake_at_ == HandshakeAt::Thread; }
  // Asked for with Reactor::resume_later(): go on with what the last tick left.
  virtual void on_resume() {}
  // Asked for with Reactor::flush_later(): the tick's output is complete.
  virtual void on_flush() {}
  // Since when it has rested with nothing under way, by its idle timer; kNotIdle if it does not. An idle timer that was set otherwise
  // (draining) makes it too old or too young, which only changes the order.
  virtual int64_t idle_since_ms() const { return kNotIdle; }
  // Closes it to make room; false: something has come meanwhile.
  virtual bool close_if_idle() { return false; }
  // The engine drains: no new work; close if idle.
  virtual void on_drain() {}
  // The last word before the socket closes without the connection's own doing (engine close).
  virtual void on_engine_close() {}
  // Of the listener that accepted it; -1: it is no client's.
  virtual int32_t listener_id() const { return -1; }
  bool is_downstream() const { return listener_id() >= 0; }

  int fd() const { return fd_; }
  // Whose turns it uses.
  TenantId tenant() const { return tenant_; }
  Handle handle() const { return handle_; }
  const ByteQueue& output() const { return output_; }
  // Of what was written, the bytes that the peer has not acknowledged: here and in the kernel.
  size_t unacknowledged() const;
  bool is_readable() const { return readable_; }
  // It says nothing more, or there is nobody: whether it still listens only bytes for it would tell.
  bool peer_has_finished() const { return fd_ < 0 || peer_finished_ || (tls_ != nullptr && tls_->peer_has_ended()); }
  // Its socket and its TLS session are here: another may go on with them (Reactor::succeed()).
  bool is_at_hand() const { return fd_ >= 0 && handshake_at_ != HandshakeAt::Thread; }

  // Null: plain text, or the thread beside the loop has it. Everything below is the same with and without it; output() then holds
  // ciphertext.
  const TlsSession* tls() const { return tls_.get(); }

  // Sends, or keeps what the socket does not take, or what is more than a turn may send. False: the socket is broken.
  bool write(const void* bytes, size_t count) { return write(bytes, count, nullptr, 0); }
  // Two ranges in one system call.
  bool write(const void* first, size_t first_count, const void* second, size_t second_count);
  // Sends what waits, or as much as a turn may: for the rest the next is as if the socket had room again. False: the socket is broken.
  bool flush();
  // Up to `capacity` bytes; 0: end of input; -1: nothing now; -2: broken. Clears readable_ on a short read.
  // Over TLS, 0 is the peer's close_notify; an end without it is -2, so that a truncated body is never taken for a whole one.
  int64_t receive(uint8_t* out, size_t capacity);
  // Before the socket is connected, and before write(): what the endpoint wants first, a PROXY header, then TLS.
  void open_as(const struct UpstreamTarget& target);
  // While is_connecting_: goes on with TCP's connect, then with the handshake. Done: is_connecting_ is false, and flush() sends what was
  // written.
  Opening continue_opening(uint32_t events);
  // Before the last write: over TLS, close_notify leaves with it.
  void end_with_write() { ends_with_write_ = true; }
  // Nothing more will be written: close_notify, then FIN, as soon as what waits is sent.
  void finish_output();
  // The close that follows sends RST, drops what is unsent, and no close_notify: the peer must not take what it has for the whole.
  void make_close_abortive();

 protected:
  int64_t idle_since_ms(uint32_t timeout_ms) const {
    return is_scheduled() ? static_cast<int64_t>(deadline_ms()) - static_cast<int64_t>(timeout_ms) : kNotIdle;
  }
  // The kernel, or TLS, holds bytes that were not read.
  bool has_unread() const;
  // What epoll's `events` say about reading.
  void note_readable(uint32_t events);
  friend class Reactor;
  void begin_tls(const EndpointTls& tls, const struct Peer& peer);
  // Behind begin_tls(): the header is the first that it sends, before TLS too.
  void announce(const struct ProxiedClient& client);
  // For both ends; the handshake's own output goes out, plain output_ waits.
  Opening continue_handshake();
  bool write_tls(const void* first, size_t first_count, const void* second, size_t second_count);
  int64_t receive_tls(uint8_t* out, size_t capacity);
  bool send_wire(ByteQueue* unsent);
  // Reactor::close() calls it.
  void say_goodbye();

  Reactor* reactor_;
  int fd_;
  Handle handle_;
  ByteQueue output_;
  std::unique_ptr<TlsSession> tls_;
  // The kernel may hold bytes (or the end) that were not read.
  bool readable_ = false;
  // The peer has finished sending (EPOLLRDHUP) or is gone.
  bool peer_finished_ = false;
  // Not connected, or the handshake not over, yet: output only queues.
  bool is_connecting_ = false;
  bool closes_abortively_ = false;
  bool finishes_output_ = false;
  bool ends_with_write_ = false;
  bool resume_pending_ = false;
  bool flush_pending_ = false;
  // on_flush() comes in a turn of its own: the tick had no time left for it.
  bool flush_due_ = false;
  // What its turns do is for several tenants, each of which pays for its own.
  bool is_common_ = false;
  // While it is not at the loop nothing is read, and at the thread tls_ is null.
  HandshakeAt handshake_at_ = HandshakeAt::Loop;
  // Stands in its tenant's queue, or will in the next round.
  bool ready_ = false;
  TenantId tenant_ = 0;
  // What epoll said since its last turn; EPOLLRDHUP is the largest it says.
  uint16_t ready_events_ = 0;
};

}  // namespace weft
