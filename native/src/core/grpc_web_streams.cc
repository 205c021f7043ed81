// See grpc_web_streams.h.
#include "core/grpc_web_streams.h"

#include <algorithm>
#include <charconv>

#include "core/http_exchange.h"

namespace weft {

namespace {

// Of the body, before base64 and after it: a multiple of 3, so that only the last piece of a write is padded.
constexpr size_t kPiece = 12 * 1024;

// As it is sent: empty where a filter has taken it away.
std::string_view content_type_of(const RequestForm& request) {
  if (request.head != nullptr) return request.head->value_of(http1::KnownHeader::kContentType).in(request.base);
  return request.block->value_of(http1::KnownHeader::kContentType);
}

}  // namespace

UpstreamStream* GrpcWebStreams::toward(UpstreamStream* upstream, bool http2) {
  if (!http2) return upstream;
  upstream_side_.inner_ = upstream;
  upstream_side_.decoder_ = Base64Decoder();
  return &upstream_side_;
}

bool GrpcWebStreams::UpstreamSide::begin_request(const RequestForm& request, bool ends) {
  const std::string line = grpc_type_line_for_web(content_type_of(request));
  RequestForm translated = request;
  translated.grpc_type_line = line;
  return inner_->begin_request(translated, ends);
}

bool GrpcWebStreams::UpstreamSide::send_framed(const void* bytes, size_t size, bool end, std::string_view trailer_lines) {
  if (web_->form_ != GrpcForm::WebText) return inner_->send_framed(bytes, size, end, trailer_lines);
  if (!send_decoded(static_cast<const uint8_t*>(bytes), size)) return false;
  return !end || (may_end() && inner_->send_framed(nullptr, 0, true, trailer_lines));
}

bool GrpcWebStreams::UpstreamSide::send_payload(const void* bytes, size_t size, bool end) {
  if (web_->form_ != GrpcForm::WebText) return inner_->send_payload(bytes, size, end);
  if (!send_decoded(static_cast<const uint8_t*>(bytes), size)) return false;
  return !end || (may_end() && inner_->send_payload(nullptr, 0, true));
}

bool GrpcWebStreams::UpstreamSide::send_trailers(const http2::HeaderBlock& block) { return may_end() && inner_->send_trailers(block); }

bool GrpcWebStreams::UpstreamSide::send_decoded(const uint8_t* text, size_t size) {
  uint8_t decoded[Base64Decoder::capacity(kPiece)];
  for (size_t at = 0; at < size; at += kPiece) {
    size_t count = 0;
    if (!decoder_.decode(text + at, std::min(kPiece, size - at), decoded, &count)) return refuse();
    if (count != 0 && !inner_->send_payload(decoded, count, false)) return false;
  }
  return true;
}

bool GrpcWebStreams::UpstreamSide::refuse() {
  web_->base64_is_bad_ = true;
  exchange_->refuse_body();
  return false;
}

bool GrpcWebStreams::ClientSide::begin_response(const ResponseForm& response, bool ends) {
  translates_ = false;
  const http2::HeaderField* type = response.block != nullptr ? response.block->find(http1::KnownHeader::kContentType) : nullptr;
  bool begun;
  if (type != nullptr && grpc_form_of(response.block->value(*type)) == GrpcForm::Native) {
    translates_ = true;
    const std::string line = grpc_web_type_line(web_->form_, response.block->value(*type));
    http2::ResponseSummary summary = *response.summary;
    summary.has_content_length = false;
    ResponseForm translated = response;
    translated.summary = &summary;
    translated.grpc_type_line = line;
    begun = inner_->begin_response(translated, ends);
  } else {
    begun = inner_->begin_response(response, ends);
  }
  framing_ = inner_->framing();
  return begun;
}

bool GrpcWebStreams::ClientSide::send_framed(const void* bytes, size_t size, bool end, std::string_view trailer_lines) {
  return inner_->send_framed(bytes, size, end, trailer_lines);
}

// Text leaves padded with every write, so that no part of a message waits for the next one.
bool GrpcWebStreams::ClientSide::send_payload(const void* bytes, size_t size, bool end) {
  if (!translates_ || web_->form_ != GrpcForm::WebText || size == 0) return inner_->send_payload(bytes, size, end);
  uint8_t text[base64_size(kPiece)];
  const auto* from = static_cast<const uint8_t*>(bytes);
  for (size_t at = 0; at < size; at += kPiece) {
    const size_t count = std::min(kPiece, size - at);
    encode_base64(from + at, count, text);
    if (!inner_->send_payload(text, base64_size(count), end && at + count == size)) return false;
  }
  return true;
}

bool GrpcWebStreams::ClientSide::send_trailers(const http2::HeaderBlock& block) {
  if (!translates_) return inner_->send_trailers(block);
  const std::string frame = grpc_web_trailer_frame(block);
  return send_payload(frame.data(), frame.size(), true);
}

// Trailers-only: what would be trailers stands in the head, and there is no body.
bool GrpcWebStreams::ClientSide::reply_local(int status, std::string_view, std::string_view, Reason reason) {
  char code[8];
  const HttpExchange& exchange = *web_->upstream_side_.exchange_;
  const auto end = std::to_chars(code, code + sizeof(code), exchange.grpc_status_in_place_of(status, reason));
  std::string lines = grpc_web_type_line(web_->form_, {});
  lines.append("grpc-status: ").append(code, static_cast<size_t>(end.ptr - code)).append("\r\ngrpc-message: ");
  lines.append(web_->base64_is_bad_ ? std::string_view("malformed base64 in the body of a grpc-web-text request")
                                    : grpc_message_of(status, reason));
  lines.append("\r\n").append(exchange.answer_lines);
  return inner_->reply_local(200, lines, {}, reason);
}

}  // namespace weft
