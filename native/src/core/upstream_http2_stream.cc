// One request to an HTTP/2 upstream: head and body written, windows returned as the client takes the answer.
#include "core/grpc.h"
#include "core/http2/transcode.h"
#include "core/reactor.h"
#include "core/request_lines.h"
#include "core/upstream_http2.h"

namespace weft {

UpstreamHttp2Stream::UpstreamHttp2Stream(UpstreamHttp2* connection, HttpExchange* exchange) : connection_(connection), exchange_(exchange) {
  framing_ = http1::Framing::kUntilClose;
}

bool UpstreamHttp2Stream::begin_request(const RequestForm& request, bool ends) {
  http2::ForwardOptions options;
  options.mutations = exchange_->tables->mutation(exchange_->decision.request_mutation);
  const ForwardedLines lines(connection_->reactor_, exchange_->connection(),
                             request.head != nullptr ? request.head->present : request.summary->present, exchange_, true);
  options.forwarded_for = lines.client();
  options.forwarded_proto = lines.proto();
  options.own[0] = lines.client_field();
  options.own[1] = lines.proto_field();
  options.steady_lines = lines.edge();
  options.request_id = lines.request_id();
  options.drop_known = lines.dropped();
  options.via_line = connection_->reactor_->hop_lines().via(request);
  options.authority = exchange_->authority_to_send();
  options.target = exchange_->target;
  // RFC 9110 7.4: what came as http, for us to put TLS around it, may be refused on a connection of https.
  if (connection_->group_->target.tls_key != 0) options.scheme = "https";
  std::string translated;
  if (!request.grpc_type_line.empty()) {
    translated.append(lines.edge()).append(request.grpc_type_line);
    options.te_trailers = true;
    options.steady_lines = translated;
    options.drop_known |= http1::known_bit(http1::KnownHeader::kContentType) | http1::known_bit(http1::KnownHeader::kContentLength);
  }
  GrpcTimeoutLine timeout;
  if (exchange_->grpc != GrpcForm::None && exchange_->expires_ms != 0) {
    // What is left of the call's time, so that nobody works for a caller that has given up.
    options.extra_lines = timeout.format(exchange_->remaining_ms());
    options.drop_known |= http1::known_bit(http1::KnownHeader::kGrpcTimeout);
  }
  Http2Link& link = connection_->link_;
  const size_t bound = request.block != nullptr ? http2::block_bound(*request.block, options) : http2::block_bound(*request.head, options);
  return link.send_headers(this, bound, ends, [&](http2::HpackEncoder* encoder, uint8_t* out, size_t capacity, size_t* size) {
    return request.block != nullptr ? http2::write_request_block(*request.block, *request.summary, options, encoder, out, capacity, size)
                                    : http2::write_request_block(*request.head, request.base, exchange_->tunnel == Tunnel::WebSocket,
                                                                 options, encoder, out, capacity, size);
  });
}

bool UpstreamHttp2Stream::send_framed(const void* bytes, size_t size, bool end, std::string_view trailer_lines) {
  const bool with_trailers = end && !trailer_lines.empty();
  send_payload(bytes, size, end && !with_trailers);
  if (with_trailers) connection_->link_.send_trailers(this, trailer_lines);
  return true;
}

bool UpstreamHttp2Stream::send_payload(const void* bytes, size_t size, bool end) {
  connection_->link_.send_data(this, static_cast<const uint8_t*>(bytes), size, end);
  return true;
}

bool UpstreamHttp2Stream::send_trailers(const http2::HeaderBlock& block) {
  connection_->link_.send_trailers(this, block);
  return true;
}

void UpstreamHttp2Stream::resume_response() {
  const size_t share = exchange_->client()->buffer_share();
  if (exchange_->client()->unsent() < share) connection_->link_.taken(this, share);
}

void UpstreamHttp2Stream::release() {
  exchange_ = nullptr;
  connection_->close_stream(this);
}

bool UpstreamHttp2Stream::is_reused() const { return connection_->broken_ && connection_->streams_opened_ > 1; }

bool UpstreamHttp2Stream::is_unconnected() const { return connection_->is_connecting_; }

}  // namespace weft
