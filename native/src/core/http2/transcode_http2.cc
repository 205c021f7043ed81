// HTTP/2 to HTTP/2, and messages of our own.
#include <cstring>

#include "core/http2/hpack_static.h"
#include "core/http2/transcode.h"
#include "core/http2/transcode_lines.h"

namespace weft::http2 {
namespace {

using http1::known_bit;
using http1::KnownHeader;

bool is_dropped(const HeaderBlock& block, const HeaderField& field, uint64_t drop_known, const http1::MutationSet* mutations) {
  if (field.traits.known != KnownHeader::kOther && (drop_known & known_bit(field.traits.known)) != 0) return true;
  return mutations != nullptr && mutations->drops(block.name(field));
}

/// All fields but pseudo-header fields and what is dropped.
uint8_t* write_regular(const HeaderBlock& block, uint64_t drop_known, const http1::MutationSet* mutations, HpackEncoder* encoder,
                       uint8_t* out) {
  for (const HeaderField& field : block) {
    if (field.traits.pseudo != Pseudo::kNone || is_dropped(block, field, drop_known, mutations)) continue;
    out = encoder->write(block, field, out);
  }
  return out;
}

uint8_t* write_forwarded_for(const HeaderBlock& block, const RequestSummary& summary, std::string_view client, HpackEncoder* encoder,
                             uint8_t* out) {
  if (!summary.has(KnownHeader::kXForwardedFor)) return encoder->write_text("x-forwarded-for", client, Indexing::kAllowed, out);
  JoinedField joined("x-forwarded-for", ", ");
  for (const HeaderField& field : block) {
    if (field.traits.known == KnownHeader::kXForwardedFor) joined.add(block.value(field));
  }
  return joined.write(client, encoder, out);
}

uint8_t* write_pseudo(const HeaderBlock& block, const RequestSummary& summary, const ForwardOptions& options, HpackEncoder* encoder,
                      uint8_t* out) {
  for (const HeaderField& field : block) {
    if (field.traits.pseudo == Pseudo::kNone) break;
    if (field.traits.pseudo == Pseudo::kAuthority && !options.authority.empty()) continue;
    if (field.traits.pseudo == Pseudo::kPath && !options.target.empty()) {
      out = encoder->write_text(":path", options.target, Indexing::kNone, out);
      continue;
    }
    if (field.traits.pseudo == Pseudo::kScheme && !options.scheme.empty()) {
      out = encoder->write_static(options.scheme == "https" ? kStaticSchemeHttps : kStaticSchemeHttp, out);
      continue;
    }
    out = encoder->write(block, field, out);
  }
  if (!options.authority.empty()) return encoder->write_text(":authority", options.authority, Indexing::kAllowed, out);
  if (summary.authority_field->traits.pseudo == Pseudo::kAuthority) return out;
  return encoder->write_text(":authority", summary.authority, Indexing::kAllowed, out);
}

bool finish(const uint8_t* begin, const uint8_t* end, size_t* size) {
  *size = static_cast<size_t>(end - begin);
  return true;
}

}  // namespace

size_t block_bound(const HeaderBlock& block, const ForwardOptions& options) {
  return static_cast<size_t>(block.list_size()) + options_bound(options);
}

size_t trailers_bound(const HeaderBlock& block) { return static_cast<size_t>(block.list_size()) + kFixedBound; }

bool write_request_block(const HeaderBlock& block, const RequestSummary& summary, const ForwardOptions& options, HpackEncoder* encoder,
                         uint8_t* out, size_t capacity, size_t* size) {
  if (capacity < block_bound(block, options)) return false;
  uint64_t drop = options.drop_known | known_bit(KnownHeader::kHost);
  if (!options.forwarded_for.empty()) drop |= known_bit(KnownHeader::kXForwardedFor);
  if (!options.forwarded_proto.empty()) drop |= known_bit(KnownHeader::kXForwardedProto);
  if (options.te_trailers) drop |= known_bit(KnownHeader::kTe);
  uint8_t* at = encoder->begin(out);
  at = write_pseudo(block, summary, options, encoder, at);
  at = write_regular(block, drop, options.mutations, encoder, at);
  if (options.te_trailers) at = encoder->write_text("te", "trailers", Indexing::kAllowed, at);
  if (!options.forwarded_for.empty()) at = write_forwarded_for(block, summary, options.forwarded_for, encoder, at);
  at = write_additions(options, encoder, at);
  return finish(out, at, size);
}

bool write_response_block(const HeaderBlock& block, const ResponseSummary& summary, const ForwardOptions& options, HpackEncoder* encoder,
                          uint8_t* out, size_t capacity, size_t* size) {
  if (capacity < block_bound(block, options)) return false;
  uint8_t* at = encoder->begin(out);
  for (const HeaderField& field : block) {
    if (field.traits.pseudo == Pseudo::kNone) break;
    at = encoder->write(block, field, at);
  }
  // RFC 9110 8.6.
  const bool has_no_length = summary.is_interim() || summary.status == 204;
  const uint64_t drop = options.drop_known | (has_no_length ? known_bit(KnownHeader::kContentLength) : 0);
  at = write_regular(block, drop, options.mutations, encoder, at);
  at = write_additions(options, encoder, at);
  return finish(out, at, size);
}

bool write_trailer_block(const HeaderBlock& block, HpackEncoder* encoder, uint8_t* out, size_t capacity, size_t* size) {
  if (capacity < trailers_bound(block)) return false;
  return finish(out, write_regular(block, 0, nullptr, encoder, encoder->begin(out)), size);
}

bool write_local_response_block(int status, InternedField* date, std::string_view lines, size_t body_size, HpackEncoder* encoder,
                                uint8_t* out, size_t capacity, size_t* size) {
  if (capacity < field_bound(date) + lines_bound(lines) + kFixedBound) return false;
  uint8_t* at = write_status(status, encoder, encoder->begin(out));
  if (date != nullptr) at = encoder->write_interned(date, false, at);
  at = write_lines(lines, Indexing::kAllowed, encoder, at);
  if (!http1::is_bodiless_status(status)) at = write_length(body_size, encoder, at);
  return finish(out, at, size);
}

}  // namespace weft::http2
