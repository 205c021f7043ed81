// One request of an HTTP/2 client: its body handed on, its answer written.
#include "core/downstream_http2.h"
#include "core/grpc.h"
#include "core/http2/transcode.h"
#include "core/http2/transcode_lines.h"
#include "core/reactor.h"

namespace weft {

namespace {
using http2::ErrorCode;
using http2::HpackEncoder;

constexpr uint8_t kStaticStatus200 = 8;

// RFC 9113 8.5 has a code of its own for a tunnel whose other side broke.
ErrorCode reset_code(Reason reason, bool is_tunnel) {
  switch (reason) {
    case Reason::DownstreamProtocol:
      return ErrorCode::kProtocolError;
    case Reason::DownstreamClosed:
    case Reason::DownstreamTimeout:
      return ErrorCode::kCancel;
    default:
      return is_tunnel ? ErrorCode::kConnectError : ErrorCode::kInternalError;
  }
}

}  // namespace

DownstreamHttp2Stream::DownstreamHttp2Stream(DownstreamHttp2* connection, uint64_t started_us)
    : connection_(connection),
      exchange_(std::make_unique<HttpExchange>(connection->reactor_, connection, this)),
      held_(connection->reactor_->buffer_account(connection->tenant())) {
  framing_ = http1::Framing::kUntilClose;
  exchange_->kind = StreamKind::Http2;
  exchange_->started_us = started_us;
  exchange_->request_framing = http1::Framing::kUntilClose;
}

size_t DownstreamHttp2Stream::buffer_share() const { return connection_->link_.share(); }

bool DownstreamHttp2Stream::send_head(const ResponseForm& response, bool ends, const http1::MutationSet* mutations,
                                      std::string_view lines) {
  http2::ForwardOptions options;
  options.mutations = mutations;
  options.extra_lines = lines;
  HopLines& hop = connection_->reactor_->hop_lines();
  options.via_line = hop.via(response);
  options.own[0].field = hop.date_field_for(response, mutations, connection_->reactor_->now_ms(), &connection_->reactor_->interned());
  if (!response.grpc_type_line.empty()) {
    options.steady_lines = response.grpc_type_line;
    options.drop_known = http1::known_bit(http1::KnownHeader::kContentType) | http1::known_bit(http1::KnownHeader::kContentLength);
  }
  // What HTTP/1 answers with 101 is a 200 here (RFC 8441 5).
  const bool tunnel = exchange_->opens_tunnel(response);
  const int status = tunnel && exchange_->tunnel == Tunnel::WebSocket ? 200 : 0;
  if (tunnel) options.drop_known |= http1::known_bit(http1::KnownHeader::kContentLength);
  const size_t bound =
      response.block != nullptr ? http2::block_bound(*response.block, options) : http2::block_bound(*response.head, options);
  ByteQueue& output = connection_->link_.output();
  const size_t before = output.size();
  const bool sent =
      connection_->link_.send_headers(this, bound, ends, [&](HpackEncoder* encoder, uint8_t* out, size_t capacity, size_t* size) {
        return response.block != nullptr
                   ? http2::write_response_block(*response.block, *response.summary, options, encoder, out, capacity, size)
                   : http2::write_response_block(*response.head, response.base, status, options, encoder, out, capacity, size);
      });
  exchange_->sent += output.size() - before;
  return sent;
}

bool DownstreamHttp2Stream::send_interim(const ResponseForm& response) {
  send_head(response, false, nullptr, {});
  return true;
}

bool DownstreamHttp2Stream::begin_response(const ResponseForm& response, bool ends) {
  return send_head(response, ends, exchange_->response_mutations(), exchange_->lines_of_answer(response));
}

bool DownstreamHttp2Stream::send_framed(const void* bytes, size_t size, bool end, std::string_view trailer_lines) {
  const bool with_trailers = end && !trailer_lines.empty();
  send_payload(bytes, size, end && !with_trailers);
  if (with_trailers) connection_->link_.send_trailers(this, trailer_lines);
  return true;
}

bool DownstreamHttp2Stream::send_payload(const void* bytes, size_t size, bool end) {
  exchange_->sent += size;
  connection_->link_.send_data(this, static_cast<const uint8_t*>(bytes), size, end);
  if (pending.empty()) exchange_->note_progress();
  return true;
}

bool DownstreamHttp2Stream::send_trailers(const http2::HeaderBlock& block) {
  connection_->link_.send_trailers(this, block);
  return true;
}

bool DownstreamHttp2Stream::reply_local(int status, std::string_view lines, std::string_view body, Reason reason) {
  if (exchange_->grpc == GrpcForm::Native) {
    reply_grpc_error(status, reason);
    return true;
  }
  const bool with_body = !body.empty() && exchange_->method != http1::Method::kHead;
  http2::InternedField* date = connection_->reactor_->date_field();
  connection_->link_.send_headers(
      this, lines_room(lines) + date->hpack_size(), !with_body, [&](HpackEncoder* encoder, uint8_t* out, size_t capacity, size_t* size) {
        return http2::write_local_response_block(status, date, lines, body.size(), encoder, out, capacity, size) ||
               http2::write_local_response_block(status, date, {}, body.size(), encoder, out, capacity, size);
      });
  exchange_->sent += lines.size() + body.size();
  if (with_body) send_payload(body.data(), body.size(), true);
  return true;
}

// Trailers-only: one HEADERS that is all.
void DownstreamHttp2Stream::reply_grpc_error(int status, Reason reason) {
  char digits[4];
  const int size_of_code = snprintf(digits, sizeof(digits), "%d", exchange_->grpc_status_in_place_of(status, reason));
  const std::string_view message = grpc_message_of(status, reason);
  http2::InternedField* date = connection_->reactor_->date_field();
  const std::string& lines = exchange_->answer_lines;
  connection_->link_.send_headers(
      this, 256 + message.size() + lines_room(lines), true, [&](HpackEncoder* encoder, uint8_t* out, size_t, size_t* size) {
        uint8_t* end = encoder->begin(out);
        end = encoder->write_static(kStaticStatus200, end);
        end = encoder->write_interned(date, false, end);
        end = encoder->write_text("content-type", "application/grpc", http2::Indexing::kAllowed, end);
        end = encoder->write_text("grpc-status", {digits, static_cast<size_t>(size_of_code)}, http2::Indexing::kAllowed, end);
        end = encoder->write_text("grpc-message", message, http2::Indexing::kAllowed, end);
        end = http2::write_lines(lines, http2::Indexing::kNone, encoder, end);
        *size = static_cast<size_t>(end - out);
        return true;
      });
}

// What was held goes on; the windows of what was taken are returned.
void DownstreamHttp2Stream::resume_request() {
  HttpExchange& exchange = *exchange_;
  const bool has_end = remote_ended && !exchange.request_ended;
  if (!held_.empty() || has_end || held_trailers_ != nullptr) {
    if (!exchange.takes_body() || held_.size() > exchange.body_room()) return;
    const ByteQueue body = std::move(held_);
    const bool ends = remote_ended && held_trailers_ == nullptr;
    if ((!body.empty() || ends) && !exchange.give_payload(body.data(), body.size(), ends)) return;
    if (exchange.is_over()) return;
    if (held_trailers_ != nullptr) {
      http2::HeaderBlock trailers = std::move(*held_trailers_);
      held_trailers_.reset();
      if (!exchange.give_trailers(std::move(trailers)) || exchange.is_over()) return;
    }
  }
  const size_t share = buffer_share();
  const bool has_room = exchange.upstream_stream() != nullptr ? exchange.upstream_stream()->unsent() < share : exchange.is_collecting();
  if (has_room) connection_->link_.taken(this, share);
}

// Asks for another decision: the request stands in the next batch.
void DownstreamHttp2Stream::requeue() {
  connection_->requeued_.push_back(id);
  connection_->reactor_->resume_later(connection_);
}

void DownstreamHttp2Stream::on_exchange_end(bool whole, Reason reason) {
  if (whole) connection_->link_.earn_reset();
  const bool is_faulty = reason == Reason::DownstreamProtocol || reason == Reason::DownstreamTimeout;
  if (whole && !is_faulty && !exchange_->is_tunnel && connection_->let_finish(this)) return;
  connection_->close_stream(this, whole ? ErrorCode::kNoError : reset_code(reason, exchange_->is_tunnel));
}

}  // namespace weft
