// HTTP/1 heads as field blocks.
#include <algorithm>
#include <string>

#include "core/http1/ascii.h"
#include "core/http2/hpack_static.h"
#include "core/http2/transcode.h"
#include "core/http2/transcode_lines.h"

namespace weft::http2 {
namespace {

using http1::known_bit;
using http1::KnownHeader;

/// Values longer than this are not looked for in tables.
constexpr size_t kLongestIndexed = 256;

/// Different in nearly every message.
constexpr uint64_t kVolatile = known_bit(KnownHeader::kXRequestId) | known_bit(KnownHeader::kTraceparent) |
                               known_bit(KnownHeader::kTracestate) | known_bit(KnownHeader::kDate) | known_bit(KnownHeader::kRetryAfter);

bool is_secret(std::string_view lower_name) {
  return lower_name == "authorization" || lower_name == "proxy-authorization" || lower_name == "cookie" || lower_name == "set-cookie";
}

/// RFC 7541 7.1: the next hop's table is shared by many clients.
Indexing indexing_of(const http1::Field& field, std::string_view lower_name) {
  if (is_secret(lower_name)) return Indexing::kNever;
  if (field.value.size > kLongestIndexed) return Indexing::kNone;
  return field.known != KnownHeader::kOther && (kVolatile & known_bit(field.known)) != 0 ? Indexing::kNone : Indexing::kAllowed;
}

struct Kept {
  uint64_t drop_known = 0;
  const http1::MutationSet* mutations = nullptr;
  /// Lower-case names with this beginning go: what an upgrade's handshake has in HTTP/1 alone (RFC 8441 5).
  bool drop_websocket_keys = false;
};

bool is_dropped(const http1::Field& field, std::string_view lower_name, const Kept& kept) {
  if (field.named_by_connection) return true;
  if (field.known != KnownHeader::kOther && (kept.drop_known & known_bit(field.known)) != 0) return true;
  if (kept.drop_websocket_keys && (lower_name == "sec-websocket-key" || lower_name == "sec-websocket-accept")) return true;
  return kept.mutations != nullptr && kept.mutations->drops(lower_name);
}

uint8_t* write_fields(const http1::FieldBlock& head, const uint8_t* base, const Kept& kept, HpackEncoder* encoder, uint8_t* out) {
  char lowered[256];
  for (size_t i = 0; i < head.field_count; i++) {
    const http1::Field& field = head.fields[i];
    std::string_view name = field.name(base);
    if (name.size() <= sizeof(lowered)) {
      http1::copy_lower(name, lowered);
      name = {lowered, name.size()};
    }
    if (is_dropped(field, name, kept)) continue;
    out = name.size() <= sizeof(lowered) ? encoder->write_text(name, field.value.in(base), indexing_of(field, name), out)
                                         : write_field(name, field.value.in(base), Indexing::kNone, encoder, out);
  }
  return out;
}

uint8_t* write_method(const http1::RequestHead& head, const uint8_t* base, HpackEncoder* encoder, uint8_t* out) {
  if (head.method == http1::Method::kGet) return encoder->write_static(kStaticMethodGet, out);
  if (head.method == http1::Method::kPost) return encoder->write_static(kStaticMethodPost, out);
  return encoder->write_text(":method", head.method_token.in(base), Indexing::kAllowed, out);
}

uint8_t* write_target(const http1::RequestHead& head, const uint8_t* base, std::string_view other, HpackEncoder* encoder, uint8_t* out) {
  const auto write = [&](std::string_view target, Indexing indexing) { return encoder->write_text(":path", target, indexing, out); };
  if (!other.empty()) return write(other, Indexing::kNone);
  if (head.form == http1::TargetForm::kAsterisk) return write("*", Indexing::kNone);
  // With a query there are too many to be worth remembering.
  const Indexing indexing = head.has_query || head.target.size > kLongestIndexed ? Indexing::kNone : Indexing::kAllowed;
  if (head.form == http1::TargetForm::kOrigin) return write(head.target.in(base), indexing);
  if (!head.has_query) return write(head.path.in(base), indexing);
  return write(std::string(head.path.in(base)) + "?" + std::string(head.query.in(base)), Indexing::kNone);
}

uint8_t* write_forwarded_for(const http1::RequestHead& head, const uint8_t* base, std::string_view client, HpackEncoder* encoder,
                             uint8_t* out) {
  if (!head.has(KnownHeader::kXForwardedFor)) return encoder->write_text("x-forwarded-for", client, Indexing::kAllowed, out);
  JoinedField joined("x-forwarded-for", ", ");
  for (size_t i = 0; i < head.field_count; i++) {
    const http1::Field& field = head.fields[i];
    if (field.known == KnownHeader::kXForwardedFor && !field.named_by_connection) joined.add(field.value.in(base));
  }
  return joined.write(client, encoder, out);
}

/// HTTP/2 frames what HTTP/1 put into fields; Trailer may announce what comes in a block of its own.
uint64_t hop_by_hop(const http1::FieldBlock& head) { return http1::kHopByHop & ~(head.chunked ? known_bit(KnownHeader::kTrailer) : 0); }

bool finish(const uint8_t* begin, const uint8_t* end, size_t* size) {
  *size = static_cast<size_t>(end - begin);
  return true;
}

}  // namespace

size_t block_bound(const http1::FieldBlock& head, const ForwardOptions& options) {
  return size_t{head.size} + head.field_count * HpackEncoder::kMaxFieldOverhead + options_bound(options);
}

bool write_request_block(const http1::RequestHead& head, const uint8_t* base, bool upgrade, const ForwardOptions& options,
                         HpackEncoder* encoder, uint8_t* out, size_t capacity, size_t* size) {
  if (capacity < block_bound(head, options)) return false;
  Kept kept{hop_by_hop(head) | known_bit(KnownHeader::kHost) | options.drop_known, options.mutations, upgrade};
  if (head.minor == 0) kept.drop_known |= known_bit(KnownHeader::kExpect);
  if (!options.forwarded_for.empty()) kept.drop_known |= known_bit(KnownHeader::kXForwardedFor);
  if (!options.forwarded_proto.empty()) kept.drop_known |= known_bit(KnownHeader::kXForwardedProto);

  uint8_t* at = encoder->begin(out);
  at = upgrade ? encoder->write_text(":method", "CONNECT", Indexing::kAllowed, at) : write_method(head, base, encoder, at);
  const bool connect = head.form == http1::TargetForm::kAuthority;
  if (!connect) {
    at = encoder->write_static(options.scheme == "https" ? kStaticSchemeHttps : kStaticSchemeHttp, at);
    at = write_target(head, base, options.target, encoder, at);
  }
  const std::string_view authority = options.authority.empty() ? head.authority.in(base) : options.authority;
  at = encoder->write_text(":authority", authority, Indexing::kAllowed, at);
  if (upgrade) at = encoder->write_text(":protocol", "websocket", Indexing::kAllowed, at);
  at = write_fields(head, base, kept, encoder, at);
  if (options.te_trailers || http1::accepts_trailers(head, base)) at = encoder->write_text("te", "trailers", Indexing::kAllowed, at);
  const bool keeps_length = !upgrade && !connect && (options.drop_known & known_bit(KnownHeader::kContentLength)) == 0;
  if (head.has_content_length && keeps_length) at = write_length(head.content_length, encoder, at);
  if (!options.forwarded_for.empty()) at = write_forwarded_for(head, base, options.forwarded_for, encoder, at);
  at = write_additions(options, encoder, at);
  return finish(out, at, size);
}

bool write_response_block(const http1::ResponseHead& head, const uint8_t* base, int status, const ForwardOptions& options,
                          HpackEncoder* encoder, uint8_t* out, size_t capacity, size_t* size) {
  if (capacity < block_bound(head, options)) return false;
  if (status == 0) status = head.status;
  const Kept kept{hop_by_hop(head) | options.drop_known, options.mutations, head.status == 101};
  uint8_t* at = write_status(status, encoder, encoder->begin(out));
  at = write_fields(head, base, kept, encoder, at);
  const bool has_length = head.has_content_length && head.status >= 200 && head.status != 204 &&
                          (options.drop_known & known_bit(KnownHeader::kContentLength)) == 0;
  if (has_length) at = write_length(head.content_length, encoder, at);
  at = write_additions(options, encoder, at);
  return finish(out, at, size);
}

bool write_trailer_block(std::string_view lines, HpackEncoder* encoder, uint8_t* out, size_t capacity, size_t* size) {
  if (capacity < lines_bound(lines) + kFixedBound) return false;
  return finish(out, write_lines(lines, Indexing::kAllowed, encoder, encoder->begin(out)), size);
}

}  // namespace weft::http2
