// Reading the answer of one exchange and handing it down re-framed.
#include <algorithm>
#include <cstring>

#include "core/http2/websocket.h"
#include "core/reactor.h"
#include "core/upstream_http1.h"

namespace weft {

namespace {
// Interim answers of one exchange.
constexpr uint8_t kMaxInterim = 16;
}  // namespace

void UpstreamHttp1::resume_response() {
  if (readable_ && !is_connecting_ && exchange_ != nullptr) read_response();
}

void UpstreamHttp1::read_response() {
  for (int turn = 0; readable_ && exchange_ != nullptr && state_ != State::Complete; turn++) {
    if (exchange_->client()->unsent() >= exchange_->client()->buffer_share()) return;
    if (turn == reactor_->reads_per_turn()) return reactor_->resume_later(this);
    uint8_t* bytes = reactor_->read_scratch();
    const size_t have = input_.size();
    if (have != 0) memcpy(bytes, input_.data(), have);
    const int64_t count = receive(bytes + have, std::min(Reactor::kReadScratch - have, reactor_->read_bytes()));
    if (count == -1) return;
    if (count <= 0) return on_end_of_input(count < 0);
    if (have != 0 && !http1::may_complete_head(bytes, have + static_cast<size_t>(count), have, reactor_->head_limits())) {
      input_.append(bytes + have, static_cast<size_t>(count));
      continue;
    }
    input_.clear();
    if (on_bytes(bytes, have + static_cast<size_t>(count)) == Step::Stop) return;
  }
}

UpstreamHttp1::Step UpstreamHttp1::on_bytes(const uint8_t* bytes, size_t size) {
  if (state_ == State::Head) return on_head(bytes, size);
  ClientStream* client = exchange_->client();
  const BodyTransfer body = relay_body(&body_, framing_in_, client->framing(), bytes, size, reactor_->body_scratch());
  if ((body.size != 0 || body.done) && !client->send_framed(body.bytes, body.size, body.done, body_.trailers())) return Step::Stop;
  return finish_if_done(body, size);
}

UpstreamHttp1::Step UpstreamHttp1::on_head(const uint8_t* bytes, size_t size) {
  http1::ResponseHead& head = reactor_->response_head();
  const http1::ParseResult result = http1::parse_response_head(bytes, size, reactor_->head_limits(), &head);
  if (result.status == http1::ParseStatus::kIncomplete) {
    input_.append(bytes, size);
    return Step::More;
  }
  // RFC 8441 5: a 2xx tells an HTTP/2 client that its tunnel is open, and a page would be read as its bytes.
  const bool misleads = accept_ != nullptr && head.status / 100 == 2;
  if (result.status == http1::ParseStatus::kInvalid || (head.status == 101 && !may_switch(head, bytes)) || misleads ||
      (head.status < 200 && head.status != 101 && interim_ == kMaxInterim)) {
    reactor_->counters().add(Counter::UpstreamProtocolErrors);
    exchange_->on_attempt_end(AttemptEnd::BadResponse);
    return Step::Stop;
  }
  if (head.status < 200 && head.status != 101 && interim_++ < kMaxInterim) return forward_interim(head, bytes, size);
  return begin_response(head, bytes, size);
}

// RFC 9110 15.2.2: nobody switches unasked. A handshake of our own is also answered to us (RFC 6455 4.1); a client's own is its to check.
bool UpstreamHttp1::may_switch(const http1::ResponseHead& head, const uint8_t* bytes) const {
  if (exchange_->tunnel != Tunnel::WebSocket) return false;
  return accept_ == nullptr || http2::accepts_websocket(head, bytes, {accept_->data(), accept_->size()});
}

// 1xx: handed down as it is; the answer is still to come.
UpstreamHttp1::Step UpstreamHttp1::forward_interim(const http1::ResponseHead& head, const uint8_t* bytes, size_t size) {
  const size_t consumed = head.size;
  ResponseForm response;
  response.head = &head;
  response.base = bytes;
  if (!exchange_->on_interim(response)) return Step::Stop;
  if (size == consumed) return Step::More;
  // Moved to the front: the rest is parsed like bytes that just came, and the scanner may read on behind it.
  uint8_t* scratch = reactor_->read_scratch();
  memmove(scratch, bytes + consumed, size - consumed);
  return on_head(scratch, size - consumed);
}

UpstreamHttp1::Step UpstreamHttp1::begin_response(const http1::ResponseHead& head, const uint8_t* bytes, size_t size) {
  const http1::BodyFraming framing = http1::response_body_framing(head, exchange_->method);
  const bool tunnel = framing.kind == http1::Framing::kTunnel;
  ClientStream* client = exchange_->client();
  ResponseForm response;
  response.head = &head;
  response.base = bytes;
  exchange_->note_load(response);
  if (exchange_->declines(response)) return Step::Stop;
  if (!client->begin_response(response, framing.kind == http1::Framing::kNone)) {
    reactor_->counters().add(Counter::UpstreamProtocolErrors);
    exchange_->on_attempt_end(AttemptEnd::BadResponse);
    return Step::Stop;
  }
  exchange_->on_response_begun(head.status);
  state_ = State::Body;
  body_.begin(framing);
  framing_in_ = framing.kind;
  reusable_ = http1::response_allows_reuse(head, framing.kind) && exchange_->request_complete();
  const size_t head_size = head.size;
  const BodyTransfer body =
      relay_body(&body_, framing_in_, client->framing(), bytes + head_size, size - head_size, reactor_->body_scratch());
  if (!client->send_framed(body.bytes, body.size, body.done, body_.trailers())) return Step::Stop;
  if (tunnel) {
    framing_ = http1::Framing::kTunnel;
    exchange_->open_tunnel();
    return exchange_ != nullptr ? Step::More : Step::Stop;
  }
  return finish_if_done(body, size - head_size);
}

UpstreamHttp1::Step UpstreamHttp1::finish_if_done(const BodyTransfer& body, size_t size) {
  if (body.invalid) {
    reactor_->counters().add(Counter::UpstreamProtocolErrors);
    exchange_->on_response_broken(Reason::UpstreamProtocol);
    return Step::Stop;
  }
  if (!body.done) return Step::More;
  // Bytes behind the answer: the peer speaks out of turn, nothing more can be trusted.
  if (body.consumed < size) reusable_ = false;
  state_ = State::Complete;
  exchange_->note_load(body_.trailers());
  exchange_->on_response_complete();
  return Step::Stop;
}

void UpstreamHttp1::on_end_of_input(bool reset) {
  if (state_ == State::Head) {
    reactor_->counters().add(Counter::UpstreamResets);
    if (!input_.empty()) exchange_->replayable = false;
    return exchange_->on_attempt_end(AttemptEnd::Reset);
  }
  if (reset || !body_.end_of_input_completes()) {
    reactor_->counters().add(Counter::UpstreamResets);
    return exchange_->on_response_broken(Reason::UpstreamReset);
  }
  reusable_ = false;
  state_ = State::Complete;
  if (write_broken_ && framing_in_ == http1::Framing::kTunnel) return exchange_->on_response_broken(Reason::UpstreamReset);
  if (!exchange_->client()->send_payload(nullptr, 0, true)) return;
  exchange_->on_response_complete();
}

}  // namespace weft
