// One HTTP/2 connection to an upstream, shared by the exchanges of one target: each has a stream. Frames are http2_link.h's.
// Chooses nothing: retries and errors are the exchanges'.
#pragma once
#include "core/connection.h"
#include "core/connection_limits.h"
#include "core/http2_link.h"
#include "core/http_exchange.h"
#include "core/recycled.h"
#include "core/streams.h"
#include "core/upstream_connect.h"
#include "core/upstream_pool.h"

namespace weft {

class UpstreamHttp2;

class UpstreamHttp2Stream final : public Http2Stream, public UpstreamStream, public Recycled<UpstreamHttp2Stream> {
 public:
  UpstreamHttp2Stream(UpstreamHttp2* connection, HttpExchange* exchange);

  // UpstreamStream
  size_t unsent() const override { return pending.size(); }
  bool begin_request(const RequestForm& request, bool ends) override;
  bool send_framed(const void* bytes, size_t size, bool end, std::string_view trailer_lines) override;
  bool send_payload(const void* bytes, size_t size, bool end) override;
  bool send_trailers(const http2::HeaderBlock& block) override;
  void resume_response() override;
  void release() override;
  bool is_reused() const override;
  bool is_unconnected() const override;

 private:
  friend class UpstreamHttp2;
  UpstreamHttp2* connection_;
  HttpExchange* exchange_;
  bool head_received_ = false;
  bool complete_ = false;
  uint8_t interim_ = 0;
};

class UpstreamHttp2 final : public Connection, public PoolLink, private Http2Link::Owner {
 public:
  static Acquired acquire(Reactor* reactor, HttpExchange* exchange, const UpstreamTarget& target, UpstreamStream** stream);
  UpstreamHttp2(Reactor* reactor, UpstreamPool::Group* group);
  ~UpstreamHttp2() override;

  void on_events(uint32_t events) override;
  void on_timer() override;
  void on_resume() override;
  void on_flush() override;
  void on_drain() override;
  void on_engine_close() override { counted_.drop(); }
  int64_t idle_since_ms() const override;
  bool close_if_idle() override;
  void give_up() override;
  bool is_resting() const override { return link_.streams().size() == 0 && !is_connecting_; }

 private:
  friend class UpstreamHttp2Stream;

  // Http2Link::Owner
  bool on_new_headers(uint32_t, http2::HeaderBlock&&, bool) override { return false; }
  void on_headers(Http2Stream* stream, http2::HeaderBlock&& block, bool ends) override;
  void on_data(Http2Stream* stream, const uint8_t* bytes, size_t size, bool ends) override;
  void on_stream_reset(Http2Stream* stream, http2::ErrorCode code, bool by_us) override;
  void on_stream_writable(Http2Stream* stream) override;
  void on_goaway(uint32_t last_stream, http2::ErrorCode code) override;
  void on_settings() override;
  void on_ping_ack() override {}

  static Acquired wait(Reactor* reactor, UpstreamPool::Group* group, HttpExchange* exchange);
  static bool may_dial(const UpstreamPool::Group& group);
  UpstreamHttp2Stream* open_stream(HttpExchange* exchange);
  void close_stream(UpstreamHttp2Stream* stream);
  size_t stream_limit() const;
  size_t peers_stream_limit() const;
  bool may_take_more(const ConnectionPolicy& policy) const;
  // On its group's list exactly while it can take a stream.
  void relist();
  // Another connection may be made in its place.
  void take_no_more();
  void read();
  void answer_complete(UpstreamHttp2Stream* stream);
  void break_stream(UpstreamHttp2Stream* stream, AttemptEnd end);
  // The connection is no more: all its exchanges hear of it, as many in a turn as it has time for.
  void break_all(AttemptEnd end);
  // Of those that the server has given up. False: the next turn goes on.
  bool end_streams();
  void fail_waiters(AttemptEnd end);
  void close_if_done();
  void close_now();

  // It has lasted as long as its policy allows.
  bool is_over() const;
  void give_up_over();
  void rest();

  UpstreamPool::Group* group_;
  CountedConnection counted_;
  Http2Link link_;
  uint64_t streams_opened_ = 0;
  uint64_t opened_ms_;
  // What GOAWAY said: those above were not processed.
  uint32_t last_processed_ = http2::kMaxStreamId;
  // Of the others, once it is broken.
  AttemptEnd end_ = AttemptEnd::Reset;
  // There may be streams of which their exchanges have to hear.
  bool ending_ = false;
  bool listed_ = false;
  // No new streams: GOAWAY, drained, or out of ids.
  bool closing_ = false;
  bool broken_ = false;
  bool closed_ = false;
};

}  // namespace weft
