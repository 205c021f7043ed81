// Bodies for filters: of a request kept whole before it is decided on, of either read, and written anew.
#include <utility>

#include "core/head_changes.h"
#include "core/held_answer.h"
#include "core/http_exchange.h"
#include "core/reactor.h"

namespace weft {

namespace {

// What chunks may cost beside their payload, beyond as much again.
constexpr size_t kFramingBytes = 64 * 1024;

std::string payload_of(const http1::RequestHead& head, const uint8_t* bytes, size_t size) {
  http1::BodyReader reader(http1::request_body_framing(head));
  std::string payload;
  for (size_t at = 0; !reader.done();) {
    const http1::BodyStep step = reader.next(bytes + at, size - at);
    at += step.consumed;
    payload.append(reinterpret_cast<const char*>(bytes) + at - step.payload_size, step.payload_size);
    if (step.status != http1::BodyStatus::kPayload || (at == size && step.payload_size == 0)) break;
  }
  return payload;
}

}  // namespace

// Who waits to be asked for the body is asked: nobody further up hears of the request before it is here (RFC 9110 10.1.1).
void HttpExchange::collect_body(bool expects_continue) {
  static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
  note_progress();
  set_timer();
  look_at_collected();
  if (!is_collecting() || !expects_continue || collected_ != 0) return;
  uint8_t text[kContinue.size() + http1::kReadPastEnd] = {};
  std::copy(kContinue.begin(), kContinue.end(), text);
  ResponseForm form;
  http1::ResponseHead& head = reactor_->response_head();
  http1::parse_response_head(text, kContinue.size(), reactor_->head_limits(), &head);
  form.head = &head;
  form.base = text;
  client_->send_interim(form);
}

// It was put off for another reason, and by the tables of now its filters read bodies.
void HttpExchange::collect_late() {
  if (!replayable) return fail(503, Reason::Overflow);
  collect_body(http2 != nullptr ? http2->summary.expects_continue : parse_kept_head().expects_continue);
  if (is_collecting()) client_->resume_request();
}

void HttpExchange::look_at_collected() {
  const auto limit = static_cast<size_t>(decision.body_bytes);
  const size_t size = http2 != nullptr ? raw.size() : collected_;
  const bool too_long = size > limit || raw.size() > head_size + 2 * limit + kFramingBytes;
  if (!too_long && !request_ended) return;
  held_body = too_long ? HeldBody::TooLong : HeldBody::Whole;
  awaits_decision_ = true;
  client_->requeue();
}

bool HttpExchange::body_bytes(std::string* bytes) {
  if (holds_answer()) return held_->body_bytes(bytes);
  if (held_body != HeldBody::Whole) return false;
  const char* begin = reinterpret_cast<const char*>(raw.data()) + head_size;
  if (http2 != nullptr) {
    bytes->assign(begin, raw.size());
  } else {
    *bytes = payload_of(parse_kept_head(), raw.data() + head_size, raw.size() - head_size);
  }
  return true;
}

bool HttpExchange::set_body(std::string_view bytes, std::string* error) {
  if (holds_answer()) return held_->set_body(bytes, error);
  if (held_body != HeldBody::Whole) return *error = "no body of the request is held", false;
  HeadChanges wanted;
  wanted.framing_line = length_line(bytes.size());
  if (!write_head(wanted)) return *error = "the request's head would be none that the proxy accepts", false;
  ByteQueue whole(reactor_->buffer_account(connection_->tenant()));
  whole.append(raw.data(), head_size);
  whole.append(bytes.data(), bytes.size());
  raw = std::move(whole);
  if (http2 == nullptr) request_framing = bytes.empty() ? http1::Framing::kNone : http1::Framing::kLength;
  return true;
}

}  // namespace weft
