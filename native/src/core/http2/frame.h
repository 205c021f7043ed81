// HTTP/2 frames (RFC 9113 4 and 6): reading them out of bytes with every check that needs no memory of streams, and writing them.
// Division of work: the parser knows one frame at a time, and the header block in progress. The connection knows streams: odd and even ids,
// ids that go backwards, states (5.1), windows, what it may be sent at all (8.4 push is always refused here), and counts for flood limits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/byte_queue.h"

namespace weft::http2 {

inline constexpr size_t kFrameHeaderBytes = 9;
inline constexpr uint32_t kMaxStreamId = 0x7fffffff;
/// RFC 9113 3.4: what a client sends first.
inline constexpr std::string_view kClientPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

enum class FrameType : uint8_t {
  kData,
  kHeaders,
  kPriority,
  kRstStream,
  kSettings,
  kPushPromise,
  kPing,
  kGoaway,
  kWindowUpdate,
  /// Never handed out: the parser joins them to their HEADERS.
  kContinuation,
  // Others are handed out, to be counted and ignored (RFC 9113 5.5).
};

// Flags; which one a bit is depends on the type.
inline constexpr uint8_t kFlagEndStream = 0x1;
inline constexpr uint8_t kFlagAck = 0x1;
inline constexpr uint8_t kFlagEndHeaders = 0x4;
inline constexpr uint8_t kFlagPadded = 0x8;
inline constexpr uint8_t kFlagPriority = 0x20;

/// RFC 9113 7.
#define WEFT_HTTP2_ERROR_CODES(X)                   \
  X(NoError, "NO_ERROR", 0x0)                       \
  X(ProtocolError, "PROTOCOL_ERROR", 0x1)           \
  X(InternalError, "INTERNAL_ERROR", 0x2)           \
  X(FlowControlError, "FLOW_CONTROL_ERROR", 0x3)    \
  X(SettingsTimeout, "SETTINGS_TIMEOUT", 0x4)       \
  X(StreamClosed, "STREAM_CLOSED", 0x5)             \
  X(FrameSizeError, "FRAME_SIZE_ERROR", 0x6)        \
  X(RefusedStream, "REFUSED_STREAM", 0x7)           \
  X(Cancel, "CANCEL", 0x8)                          \
  X(CompressionError, "COMPRESSION_ERROR", 0x9)     \
  X(ConnectError, "CONNECT_ERROR", 0xa)             \
  X(EnhanceYourCalm, "ENHANCE_YOUR_CALM", 0xb)      \
  X(InadequateSecurity, "INADEQUATE_SECURITY", 0xc) \
  X(Http11Required, "HTTP_1_1_REQUIRED", 0xd)

enum class ErrorCode : uint32_t {
#define WEFT_X(name, text, code) k##name = code,
  WEFT_HTTP2_ERROR_CODES(WEFT_X)
#undef WEFT_X
};
/// "UNKNOWN" for codes that are not registered; treat those as INTERNAL_ERROR.
const char* error_code_name(ErrorCode code);

/// What was wrong with a frame: a metric label, and the debug data of the GOAWAY. All are connection errors of the code beside them.
#define WEFT_HTTP2_FRAME_FAULTS(X)                                   \
  X(None, "none", NoError)                                           \
  X(Preface, "preface", ProtocolError)                               \
  X(FirstNotSettings, "first_not_settings", ProtocolError)           \
  X(FrameTooLong, "frame_too_long", FrameSizeError)                  \
  X(FrameSize, "frame_size", FrameSizeError)                         \
  X(StreamZero, "stream_zero", ProtocolError)                        \
  X(StreamNotZero, "stream_not_zero", ProtocolError)                 \
  X(Padding, "padding", ProtocolError)                               \
  X(BlockInterrupted, "block_interrupted", ProtocolError)            \
  X(ContinuationAlone, "continuation_alone", ProtocolError)          \
  X(BlockTooLong, "block_too_long", EnhanceYourCalm)                 \
  X(TooManyContinuations, "too_many_continuations", EnhanceYourCalm) \
  X(PushPromise, "push_promise", ProtocolError)                      \
  X(WindowIncrementZero, "window_increment_zero", ProtocolError)     \
  X(SettingsAckSize, "settings_ack_size", FrameSizeError)            \
  X(SettingValue, "setting_value", ProtocolError)                    \
  X(SettingWindow, "setting_window", FlowControlError)

enum class FrameFault : uint8_t {
#define WEFT_X(name, text, code) k##name,
  WEFT_HTTP2_FRAME_FAULTS(WEFT_X)
#undef WEFT_X
      kCount,
};
const char* frame_fault_name(FrameFault fault);
ErrorCode frame_fault_code(FrameFault fault);

/// One frame, checked; of HEADERS the whole block with its CONTINUATIONs.
struct Frame {
  FrameType type;
  /// As sent; of HEADERS kFlagEndHeaders is always set.
  uint8_t flags;
  uint32_t stream;
  /// Without padding and priority. For HEADERS the field block. In the input, or (joined blocks) in the parser until its next call.
  const uint8_t* payload;
  uint32_t size;
  /// DATA: what flow control counts, padding included (RFC 9113 6.1).
  uint32_t flow_size;
  /// All bytes on the wire, frame headers included: input for limits on bytes and empty frames.
  uint32_t wire_size;
  /// CONTINUATION frames that were joined.
  uint32_t continuations;
  /// Not kNoError: the stream is to be reset with it: PRIORITY of a wrong length, a window increment of 0, a stream that depends on itself.
  /// Of HEADERS the block must be decoded nevertheless.
  ErrorCode stream_error;

