// Messages from one side to the other: HTTP/2 to HTTP/2, to HTTP/1 and back, and our own. Every writer takes checked messages
// (header_block.h, http1/head.h), drops what belongs to one hop, and makes routing and framing fields anew.
// Writers of field blocks never leave an encoder half way: if `capacity` is less than the bound they write nothing and return false.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/http1/body.h"
#include "core/http1/serialize.h"
#include "core/http2/header_block.h"
#include "core/http2/hpack_encoder.h"

namespace weft::http2 {

/// What changes on the way; the same for requests and responses, where it applies.
struct ForwardOptions {
  /// Request: :authority to send; empty: as it came.
  std::string_view authority;
  /// Request: :path to send; empty: as it came.
  std::string_view target;
  /// Request: :scheme to send; empty: as it came ("http" from HTTP/1).
  std::string_view scheme;
  /// May be null.
  const http1::MutationSet* mutations = nullptr;
  /// Request: appended to x-forwarded-for (joined into one field); empty: left as it came.
  std::string_view forwarded_for;
  /// Request: replaces x-forwarded-proto; empty: left as it came.
  std::string_view forwarded_proto;
  /// Request: x-request-id to add; empty: none.
  std::string_view request_id;
  /// http1::known_bit()s of fields to drop beyond that, for what `extra_lines` replaces.
  uint64_t drop_known = 0;
  /// Complete lines ("name: value" CRLF, names in lower case), not put into any table.
  std::string_view extra_lines;
  /// Request: say "te: trailers", whatever came.
  bool te_trailers = false;
  /// Lines of which the peer gets each connection's first in full and then an index.
  std::string_view steady_lines;
  /// As those; the Via line of this hop.
  std::string_view via_line;
  /// Fields to add that are held interned: of a response the Date where there was none, of a request what is told of its client. Null:
  /// none.
  Interned own[2] = {};
};

// Bounds for `capacity` of the writers below; they count the whole message as text.
size_t block_bound(const HeaderBlock& block, const ForwardOptions& options);
size_t block_bound(const http1::FieldBlock& head, const ForwardOptions& options);
size_t trailers_bound(const HeaderBlock& block);

// HTTP/2 → HTTP/2. `summary` is of `block`.
bool write_request_block(const HeaderBlock& block, const RequestSummary& summary, const ForwardOptions& options, HpackEncoder* encoder,
                         uint8_t* out, size_t capacity, size_t* size);
bool write_response_block(const HeaderBlock& block, const ResponseSummary& summary, const ForwardOptions& options, HpackEncoder* encoder,
                          uint8_t* out, size_t capacity, size_t* size);
bool write_trailer_block(const HeaderBlock& block, HpackEncoder* encoder, uint8_t* out, size_t capacity, size_t* size);

// HTTP/1 → HTTP/2. `base` is what `head` was parsed from. Names become lower case.
/// A head that wants_upgrade becomes an extended CONNECT (RFC 8441; the peer must have announced it) with `upgrade`; else Upgrade is
/// dropped.
bool write_request_block(const http1::RequestHead& head, const uint8_t* base, bool upgrade, const ForwardOptions& options,
                         HpackEncoder* encoder, uint8_t* out, size_t capacity, size_t* size);
/// `status` overrides the head's unless 0 (200 for the 101 that answers an extended CONNECT, whose Upgrade and Sec-WebSocket-Accept go).
bool write_response_block(const http1::ResponseHead& head, const uint8_t* base, int status, const ForwardOptions& options,
                          HpackEncoder* encoder, uint8_t* out, size_t capacity, size_t* size);
/// `lines` as http1::BodyReader::trailers() gives them.
bool write_trailer_block(std::string_view lines, HpackEncoder* encoder, uint8_t* out, size_t capacity, size_t* size);

// HTTP/2 → HTTP/1.
/// How an HTTP/1 upstream gets the body of this request.
http1::BodyFraming request_framing(const RequestSummary& summary, bool end_stream);
/// Cookie crumbs become one field, :authority becomes Host. An extended CONNECT becomes a GET with Upgrade and the caller's
/// Sec-WebSocket-Key in `options.extra_lines` (options.keep_upgrade is implied).
bool write_request_head(const HeaderBlock& block, const RequestSummary& summary, const http1::RequestHeadOptions& options, char* out,
                        size_t capacity, size_t* size);
/// As http1::set_forwarded_framing. `end_stream`: the HEADERS had it.
void set_forwarded_framing(const ResponseSummary& summary, bool end_stream, http1::Method request_method, uint8_t client_minor,
                           http1::ResponseHeadOptions* options);
/// `status` overrides the summary's unless 0 (101 for the 2xx that answers an extended CONNECT; Sec-WebSocket-Accept
/// comes with options.extra_lines).
bool write_response_head(const HeaderBlock& block, const ResponseSummary& summary, int status, const http1::ResponseHeadOptions& options,
                         char* out, size_t capacity, size_t* size);
/// Lines as http1::write_last_chunk wants them.
bool write_trailer_lines(const HeaderBlock& block, char* out, size_t capacity, size_t* size);
/// HTTP/1's last chunk with these trailers, or without them if they are too long; returns its size.
inline constexpr size_t kLastChunkRoom = http1::BodyReader::kMaxTrailerBytes + 16;
size_t write_last_chunk(const HeaderBlock& trailers, char (&out)[kLastChunkRoom]);

// Of our own.
/// As http1::write_local_response: ":status", `date` (may be null), content-length of `body_size`, `lines`. The body goes in DATA, if not
/// empty and not for HEAD.
bool write_local_response_block(int status, InternedField* date, std::string_view lines, size_t body_size, HpackEncoder* encoder,
                                uint8_t* out, size_t capacity, size_t* size);

}  // namespace weft::http2
