// The frame parser. Header checks come before payload checks and need only the nine bytes, so that the outcome is the same at any cut.
#include "core/http2/frame.h"

#include <algorithm>
#include <cstring>

namespace weft::http2 {
namespace {

uint32_t load32(const uint8_t* bytes) {
  return static_cast<uint32_t>(bytes[0]) << 24 | static_cast<uint32_t>(bytes[1]) << 16 | static_cast<uint32_t>(bytes[2]) << 8 | bytes[3];
}

FrameStep more(size_t consumed) { return {FrameStatus::kMore, FrameFault::kNone, consumed}; }
FrameStep fault(FrameFault what, size_t consumed) { return {FrameStatus::kFault, what, consumed}; }

constexpr const char* kFaultNames[] = {
#define WEFT_X(name, text, code) text,
    WEFT_HTTP2_FRAME_FAULTS(WEFT_X)
#undef WEFT_X
};

constexpr ErrorCode kFaultCodes[] = {
#define WEFT_X(name, text, code) ErrorCode::k##code,
    WEFT_HTTP2_FRAME_FAULTS(WEFT_X)
#undef WEFT_X
};

/// Whether the type belongs to a stream (else to the connection). kWindowUpdate and unknown types may be either.
FrameFault check_stream(FrameType type, uint32_t stream) {
  switch (type) {
    case FrameType::kData:
    case FrameType::kHeaders:
    case FrameType::kPriority:
    case FrameType::kRstStream:
    case FrameType::kContinuation:
      return stream == 0 ? FrameFault::kStreamZero : FrameFault::kNone;
    case FrameType::kSettings:
    case FrameType::kPing:
    case FrameType::kGoaway:
      return stream != 0 ? FrameFault::kStreamNotZero : FrameFault::kNone;
    default:
      return FrameFault::kNone;
  }
}

FrameFault check_size(const Frame& frame, uint32_t length) {
  bool good = true;
  const uint32_t padding = frame.has(kFlagPadded) ? 1 : 0;
  switch (frame.type) {
    case FrameType::kData:
      good = length >= padding;
      break;
    case FrameType::kHeaders:
      good = length >= padding + (frame.has(kFlagPriority) ? 5 : 0);
      break;
    case FrameType::kRstStream:
    case FrameType::kWindowUpdate:
      good = length == 4;
      break;
    case FrameType::kSettings:
      if (frame.has(kFlagAck) && length != 0) return FrameFault::kSettingsAckSize;
      good = length % kSettingBytes == 0;
      break;
    case FrameType::kPing:
      good = length == 8;
      break;
    case FrameType::kGoaway:
      good = length >= 8;
      break;
    default:
      break;
  }
  return good ? FrameFault::kNone : FrameFault::kFrameSize;
}

}  // namespace

const char* frame_fault_name(FrameFault fault) { return fault < FrameFault::kCount ? kFaultNames[static_cast<size_t>(fault)] : "?"; }
ErrorCode frame_fault_code(FrameFault fault) {
  return fault < FrameFault::kCount ? kFaultCodes[static_cast<size_t>(fault)] : ErrorCode::kInternalError;
}

uint32_t rst_stream_code(const Frame& frame) { return load32(frame.payload); }
uint32_t window_increment(const Frame& frame) { return load32(frame.payload) & kMaxWindow; }
uint64_t ping_bytes(const Frame& frame) {
  uint64_t bytes;
  memcpy(&bytes, frame.payload, sizeof(bytes));
  return bytes;
}
Goaway goaway(const Frame& frame) {
  return {load32(frame.payload) & kMaxStreamId, load32(frame.payload + 4),
          std::string_view(reinterpret_cast<const char*>(frame.payload) + 8, frame.size - 8)};
}

FrameStep FrameParser::skip_preface(const uint8_t* data, size_t size) {
  const size_t known = std::min(size, kClientPreface.size());
  if (known != 0 && memcmp(data, kClientPreface.data(), known) != 0) return fault(FrameFault::kPreface, 0);
  if (known < kClientPreface.size()) return more(0);
  preface_done_ = true;
  return more(known);
}

FrameFault FrameParser::check_header(const Frame& frame, uint32_t length) const {
  const bool continues = frame.type == FrameType::kContinuation;
  if (in_block() && (!continues || frame.stream != block_stream_)) return FrameFault::kBlockInterrupted;
  if (length > limits_.max_frame_bytes) return FrameFault::kFrameTooLong;
  if (!settings_seen_ && (frame.type != FrameType::kSettings || frame.has(kFlagAck))) return FrameFault::kFirstNotSettings;
  if (frame.type == FrameType::kPushPromise) return FrameFault::kPushPromise;
  if (const FrameFault fault = check_stream(frame.type, frame.stream); fault != FrameFault::kNone) return fault;
  if (continues) {
    if (!in_block()) return FrameFault::kContinuationAlone;
    if (block_continuations_ >= limits_.max_continuations) return FrameFault::kTooManyContinuations;
  }
  if ((continues || frame.type == FrameType::kHeaders) && block_.size() + length > limits_.max_block_bytes)
    return FrameFault::kBlockTooLong;
  return check_size(frame, length);
}

FrameFault FrameParser::strip_padding(Frame* frame) const {
  if (!frame->has(kFlagPadded)) return FrameFault::kNone;
  const uint32_t padding = frame->payload[0];
  // RFC 9113 6.1: the padding must be shorter than the payload that holds it.
  if (padding >= frame->size) return FrameFault::kPadding;
  frame->payload++;
  frame->size -= 1 + padding;
  return FrameFault::kNone;
}

FrameFault FrameParser::strip_priority(Frame* frame) const {
  if (!frame->has(kFlagPriority)) return FrameFault::kNone;
  if (frame->size < 5) return FrameFault::kPadding;  // The padding reaches into the priority fields.
  // RFC 7540 5.3.1. Priorities are ignored (RFC 9113 5.3.2), but this was always an error of the stream.
  if ((load32(frame->payload) & kMaxStreamId) == frame->stream) frame->stream_error = ErrorCode::kProtocolError;
  frame->payload += 5;
  frame->size -= 5;
  return FrameFault::kNone;
}

FrameFault FrameParser::read_payload(Frame* frame) {
  FrameFault fault = FrameFault::kNone;
  switch (frame->type) {
    case FrameType::kData:
      return strip_padding(frame);
    case FrameType::kHeaders:
      fault = strip_padding(frame);
      return fault == FrameFault::kNone ? strip_priority(frame) : fault;
    case FrameType::kPriority:
      if (frame->size != 5) {
        frame->stream_error = ErrorCode::kFrameSizeError;
      } else if ((load32(frame->payload) & kMaxStreamId) == frame->stream) {
        frame->stream_error = ErrorCode::kProtocolError;
      }
      break;
    case FrameType::kSettings:
      settings_seen_ = true;
      break;
    case FrameType::kWindowUpdate:
      if (window_increment(*frame) != 0) break;
      if (frame->stream == 0) return FrameFault::kWindowIncrementZero;
      frame->stream_error = ErrorCode::kProtocolError;
      break;
    default:
      break;
  }
  return FrameFault::kNone;
}

/// HEADERS without END_HEADERS, or a CONTINUATION.
void FrameParser::add_to_block(const Frame& frame) {
  if (frame.type == FrameType::kHeaders) {
    block_stream_ = frame.stream;
    block_flags_ = frame.flags;
    block_error_ = frame.stream_error;
    block_continuations_ = 0;
    block_wire_size_ = 0;
  } else {
    block_continuations_++;
  }
  block_wire_size_ += frame.wire_size;
  block_.append(frame.payload, frame.size);
}

/// The block that is complete now.
void FrameParser::give_block(Frame* frame) {
  *frame = {FrameType::kHeaders,
            static_cast<uint8_t>(block_flags_ | kFlagEndHeaders),
            block_stream_,
            block_.data(),
            static_cast<uint32_t>(block_.size()),
            0,
            block_wire_size_,
            block_continuations_,
            block_error_};
  block_stream_ = 0;
  block_given_ = true;
}

FrameStep FrameParser::next(const uint8_t* data, size_t size, Frame* frame) {
  if (block_given_) {
    block_given_ = false;
    block_.clear();
  }
  size_t at = 0;
  if (!preface_done_) {
    const FrameStep step = skip_preface(data, size);
    if (!preface_done_) return step;
    at = step.consumed;
  }
  for (;;) {
    if (size - at < kFrameHeaderBytes) return more(at);
    const uint8_t* head = data + at;
    const uint32_t length = load32(head) >> 8;
    const uint32_t wire_size = length + static_cast<uint32_t>(kFrameHeaderBytes);
    *frame = {static_cast<FrameType>(head[3]),
              head[4],
              load32(head + 5) & kMaxStreamId,
              head + kFrameHeaderBytes,
              length,
              length,
              wire_size,
              0,
              ErrorCode::kNoError};
    FrameFault wrong = check_header(*frame, length);
    if (wrong != FrameFault::kNone) return fault(wrong, at);
    if (size - at < wire_size) return more(at);
    wrong = read_payload(frame);
    if (wrong != FrameFault::kNone) return fault(wrong, at);
    at += wire_size;
    const bool continues = frame->type == FrameType::kContinuation;
    const bool ends = frame->has(kFlagEndHeaders);
    if (!continues && (frame->type != FrameType::kHeaders || ends)) return {FrameStatus::kFrame, FrameFault::kNone, at};
    add_to_block(*frame);
    if (!ends) continue;
    give_block(frame);
    return {FrameStatus::kFrame, FrameFault::kNone, at};
  }
}

}  // namespace weft::http2
