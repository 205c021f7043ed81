// Reading the answer of one exchange and handing it down re-framed.
#include <cstring>

#include "core/downstream_http1.h"
#include "core/reactor.h"
#include "core/upstream_http1.h"

namespace weft {

namespace {
// Reads of one answer before others have their turn.
constexpr int kReadsPerTurn = 4;
// Interim answers of one exchange.
constexpr uint8_t kMaxInterim = 16;
}  // namespace

void UpstreamHttp1::resume_reading() {
  if (readable_ && !is_connecting_ && client_ != nullptr) read_response();
}

void UpstreamHttp1::read_response() {
  for (int turn = 0; readable_ && client_ != nullptr; turn++) {
    if (client_->output().size() >= reactor_->limits().max_buffered_bytes) return;
    if (turn == kReadsPerTurn) return reactor_->resume_later(this);
    uint8_t* bytes = reactor_->read_scratch();
    const size_t have = input_.size();
    if (have != 0) memcpy(bytes, input_.data(), have);
    const int64_t count = receive(bytes + have, Reactor::kReadScratch - have);
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
  const BodyTransfer body = relay_body(&body_, framing_in_, framing_out_, bytes, size, reactor_->body_scratch());
  if (body.size != 0 && !client_->send_response(body.bytes, body.size, nullptr, 0)) return Step::Stop;
  return finish_if_done(body, size);
}

UpstreamHttp1::Step UpstreamHttp1::on_head(const uint8_t* bytes, size_t size) {
  http1::ResponseHead& head = reactor_->response_head();
  const http1::ParseResult result = http1::parse_response_head(bytes, size, reactor_->head_limits(), &head);
  if (result.status == http1::ParseStatus::kIncomplete) {
    input_.append(bytes, size);
    return Step::More;
  }
  if (result.status == http1::ParseStatus::kInvalid || (head.status == 101 && !client_->exchange()->forwards_upgrade) ||
      (head.status < 200 && head.status != 101 && interim_ == kMaxInterim)) {
    reactor_->counters().add(Counter::UpstreamProtocolErrors);
    client_->on_attempt_end(AttemptEnd::BadResponse);
    return Step::Stop;
  }
  if (head.status < 200 && head.status != 101 && interim_++ < kMaxInterim) return forward_interim(head, bytes, size);
  return begin_response(head, bytes, size);
}

// 1xx: handed down as it is; the answer is still to come.
UpstreamHttp1::Step UpstreamHttp1::forward_interim(const http1::ResponseHead& head, const uint8_t* bytes, size_t size) {
  const size_t consumed = head.size;
  Exchange& exchange = *client_->exchange();
  exchange.replayable = false;
  reactor_->counters().add(Counter::Responses1xx);
  // RFC 9110 15.2: an HTTP/1.0 client must not get one.
  if (exchange.client_minor >= 1) {
    http1::ResponseHeadOptions options;
    size_t written = 0;
    if (http1::write_response_head(head, bytes, options, reactor_->head_scratch(), Reactor::kHeadScratch, &written) &&
        !client_->send_response(reactor_->head_scratch(), written, nullptr, 0)) {
      return Step::Stop;
    }
  }
  if (size == consumed) return Step::More;
  // Moved to the front: the rest is parsed like bytes that just came, and the scanner may read on behind it.
  uint8_t* scratch = reactor_->read_scratch();
  memmove(scratch, bytes + consumed, size - consumed);
  return on_head(scratch, size - consumed);
}

UpstreamHttp1::Step UpstreamHttp1::begin_response(const http1::ResponseHead& head, const uint8_t* bytes, size_t size) {
  Exchange& exchange = *client_->exchange();
  http1::ResponseHeadOptions options;
  options.close = !exchange.client_keeps_alive || !exchange.request_complete() || reactor_->is_draining();
  options.mutations = exchange.tables->mutation(exchange.decision.response_mutation);
  http1::set_forwarded_framing(head, exchange.method, exchange.client_minor, &options);
  const http1::BodyFraming framing = http1::response_body_framing(head, exchange.method);
  const bool tunnel = framing.kind == http1::Framing::kTunnel;
  options.keep_upgrade = tunnel;
  if (tunnel) options.close = false;
  options.keep_alive = exchange.client_minor == 0 && !options.close;
  char* out = reactor_->head_scratch();
  size_t written = 0;
  if (!http1::write_response_head(head, bytes, options, out, Reactor::kHeadScratch, &written)) {
    reactor_->counters().add(Counter::UpstreamProtocolErrors);
    client_->on_attempt_end(AttemptEnd::BadResponse);
    return Step::Stop;
  }
  exchange.status = head.status;
  exchange.response_started = true;
  exchange.replayable = false;
  exchange.first_byte_us = reactor_->now_us();
  if (!exchange.decision.has(kLog)) exchange.raw.clear();
  state_ = State::Body;
  body_ = http1::BodyReader(framing);
  framing_in_ = framing.kind;
  framing_out_ = options.framing.kind;
  reusable_ = http1::response_allows_reuse(head, exchange.method) && exchange.request_complete();
  client_must_close_ = options.close;
  const size_t head_size = head.size;
  if (tunnel) {
    if (client_->send_response(out, written, nullptr, 0)) client_->become_tunnel(bytes + head_size, size - head_size);
    return Step::Stop;
  }
  const BodyTransfer body = relay_body(&body_, framing_in_, framing_out_, bytes + head_size, size - head_size, reactor_->body_scratch());
  bool sent;
  if (body.size <= Reactor::kCopyBelow && written + body.size <= Reactor::kHeadScratch) {
    if (body.size != 0) memcpy(out + written, body.bytes, body.size);
    sent = client_->send_response(out, written + body.size, nullptr, 0);
  } else {
    sent = client_->send_response(out, written, body.bytes, body.size);
  }
  if (!sent) return Step::Stop;
  return finish_if_done(body, size - head_size);
}

UpstreamHttp1::Step UpstreamHttp1::finish_if_done(const BodyTransfer& body, size_t size) {
  if (body.invalid) {
    reactor_->counters().add(Counter::UpstreamProtocolErrors);
    client_->on_response_broken(Reason::UpstreamProtocol);
    return Step::Stop;
  }
  if (!body.done) return Step::More;
  // Bytes behind the answer: the peer speaks out of turn, nothing more can be trusted.
  if (body.consumed < size) reusable_ = false;
  state_ = State::Complete;
  client_->on_response_complete(client_must_close_);
  return Step::Stop;
}

void UpstreamHttp1::on_end_of_input(bool reset) {
  if (state_ == State::Head) {
    reactor_->counters().add(Counter::UpstreamResets);
    if (!input_.empty()) client_->exchange()->replayable = false;
    return client_->on_attempt_end(AttemptEnd::Reset);
  }
  if (reset || !body_.end_of_input_completes()) {
    reactor_->counters().add(Counter::UpstreamResets);
    return client_->on_response_broken(Reason::UpstreamReset);
  }
  reusable_ = false;
  state_ = State::Complete;
  if (framing_out_ == http1::Framing::kChunked && !client_->send_response(http1::kLastChunk.data(), http1::kLastChunk.size(), nullptr, 0)) {
    return;
  }
  client_->on_response_complete(client_must_close_);
}

}  // namespace weft
