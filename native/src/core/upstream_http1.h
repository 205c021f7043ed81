// One HTTP/1 connection to an upstream: connecting, idle in its pool, or carrying one exchange whose answer it parses and hands down.
// Chooses nothing: retries and errors are the client connection's.
#pragma once
#include <array>
#include <memory>

#include "core/body_relay.h"
#include "core/connection.h"
#include "core/connection_limits.h"
#include "core/http1/serialize.h"
#include "core/http_exchange.h"
#include "core/staged_head.h"
#include "core/streams.h"
#include "core/upstream_connect.h"
#include "core/upstream_pool.h"

namespace weft {

class UpstreamHttp1 final : public Connection, public UpstreamStream, public PoolLink {
 public:
  // A pooled connection or a new one.
  static Acquired acquire(Reactor* reactor, HttpExchange* exchange, const UpstreamTarget& target, Reuse reuse, UpstreamHttp1** connection);
  // Puts into its pool what was dialled before it was known that HTTP/1 would be spoken, connected or not. Closes it if it can't be used.
  static void park(Reactor* reactor, Connection* dialled, const UpstreamTarget& target);
  UpstreamHttp1(Reactor* reactor, UpstreamPool::Group* group);

  void on_events(uint32_t events) override;
  void on_timer() override;
  void on_resume() override;
  void on_drain() override;
  void on_engine_close() override { counted_.drop(); }
  int64_t idle_since_ms() const override;
  bool close_if_idle() override;

  void begin(HttpExchange* exchange);

  // UpstreamStream
  size_t unsent() const override { return output_.size(); }
  size_t undelivered() const override { return unacknowledged(); }
  bool begin_request(const RequestForm& request, bool ends) override;
  bool send_framed(const void* bytes, size_t size, bool end, std::string_view trailer_lines) override;
  bool send_payload(const void* bytes, size_t size, bool end) override;
  bool send_trailers(const http2::HeaderBlock& block) override;
  void resume_response() override;
  void release() override;
  bool is_reused() const override { return reused_; }
  bool is_unconnected() const override { return is_connecting_; }

  // Closes an idle connection.
  void close_idle();
  void give_up() override { close_idle(); }
  bool is_resting() const override { return state_ == State::Idle; }

  const UpstreamTarget& target() const { return group_->target; }

 private:
  enum class State : uint8_t { Head, Body, Complete, Idle };

  bool ends_connect() const;
  void open_bare_tunnel();
  std::string begin_handshake(std::string_view lines);
  bool send_output(const void* first, size_t first_count, const void* second, size_t second_count);
  // The peer takes no more. It may have answered before it closed: that is read first, soon (whoever writes may be reading itself).
  void on_write_broken();
  void read_response();
  // What a step means for the reading loop.
  enum class Step : uint8_t { More, Stop };
  Step on_bytes(const uint8_t* bytes, size_t size);
  Step on_head(const uint8_t* bytes, size_t size);
  bool may_switch(const http1::ResponseHead& head, const uint8_t* bytes) const;
  Step forward_interim(const http1::ResponseHead& head, const uint8_t* bytes, size_t size);
  Step begin_response(const http1::ResponseHead& head, const uint8_t* bytes, size_t size);
  Step finish_if_done(const BodyTransfer& body, size_t size);
  void on_end_of_input(bool reset);
  void become_idle();
  void on_idle_events(uint32_t events);
  void close_now();
  void leave_pool();
  bool may_be_reused() const;

  UpstreamPool::Group* group_;
  CountedConnection counted_;
  uint32_t requests_ = 0;
  uint64_t opened_ms_;
  HttpExchange* exchange_ = nullptr;
  // A partial response head.
  ByteQueue input_;
  http1::BodyReader body_;
  State state_ = State::Head;
  http1::Framing framing_in_ = http1::Framing::kNone;
  StagedHead head_;
  // Sec-WebSocket-Accept that answers our own handshake, made for a client that has none.
  std::unique_ptr<std::array<char, 28>> accept_;
  uint8_t interim_ = 0;
  bool reused_ = false;
  bool reusable_ = false;
  // The peer takes no more.
  bool write_broken_ = false;
};

}  // namespace weft
