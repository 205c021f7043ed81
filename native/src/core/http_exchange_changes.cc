// What filters see of an exchange, and what they make of it, while its decision is put off.
#include <utility>

#include "core/head_changes.h"
#include "core/held_answer.h"
#include "core/http1/ascii.h"
#include "core/http_exchange.h"
#include "core/reactor.h"
#include "core/request_lines.h"

namespace weft {

namespace {

OutsideChanges* made(std::unique_ptr<OutsideChanges>* changes) {
  if (*changes == nullptr) *changes = std::make_unique<OutsideChanges>();
  return changes->get();
}

}  // namespace

// Of HTTP/1: the bytes that parse_kept_head() reads. Behind a head that nobody changed stands the body.
const ByteQueue& HttpExchange::sent_head() const { return changes != nullptr && !changes->head.empty() ? changes->head : raw; }

const Http2Request& HttpExchange::sent_http2() const { return changes != nullptr && changes->http2 != nullptr ? *changes->http2 : *http2; }

std::string HttpExchange::head_text() {
  const DownstreamOrigin& origin = connection_->origin();
  AddressText address;
  std::string text = ":source-address: ";
  text.append(address.format(has_forwarded_client ? forwarded_client : origin.client.address)).append("\n");
  if (origin.security != nullptr && !origin.security->identity.empty())
    text.append(":source-identity: ").append(origin.security->identity).append("\n");
  return text + (http2 != nullptr ? request_head_text(sent_http2().block) : request_head_text(parse_kept_head(), sent_head().data()));
}

bool HttpExchange::answer_text(std::string* text) const {
  if (!holds_answer()) return false;
  *text = held_->head_text();
  return true;
}

bool HttpExchange::change_head(std::string_view text, bool reroutes, std::string* error) {
  if (holds_answer()) return held_->change_head(text, error);
  HeadChanges wanted;
  if (!wanted.parse(text, error)) return false;
  if (!write_head(wanted)) {
    *error = kNoHead;
    return false;
  }
  changes->path |= !wanted.path.empty();
  changes->authority |= !wanted.authority.empty();
  if (!reroutes) return true;
  // From here on it is as if it had come so: rules' own rewrites are for it, too.
  changes->path = changes->authority = false;
  if (http2 != nullptr) {
    http2 = std::move(changes->http2);
  } else {
    match_by(std::move(changes->head));
  }
  return true;
}

// What is sent. False: it would be none that the parser takes.
bool HttpExchange::write_head(const HeadChanges& wanted) {
  if (http2 != nullptr) {
    std::unique_ptr<Http2Request> request = rewrite_head(sent_http2(), wanted, reactor_->head_limits());
    if (request == nullptr) return false;
    made(&changes)->http2 = std::move(request);
    return true;
  }
  ByteQueue head;
  if (!rewrite_head(parse_kept_head(), sent_head().data(), wanted, reactor_->head_limits(), &head)) return false;
  made(&changes)->head = std::move(head);
  return true;
}

void HttpExchange::match_by(ByteQueue head) {
  ByteQueue whole(reactor_->buffer_account(connection_->tenant()));
  whole.append(head.data(), head.size());
  whole.append(raw.data() + head_size, raw.size() - head_size);
  raw = std::move(whole);
  const http1::RequestHead& parsed = parse_kept_head();
  head_size = parsed.size;
  if (decision.has(kLog)) describe_for_log(parsed);
}

bool HttpExchange::add_answer_lines(std::string_view lines, std::string* error) {
  HeadChanges wanted;
  if (!wanted.parse(lines, error)) return false;
  made(&changes)->answer_lines += wanted.mutations.lines();
  return true;
}

bool HttpExchange::set_reply(std::string_view lines, std::string_view body, int32_t status_of_grpc, std::string* error) {
  HeadChanges wanted;
  if (!wanted.parse(lines, error)) return false;
  OutsideChanges* done = made(&changes);
  done->has_reply = true;
  done->lines = wanted.mutations.lines();
  done->body = body;
  done->grpc_status = status_of_grpc;
  return true;
}

}  // namespace weft
