// HTTP/1 message framing: how long a body is, reading it out of its framing, and writing chunked framing.
// Payload is never copied: spans point into the caller's bytes. Trailers are the only thing kept.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/http1/head.h"

namespace weft::http1 {

enum class Framing : uint8_t {
  kNone,
  kLength,
  kChunked,
  /// Responses only: the body ends with the connection, which cannot be used again.
  kUntilClose,
  /// The connection stops being HTTP behind this head (101; 2xx to CONNECT).
  kTunnel,
};

struct BodyFraming {
  Framing kind = Framing::kNone;
  /// For kLength; never 0 there (an empty body is kNone).
  uint64_t length = 0;
};

/// RFC 9112 6.3. A request never has kUntilClose.
BodyFraming request_body_framing(const RequestHead& head);
/// RFC 9112 6.3: no body for HEAD, 1xx, 204, 304 whatever the fields say.
BodyFraming response_body_framing(const ResponseHead& head, Method request_method);
/// Whether the upstream connection may serve another request after this response, of that framing: what the peer said, and there is no
/// doubt where it ends.
bool response_allows_reuse(const ResponseHead& head, Framing framing);

#define WEFT_HTTP1_BODY_ERRORS(X)          \
  X(None, "none")                          \
  X(ChunkSize, "chunk_size")               \
  X(ChunkExtension, "chunk_extension")     \
  X(ChunkEnd, "chunk_end")                 \
  X(TrailerSyntax, "trailer_syntax")       \
  X(TrailerForbidden, "trailer_forbidden") \
  X(TrailersTooLong, "trailers_too_long")  \
  X(UnexpectedEnd, "unexpected_end")

enum class BodyError : uint8_t {
#define WEFT_X(name, text) k##name,
  WEFT_HTTP1_BODY_ERRORS(WEFT_X)
#undef WEFT_X
      kCount,
};
const char* body_error_name(BodyError error);

/// RFC 9110 6.5.1: fields for framing, routing, authentication and content format cannot stand in trailers.
inline constexpr uint64_t kForbiddenTrailers =
    known_bit(KnownHeader::kHost) | known_bit(KnownHeader::kContentLength) | known_bit(KnownHeader::kTransferEncoding) |
    known_bit(KnownHeader::kConnection) | known_bit(KnownHeader::kKeepAlive) | known_bit(KnownHeader::kTe) |
    known_bit(KnownHeader::kTrailer) | known_bit(KnownHeader::kUpgrade) | known_bit(KnownHeader::kExpect) |
    known_bit(KnownHeader::kProxyConnection) | known_bit(KnownHeader::kXForwardedFor) | known_bit(KnownHeader::kXForwardedProto) |
    known_bit(KnownHeader::kXForwardedClientCert) | known_bit(KnownHeader::kForwardedLookalike) | known_bit(KnownHeader::kAuthorization) |
    known_bit(KnownHeader::kContentType) | kFramingLookalikes;

enum class BodyStatus : uint8_t {
  /// All given bytes are consumed and more must come.
  kMore,
  /// `payload_size` bytes of payload; call again with the rest (which may be empty).
  kPayload,
  /// The body is complete; bytes behind `consumed` belong to the next message.
  kDone,
  kInvalid,
};

struct BodyStep {
  BodyStatus status;
  BodyError error = BodyError::kNone;
  /// Bytes of the input done with, payload included; the payload is their tail.
  size_t consumed = 0;
  /// Payload is input[consumed - payload_size, consumed). Above 0 only with kPayload and kDone.
  size_t payload_size = 0;
};

/// Reads one body. Call next() until kMore, kDone or kInvalid; after the latter two never again.
/// A body of kNone is done at once, a kLength body's last payload comes with kDone. kTunnel reads like kUntilClose.
class BodyReader {
 public:
  BodyReader() = default;
  explicit BodyReader(BodyFraming framing) { begin(framing); }

  /// Another body.
  void begin(BodyFraming framing);

  BodyStep next(const uint8_t* data, size_t size);

  /// The peer has closed: whether that completes the body (kUntilClose, kTunnel, or already done).
  bool end_of_input_completes() const { return state_ == State::kUntilClose || state_ == State::kDone; }
  bool done() const { return state_ == State::kDone; }
  /// Payload bytes that are known to come: of the body (kLength) or of the chunk that is being read; 0 between chunks.
  uint64_t remaining() const { return state_ == State::kLength || state_ == State::kChunkData ? remaining_ : 0; }

  /// After kDone: validated trailer lines, each with its CRLF, in the order sent; empty if there were none.
  std::string_view trailers() const { return trailers_; }

  static constexpr size_t kMaxChunkSizeDigits = 15;
  /// Extension bytes between two chunks; all are dropped.
  static constexpr size_t kMaxChunkExtensionBytes = 1024;
  static constexpr size_t kMaxTrailerBytes = 8 * 1024;

 private:
  enum class State : uint8_t {
    kDone,
    kLength,
    kUntilClose,
    kChunkSizeFirst,
    kChunkSize,
    kChunkExtension,
    kChunkSizeLf,
    kChunkData,
    kChunkDataCr,
    kChunkDataLf,
    kTrailerLine,
    kInvalid,
  };

  BodyStep framing_step(const uint8_t* data, size_t size);
  BodyStep payload_step(size_t consumed, size_t size);
  BodyError on_framing_byte(uint8_t byte);
  BodyError on_trailer_byte(uint8_t byte);
  BodyError end_trailer_line();

  State state_ = State::kDone;
  uint8_t digits_ = 0;
  uint16_t extension_bytes_ = 0;
  uint32_t line_begin_ = 0;
  /// Payload bytes still to come of the body (kLength) or of the chunk; while a size is read, the size so far.
  uint64_t remaining_ = 0;
  std::string trailers_;
};

/// "FFFFFFFFFFFFFFFF\r\n"
inline constexpr size_t kMaxChunkHeader = 18;
inline constexpr std::string_view kChunkEnd = "\r\n";
/// Ends a chunked body without trailers.
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

/// Writes the size line of a chunk of `payload_size` (> 0) bytes; kChunkEnd must follow the payload. Returns the bytes written.
size_t write_chunk_header(uint64_t payload_size, char out[kMaxChunkHeader]);

/// Writes "0" CRLF, the trailer lines, CRLF. Returns the bytes written, 0 if `capacity` is too small.
size_t write_last_chunk(std::string_view trailers, char* out, size_t capacity);

}  // namespace weft::http1
