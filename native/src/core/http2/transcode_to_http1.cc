// Field blocks as HTTP/1 heads. Every byte was checked with its block: no line can end early, no field can frame.
#include "core/http1/ascii.h"
#include "core/http2/transcode.h"

namespace weft::http2 {
namespace {

using http1::BodyFraming;
using http1::Framing;
using http1::HeadWriter;
using http1::known_bit;
using http1::KnownHeader;

void put_field(const HeaderBlock& block, const HeaderField& field, HeadWriter* out) {
  out->put(block.name(field));
  out->put(": ");
  out->put(block.value(field));
  out->put("\r\n");
}

/// All but pseudo-header fields, cookies (if `joins_cookies`) and what is dropped.
void put_fields(const HeaderBlock& block, uint64_t drop_known, const http1::MutationSet* mutations, bool joins_cookies, HeadWriter* out,
                std::string_view drop_name = {}) {
  for (const HeaderField& field : block) {
    const FieldTraits& traits = field.traits;
    if (traits.pseudo != Pseudo::kNone) continue;
    if (traits.known != KnownHeader::kOther && (drop_known & known_bit(traits.known)) != 0) continue;
    if (joins_cookies && (traits.flags & kFieldCookie) != 0) continue;
    if (mutations != nullptr && mutations->drops(block.name(field))) continue;
    if (!drop_name.empty() && block.name(field) == drop_name) continue;
    put_field(block, field, out);
  }
}

/// RFC 9113 8.2.3: crumbs become one field again.
void put_cookie(const HeaderBlock& block, const http1::MutationSet* mutations, HeadWriter* out) {
  if (mutations != nullptr && mutations->drops("cookie")) return;
  bool begun = false;
  for (const HeaderField& field : block) {
    if ((field.traits.flags & kFieldCookie) == 0) continue;
    out->put(begun ? "; " : "cookie: ");
    out->put(block.value(field));
    begun = true;
  }
  if (begun) out->put("\r\n");
}

void put_forwarded_for(const HeaderBlock& block, std::string_view client, HeadWriter* out) {
  out->put("x-forwarded-for: ");
  for (const HeaderField& field : block) {
    if (field.traits.known != KnownHeader::kXForwardedFor || block.value(field).empty()) continue;
    out->put(block.value(field));
    out->put(", ");
  }
  out->put(client);
  out->put("\r\n");
}

uint64_t hop_by_hop(const BodyFraming& framing) {
  return http1::kHopByHop & ~(framing.kind == Framing::kChunked ? known_bit(KnownHeader::kTrailer) : 0);
}

/// Connection, and what it names.
void put_request_connection(const RequestSummary& summary, bool close, HeadWriter* out) {
  if (summary.is_extended_connect) {
    out->put("upgrade: ");
    out->put(summary.protocol);
    out->put("\r\nconnection: upgrade\r\n");
  } else if (summary.has(KnownHeader::kTe)) {
    // HTTP/2 allows no other value than "trailers".
    out->put(close ? "te: trailers\r\nconnection: te, close\r\n" : "te: trailers\r\nconnection: te\r\n");
  } else if (close) {
    out->put("connection: close\r\n");
  }
}

bool promises_content(const RequestSummary& summary) {
  return summary.method == http1::Method::kPost || summary.method == http1::Method::kPut || summary.method == http1::Method::kPatch ||
         summary.has_content_length;
}

bool finish(HeadWriter* out, size_t* size) {
  out->put("\r\n");
  *size = out->size();
  return !out->failed();
}

}  // namespace

BodyFraming request_framing(const RequestSummary& summary, bool end_stream) {
  if (end_stream || summary.is_extended_connect || summary.is_plain_connect()) return {Framing::kNone};
  if (!summary.has_content_length) return {Framing::kChunked};
  return summary.content_length == 0 ? BodyFraming{Framing::kNone} : BodyFraming{Framing::kLength, summary.content_length};
}

bool write_request_head(const HeaderBlock& block, const RequestSummary& summary, const http1::RequestHeadOptions& options, char* out,
                        size_t capacity, size_t* size) {
  HeadWriter writer(out, capacity);
  writer.put(summary.is_extended_connect ? std::string_view("GET") : summary.method_token);
  writer.put(" ");
  writer.put(!options.target.empty() ? options.target : summary.is_plain_connect() ? summary.authority : summary.target);
  writer.put(" HTTP/1.1\r\n");
  http1::put_line("host: ", options.authority.empty() ? summary.authority : options.authority, &writer);

  uint64_t drop = hop_by_hop(options.framing) | known_bit(KnownHeader::kHost) | options.drop_known;
  if (!options.forwarded_for.empty()) drop |= known_bit(KnownHeader::kXForwardedFor);
  if (!options.forwarded_proto.empty()) drop |= known_bit(KnownHeader::kXForwardedProto);
  // RFC 8441 5: the key is of HTTP/1's handshake alone.
  put_fields(block, drop, options.mutations, true, &writer, summary.is_extended_connect ? "sec-websocket-key" : "");
  put_cookie(block, options.mutations, &writer);

  if (!options.forwarded_for.empty()) put_forwarded_for(block, options.forwarded_for, &writer);
  if (!options.forwarded_proto.empty()) http1::put_line("x-forwarded-proto: ", options.forwarded_proto, &writer);
  writer.put(options.via_line);
  writer.put(options.extra_lines);
  if (options.mutations != nullptr) writer.put(options.mutations->lines());
  put_request_connection(summary, options.close, &writer);
  if (!summary.is_extended_connect && !summary.is_plain_connect()) http1::put_framing(options.framing, promises_content(summary), &writer);
  return finish(&writer, size);
}

void set_forwarded_framing(const ResponseSummary& summary, bool end_stream, http1::Method request_method, uint8_t client_minor,
                           http1::ResponseHeadOptions* options) {
  options->write_zero_length = false;
  options->framing = {Framing::kNone};
  if (request_method == http1::Method::kHead || summary.status == 304) {
    // The length of what a GET would have given; 0 is written as such.
    if (summary.has_content_length) options->framing = {Framing::kLength, summary.content_length};
    return;
  }
  if (http1::is_bodiless_status(summary.status)) return;
  if (end_stream || (summary.has_content_length && summary.content_length == 0)) {
    options->write_zero_length = true;
  } else if (summary.has_content_length) {
    options->framing = {Framing::kLength, summary.content_length};
  } else {
    options->framing = {client_minor >= 1 ? Framing::kChunked : Framing::kUntilClose};
    options->close |= client_minor == 0;
  }
}

bool write_response_head(const HeaderBlock& block, const ResponseSummary& summary, int status, const http1::ResponseHeadOptions& options,
                         char* out, size_t capacity, size_t* size) {
  if (status == 0) status = summary.status;
  HeadWriter writer(out, capacity);
  writer.put_status_line(status, http1::reason_phrase(status));
  put_fields(block, hop_by_hop(options.framing) | options.drop_known, options.mutations, false, &writer,
             status == 101 ? "sec-websocket-accept" : "");
  writer.put(options.via_line);
  writer.put(options.date_line);
  writer.put(options.extra_lines);
  if (options.mutations != nullptr) writer.put(options.mutations->lines());
  if (status == 101) {
    writer.put("upgrade: websocket\r\nconnection: upgrade\r\n");
  } else if (options.close) {
    writer.put("connection: close\r\n");
  } else if (options.keep_alive) {
    writer.put("connection: keep-alive\r\n");
  }
  if (status != 101) http1::put_framing(options.framing, options.write_zero_length, &writer);
  return finish(&writer, size);
}

bool write_trailer_lines(const HeaderBlock& block, char* out, size_t capacity, size_t* size) {
  HeadWriter writer(out, capacity);
  put_fields(block, 0, nullptr, false, &writer);
  *size = writer.size();
  return !writer.failed();
}

size_t write_last_chunk(const HeaderBlock& trailers, char (&out)[kLastChunkRoom]) {
  char lines[http1::BodyReader::kMaxTrailerBytes];
  size_t size = 0;
  if (!write_trailer_lines(trailers, lines, sizeof(lines), &size)) size = 0;
  return http1::write_last_chunk({lines, size}, out, sizeof(out));
}

}  // namespace weft::http2