  bool has(uint8_t flag) const { return (flags & flag) != 0; }
};

// Payloads of fixed form; each needs the frame's type, whose size the parser has checked.
uint32_t rst_stream_code(const Frame& frame);
/// 1 to 2^31 - 1 (0 only with stream_error set).
uint32_t window_increment(const Frame& frame);
/// Eight opaque bytes, as they stand.
uint64_t ping_bytes(const Frame& frame);
struct Goaway {
  uint32_t last_stream;
  uint32_t code;
  std::string_view debug;
};
Goaway goaway(const Frame& frame);

enum class FrameStatus : uint8_t { kFrame, kMore, kFault };

struct FrameStep {
  FrameStatus status;
  FrameFault fault = FrameFault::kNone;
  /// Bytes of the input done with (also with kMore: the preface, parts of a header block). With kFrame the frame's payload lies in them.
  size_t consumed = 0;
};

struct FrameLimits {
  /// Our SETTINGS_MAX_FRAME_SIZE: what a peer may send.
  uint32_t max_frame_bytes = 16384;
  /// A field block as it stands on the wire, over all its frames.
  uint32_t max_block_bytes = 64 * 1024;
  /// Of one block; empty ones cost nothing else.
  uint32_t max_continuations = 16;
};

enum class Role : uint8_t { kServer, kClient };

/// Reads one direction of one connection. Call next() with the bytes that came, from where `consumed` left off, until kMore; keep the rest
/// (always less than one frame) and call again with it and more in front. The outcome does not depend on the cuts.
class FrameParser {
 public:
  /// `role` is ours: a server's parser wants the client preface first. `account`: whose memory a block in progress is (ByteQueue).
  FrameParser(Role role, const FrameLimits& limits, double* account = nullptr)
      : limits_(limits), preface_done_(role == Role::kClient), block_(account) {}

  /// After kFault never again.
  FrameStep next(const uint8_t* data, size_t size, Frame* frame);

  /// A header block is incomplete: the peer owes CONTINUATION (for a timeout).
  bool in_block() const { return block_stream_ != 0; }

 private:
  FrameStep skip_preface(const uint8_t* data, size_t size);
  FrameFault check_header(const Frame& frame, uint32_t length) const;
  FrameFault read_payload(Frame* frame);
  FrameFault strip_padding(Frame* frame) const;
  FrameFault strip_priority(Frame* frame) const;
  void add_to_block(const Frame& frame);
  void give_block(Frame* frame);

