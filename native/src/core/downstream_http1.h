// One HTTP/1 client connection: heads in, answers out, strictly one exchange at a time (a pipelined request waits in the socket).
// Asks the batch for decisions and writes what the exchange's other side gives; the exchange itself is http_exchange.h's.
#pragma once
#include <memory>
#include <optional>
#include <string_view>

#include "core/downstream.h"
#include "core/http1/serialize.h"
#include "core/http_exchange.h"
#include "core/recycled.h"
#include "core/staged_head.h"
#include "core/streams.h"

namespace weft {

class DownstreamHttp1 final : public Downstream, public ClientStream {
 public:
  DownstreamHttp1(Reactor* reactor, int fd, const DownstreamOrigin& origin);
  static void accept(Reactor* reactor, int fd, const DownstreamOrigin& origin);
  // Goes on with the socket (and TLS) of one whose first bytes were read by another, which has `dialled` an endpoint; -1: none.
  static void take_over(Reactor* reactor, Connection* opening, const DownstreamOrigin& origin, int32_t dialled = -1);

  void on_events(uint32_t events) override;
  void on_timer() override;
  void on_resume() override;
  void on_flush() override;
  void on_drain() override;
  int64_t idle_since_ms() const override;
  bool close_if_idle() override;
  void on_engine_close() override;
  void on_decision(const Batch::Pending& pending, const Decision& decision) override;

  // ClientStream
  size_t unsent() const override { return output_.size(); }
  size_t undelivered() const override { return unacknowledged(); }
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
  enum class State : uint8_t { Idle, Deciding, Busy, Requeue, Closing, Lingering };

  // From its first byte to the end of its answer.
  struct Request final : Retired, Recycled<Request> {
    explicit Request(double* buffer_account) : input(buffer_account) {}

    // 0: what there is of it came with the one before, and was not looked at.
    uint64_t started_us = 0;
    // Bytes read but not used: a partial head, or what followed the request.
    ByteQueue input;
    // Bytes of `input` known not to be a whole head.
    uint32_t known_partial = 0;
    uint8_t client_minor = 1;
    bool client_keeps_alive = true;
    // The client can learn the end of the answer only from the connection's.
    bool must_close = false;
    // From the first decision on.
    std::optional<HttpExchange> exchange;
    // The answer's.
    StagedHead head;
  };

  // Made, if there is none.
  Request& request();
  // Null: nothing is decided on.
  HttpExchange* exchange() const { return request_ != nullptr && request_->exchange ? &*request_->exchange : nullptr; }
  bool has_input() const { return request_ != nullptr && !request_->input.empty(); }
  // A head has begun to come, and is not whole.
  bool awaits_head() const { return state_ == State::Idle && request_ != nullptr && request_->started_us != 0; }
  void proceed();
  void read_head();
  bool parse_head(uint8_t* base, size_t size, size_t known);
  void refuse_head(int status, Reason reason, const uint8_t* bytes, size_t size);
  void answer_head(int status, std::string_view lines, Reason reason, const uint8_t* bytes, size_t size);
  void log_refused_head(int status, Reason reason, const uint8_t* bytes, size_t size, size_t sent);
  void queue_descriptor(const uint8_t* base, size_t size);
  void begin_exchange(const Batch::Pending& pending, const Decision& decision);
  // Whom trusted proxies in front say they speak for; false: nobody.
  bool find_client(const http1::RequestHead& head, const uint8_t* base, Address* client) const;
  void enter_batch_again();
  void pump_request();
  void read_ahead_check();
  std::string_view websocket_accept_line(char (&out)[64]) const;
  bool send_output(const void* first, size_t first_count, const void* second, size_t second_count);
  void abort(Reason reason);
  void become_idle();
  void finish_and_close();
  void linger();
  bool is_still_reading();
  void close_late();

  State state_ = State::Idle;
  // The client's end was told before its request was decided on.
  bool is_gone_ = false;
  // Null: it rests.
  std::unique_ptr<Request> request_;
  // The client last took something of the output.
  uint64_t progress_ms_ = 0;
};

}  // namespace weft
