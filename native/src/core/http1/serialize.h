// Writes the heads that are forwarded, from parsed heads: this hop's fields removed, framing and Host ours, mutations applied.
// Kept field lines go over in runs (one memcpy for neighbours), as they were validated byte by byte. Allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/http1/body.h"
#include "core/http1/head.h"

namespace weft::http1 {

/// A compiled MutationSpec: what to drop, and one block of ready lines to append ("set" and "add").
class MutationSet {
 public:
  using Pair = std::pair<std::string, std::string>;

  /// False, with the reason in `error`: a name that is no token, a hop-by-hop name, Host or a framing field; a value with control bytes.
  bool compile(const std::vector<std::string>& remove, const std::vector<Pair>& set, const std::vector<Pair>& add, std::string* error);

  bool drops(std::string_view name) const;
  std::string_view lines() const { return lines_; }

 private:
  bool check(std::string_view name, std::string_view value, std::string* error) const;

  /// Bit (size & 63) of every name below: most fields are told apart by this alone.
  uint64_t sizes_ = 0;
  /// Lower case.
  std::vector<std::string> drop_;
  std::string lines_;
};

/// Header names the engine manages itself; a mutation may not touch them.
bool is_managed_header(std::string_view name);

/// A bounded writer; after the first thing that does not fit it stays failed.
class HeadWriter {
 public:
  HeadWriter(char* out, size_t capacity) : begin_(out), at_(out), end_(out + capacity) {}
  // In line: of most texts the compiler knows the few bytes.
  void put(std::string_view text) {
    if (text.size() > static_cast<size_t>(end_ - at_)) return fail();
    // The view may be null.
    if (!text.empty()) memcpy(at_, text.data(), text.size());
    at_ += text.size();
  }
  void put_number(uint64_t number);
  void put_status_line(int status, std::string_view reason);
  size_t size() const { return static_cast<size_t>(at_ - begin_); }
  bool failed() const { return failed_; }

 private:
  // Nothing that follows fits either.
  void fail() {
    failed_ = true;
    end_ = at_;
  }

  char* begin_;
  char* at_;
  char* end_;
  bool failed_ = false;
};

/// RFC 9110 7.6.1: for this hop alone. Trailer and Upgrade are put back where the body or the caller keeps them.
inline constexpr uint64_t kHopByHop = known_bit(KnownHeader::kConnection) | known_bit(KnownHeader::kKeepAlive) |
                                      known_bit(KnownHeader::kTe) | known_bit(KnownHeader::kTrailer) |
                                      known_bit(KnownHeader::kTransferEncoding) | known_bit(KnownHeader::kUpgrade) |
                                      known_bit(KnownHeader::kProxyConnection) | known_bit(KnownHeader::kContentLength);

/// 1xx, 204, 304: never a body, nor a length of our own.
constexpr bool is_bodiless_status(int status) { return status < 200 || status == 204 || status == 304; }

/// A sender that names "trailers" in TE, so that the next hop may be told so too.
bool accepts_trailers(const FieldBlock& head, const uint8_t* base);

/// `name_colon` with ": ".
void put_line(std::string_view name_colon, std::string_view value, HeadWriter* out);
/// The field that announces the framing; a bodiless message still says "content-length: 0" where `zero`.
void put_framing(const BodyFraming& framing, bool zero, HeadWriter* out);

struct RequestHeadOptions {
  /// Host to send; empty: the request's own authority.
  std::string_view authority;
  /// Path and query to send; empty: the request's own.
  std::string_view target;
  /// How the body will be sent: kNone, kLength or kChunked. kNone writes "content-length: 0" where the method promises content (POST, PUT,
  /// PATCH) or the client said so.
  BodyFraming framing;
  /// Keep Upgrade and send "connection: upgrade". Otherwise both are dropped.
  bool keep_upgrade = false;
  /// Ask the upstream to close afterwards.
  bool close = false;
  /// May be null.
  const MutationSet* mutations = nullptr;
  /// Appended to X-Forwarded-For (joined into one field); empty: the field is left as it came.
  std::string_view forwarded_for;
  /// Replaces X-Forwarded-Proto; empty: left as it came.
  std::string_view forwarded_proto;
  /// known_bit()s of fields to drop beyond that, for what `extra_lines` replaces.
  uint64_t drop_known = 0;
  /// Complete lines ("name: value" CRLF) that the engine made itself.
  std::string_view extra_lines;
  std::string_view via_line;
};

/// Always writes HTTP/1.1 and an origin-form (or "*") target. False if it does not fit; `size` is set otherwise.
/// `base` is the buffer that `head` was parsed from.
bool write_request_head(const RequestHead& head, const uint8_t* base, const RequestHeadOptions& options, char* out, size_t capacity,
                        size_t* size);

struct ResponseHeadOptions {
  /// How the body will be sent. See forwarded_response_framing.
  BodyFraming framing;
  /// Write "content-length: 0" for kNone (false for HEAD, 1xx, 204, 304: see forwarded_response_framing).
  bool write_zero_length = false;
  /// Send "connection: close".
  bool close = false;
  /// Send "connection: keep-alive" (an HTTP/1.0 client that asked for it).
  bool keep_alive = false;
  /// 101: keep Upgrade and send "connection: upgrade".
  bool keep_upgrade = false;
  const MutationSet* mutations = nullptr;
  uint64_t drop_known = 0;
  std::string_view extra_lines;
  /// Ours to add: Via, and Date where there was none. Complete lines, too.
  std::string_view via_line;
  std::string_view date_line;
};

/// Always writes HTTP/1.1 (RFC 9110 2.5: the sender's own version, also to HTTP/1.0 clients).
bool write_response_head(const ResponseHead& head, const uint8_t* base, const ResponseHeadOptions& options, char* out, size_t capacity,
                         size_t* size);

/// Fills framing and write_zero_length (and forces close where the client, HTTP/1.<client_minor>, cannot be told the end otherwise):
/// a body until close becomes chunked for an HTTP/1.1 client, chunked becomes until close for an HTTP/1.0 one; HEAD and 304 keep their
/// fields.
void set_forwarded_framing(const ResponseHead& head, Method request_method, uint8_t client_minor, ResponseHeadOptions* options);

/// A response of the engine's own, whole: status line, `date_line`, content-length, `lines`, connection: close if asked, empty line, `body`
/// (left out for HEAD). False if it does not fit.
bool write_local_response(int status, std::string_view date_line, std::string_view lines, std::string_view body, Method request_method,
                          bool close, char* out, size_t capacity, size_t* size);

/// Registered reason phrase; "Unknown" otherwise.
std::string_view reason_phrase(int status);

}  // namespace weft::http1
