// The writers of forwarded and local heads.
#include "core/http1/serialize.h"

#include <charconv>

#include "core/http1/ascii.h"

namespace weft::http1 {
namespace {

uint64_t hop_by_hop(const BodyFraming& framing, bool keep_upgrade) {
  uint64_t mask = kHopByHop;
  if (framing.kind == Framing::kChunked) mask &= ~known_bit(KnownHeader::kTrailer);
  if (keep_upgrade) mask &= ~known_bit(KnownHeader::kUpgrade);
  return mask;
}

std::string_view bytes(const uint8_t* base, uint32_t begin, uint32_t end) {
  return {reinterpret_cast<const char*>(base) + begin, end - begin};
}

/// Kept field lines, neighbours in one copy, and with them whatever stands between `begin` and the first.
void put_fields(const FieldBlock& head, const uint8_t* base, uint32_t begin, uint64_t drop_known, const MutationSet* mutations,
                HeadWriter* out) {
  uint32_t run = begin;
  for (size_t i = 0; i < head.field_count; i++) {
    const Field& field = head.fields[i];
    const bool known = field.known != KnownHeader::kOther && (drop_known >> static_cast<unsigned>(field.known) & 1) != 0;
    if (!known && !field.named_by_connection && (mutations == nullptr || !mutations->drops(field.name(base)))) continue;
    if (run < field.name_offset) out->put(bytes(base, run, field.name_offset));
    run = head.line_end(i);
  }
  if (run < head.fields_end) out->put(bytes(base, run, head.fields_end));
}

void put_forwarded_for(const RequestHead& head, const uint8_t* base, std::string_view client, HeadWriter* out) {
  out->put("x-forwarded-for: ");
  for (size_t i = 0; head.has(KnownHeader::kXForwardedFor) && i < head.field_count; i++) {
    const Field& field = head.fields[i];
    if (field.known != KnownHeader::kXForwardedFor || field.named_by_connection || field.value.size == 0) continue;
    out->put(field.value.in(base));
    out->put(", ");
  }
  out->put(client);
  out->put("\r\n");
}

void put_method_and_target(const RequestHead& head, const uint8_t* base, std::string_view target, HeadWriter* out) {
  const uint32_t method = head.method_token.offset;
  // One space stands between them.
  if (target.empty() && (head.form == TargetForm::kOrigin || head.form == TargetForm::kAuthority))
    return out->put(bytes(base, method, head.target.offset + head.target.size));
  out->put(bytes(base, method, head.target.offset));
  if (!target.empty()) {
    out->put(target);
  } else if (head.form == TargetForm::kAsterisk) {
    out->put("*");
  } else {
    out->put(head.path.in(base));
    if (head.has_query) {
      out->put("?");
      out->put(head.query.in(base));
    }
  }
}

bool promises_content(const RequestHead& head) {
  if (head.form == TargetForm::kAuthority) return false;
  return head.method == Method::kPost || head.method == Method::kPut || head.method == Method::kPatch || head.has_content_length;
}

bool finish(HeadWriter* out, size_t* size) {
  out->put("\r\n");
  *size = out->size();
  return !out->failed();
}

}  // namespace

bool accepts_trailers(const FieldBlock& head, const uint8_t* base) {
  if (!head.has(KnownHeader::kTe)) return false;
  for (size_t i = 0; i < head.field_count; i++) {
    if (head.fields[i].known != KnownHeader::kTe) continue;
    std::string_view list = head.fields[i].value.in(base);
    while (!list.empty()) {
      const size_t comma = list.find(',');
      if (equals_lower(trim(list.substr(0, comma)), "trailers")) return true;
      list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
    }
  }
  return false;
}

void put_line(std::string_view name_colon, std::string_view value, HeadWriter* out) {
  out->put(name_colon);
  out->put(value);
  out->put("\r\n");
}

void put_framing(const BodyFraming& framing, bool zero, HeadWriter* out) {
  if (framing.kind == Framing::kChunked) {
    out->put("transfer-encoding: chunked\r\n");
  } else if (framing.kind == Framing::kLength || (framing.kind == Framing::kNone && zero)) {
    out->put("content-length: ");
    out->put_number(framing.length);
    out->put("\r\n");
  }
}

void HeadWriter::put_number(uint64_t number) {
  const auto result = std::to_chars(at_, end_, number);
  if (result.ec != std::errc()) return fail();
  at_ = result.ptr;
}

void HeadWriter::put_status_line(int status, std::string_view reason) {
  put("HTTP/1.1 ");
  put_number(static_cast<uint64_t>(status));
  put(" ");
  put(reason);
  put("\r\n");
}

bool write_request_head(const RequestHead& head, const uint8_t* base, const RequestHeadOptions& options, char* out, size_t capacity,
                        size_t* size) {
  HeadWriter writer(out, capacity);
  put_method_and_target(head, base, options.target, &writer);
  put_line(" HTTP/1.1\r\nhost: ", options.authority.empty() ? head.authority.in(base) : options.authority, &writer);

  uint64_t drop = hop_by_hop(options.framing, options.keep_upgrade) | known_bit(KnownHeader::kHost) | options.drop_known;
  // In HTTP/1.0 it means nothing, and in the 1.1 that we write it would ask for a 100 (RFC 9110 10.1.1).
  if (head.minor == 0) drop |= known_bit(KnownHeader::kExpect);
  if (!options.forwarded_for.empty()) drop |= known_bit(KnownHeader::kXForwardedFor);
  if (!options.forwarded_proto.empty()) drop |= known_bit(KnownHeader::kXForwardedProto);
  put_fields(head, base, head.fields_begin, drop, options.mutations, &writer);

  if (!options.forwarded_for.empty()) put_forwarded_for(head, base, options.forwarded_for, &writer);
  if (!options.forwarded_proto.empty()) put_line("x-forwarded-proto: ", options.forwarded_proto, &writer);
  writer.put(options.via_line);
  writer.put(options.extra_lines);
  if (options.mutations != nullptr) writer.put(options.mutations->lines());
  if (options.keep_upgrade) {
    writer.put("connection: upgrade\r\n");
  } else if (accepts_trailers(head, base)) {
    writer.put(options.close ? "te: trailers\r\nconnection: te, close\r\n" : "te: trailers\r\nconnection: te\r\n");
  } else if (options.close) {
    writer.put("connection: close\r\n");
  }
  put_framing(options.framing, promises_content(head), &writer);
  return finish(&writer, size);
}

bool write_response_head(const ResponseHead& head, const uint8_t* base, const ResponseHeadOptions& options, char* out, size_t capacity,
                         size_t* size) {
  HeadWriter writer(out, capacity);
  // As we would write it.
  const bool keeps_status_line = head.minor == 1 && head.reason.size != 0;
  if (!keeps_status_line) writer.put_status_line(head.status, head.reason.in(base));
  put_fields(head, base, keeps_status_line ? 0 : head.fields_begin, hop_by_hop(options.framing, options.keep_upgrade) | options.drop_known,
             options.mutations, &writer);
  writer.put(options.via_line);
  writer.put(options.date_line);
  writer.put(options.extra_lines);
  if (options.mutations != nullptr) writer.put(options.mutations->lines());
  if (options.keep_upgrade) {
    writer.put("connection: upgrade\r\n");
  } else if (options.close) {
    writer.put("connection: close\r\n");
  } else if (options.keep_alive) {
    writer.put("connection: keep-alive\r\n");
  }
  put_framing(options.framing, options.write_zero_length, &writer);
  return finish(&writer, size);
}

void set_forwarded_framing(const ResponseHead& head, Method request_method, uint8_t client_minor, ResponseHeadOptions* options) {
  const bool knows_chunks = client_minor >= 1;
  options->framing = response_body_framing(head, request_method);
  options->write_zero_length = false;
  switch (options->framing.kind) {
    case Framing::kNone:
      if (head.status < 200 || head.status == 204) break;
      if (request_method != Method::kHead && head.status != 304) {
        options->write_zero_length = true;
      } else if (head.has_content_length) {
        options->framing = {Framing::kLength, head.content_length};
      } else if (head.chunked && knows_chunks) {
        options->framing = {Framing::kChunked};
      }
      break;
    case Framing::kChunked:
    case Framing::kUntilClose:
      options->framing = {knows_chunks ? Framing::kChunked : Framing::kUntilClose};
      options->close |= !knows_chunks;
      break;
    case Framing::kTunnel:
      options->keep_upgrade = head.status == 101;
      break;
    case Framing::kLength:
      break;
  }
}

bool write_local_response(int status, std::string_view date_line, std::string_view lines, std::string_view body, Method request_method,
                          bool close, char* out, size_t capacity, size_t* size) {
  HeadWriter writer(out, capacity);
  writer.put_status_line(status, reason_phrase(status));
  writer.put(date_line);
  writer.put(lines);
  if (!is_bodiless_status(status)) put_framing({Framing::kLength, body.size()}, true, &writer);
  if (close) writer.put("connection: close\r\n");
  writer.put("\r\n");
  if (request_method != Method::kHead && !is_bodiless_status(status)) writer.put(body);
  *size = writer.size();
  return !writer.failed();
}

}  // namespace weft::http1
