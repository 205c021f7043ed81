// The client's half of one exchange on an HTTP/1 connection: the request handed over, the answer written. Heads and closing are in
// downstream_http1.cc.
#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>

#include "core/downstream_http1.h"
#include "core/grpc.h"
#include "core/http2/transcode.h"
#include "core/http2/websocket.h"
#include "core/reactor.h"
#include "core/request_lines.h"

namespace weft {

namespace {
// Pipelined requests behind a body that are read with it. Each costs a copy of all behind it, so they must not be many.
constexpr size_t kReadBeyondBody = 16 * 1024;

void describe(const http1::RequestHead& head, const uint8_t* base, bool log, Exchange* exchange) {
  exchange->kind = StreamKind::Http1;
  exchange->head_size = head.size;
  exchange->method = head.method;
  if (head.wants_upgrade) exchange->tunnel = Tunnel::WebSocket;
  if (head.method == http1::Method::kConnect) exchange->tunnel = Tunnel::Connect;
  const http1::BodyFraming framing = http1::request_body_framing(head);
  exchange->request_framing = framing.kind;
  exchange->request_body.begin(framing);
  exchange->note_grpc_web(head, base);
  if ((head.method == http1::Method::kOptions || head.method == http1::Method::kTrace) && head.has(http1::KnownHeader::kMaxForwards)) {
    exchange->max_forwards = parse_max_forwards(head.value_of(http1::KnownHeader::kMaxForwards).in(base));
  }
  if (log) exchange->describe_for_log(head);
}

}  // namespace

void DownstreamHttp1::on_decision(const Batch::Pending& pending, const Decision& decision) {
  const Handle self = handle_;
  begin_exchange(pending, decision);
  // What came while the decision was made gave its event already.
  if (reactor_->find(self) == nullptr || state_ != State::Busy) return;
  if (is_gone_) return abort(Reason::DownstreamClosed);
  if (readable_ || peer_finished_) proceed();
}

void DownstreamHttp1::begin_exchange(const Batch::Pending& pending, const Decision& decision) {
  state_ = State::Busy;
  Request& decided = *request_;
  if (decided.exchange) return decided.exchange->try_again(decision);
  HttpExchange& exchange = decided.exchange.emplace(reactor_, this, this);
  exchange.started_us = decided.started_us;
  decided.client_minor = pending.head.minor;
  decided.client_keeps_alive = pending.head.keep_alive;
  describe(pending.head, pending.base, decision.has(kLog), &exchange);
  exchange.has_forwarded_client = find_client(pending.head, pending.base, &exchange.forwarded_client);
  exchange.raw.append(pending.base, exchange.head_size);
  uint64_t timeout_ms = 0;
  if (exchange.grpc != GrpcForm::None) {
    timeout_ms = parse_grpc_timeout(pending.head.value_of(http1::KnownHeader::kGrpcTimeout).in(pending.base));
  }
  exchange.begin(decision, timeout_ms);
  const size_t available = pending.size - exchange.head_size;
  const uint8_t* body_begin = pending.base + exchange.head_size;
  const BodyTransfer body = exchange.take_body(body_begin, available);
  if (available > body.consumed) decided.input.append(body_begin + body.consumed, available - body.consumed);
  RequestForm request;
  request.head = &pending.head;
  request.base = pending.base;
  exchange.start(request, body);
}

bool DownstreamHttp1::find_client(const http1::RequestHead& head, const uint8_t* base, Address* client) const {
  if (origin_.listener->forwarding.trusted_hops <= 0 || !head.has(http1::KnownHeader::kXForwardedFor)) return false;
  ForwardedClient forwarded(origin_.listener->forwarding.trusted_hops);
  for (size_t i = 0; i < head.field_count; i++) {
    const http1::Field& field = head.fields[i];
    if (field.known == http1::KnownHeader::kXForwardedFor && !field.named_by_connection) forwarded.add(field.value.in(base));
  }
  return forwarded.find(client);
}

void DownstreamHttp1::resume_request() {
  if (state_ == State::Busy && !exchange()->request_complete()) pump_request();
}

namespace {
// Of a client that has sent FIN: what lies in the socket is all there is.
bool ends_within_body(int fd, const HttpExchange& exchange) {
  int unread = 0;
  if (exchange.is_tunnel || exchange.request_ended || ioctl(fd, FIONREAD, &unread) != 0) return false;
  return exchange.request_body.remaining() > static_cast<uint64_t>(unread);
}
}  // namespace

void DownstreamHttp1::pump_request() {
  HttpExchange& exchange = *request_->exchange;
  if (exchange.is_tunnel && has_input()) {
    // What came behind the request, before the answer.
    const ByteQueue early = std::move(request_->input);
    size_t consumed = 0;
    if (!exchange.give_body(early.data(), early.size(), &consumed)) return;
  }
  for (int turn = 0; readable_ && !exchange.request_complete(); turn++) {
    const size_t room = exchange.body_room();
    if (room == 0) {
      // Nobody takes it, so its end would not be met for long.
      if (peer_finished_ && tls_ == nullptr && ends_within_body(fd_, exchange)) abort(Reason::DownstreamClosed);
      return;
    }
    if (turn == reactor_->reads_per_turn()) return reactor_->resume_later(this);
    uint8_t* bytes = reactor_->read_scratch();
    const uint64_t wanted = exchange.is_tunnel ? Reactor::kReadScratch : exchange.request_body.remaining() + kReadBeyondBody;
    const int64_t count = receive(bytes, std::min<uint64_t>({wanted, room, reactor_->read_bytes()}));
    if (count == -1) return;
    if (count == 0 && exchange.is_tunnel) return exchange.end_tunnel_input();
    if (count <= 0) return abort(Reason::DownstreamClosed);
    const auto size = static_cast<size_t>(count);
    size_t consumed = 0;
    const bool given = exchange.give_body(bytes, size, &consumed);
    if (given && size > consumed) request().input.append(bytes + consumed, size - consumed);
    if (!given || exchange.is_over()) return;
  }
  if (peer_finished_ && exchange.request_complete()) read_ahead_check();
}

// Asks for another decision: the request stands in the next batch, its bytes again in the arena.
void DownstreamHttp1::requeue() {
  state_ = State::Requeue;
  reactor_->resume_later(this);
}

void DownstreamHttp1::enter_batch_again() {
  const size_t size = exchange()->head_size;
  const uint8_t* base = stage_request(exchange()->raw.data(), size);
  if (base == nullptr) return reactor_->resume_later(this);
  queue_descriptor(base, size);
}

bool DownstreamHttp1::send_output(const void* first, size_t first_count, const void* second, size_t second_count) {
  HttpExchange& exchange = *request_->exchange;
  exchange.sent += first_count + second_count;
  if (!write(first, first_count, second, second_count)) {
    abort(Reason::DownstreamClosed);
    return false;
  }
  if (output_.empty()) exchange.note_progress();
  return true;
}

bool DownstreamHttp1::send_interim(const ResponseForm& response) {
  // RFC 9110 15.2: an HTTP/1.0 client must not get one.
  if (request_->client_minor == 0) return true;
  http1::ResponseHeadOptions options;
  options.via_line = reactor_->hop_lines().via(response);
  char* out = reactor_->head_scratch();
  size_t size = 0;
  const bool fits = response.head != nullptr
                        ? http1::write_response_head(*response.head, response.base, options, out, Reactor::kHeadScratch, &size)
                        : http2::write_response_head(*response.block, *response.summary, 0, options, out, Reactor::kHeadScratch, &size);
  return !fits || send_output(out, size, nullptr, 0);
}

bool DownstreamHttp1::begin_response(const ResponseForm& response, bool ends) {
  const HttpExchange& exchange = *request_->exchange;
  http1::ResponseHeadOptions options;
  options.close = !request_->client_keeps_alive || !exchange.request_complete() || is_leaving();
  options.mutations = exchange.response_mutations();
  options.via_line = reactor_->hop_lines().via(response);
  options.date_line = reactor_->hop_lines().date_for(response, options.mutations, reactor_->now_ms());
  if (!response.grpc_type_line.empty()) {
    options.extra_lines = response.grpc_type_line;
    options.drop_known = http1::known_bit(http1::KnownHeader::kContentType);
  }
  if (response.head != nullptr) {
    http1::set_forwarded_framing(*response.head, exchange.method, request_->client_minor, &options);
  } else {
    http2::set_forwarded_framing(*response.summary, ends, exchange.method, request_->client_minor, &options);
  }
  const bool tunnel = exchange.opens_tunnel(response);
  // What its client sent ahead is no request, whatever it looks like.
  options.close |= exchange.tunnel == Tunnel::Connect;
  char accept[64];
  int status = 0;
  if (tunnel) {
    options.framing = {http1::Framing::kTunnel};
    options.close = false;
    if (response.head == nullptr && exchange.tunnel == Tunnel::WebSocket) {
      status = 101;
      options.extra_lines = websocket_accept_line(accept);
    }
  }
  std::string lines;
  if (!exchange.answer_lines.empty()) options.extra_lines = lines = std::string(options.extra_lines) + exchange.lines_of_answer(response);
  options.keep_alive = request_->client_minor == 0 && !options.close && !tunnel;
  char* out = reactor_->head_scratch();
  size_t size = 0;
  const bool fits =
      response.head != nullptr
          ? http1::write_response_head(*response.head, response.base, options, out, Reactor::kHeadScratch, &size)
          : http2::write_response_head(*response.block, *response.summary, status, options, out, Reactor::kHeadScratch, &size);
  if (!fits) return false;
  request_->head.stage(size);
  framing_ = ends ? http1::Framing::kNone : options.framing.kind;
  request_->must_close = options.close || tunnel;
  return true;
}

// RFC 6455 4.2.2, for an upstream whose protocol has no such proof.
std::string_view DownstreamHttp1::websocket_accept_line(char (&out)[64]) const {
  const ByteQueue& raw = exchange()->raw;
  http1::RequestHead& head = reactor_->replay_head();
  http1::parse_request_head(raw.data(), raw.size(), reactor_->head_limits(), &head);
  const std::array<char, 28> accept = http2::websocket_accept(http2::websocket_key_of(head, raw.data()));
  static constexpr std::string_view kName = "sec-websocket-accept: ";
  memcpy(out, kName.data(), kName.size());
  memcpy(out + kName.size(), accept.data(), accept.size());
  memcpy(out + kName.size() + accept.size(), "\r\n", 2);
  return {out, kName.size() + accept.size() + 2};
}

bool DownstreamHttp1::send_framed(const void* bytes, size_t size, bool end, std::string_view) {
  if (end && request_->must_close) end_with_write();
  return request_->head.send_with(reactor_, bytes, size,
                                  [this](const void* first, size_t first_count, const void* second, size_t second_count) {
                                    return send_output(first, first_count, second, second_count);
                                  });
}

// Frames of an HTTP/2 upstream: what comes behind its HEADERS in the same read leaves with them; when the tick ends, at the latest.
bool DownstreamHttp1::send_payload(const void* bytes, size_t size, bool end) {
  const BodyTransfer body = frame_payload(framing_, bytes, size, end, reactor_->body_scratch(size));
  if (!end && request_->head.hold(reactor_, body.bytes, body.size)) {
    reactor_->flush_later(this);
    return true;
  }
  if (!send_framed(body.bytes, body.size, end, {})) return false;
  if (end && framing_ == http1::Framing::kTunnel) finish_output();
  return true;
}

bool DownstreamHttp1::send_trailers(const http2::HeaderBlock& block) {
  if (framing_ != http1::Framing::kChunked) return send_framed(nullptr, 0, true, {});
  char last[http2::kLastChunkRoom];
  return send_framed(last, http2::write_last_chunk(block, last), true, {});
}

bool DownstreamHttp1::reply_local(int status, std::string_view lines, std::string_view body, Reason reason) {
  const HttpExchange& exchange = *request_->exchange;
  const bool must = reason == Reason::DownstreamProtocol || reason == Reason::DownstreamTimeout || exchange.tunnel == Tunnel::Connect;
  const bool close = must || !request_->client_keeps_alive || !exchange.request_complete() || is_leaving();
  char* out = reactor_->head_scratch();
  size_t size = 0;
  const std::string_view date = reactor_->date_line();
  if (!http1::write_local_response(status, date, lines, body, exchange.method, close, out, Reactor::kHeadScratch, &size)) {
    http1::write_local_response(status, date, {}, {}, exchange.method, close, out, Reactor::kHeadScratch, &size);
  }
  request_->must_close = close;
  if (close) end_with_write();
  return send_output(out, size, nullptr, 0);
}

void DownstreamHttp1::on_exchange_end(bool whole, Reason) {
  // What came before it broke is heard before the reset.
  if (!whole) on_flush();
  // Not because the engine drains: a client that was not told so may have sent its next request.
  const bool close = request_->must_close || !request_->client_keeps_alive || !request_->exchange->request_complete();
  std::unique_ptr<Request> ended = std::move(request_);
  if (!ended->input.empty()) request().input = std::move(ended->input);
  reactor_->retire(std::move(ended));
  if (whole) return close ? finish_and_close() : become_idle();
  // The client is gone, or must be told by a reset that the answer is not whole.
  make_close_abortive();
  reactor_->counters().add(Counter::DownstreamResets);
  reactor_->close_downstream(this);
}

void DownstreamHttp1::abort(Reason reason) {
  if (exchange() != nullptr) return exchange()->abort(reason);
  reactor_->close_downstream(this);
}

}  // namespace weft
