// One HTTP exchange at work: the decision carried out, attempts, retries, the request's body, times, errors, the report. In one place for
// every pair of protocols; what is on either wire is the streams' (streams.h). Belongs to its client stream; after its end it stays
// readable in memory until the tick ends.
#pragma once
#include <string_view>

#include "core/body_relay.h"
#include "core/deferrals.h"
#include "core/downstream.h"
#include "core/exchange.h"
#include "core/grpc_web_streams.h"
#include "core/recycled.h"
#include "core/streams.h"
#include "core/tenant_accounts.h"
#include "core/timer_wheel.h"
#include "core/upstream_pool.h"
#include "core/upstream_target.h"

namespace weft {

class Hedge;
class HeldAnswer;

class HttpExchange final : public Exchange,
                           public Timer,
                           public PoolWaiter,
                           public Deferrable,
                           public Retired,
                           public Recycled<HttpExchange> {
 public:
  // `connection` is the one that carries `client`.
  HttpExchange(Reactor* reactor, Downstream* connection, ClientStream* client);
  ~HttpExchange() override;

  ClientStream* client() const { return client_; }
  UpstreamStream* upstream_stream() const { return upstream_; }
  const Downstream& connection() const { return *connection_; }
  bool is_over() const { return over_; }
  // A decision was made on it: it is counted and will be reported.
  bool has_begun() const { return has_begun_; }

  // From the client's side. First decision: begin(), then take_body() of what came behind an HTTP/1 head, then start().
  // `client_timeout_ms`: what the client allows itself (grpc-timeout); 0: nothing said.
  void begin(const Decision& decision, uint64_t client_timeout_ms = 0);
  BodyTransfer take_body(const uint8_t* bytes, size_t size);
  // HTTP/2: `body` is what `raw` holds.
  void start(const RequestForm& request, const BodyTransfer& body);
  // Later decisions.
  void try_again(const Decision& decision);
  // The request's body is kept for its filters, and nobody is sent it yet.
  bool is_collecting() const { return !awaits_decision_ && decision.target == kTargetCollect; }
  // May more of the request's body be given?
  bool takes_body() const;
  // Bytes of it that may be: as long as nobody is connected to, no more than can be kept for another endpoint.
  size_t body_room() const;
  // HTTP/1: reads as they came; false: the exchange is over or its upstream gone. Sets `consumed`.
  bool give_body(const uint8_t* bytes, size_t size, size_t* consumed);
  // HTTP/2: payload. False as above.
  bool give_payload(const uint8_t* bytes, size_t size, bool end);
  bool give_trailers(http2::HeaderBlock trailers);
  // HTTP/1: the client has ended its direction of the tunnel.
  void end_tunnel_input();
  // The client has gone, or broken its protocol.
  void abort(Reason reason);
  void on_client_writable();
  // Ms until the exchange's time is over; 0: no limit.
  uint64_t remaining_ms() const;
  void note_progress();
  // It is malformed.
  void refuse_body();
  // What the client's side of an answer must know.
  const http1::MutationSet* response_mutations() const { return tables->mutation(decision.response_mutation); }
  // Host to send instead of the request's; empty: that.
  std::string_view authority_to_send() const;
  // For the head of the upstream's answer, which some of them tell of.
  std::string lines_of_answer(const ResponseForm& response) const;
  // What a gRPC client is told in place of an answer of that status: what a local decision names, else what follows from the status.
  int grpc_status_in_place_of(int answer_status, Reason reason) const;

  // From the upstream's side.
  // Before anything else that a stream has to say before its answer has begun: it may be one of two.
  void hear(const UpstreamStream* stream) {
    if (hedge_ != nullptr) turn_to(stream);
  }
  // An upstream stream is free for one that waited.
  void on_upstream_available();
  void on_upstream_writable();
  // The answer's head is there and was taken by the client's side.
  void on_response_begun(int status);
  // Where grpc-status may stand: the head of a trailers-only answer, or the trailers. Looked at in gRPC calls.
  void note_grpc_status(const http2::HeaderBlock& block);
  // What an answer says of its endpoint's load, in its head or its trailers (HTTP/1: lines).
  template <typename Fields>
  void note_load(const Fields& fields) {
    if (decision.has(kReadLoad)) read_load(fields);
  }
  // Before it is begun: the route wants another attempt instead, which this has led to.
  bool declines(const ResponseForm& response) { return decision.retry >= 0 && declines_answer(response); }
  // 1xx.
  bool on_interim(const ResponseForm& response);
  // No byte of an answer came (BadResponse: bytes that are none).
  void on_attempt_end(AttemptEnd end);
  // The answer stopped in its middle.
  void on_response_broken(Reason reason);
  void on_response_complete();
  // Whether the answer makes a tunnel of the exchange.
  bool opens_tunnel(const ResponseForm& response) const;
  // RFC 9110 9.3.6, RFC 8441 5: a 2xx, whoever answers, tells the client that its tunnel is open.
  bool is_opened_by_2xx() const { return tunnel == Tunnel::Connect || (tunnel == Tunnel::WebSocket && http2 != nullptr); }
  // Behind on_response_begun(). Reads nothing.
  void open_tunnel();

  // Of a second attempt, beside the one that is under way.
  void hedge_with(const Decision& made);

  // Of an answer that is held for its filters: put off, replaced (a local decision), or let go.
  void on_answer_decided(const Decision& made);
  int32_t held_token() const;
  HeldBody answer_body() const;
  void on_answer_collected();

  // Deferrable
  void on_answered() override;
  HttpExchange* exchange() override { return this; }
  // What is decided outside the tables while it is deferred (http_exchange_changes.cc).
  std::string head_text();
  // False: none is held.
  bool answer_text(std::string* text) const;
  // Of the answer, if one is held. `reroutes`: rules match what is written now, too. False, with the reason in `error`: nothing was
  // changed.
  bool change_head(std::string_view text, bool reroutes, std::string* error);
  // Whoever answers.
  bool add_answer_lines(std::string_view lines, std::string* error);
  // Payload of the body that is held, of the answer if one is; false: none is.
  bool body_bytes(std::string* bytes);
  // In place of it; its length is told anew. False, with the reason in `error`: nothing was changed.
  bool set_body(std::string_view bytes, std::string* error);
  // For a local decision without a LocalReply. `grpc_status`: -1: as follows from the status.
  bool set_reply(std::string_view lines, std::string_view body, int32_t grpc_status, std::string* error);
  // Answers locally, or resets where an answer has begun.
  void fail(int status, Reason reason);
  void on_engine_close();
  void on_timer() override;

 private:
  void decide(const Decision& decision);
  void collect_body(bool expects_continue);
  void collect_late();
  void look_at_collected();
  void hold_answers();
  bool holds_answer() const;
  void ask_of_answer();
  void release_answer();
  void replace_answer(const Decision& made);
  void drop_held_answer();
  void set_timer();
  void carry_out_without_target();
  void mirror_whole_request();
  void drop_mirrors();
  bool declines_answer(const ResponseForm& response);
  bool has_retriable_header(const ResponseForm& response, const class RetryConditions& conditions);
  std::string_view retriable_names();
  void read_load(const ResponseForm& response);
  void read_load(const http2::HeaderBlock& trailers);
  void read_load(std::string_view trailer_lines);
  bool wants_another(AttemptEnd end, bool unsent) const;
  bool may_try_again();
  void rest_before_next(uint64_t ms);
  void answer_as_decided();
  struct RequestView view();
  void prepare_changes();
  void begin_late();
  void take_mirrors();
  const Http2Request& sent_http2() const;
  const ByteQueue& sent_head() const;
  bool write_head(const struct HeadChanges& wanted);
  void match_by(ByteQueue head);
  void defer();
  void begin_attempt();
  void replay(bool may_reuse);
  void go_on_with_request();
  void refuse_to_wait();
  void start_attempt(const RequestForm& request, const BodyTransfer& body, bool may_reuse);
  void send_first(const BodyTransfer& body);
  http1::RequestHead& parse_kept_head();
  void keep_for_replay(const uint8_t* bytes, size_t count);
  bool may_retry_stale() const;
  void reply_local(int status, std::string_view lines, std::string_view body, Reason reason);
  void finish(bool whole, Reason reason);
  void account(Reason reason);
  void detach_upstream();
  void release_upstream();
  void give_up_attempt(int answer_status, Reason reason);
  uint64_t idle_timeout_ms() const;
  void ask_for_hedge();
  void look_at_other();
  bool has_two_attempts() const;
  void turn_to(const UpstreamStream* stream);
  // 0: it has none, or there is no other.
  uint64_t others_deadline_ms() const;
  void leave_to_other();
  void win_over_other();
  void drop_other();
  void end_hedge();
  void give_back_outstanding();
  bool finish_tunnel_if_done();
  void on_tunnel_timer();
  void refuse_over_limit();
  void answer_as_last_hop();
  void refuse_overloaded();

  Reactor* reactor_;
  Downstream* connection_;
  ClientStream* client_;
  UpstreamStream* upstream_ = nullptr;
  // Null: the client speaks no gRPC-Web.
  std::unique_ptr<GrpcWebStreams> grpc_web_;
  // Null: no filters look at its answer.
  std::unique_ptr<HeldAnswer> held_;
  // HTTP/2: trailers of the request, kept for another attempt.
  std::unique_ptr<http2::HeaderBlock> trailers_;
  UpstreamTarget target_;
  // Of the attempt, or of the deferral; 0: none.
  uint64_t attempt_deadline_ms_ = 0;
  // Until when the next attempt, or the first, is put off; 0: it is not.
  uint64_t rests_until_ms_ = 0;
  // When a second attempt is asked for; 0: never.
  uint64_t hedge_at_ms_ = 0;
  // Null: no second attempt is under way, or asked for.
  Hedge* hedge_ = nullptr;
  uint64_t progress_ms_ = 0;
  // In a tunnel, what was on its way both ways when it last seemed to rest.
  size_t seen_undelivered_ = 0;
  // Still to be sent, when the request is whole: Decision's words, and the serial of the tables that they are rows of.
  int32_t mirrors_ = -1;
  int32_t mirror_mask_ = 0;
  uint64_t mirrors_of_ = 0;
  // Times that an upstream said it did nothing with the request.
  uint8_t refusals_ = 0;
  Reason reason_ = Reason::None;
  // Payload of the request's body that is held.
  uint64_t collected_ = 0;
  bool has_target_ = false;
  bool awaits_decision_ = true;
  bool has_begun_ = false;
  // Nothing but what the client's side still holds is left to do.
  bool drains_ = false;
  // The upstream has ended its direction of the tunnel.
  bool response_ended_ = false;
  // Another attempt was wanted, behind the last one that may be.
  bool retries_exhausted_ = false;
  bool over_ = false;
  // Which of its tenant's limits it is beyond; Count: none.
  TenantWord refused_by_ = TenantWord::Count;
};

}  // namespace weft