  FrameLimits limits_;
  bool preface_done_;
  bool settings_seen_ = false;
  /// The block in progress; stream 0: none.
  uint32_t block_stream_ = 0;
  uint32_t block_continuations_ = 0;
  uint32_t block_wire_size_ = 0;
  uint8_t block_flags_ = 0;
  ErrorCode block_error_ = ErrorCode::kNoError;
  /// The last block was handed out; its memory goes with the next call.
  bool block_given_ = false;
  ByteQueue block_;
};

enum class SettingId : uint16_t {
  kHeaderTableSize = 0x1,
  kEnablePush = 0x2,
  kMaxConcurrentStreams = 0x3,
  kInitialWindowSize = 0x4,
  kMaxFrameSize = 0x5,
  kMaxHeaderListSize = 0x6,
  /// RFC 8441.
  kEnableConnectProtocol = 0x8,
};

/// RFC 9113 6.5.2, with its initial values.
struct Settings {
  uint32_t header_table_size = 4096;
  bool enable_push = true;
  uint32_t max_concurrent_streams = UINT32_MAX;
  uint32_t initial_window_size = 65535;
  uint32_t max_frame_size = 16384;
  uint32_t max_header_list_size = UINT32_MAX;
  bool enable_connect_protocol = false;
};
inline constexpr uint32_t kMaxWindow = 0x7fffffff;

/// Applies the payload of a SETTINGS frame (no ACK), in order; unknown ids are skipped. On a fault `settings` is half applied.
/// `sender` is the peer's role: a server may not enable push. The connection adjusts its windows by the difference of initial_window_size.
FrameFault apply_settings(const uint8_t* payload, size_t size, Role sender, Settings* settings);

// Writers. Each writes one whole frame at `out`, which has room for it, and returns the end.
inline constexpr size_t kSettingBytes = 6;
inline constexpr size_t kPingFrameBytes = kFrameHeaderBytes + 8;
inline constexpr size_t kRstStreamFrameBytes = kFrameHeaderBytes + 4;
inline constexpr size_t kWindowUpdateFrameBytes = kFrameHeaderBytes + 4;
inline constexpr size_t kGoawayFrameBytes = kFrameHeaderBytes + 8;

struct Setting {
  SettingId id;
  uint32_t value;
};

/// Only the nine bytes; the payload follows.
uint8_t* write_frame_header(uint32_t length, FrameType type, uint8_t flags, uint32_t stream, uint8_t* out);
uint8_t* write_settings(const Setting* settings, size_t count, uint8_t* out);
uint8_t* write_settings_ack(uint8_t* out);
uint8_t* write_ping(uint64_t opaque, bool ack, uint8_t* out);
uint8_t* write_rst_stream(uint32_t stream, ErrorCode code, uint8_t* out);
uint8_t* write_window_update(uint32_t stream, uint32_t increment, uint8_t* out);
/// Needs kGoawayFrameBytes + debug.size().
uint8_t* write_goaway(uint32_t last_stream, ErrorCode code, std::string_view debug, uint8_t* out);

/// How many frames carry so much; nearly always one, which needs no division.
constexpr size_t frames_of(size_t size, uint32_t max_frame_size) {
  return size <= max_frame_size ? 1 : (size + max_frame_size - 1) / max_frame_size;
}
/// Bytes that write_headers makes of a block.
constexpr size_t headers_bytes(size_t block_size, uint32_t max_frame_size) {
  return block_size + kFrameHeaderBytes * frames_of(block_size, max_frame_size);
}
/// Frames the field block that stands at out[kFrameHeaderBytes …): HEADERS, and CONTINUATIONs where it is longer than the peer's
/// `max_frame_size`. `out` has room for headers_bytes(). Returns the end.
uint8_t* write_headers(uint32_t stream, bool end_stream, size_t block_size, uint32_t max_frame_size, uint8_t* out);

}  // namespace weft::http2
