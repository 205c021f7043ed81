// Message framing: which one a head announces, and the reader that takes a body out of it.
#include "core/http1/body.h"

#include <algorithm>
#include <cstring>

#include "core/http1/ascii.h"

namespace weft::http1 {
namespace {

constexpr const char* kBodyErrorNames[] = {
#define WEFT_X(name, text) text,
    WEFT_HTTP1_BODY_ERRORS(WEFT_X)
#undef WEFT_X
};

/// -1: no hexadecimal digit.
int hex_value(uint8_t byte) {
  if (byte >= '0' && byte <= '9') return byte - '0';
  const uint8_t letter = byte | 0x20;
  return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

BodyFraming sized(const FieldBlock& head) {
  if (head.chunked) return {Framing::kChunked};
  if (head.content_length > 0) return {Framing::kLength, head.content_length};
  return {Framing::kNone};
}

}  // namespace

BodyFraming request_body_framing(const RequestHead& head) { return sized(head); }

BodyFraming response_body_framing(const ResponseHead& head, Method request_method) {
  if (head.status == 101) return {Framing::kTunnel};
  if (request_method == Method::kConnect && head.status / 100 == 2) return {Framing::kTunnel};
  if (head.status < 200 || head.status == 204 || head.status == 304 || request_method == Method::kHead) return {Framing::kNone};
  if (!head.chunked && !head.has_content_length) return {Framing::kUntilClose};
  return sized(head);
}

bool response_allows_reuse(const ResponseHead& head, Framing framing) {
  if (!head.keep_alive || framing == Framing::kUntilClose || framing == Framing::kTunnel) return false;
  // RFC 9110 8.6, RFC 9112 6.1 forbid these fields there: a sender that breaks the rule may well send the bytes too.
  const bool bodiless = head.status < 200 || head.status == 204;
  return !bodiless || (!head.chunked && head.content_length == 0);
}

const char* body_error_name(BodyError error) { return error < BodyError::kCount ? kBodyErrorNames[static_cast<size_t>(error)] : "?"; }

void BodyReader::begin(BodyFraming framing) {
  digits_ = 0;
  extension_bytes_ = 0;
  line_begin_ = 0;
  remaining_ = framing.length;
  if (!trailers_.empty()) trailers_ = std::string();
  switch (framing.kind) {
    case Framing::kNone:
      state_ = State::kDone;
      break;
    case Framing::kLength:
      state_ = framing.length > 0 ? State::kLength : State::kDone;
      break;
    case Framing::kChunked:
      state_ = State::kChunkSizeFirst;
      remaining_ = 0;
      break;
    case Framing::kUntilClose:
    case Framing::kTunnel:
      state_ = State::kUntilClose;
      break;
  }
}

BodyStep BodyReader::next(const uint8_t* data, size_t size) {
  switch (state_) {
    case State::kDone:
      return {BodyStatus::kDone};
    case State::kInvalid:
      return {BodyStatus::kInvalid};
    case State::kLength:
    case State::kChunkData:
      return payload_step(0, size);
    case State::kUntilClose:
      return {size > 0 ? BodyStatus::kPayload : BodyStatus::kMore, BodyError::kNone, size, size};
    default:
      return framing_step(data, size);
  }
}

/// `consumed` bytes of framing came before; `size` includes them.
BodyStep BodyReader::payload_step(size_t consumed, size_t size) {
  const size_t taken = static_cast<size_t>(std::min<uint64_t>(size - consumed, remaining_));
  if (taken == 0) return {BodyStatus::kMore, BodyError::kNone, consumed};
  remaining_ -= taken;
  BodyStatus status = BodyStatus::kPayload;
  if (remaining_ == 0) {
    if (state_ == State::kLength) status = BodyStatus::kDone;
    state_ = state_ == State::kLength ? State::kDone : State::kChunkDataCr;
  }
  return {status, BodyError::kNone, consumed + taken, taken};
}

BodyStep BodyReader::framing_step(const uint8_t* data, size_t size) {
  for (size_t at = 0; at < size; at++) {
    const BodyError error = on_framing_byte(data[at]);
    if (error != BodyError::kNone) {
      state_ = State::kInvalid;
      return {BodyStatus::kInvalid, error, at};
    }
    if (state_ == State::kDone) return {BodyStatus::kDone, BodyError::kNone, at + 1};
    if (state_ == State::kChunkData) return payload_step(at + 1, size);
  }
  return {BodyStatus::kMore, BodyError::kNone, size};
}

/// RFC 9112 7.1, without the white space it lets receivers tolerate: where parsers disagree about a chunk's size, requests are smuggled.
BodyError BodyReader::on_framing_byte(uint8_t byte) {
  switch (state_) {
    case State::kChunkSizeFirst:
    case State::kChunkSize: {
      const int digit = hex_value(byte);
      if (digit >= 0) {
        if (++digits_ > kMaxChunkSizeDigits) return BodyError::kChunkSize;
        remaining_ = remaining_ << 4 | static_cast<uint64_t>(digit);
        state_ = State::kChunkSize;
        return BodyError::kNone;
      }
      if (state_ == State::kChunkSizeFirst || (byte != ';' && byte != '\r')) return BodyError::kChunkSize;
      digits_ = 0;
      extension_bytes_ = 0;
      state_ = byte == ';' ? State::kChunkExtension : State::kChunkSizeLf;
      return BodyError::kNone;
    }
    case State::kChunkExtension:
      if (byte == '\r') {
        state_ = State::kChunkSizeLf;
        return BodyError::kNone;
      }
      if ((byte < 0x20 && byte != '\t') || byte == 0x7f) return BodyError::kChunkExtension;
      return ++extension_bytes_ > kMaxChunkExtensionBytes ? BodyError::kChunkExtension : BodyError::kNone;
    case State::kChunkSizeLf:
      if (byte != '\n') return BodyError::kChunkSize;
      state_ = remaining_ == 0 ? State::kTrailerLine : State::kChunkData;
      return BodyError::kNone;
    case State::kChunkDataCr:
      if (byte != '\r') return BodyError::kChunkEnd;
      state_ = State::kChunkDataLf;
      return BodyError::kNone;
    case State::kChunkDataLf:
      if (byte != '\n') return BodyError::kChunkEnd;
      state_ = State::kChunkSizeFirst;
      return BodyError::kNone;
    default:
      return on_trailer_byte(byte);
  }
}

BodyError BodyReader::on_trailer_byte(uint8_t byte) {
  const bool after_cr = trailers_.size() > line_begin_ && trailers_.back() == '\r';
  if (after_cr != (byte == '\n')) return BodyError::kTrailerSyntax;
  if ((byte < 0x20 && byte != '\t' && byte != '\r' && byte != '\n') || byte == 0x7f) return BodyError::kTrailerSyntax;
  // The two bytes of the empty line are not counted.
  if (trailers_.size() >= kMaxTrailerBytes + 2) return BodyError::kTrailersTooLong;
  trailers_.push_back(static_cast<char>(byte));
  return byte == '\n' ? end_trailer_line() : BodyError::kNone;
}

BodyError BodyReader::end_trailer_line() {
  const std::string_view line = std::string_view(trailers_).substr(line_begin_, trailers_.size() - line_begin_ - 2);
  if (line.empty()) {
    trailers_.resize(line_begin_);
    state_ = State::kDone;
    return BodyError::kNone;
  }
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) return BodyError::kTrailerSyntax;
  const KnownHeader known = known_header(line.substr(0, colon));
  if (known != KnownHeader::kOther && (kForbiddenTrailers & known_bit(known)) != 0) return BodyError::kTrailerForbidden;
  line_begin_ = static_cast<uint32_t>(trailers_.size());
  return BodyError::kNone;
}

size_t write_chunk_header(uint64_t payload_size, char out[kMaxChunkHeader]) {
  const size_t digits = payload_size == 0 ? 1 : static_cast<size_t>(67 - __builtin_clzll(payload_size)) / 4;
  for (size_t i = digits; i-- > 0; payload_size >>= 4) out[i] = "0123456789abcdef"[payload_size & 15];
  out[digits] = '\r';
  out[digits + 1] = '\n';
  return digits + 2;
}

size_t write_last_chunk(std::string_view trailers, char* out, size_t capacity) {
  if (capacity < trailers.size() + kLastChunk.size()) return 0;
  memcpy(out, "0\r\n", 3);
  if (!trailers.empty()) memcpy(out + 3, trailers.data(), trailers.size());
  memcpy(out + 3 + trailers.size(), "\r\n", 2);
  return trailers.size() + kLastChunk.size();
}

}  // namespace weft::http1
