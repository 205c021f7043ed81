// The client's half of an exchange whose answer filters look at: stands before the client's stream, holds the head of the final answer and
// what comes behind it, and lets go of both as they came or as they were changed. Asks nobody itself: the exchange does, by an
// AnswerQuestion, which stands in batches of its own, since the client's side may still send.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "core/byte_queue.h"
#include "core/downstream.h"
#include "core/head_changes.h"
#include "core/streams.h"

namespace weft {

class AnswerQuestion;

class HeldAnswer final : public ClientStream {
 public:
  HeldAnswer(Reactor* reactor, HttpExchange* exchange, ClientStream* client);
  HeldAnswer(const HeldAnswer&) = delete;

  ClientStream* client() const { return client_; }
  // The head of an answer is here, and the client knows nothing of it yet.
  bool is_holding() const { return is_holding_; }
  // All of it is.
  bool has_ended() const { return ended_; }
  // More of its body is waited for: Decision::body_bytes.
  bool is_collecting() const { return is_collecting_; }
  HeldBody body() const { return body_held_; }

  // Puts what is held into a batch.
  void ask(const DownstreamOrigin& origin);
  // It is put off as that token.
  void note_deferred(int32_t token) { token_ = token; }
  int32_t token() const { return token_; }
  void on_answered();
  // Drops what is held, and who was asked hears that nobody waits; nothing where nothing is held.
  void drop();
  // Hands the answer to the client's stream. False: that is over, or (`fits`) the head can't be written and nothing was.
  bool release(bool* fits);

  // As lines, see head_changes.h.
  std::string head_text() const;
  // Also ":status: 404". False, with the reason in `error`: nothing was changed.
  bool change_head(std::string_view text, std::string* error);
  int status() const;
  // As those of HttpExchange.
  bool body_bytes(std::string* bytes) const;
  bool set_body(std::string_view bytes, std::string* error);
  // Of HTTP/2, where no more comes behind the head; else null.
  const http2::HeaderBlock* only_block() const { return ends_ ? block_.get() : nullptr; }

  // ClientStream
  size_t unsent() const override { return is_collecting_ ? 0 : is_holding_ ? SIZE_MAX : client_->unsent(); }
  size_t buffer_share() const override { return client_->buffer_share(); }
  bool send_interim(const ResponseForm& response) override { return client_->send_interim(response); }
  bool begin_response(const ResponseForm& response, bool ends) override;
  bool send_framed(const void* bytes, size_t size, bool end, std::string_view trailer_lines) override;
  bool send_payload(const void* bytes, size_t size, bool end) override;
  bool send_trailers(const http2::HeaderBlock& block) override;
  bool reply_local(int status, std::string_view lines, std::string_view body, Reason reason) override;
  void resume_request() override { client_->resume_request(); }
  void requeue() override { client_->requeue(); }
  void on_exchange_end(bool whole, Reason reason) override { client_->on_exchange_end(whole, reason); }

 private:
  friend class AnswerQuestion;
  // Valid until the reactor's response_head() is used by another.
  ResponseForm form() const;
  bool send_body(bool end);
  bool write_head(const HeadChanges& wanted, std::string* error);
  void look_at_collected();

  Reactor* reactor_;
  HttpExchange* exchange_;
  ClientStream* client_;
  AnswerQuestion* question_ = nullptr;
  // HTTP/1: the head as it came or was changed. HTTP/2: block_, with its summary.
  ByteQueue head_;
  std::unique_ptr<http2::HeaderBlock> block_;
  http2::ResponseSummary summary_;
  // Payload behind it, without framing.
  ByteQueue body_;
  std::string trailer_lines_;
  std::unique_ptr<http2::HeaderBlock> trailers_;
  // Of the question; -1: it was not put off, or is answered.
  int32_t token_ = -1;
  bool is_holding_ = false;
  bool is_collecting_ = false;
  HeldBody body_held_ = HeldBody::None;
  // The head has no body behind it.
  bool ends_ = false;
  bool ended_ = false;
};

// Has no socket, chooses nothing.
class AnswerQuestion final : public Downstream {
 public:
  AnswerQuestion(Reactor* reactor, HttpExchange* exchange, HeldAnswer* held, const DownstreamOrigin& origin);

  void on_events(uint32_t) override {}
  void on_resume() override;
  void on_decision(const Batch::Pending& pending, const Decision& decision) override;
  // Of no client's connections.
  int32_t listener_id() const override { return -1; }
  void again();
  // The exchange has no more use for it.
  void leave();

 private:
  // Null: it has left.
  HttpExchange* exchange_;
  HeldAnswer* held_;
  bool is_answered_ = false;
};

}  // namespace weft
