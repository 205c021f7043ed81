// HTTP/1 request and response heads: parsing into offsets, with strict RFC 9112 checks. Owns no bytes, allocates nothing.
// Refuses rather than repairs: whatever two implementations could read differently is an error here. Must not know of sockets or routes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/http1/scanner.h"

namespace weft::http1 {

/// Every buffer given to a parser must be readable (not necessarily initialised) this far past its end.
inline constexpr size_t kReadPastEnd = 64;

/// Upper bound of HeadLimits.max_fields.
inline constexpr size_t kMaxFields = 128;

/// Fields the engine itself understands. The index is a bit in the masks below.
enum class KnownHeader : uint8_t {
  kHost,
  kContentLength,
  kTransferEncoding,
  kConnection,
  kKeepAlive,
  kTe,
  kTrailer,
  kUpgrade,
  kExpect,
  kProxyConnection,
  kXForwardedFor,
  kXForwardedProto,
  kXRequestId,
  kTraceparent,
  kTracestate,
  kAuthorization,
  kContentType,
  kUserAgent,
  kRetryAfter,
  kDate,
  kGrpcTimeout,
  kMaxForwards,
  kForwarded,
  kXForwardedHost,
  kXForwardedPort,
  kXForwardedClientCert,
  kForwardedLookalike,
  kLengthLookalike,
  kEncodingLookalike,
  kCount,
  kOther = 255,
};

constexpr uint64_t known_bit(KnownHeader header) { return 1ull << static_cast<unsigned>(header); }

/// Framing to a server that takes "_" for "-" (CGI does, RFC 3875 4.1.18), and to no other: refused in every message.
constexpr uint64_t kFramingLookalikes = known_bit(KnownHeader::kLengthLookalike) | known_bit(KnownHeader::kEncodingLookalike);

/// kForwardedLookalike is the same for what gateways vouch for: X_Forwarded_For and its like, which they never pass on.

/// `name` must consist of token characters only; any case. kOther if it is none of them.
KnownHeader known_header(std::string_view name);

/// Values are the ids of METHODS in agent/native/engine-records.ts. Methods are case-sensitive (RFC 9110 9.1).
enum class Method : uint8_t { kGet, kHead, kPost, kPut, kDelete, kOptions, kPatch, kConnect, kTrace, kOther = 255 };
Method method_of(std::string_view token);

/// Why a head was refused: the name is a metric label, the status an answer. A refused response is a 502 for the client.
#define WEFT_HTTP1_HEAD_ERRORS(X)                                      \
  X(None, "none", 0)                                                   \
  X(RequestLine, "request_line", 400)                                  \
  X(Method, "method", 400)                                             \
  X(Target, "target", 400)                                             \
  X(Version, "version", 400)                                           \
  X(VersionNotSupported, "version_not_supported", 505)                 \
  X(StatusLine, "status_line", 400)                                    \
  X(BareLineEnd, "bare_line_end", 400)                                 \
  X(ObsoleteFold, "obsolete_fold", 400)                                \
  X(FieldName, "field_name", 400)                                      \
  X(SpaceBeforeColon, "space_before_colon", 400)                       \
  X(ControlByte, "control_byte", 400)                                  \
  X(TooManyFields, "too_many_fields", 431)                             \
  X(HeadTooLong, "head_too_long", 431)                                 \
  X(HostMissing, "host_missing", 400)                                  \
  X(HostRepeated, "host_repeated", 400)                                \
  X(HostSyntax, "host_syntax", 400)                                    \
  X(ContentLengthSyntax, "content_length_syntax", 400)                 \
  X(ContentLengthRepeated, "content_length_repeated", 400)             \
  X(TransferEncodingAndLength, "transfer_encoding_and_length", 400)    \
  X(TransferEncodingVersion, "transfer_encoding_version", 400)         \
  X(TransferEncodingSyntax, "transfer_encoding_syntax", 400)           \
  X(TransferEncodingUnsupported, "transfer_encoding_unsupported", 501) \
  X(FramingLookalike, "framing_lookalike", 400)                        \
  X(ConnectionSyntax, "connection_syntax", 400)                        \
  X(ExpectUnsupported, "expect_unsupported", 417)                      \
  X(ConnectContent, "connect_content", 400)

enum class HeadError : uint8_t {
#define WEFT_X(name, text, status) k##name,
  WEFT_HTTP1_HEAD_ERRORS(WEFT_X)
#undef WEFT_X
      kCount,
};
const char* head_error_name(HeadError error);
int head_error_status(HeadError error);

/// Bytes [offset, offset + size) of the buffer that was parsed. Trivial, so that a head on the stack costs nothing to declare.
struct Span {
  uint32_t offset;
  uint32_t size;
  std::string_view in(const uint8_t* base) const { return {reinterpret_cast<const char*>(base) + offset, size}; }
};

/// One field line. It occupies [name offset, the next field's name offset) in the buffer, ends with CRLF included.
struct Field {
  uint32_t name_offset;
  uint16_t name_size;
  KnownHeader known;
  /// Named by Connection: this hop's, never forwarded.
  bool named_by_connection;
  /// Without optional white space around it.
  Span value;

