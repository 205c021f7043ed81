// One HTTP/2 client connection and its streams: each a client stream with an exchange of its own. Frames are http2_link.h's, exchanges
// http_exchange.h's.
#pragma once
#include <memory>
#include <string_view>

#include "core/downstream.h"
#include "core/http2_link.h"
#include "core/http_exchange.h"
#include "core/recycled.h"
#include "core/streams.h"

namespace weft {

class DownstreamHttp2;

class DownstreamHttp2Stream final : public Http2Stream, public ClientStream, public Recycled<DownstreamHttp2Stream> {
 public:
  DownstreamHttp2Stream(DownstreamHttp2* connection, uint64_t started_us);

  // ClientStream
  size_t unsent() const override { return pending.size(); }
  size_t buffer_share() const override;
  bool send_interim(const ResponseForm& response) override;
  bool begin_response(const ResponseForm& response, bool ends) override;
  bool send_framed(const void* bytes, size_t size, bool end, std::string_view trailer_lines) override;
  bool send_payload(const void* bytes, size_t size, bool end) override;
  bool send_trailers(const http2::HeaderBlock& block) override;
  bool reply_local(int status, std::string_view lines, std::string_view body, Reason reason) override;
  void resume_request() override;
  void requeue() override;
  void on_exchange_end(bool whole, Reason reason) override;

 private:
  friend class DownstreamHttp2;
  bool send_head(const ResponseForm& response, bool ends, const http1::MutationSet* mutations, std::string_view lines);
  void reply_grpc_error(int status, Reason reason);

  DownstreamHttp2* connection_;
  // Null: it was answered, and what still comes of its body is dropped.
  std::unique_ptr<HttpExchange> exchange_;
  // Of the body, what no upstream has taken yet.
  ByteQueue held_;
  std::unique_ptr<http2::HeaderBlock> held_trailers_;
};

class DownstreamHttp2 final : public Downstream, private Http2Link::Owner {
 public:
  static void accept(Reactor* reactor, int fd, const DownstreamOrigin& origin);
  // Goes on with the socket (and TLS) of one whose first bytes were read by another, which has `dialled` an endpoint; -1: none.
  static void take_over(Reactor* reactor, Connection* opening, const DownstreamOrigin& origin, int32_t dialled = -1);
  DownstreamHttp2(Reactor* reactor, int fd, const DownstreamOrigin& origin);
  ~DownstreamHttp2() override;

  void on_events(uint32_t events) override;
  void on_timer() override;
  void on_resume() override;
  void on_flush() override;
  void on_drain() override;
  int64_t idle_since_ms() const override;
  bool close_if_idle() override;
  void on_engine_close() override;
  void on_decision(const Batch::Pending& pending, const Decision& decision) override;

 private:
  friend class DownstreamHttp2Stream;
  // Ending: the socket is gone, and exchanges hear of it one after the other.
  enum class State : uint8_t { Open, Draining, Closing, Lingering, Ending };

  // The streams that were answered last before their requests had ended, and are given time for the rest.
  struct Unfinished final : Timer {
    explicit Unfinished(DownstreamHttp2* connection) : connection(connection) {}
    void on_timer() override { connection->reset_unfinished(0); }

    struct Entry {
      uint32_t stream;
      uint64_t until_ms;
    };
    DownstreamHttp2* connection;
    // The eldest first; some have ended.
    std::vector<Entry> entries;
  };

  // Http2Link::Owner
  bool on_new_headers(uint32_t id, http2::HeaderBlock&& block, bool ends) override;
  void on_headers(Http2Stream* stream, http2::HeaderBlock&& block, bool ends) override;
  void on_data(Http2Stream* stream, const uint8_t* bytes, size_t size, bool ends) override;
  void on_stream_reset(Http2Stream* stream, http2::ErrorCode code, bool by_us) override;
  void on_stream_writable(Http2Stream* stream) override;
  void on_goaway(uint32_t last_stream, http2::ErrorCode code) override;
  void on_settings() override {}
  void on_ping_ack() override;

  void begin();
  void read();
  void listen_again();
  void open_stream(uint32_t id, http2::HeaderBlock&& block, bool ends);
  bool enter_batch(DownstreamHttp2Stream* stream);
  void begin_exchange(DownstreamHttp2Stream* stream, const Decision& decision);
  void find_client(HttpExchange* exchange) const;
  void refuse_request(DownstreamHttp2Stream* stream, int status);
  void close_stream(DownstreamHttp2Stream* stream, http2::ErrorCode code);
  // It was answered, and its request has not ended. False: that is to be reset at once.
  bool let_finish(DownstreamHttp2Stream* stream);
  void drop_rest(DownstreamHttp2Stream* stream, bool ends);
  // Those whose time is over, and the eldest that are more than `most`; 0: any number may be.
  void reset_unfinished(size_t most);
  void finish_drain();
  void finish_and_close();
  void linger();
  // As many as the turn has time for; false: the next goes on.
  bool end_streams(bool by_us);
  // The socket is gone: every exchange hears of it.
  void abort();
  void set_idle_timer();
  void watch_head();

  Http2Link link_;
  // Streams that want to stand in a batch again.
  std::vector<uint32_t> requeued_;
  Unfinished unfinished_{this};
  // Nothing is read until the client reads.
  bool rests_ = false;
  // It has said that it goes.
  bool client_leaves_ = false;
  // With nothing under way it has begun to say something, the preface and SETTINGS first: the timer is that of a head.
  bool begins_ = true;
  State state_ = State::Open;
};

}  // namespace weft
