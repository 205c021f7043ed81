// See held_answer.h.
#include "core/held_answer.h"

#include <algorithm>
#include <utility>

#include "core/http_exchange.h"
#include "core/reactor.h"

namespace weft {

namespace {
constexpr size_t kPiece = 64 * 1024;
}  // namespace

HeldAnswer::HeldAnswer(Reactor* reactor, HttpExchange* exchange, ClientStream* client)
    : reactor_(reactor),
      exchange_(exchange),
      client_(client),
      head_(reactor->buffer_account(exchange->connection().tenant())),
      body_(reactor->buffer_account(exchange->connection().tenant())) {}

// A tunnel is none to look into: what opens it passes. So does the answer to an attempt that was decided when the filters were gone.
bool HeldAnswer::begin_response(const ResponseForm& response, bool ends) {
  if (exchange_->opens_tunnel(response) || exchange_->decision.answer_filters < 0) {
    const bool begun = client_->begin_response(response, ends);
    framing_ = client_->framing();
    return begun;
  }
  if (response.head != nullptr) {
    head_.append(response.base, response.head->size);
  } else {
    block_ = std::make_unique<http2::HeaderBlock>(copy_of(*response.block));
    http2::check_response(*block_, &summary_);
  }
  framing_ = http1::Framing::kUntilClose;
  is_holding_ = true;
  ends_ = ends;
  is_collecting_ = !ends && exchange_->decision.body_bytes > 0;
  return true;
}

bool HeldAnswer::send_framed(const void* bytes, size_t size, bool end, std::string_view trailer_lines) {
  if (!is_holding_) return client_->send_framed(bytes, size, end, trailer_lines);
  body_.append(bytes, size);
  ended_ = end;
  if (end) trailer_lines_ = trailer_lines;
  look_at_collected();
  return true;
}

bool HeldAnswer::send_payload(const void* bytes, size_t size, bool end) {
  if (!is_holding_) return client_->send_payload(bytes, size, end);
  body_.append(bytes, size);
  ended_ = end;
  look_at_collected();
  return true;
}

bool HeldAnswer::send_trailers(const http2::HeaderBlock& block) {
  if (!is_holding_) return client_->send_trailers(block);
  trailers_ = std::make_unique<http2::HeaderBlock>(copy_of(block));
  ended_ = true;
  look_at_collected();
  return true;
}

bool HeldAnswer::reply_local(int status, std::string_view lines, std::string_view body, Reason reason) {
  return client_->reply_local(status, lines, body, reason);
}

ResponseForm HeldAnswer::form() const {
  ResponseForm form;
  if (block_ != nullptr) {
    form.block = block_.get();
    form.summary = &summary_;
    return form;
  }
  http1::ResponseHead& head = reactor_->response_head();
  http1::parse_response_head(head_.data(), head_.size(), reactor_->head_limits(), &head);
  form.head = &head;
  form.base = head_.data();
  return form;
}

int HeldAnswer::status() const { return form().status(); }

std::string HeldAnswer::head_text() const { return answer_head_text(form()); }

void HeldAnswer::look_at_collected() {
  const bool too_long = body_.size() > static_cast<size_t>(exchange_->decision.body_bytes);
  if (!is_collecting_ || (!too_long && !ended_)) return;
  is_collecting_ = false;
  body_held_ = too_long ? HeldBody::TooLong : HeldBody::Whole;
  exchange_->on_answer_collected();
}

bool HeldAnswer::body_bytes(std::string* bytes) const {
  if (body_held_ != HeldBody::Whole) return false;
  bytes->assign(reinterpret_cast<const char*>(body_.data()), body_.size());
  return true;
}

// Trailers have no place behind a length in HTTP/1.
bool HeldAnswer::set_body(std::string_view bytes, std::string* error) {
  if (body_held_ != HeldBody::Whole) return *error = "no body of the answer is held", false;
  HeadChanges wanted;
  wanted.framing_line = trailer_lines_.empty() ? length_line(bytes.size()) : "transfer-encoding: chunked\r\n";
  if (!write_head(wanted, error)) return false;
  body_.clear();
  body_.append(bytes.data(), bytes.size());
  return true;
}

bool HeldAnswer::change_head(std::string_view text, std::string* error) {
  HeadChanges wanted;
  if (!wanted.parse(text, error)) return false;
  if (wanted.status / 100 == 2 && exchange_->is_opened_by_2xx()) return *error = "a 2xx would open the tunnel that was refused", false;
  return write_head(wanted, error);
}

bool HeldAnswer::write_head(const HeadChanges& wanted, std::string* error) {
  if (block_ != nullptr) {
    std::unique_ptr<http2::HeaderBlock> block = rewrite_head(*block_, summary_.status, wanted, reactor_->head_limits(), &summary_);
    if (block != nullptr) return block_ = std::move(block), true;
  } else {
    ByteQueue head;
    const ResponseForm before = form();
    if (rewrite_head(*before.head, before.base, wanted, reactor_->head_limits(), &head)) {
      head_.clear();
      head_.append(head.data(), head.size());
      return true;
    }
  }
  *error = "the answer's head would be none that the proxy accepts";
  return false;
}

bool HeldAnswer::release(bool* fits) {
  is_holding_ = false;
  if (question_ != nullptr) std::exchange(question_, nullptr)->leave();
  *fits = client_->begin_response(form(), ends_);
  if (!*fits) return false;
  const bool has_trailers = !trailer_lines_.empty() || trailers_ != nullptr;
  if (!send_body(ended_ && !has_trailers)) return false;
  if (trailers_ != nullptr) return client_->send_trailers(*trailers_);
  if (trailer_lines_.empty()) return true;
  char last[http1::BodyReader::kMaxTrailerBytes + 64];
  const bool is_chunked = client_->framing() == http1::Framing::kChunked;
  const size_t size = is_chunked ? http1::write_last_chunk(trailer_lines_, last, sizeof(last)) : 0;
  return client_->send_framed(last, size, true, trailer_lines_);
}

// In pieces that framing has room for.
bool HeldAnswer::send_body(bool end) {
  const ByteQueue body = std::move(body_);
  for (size_t at = 0;;) {
    const size_t size = std::min(kPiece, body.size() - at);
    at += size;
    if (!client_->send_payload(body.data() + at - size, size, end && at == body.size())) return false;
    if (at == body.size()) return true;
  }
}

void HeldAnswer::ask(const DownstreamOrigin& origin) {
  question_ = new AnswerQuestion(reactor_, exchange_, this, origin);
  reactor_->adopt_bare(question_);
  reactor_->resume_later(question_);
}

void HeldAnswer::on_answered() { question_->again(); }

void HeldAnswer::drop() {
  if (!is_holding_) return;
  is_holding_ = is_collecting_ = false;
  if (question_ != nullptr) std::exchange(question_, nullptr)->leave();
  head_.clear();
  body_.clear();
  if (token_ < 0) return;
  Decision deferred;
  deferred.target = kTargetDeferred;
  deferred.token = std::exchange(token_, -1);
  reactor_->abandon(deferred);
}

AnswerQuestion::AnswerQuestion(Reactor* reactor, HttpExchange* exchange, HeldAnswer* held, const DownstreamOrigin& origin)
    : Downstream(reactor, -1, origin), exchange_(exchange), held_(held) {}

void AnswerQuestion::again() {
  is_answered_ = true;
  reactor_->resume_later(this);
}

void AnswerQuestion::on_resume() {
  if (exchange_ == nullptr) return;
  Batch& batch = reactor_->batch();
  if (!batch.has_room(0)) return reactor_->resume_later(this);
  DescriptorContext context = descriptor_context(exchange_);
  context.flags &= ~(kDescriptorBodyHeld | kDescriptorBodyTooLong);
  context.flags |= kDescriptorHeldAnswer | body_flag(exchange_->answer_body());
  if (is_answered_) {
    context.flags |= kDescriptorAnswered;
    context.previous_target = kTargetDeferred;
    context.previous_token = exchange_->held_token();
    // It stands in a batch now, and whoever decides on it need not hear that nobody waits.
    held_->note_deferred(-1);
  }
  batch.add_held_answer(context, exchange_->kind, exchange_->decision);
}

void AnswerQuestion::on_decision(const Batch::Pending&, const Decision& decision) {
  if (exchange_ == nullptr) return reactor_->abandon(decision);
  exchange_->on_answer_decided(decision);
}

void AnswerQuestion::leave() {
  exchange_ = nullptr;
  reactor_->close(this);
}

}  // namespace weft