  std::string_view name(const uint8_t* base) const { return {reinterpret_cast<const char*>(base) + name_offset, name_size}; }
};
static_assert(sizeof(Field) == 16);

/// Bits of FieldBlock::connection_options.
enum ConnectionOption : uint8_t { kConnectionClose = 1, kConnectionKeepAlive = 2, kConnectionUpgrade = 4, kConnectionTe = 8 };

/// What request and response heads have in common. Only the first `field_count` fields hold anything.
struct FieldBlock {
  /// Offset of the first field line, and of the empty line's CRLF that ends the head.
  uint32_t fields_begin;
  uint32_t fields_end;
  /// Whole head, from the buffer's start to behind the empty line: what the caller consumes.
  uint32_t size;
  uint16_t field_count;
  /// HTTP/1.minor: 0 or 1.
  uint8_t minor;
  uint8_t connection_options;
  /// The sender lets the connection be used again (HTTP/1.1 without close, HTTP/1.0 with keep-alive).
  bool keep_alive;
  /// Transfer-Encoding: chunked.
  bool chunked;
  bool has_content_length;
  /// Some field has `named_by_connection`.
  bool connection_names_fields;
  uint64_t content_length;
  /// known_bit() of every known header that occurs.
  uint64_t present;
  /// Of those, what occurs more than once.
  uint64_t repeated;
  /// Index of the first field of each known header that occurs.
  std::array<uint8_t, static_cast<size_t>(KnownHeader::kCount)> first;
  std::array<Field, kMaxFields> fields;

  bool has(KnownHeader header) const { return (present & known_bit(header)) != 0; }
  bool is_repeated(KnownHeader header) const { return (repeated & known_bit(header)) != 0; }
  /// First field of that name; null if there is none.
  const Field* find(KnownHeader header) const { return has(header) ? &fields[first[static_cast<size_t>(header)]] : nullptr; }
  /// Of that; empty if there is none.
  Span value_of(KnownHeader header) const { return has(header) ? find(header)->value : Span{}; }
  /// The same by any name, in lower case.
  const Field* find(std::string_view lower_name, const uint8_t* base) const;
  std::string_view value_of(std::string_view lower_name, const uint8_t* base) const;
  /// Behind the CRLF of field `index`.
  uint32_t line_end(size_t index) const { return index + 1 < field_count ? fields[index + 1].name_offset : fields_end; }
};

/// kAuthority: CONNECT, and no other method.
enum class TargetForm : uint8_t { kOrigin, kAbsolute, kAsterisk, kAuthority };

struct RequestHead : FieldBlock {
  Method method;
  TargetForm form;
  bool has_query;
  /// Expect: 100-continue, and HTTP/1.1.
  bool expects_continue;
  /// Connection: upgrade, Upgrade: websocket, HTTP/1.1, no body. Other protocols (h2c would leave our sight) are ignored, as RFC 9110 7.8
  /// allows.
  bool wants_upgrade;
  /// Has a body: chunked, or a content length above 0.
  bool has_body;
  /// "/." "//" "\" "%2e" "%2f" or "%5c" stands in the path: two implementations may see different paths. Policy decides what to do.
  bool path_is_ambiguous;
  Span method_token;
  /// As sent.
  Span target;
  /// Without the query; never empty: what has no path is matched as "/" ("http://host" gives the "/" of "//", "*" and CONNECT that of
  /// "HTTP/").
  Span path;
  /// Behind the "?".
  Span query;
  /// From the absolute-form or authority-form target, else from Host; as sent, with port. Empty only for HTTP/1.0 without Host.
  Span authority;
};

struct ResponseHead : FieldBlock {
  uint16_t status;
  /// May be empty.
  Span reason;
};

struct HeadLimits {
  /// Whole head with the empty line, and with the leading CRLF if there is one.
  uint32_t max_bytes = 32 * 1024;
  /// At most kMaxFields.
  uint32_t max_fields = 100;
};

enum class ParseStatus : uint8_t { kComplete, kIncomplete, kInvalid };

struct ParseResult {
  ParseStatus status;
  /// Set when kInvalid. The same bytes give the same error however they were split.
  HeadError error = HeadError::kNone;
};

/// Parses the head at the start of `data`. Restartable: on kIncomplete call again with the same bytes and more (from the start; see
/// may_complete_head to skip hopeless calls). `head` is valid only when kComplete, except that nothing is promised about its unused fields.
ParseResult parse_request_head(const uint8_t* data, size_t size, const HeadLimits& limits, RequestHead* head);
ParseResult parse_response_head(const uint8_t* data, size_t size, const HeadLimits& limits, ResponseHead* head);

/// The same with a chosen scanner (tests, fuzzers, benchmarks); `classify` must not be null.
ParseResult parse_request_head(ClassifyFunction classify, const uint8_t* data, size_t size, const HeadLimits& limits, RequestHead* head);
ParseResult parse_response_head(ClassifyFunction classify, const uint8_t* data, size_t size, const HeadLimits& limits, ResponseHead* head);

/// Whether parsing again can help: an empty line ends in the bytes that came after the `known` ones, which gave kIncomplete; or `size`
/// has reached the limit. Keeps a head that drips in byte by byte from costing quadratic time. Reads only the new bytes (and 3 before).
bool may_complete_head(const uint8_t* data, size_t size, size_t known, const HeadLimits& limits);

/// uri-host [":" port], RFC 9110 4.2, no user info, port at most 65535, not empty. Of reg-name only letters, digits and "-._~": no DNS name
/// has the percent-encoding and sub-delimiters that RFC 3986 also allows, and others decode them differently.
bool is_valid_authority(std::string_view authority);
/// RFC 9112 3.2.3, RFC 9113 8.5: what CONNECT names has a port, and not 0.
bool is_connect_authority(std::string_view authority);

}  // namespace weft::http1
