// One HTTP/1 client connection: heads in, answers out, strictly one exchange at a time (a pipelined request waits in the socket).
// Asks the batch for decisions and drives the upstream connection; parses no response (upstream_http1.h does).
#pragma once
#include <memory>
#include <string_view>

#include "core/body_relay.h"
#include "core/downstream.h"
#include "core/exchange.h"

namespace weft {

class UpstreamHttp1;

// How an attempt ended without an answer.
enum class AttemptEnd : uint8_t { ConnectFailed, ConnectTimedOut, Reset, TimedOut, BadResponse };

class DownstreamHttp1 final : public Downstream {
 public:
  DownstreamHttp1(Reactor* reactor, int fd, const DownstreamOrigin& origin) : Downstream(reactor, fd, origin) {}
  static void accept(Reactor* reactor, int fd, const DownstreamOrigin& origin);

  void on_events(uint32_t events) override;
  void on_timer() override;
  void on_resume() override;
  void on_drain() override;
  void on_engine_close() override;
  void on_decision(const Batch::Pending& pending, const Decision& decision) override;

  // Called by the upstream connection of the exchange.
  Exchange* exchange() { return exchange_.get(); }
  // Its output has room again: go on with the request's body.
  void on_upstream_writable();
  // No byte of an answer came (BadResponse: bytes that are none).
  void on_attempt_end(AttemptEnd end);
  // The answer stopped in its middle.
  void on_response_broken(Reason reason);
  // Part of the answer; false: the client is gone and this exchange over.
  bool send_response(const void* first, size_t first_count, const void* second, size_t second_count);
  // `must_close`: the client can only learn the end from the connection's.
  void on_response_complete(bool must_close);
  // 101: from here bytes flow unread. The upstream's socket and what it sent already go over too.
  void become_tunnel(const uint8_t* early, size_t early_size);

 private:
  enum class State : uint8_t { Idle, Deciding, Busy, Requeue, Closing, Lingering };

  void proceed();
  void read_head();
  bool parse_head(uint8_t* base, size_t size, size_t known);
  void refuse_head(http1::HeadError error);
  void queue_descriptor(const uint8_t* base, size_t size);
  void begin_exchange(const Batch::Pending& pending, const Decision& decision);
  void replay(bool with_new_decision);
  void requeue();
  void enter_batch_again();
  void start_attempt(const http1::RequestHead& head, const uint8_t* base, const BodyTransfer& body, bool may_reuse);
  bool write_request(const http1::RequestHead& head, const uint8_t* base, const BodyTransfer& body);
  void pump_request();
  void keep_for_replay(const uint8_t* bytes, size_t count);
  void read_ahead_check();
  bool may_retry_stale() const;
  void fail(int status, Reason reason);
  void reply_local(int status, std::string_view lines, std::string_view body, Reason reason, bool force_close);
  void abort(Reason reason);
  void end_exchange(bool close);
  void become_idle();
  void finish_and_close();
  void linger();
  void give_back_outstanding();
  void detach_upstream();
  void set_exchange_timer();
  void note_progress();
  bool is_still_reading();
  void close_late();

  std::unique_ptr<Exchange> exchange_;
  UpstreamHttp1* upstream_ = nullptr;
  // Bytes read but not used: a partial head, or what followed a request.
  ByteQueue input_;
  uint64_t head_started_us_ = 0;
  uint64_t progress_ms_ = 0;
  // Bytes of input_ known not to be a whole head.
  uint32_t known_partial_ = 0;
  State state_ = State::Idle;
};

}  // namespace weft
