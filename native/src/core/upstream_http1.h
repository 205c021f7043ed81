// One HTTP/1 connection to an upstream: connecting, idle in its pool, or carrying one exchange whose answer it parses and hands down.
// Chooses nothing: retries and errors are the client connection's.
#pragma once
#include "core/body_relay.h"
#include "core/connection.h"
#include "core/http1/serialize.h"
#include "core/upstream_pool.h"

namespace weft {

class DownstreamHttp1;

// Checked: only a pooled connection whose end has not arrived yet, for requests that must not be sent twice. It costs a system call.
enum class Reuse : uint8_t { Never, Unchecked, Checked };

class UpstreamHttp1 final : public Connection, public PoolLink {
 public:
  // A pooled connection or a new one; null: none could be opened.
  static UpstreamHttp1* acquire(Reactor* reactor, const UpstreamTarget& target, Reuse reuse);
  UpstreamHttp1(Reactor* reactor, int fd, UpstreamPool::Group* group) : Connection(reactor, fd), group_(group) {}

  void on_events(uint32_t events) override;
  void on_timer() override;
  void on_resume() override;
  void on_drain() override;

  void begin(DownstreamHttp1* client, int32_t attempt_timeout_ms);
  // False: broken; call on_write_broken().
  bool send_request(const void* first, size_t first_count, const void* second, size_t second_count);
  // The peer takes no more. It may have answered before it closed: that comes first.
  void on_write_broken();
  // The client has room again.
  void resume_reading();
  // The exchange is over for its client: back into the pool if the answer is whole and nothing is in doubt, else closed.
  void release();
  // Closes an idle connection.
  void close_idle();
  // Gives the socket away to a tunnel.
  int take_socket(ByteQueue* unsent);

  bool is_reused() const { return reused_; }
  // Not connected yet: nothing was sent.
  bool is_connecting() const { return is_connecting_; }
  const UpstreamTarget& target() const { return group_->target; }

 private:
  enum class State : uint8_t { Head, Body, Complete, Idle };

  void on_connected();
  void read_response();
  // What a step means for the reading loop.
  enum class Step : uint8_t { More, Stop };
  Step on_bytes(const uint8_t* bytes, size_t size);
  Step on_head(const uint8_t* bytes, size_t size);
  Step forward_interim(const http1::ResponseHead& head, const uint8_t* bytes, size_t size);
  Step begin_response(const http1::ResponseHead& head, const uint8_t* bytes, size_t size);
  Step finish_if_done(const BodyTransfer& body, size_t size);
  void on_end_of_input(bool reset);
  void close_now();

  UpstreamPool::Group* group_;
  DownstreamHttp1* client_ = nullptr;
  // A partial response head.
  ByteQueue input_;
  http1::BodyReader body_;
  uint64_t attempt_deadline_ms_ = 0;
  State state_ = State::Head;
  http1::Framing framing_in_ = http1::Framing::kNone;
  http1::Framing framing_out_ = http1::Framing::kNone;
  uint8_t interim_ = 0;
  bool reused_ = false;
  bool reusable_ = false;
  bool client_must_close_ = false;
};

}  // namespace weft
